"""What looks at charts and manifests lives in an environment of its own (`make .venv-deploy/.installed`): this file is
run there, with a JSON request on standard input and the answer on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any


def rendered(chart: str, values: dict[str, Any]) -> dict[str, Any]:
    """{"manifests": path → text} or {"refused": why}."""
    from helm_python import chart as helm
    from helm_python.errors import HelmError

    try:
        with helm.Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            return {"manifests": loaded.render(values, name="nocturne", namespace="night")}
    except HelmError as error:
        return {"refused": str(error)}


def linted(chart: str, values: dict[str, Any]) -> dict[str, Any]:
    from helm_python import chart as helm

    return helm.lint(chart, values, strict=True, kube_version="v1.36.0")


def validated(manifests: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Version of Kubernetes → what is wrong, for the newest three that the validator knows."""
    import kubernetes_validate

    def problem(manifest: dict[str, Any], version: str) -> str | None:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            return f"{manifest['kind']} {manifest['metadata']['name']}: {error}"[:500]
        return None

    newest = int(kubernetes_validate.latest_version().split(".")[1])
    versions = [f"1.{minor}" for minor in range(newest - 2, newest + 1)]
    return {version: [p for m in manifests if (p := problem(m, version))] for version in versions}


if __name__ == "__main__":
    what, *arguments = json.load(sys.stdin)
    print(json.dumps({"render": rendered, "lint": linted, "validate": validated}[what](*arguments)))
