"""The S3 server of the tests."""

from __future__ import annotations

import pytest

from feature_store.tree import DataRoot
from tests.s3_server import BUCKET, in_environment, started


def test_it_goes_on_where_it_ended_and_says_so() -> None:
    with started() as server, in_environment(server):
        disk = DataRoot(f"s3://{BUCKET}").disk
        server.go_on()
        disk.put_atomic(f"s3://{BUCKET}/before", b"1")
        server.process.kill()
        server.process.wait(30)
        with pytest.warns(UserWarning, match="the S3 server ended with -9"):
            server.go_on()
        disk.put_atomic(f"s3://{BUCKET}/after", b"2")
        assert disk.read_bytes(f"s3://{BUCKET}/after") == b"2"
