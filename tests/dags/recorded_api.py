"""A Kubernetes API as small as `KubernetesPodOperator` needs: pods are stored, pass through their phases as they are
looked at, and end as the test says; every request is kept."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MOMENT = "2026-01-12T00:00:00Z"


@dataclass
class Ending:
    """How a pod ends, and what its job says."""

    status: int | None = 0  # None: evicted, and no container has a state
    lines: tuple[str, ...] = ()
    reason: str | None = None  # of the container's end


@dataclass
class Api:
    """What was asked of it, and the pods there are."""

    ending: Ending
    others: Mapping[str, Ending] = field(default_factory=dict)  # of pods of another ending, by component
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (method, path)

    def ending_of(self, pod: dict[str, Any]) -> Ending:
        return self.others.get(pod["metadata"]["labels"].get("app.kubernetes.io/component"), self.ending)

    def status_of(self, pod: dict[str, Any]) -> dict[str, Any]:
        """The pod's status: pending, then running, then ended."""
        pod["looks"] = pod.get("looks", 0) + 1
        name = pod["spec"]["containers"][0]["name"]
        container = {"name": name, "image": "i", "imageID": "i", "restartCount": 0, "ready": False}
        if pod["looks"] == 1:
            return {"phase": "Pending"}
        if pod["looks"] == 2:
            return {"phase": "Running", "containerStatuses": [container | {"state": {"running": {}}, "ready": True}]}
        ending = self.ending_of(pod)
        if ending.status is None:
            return {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}
        default = "Error" if ending.status else "Completed"
        ended = {"exitCode": ending.status, "reason": ending.reason or default}
        phase = "Failed" if ending.status else "Succeeded"
        return {"phase": phase, "containerStatuses": [container | {"state": {"terminated": ended}}]}

    def shown(self, pod: dict[str, Any]) -> dict[str, Any]:
        """As the API gives it."""
        return {k: v for k, v in pod.items() if k != "looks"} | {"status": self.status_of(pod)}


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, document: Any, status: int = 200) -> None:
            text = isinstance(document, str)
            body = (document if text else json.dumps(document)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null")

        def pod(self) -> dict[str, Any] | None:
            path = urlsplit(self.path).path
            api.asked.append((self.command, path))
            parts = path.split("/")  # /api/v1/namespaces/NAMESPACE/pods/NAME/log
            found = api.pods.get(parts[6]) if len(parts) > 6 else None
            if len(parts) > 6 and found is None:
                self.answer({"kind": "Status", "status": "Failure", "code": 404}, 404)
            return found

        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path.endswith("/events") or path.endswith("/pods"):
                api.asked.append(("GET", path))
                items = [api.shown(p) for p in api.pods.values()] if path.endswith("/pods") else []
                self.answer({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
            elif (pod := self.pod()) and path.endswith("/log"):
                stamp = f"{MOMENT} " if query.get("timestamps") in (["True"], ["true"]) else ""
                self.answer("".join(f"{stamp}{line}\n" for line in api.ending_of(pod).lines))
            elif pod:
                self.answer(api.shown(pod))

        def do_POST(self) -> None:
            path, pod = urlsplit(self.path).path, self.body()
            api.asked.append(("POST", path))
            pod["metadata"].setdefault("namespace", path.split("/")[4])
            api.created.append(json.loads(json.dumps(pod)))
            api.pods[pod["metadata"]["name"]] = pod
            self.answer(pod, 201)

        def do_PATCH(self) -> None:
            patch, pod = self.body(), self.pod()
            if pod:
                pod["metadata"].setdefault("labels", {}).update(patch["metadata"]["labels"])
                self.answer(api.shown(pod))

        def do_DELETE(self) -> None:
            if pod := self.pod():
                del api.pods[pod["metadata"]["name"]]
                self.answer(pod | {"metadata": pod["metadata"]})

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def by_component(endings: Mapping[str, Ending]) -> dict[str, Ending]:
    """`Api.others` by programs' names."""
    return {name.replace("_", "-"): ending for name, ending in endings.items()}


@contextlib.contextmanager
def serving(ending: Ending, **others: Ending) -> Iterator[tuple[Api, str]]:
    """(the API, its address) while the block runs."""
    api = Api(ending, by_component(others))
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(api)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield api, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def connection(address: str) -> str:
    """Airflow's connection to it, as an environment variable has it."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": "x"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "night"}}]}
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config), "in_cluster": False}})
