"""The chart as its values files render it, and the golden files that hold it: after a wanted change
`python -m tests.deploy.rendering` writes them anew (its difference is to be read)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "nocturne"
GOLDEN = Path(__file__).parent / "golden"
TOOLS = ROOT / ".venv-deploy" / "bin"
VALUES = {"default": "values.yaml", "laptop": "values-laptop.yaml", "gpu": "values-gpu.yaml",
          "object-store": "values-object-store.yaml"}


def asked(what: str, *arguments: Any) -> Any:
    """The answer of chart.py, in the environment that has the tools."""
    command = [str(TOOLS / "python"), str(Path(__file__).with_name("chart.py"))]
    question = json.dumps([what, *arguments])
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def values_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((CHART / VALUES[name]).read_text("utf-8"))


def manifests(name: str) -> dict[str, str]:
    """Template → what it renders, of a values file; without the notes and the empty ones."""
    found = asked("render", str(CHART), values_of(name))["manifests"]
    return {path: text for path, text in sorted(found.items()) if path.endswith(".yaml") and text.strip()}


def golden(texts: dict[str, str]) -> str:
    parts = [f"# {path}\n{text.strip()}\n" for path, text in texts.items()]
    lines = "---\n".join(parts).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for one in VALUES:
        (GOLDEN / f"{one}.yaml").write_text(golden(manifests(one)), encoding="utf-8")
