"""A proxy before the S3 server that breaks requests on purpose, each as a network or a server might.

`fail`: 503, and the server never saw it. `drop`: the connection ends, and the server never saw it. `cut`: the server
has done it, and the answer is lost. `half`: the answer ends in its middle. `delay`: it comes late. `twice`: the server
sees it twice, as when something between repeats it, and its second answer is given. `late`: the connection ends, and
the server gets the request a second later. Any other text: an S3 error of that code.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("fail", "drop", "cut", "half", "delay", "twice", "late")
DELAY_SECONDS = 0.5
LATE_SECONDS = 1.0
_STATUS = {"AuthorizationHeaderMalformed": 400, "PermanentRedirect": 301}
Plan = Callable[[int, str, str], str | None]  # number from 1, method, path → fault


@dataclass
class Proxy:
    """`requests`: (method, path) of all that came since `start`, `sent`: how many bytes their answers had; `plan` says
    which break."""

    upstream: tuple[str, int]
    plan: Plan = lambda *_: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    endpoint: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _late: list[threading.Thread] = field(default_factory=list)

    def start(self, plan: Plan) -> None:
        with self._lock:
            self.requests, self.sent, self.plan = [], 0, plan

    def break_at(self, number: int, fault: str) -> None:
        """The `number`-th request from now on."""
        self.start(lambda at, *_: fault if at == number else None)

    def settle(self) -> None:
        """Waits for requests that are to arrive late."""
        while self._late:
            self._late.pop().join()

    def fault(self, method: str, path: str) -> str | None:
        with self._lock:
            self.requests.append((method, path))
            return self.plan(len(self.requests), method, path)

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, content) of the server's answer."""
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            with self._lock:
                self.sent += len(content)
            return answer.status, dict(answer.getheaders()), content
        finally:
            connection.close()

    def forward_late(self, *request: Any) -> None:
        def send() -> None:
            time.sleep(LATE_SECONDS)
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.forward(*request)

        self._late.append(threading.Thread(target=send, daemon=True))
        self._late[-1].start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = (self.command, self.path, dict(self.headers.items()), body)
        fault = self.proxy.fault(self.command, self.path)
        if fault == "drop":
            return self._hang_up()
        if fault == "late":
            self.proxy.forward_late(*request)
            return self._hang_up()
        if fault == "fail":
            return self._answer(503, {}, b"")
        if fault is not None and fault not in FAULTS:
            code = f"<Error><Code>{fault}</Code><Message>made up; expecting 'eu-west-1'</Message></Error>"
            return self._answer(_STATUS.get(fault, 403), {}, code.encode())
        if fault == "delay":
            time.sleep(DELAY_SECONDS)
        if fault == "twice":
            self.proxy.forward(*request)
        status, headers, content = self.proxy.forward(*request)
        if fault == "cut":
            return self._hang_up()
        return self._answer(status, headers, content, half=fault == "half")

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, half: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = next((v for name, v in headers.items() if name.lower() == "content-length"), str(len(content)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.wfile.flush()
            self._hang_up()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # five, as is usual, are soon too many on a busy machine


@contextlib.contextmanager
def proxy_before(endpoint: str) -> Iterator[Proxy]:
    """A proxy before the server at `http://host:port`, on a free port."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    proxy = Proxy((host, int(port)))
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.settle()
        server.shutdown()
        server.server_close()
        thread.join()
