"""After a SIGKILL at any time readers of an object store see one whole version, and the next publish goes through."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store import Table
from feature_store.errors import LockHeld
from tests.feature_store.kills import LEASE_SECONDS, kill_publishers, whole_version
from tests.feature_store.samples import embeddings, names_in, publish
from tests.feature_store.writers import DATE, publish_versions
from tests.s3_server import S3Server


def test_ten_publishers_are_killed_under_looping_readers(bucket: str, s3_server: S3Server) -> None:
    """300 of them: `make test-s3`."""
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=LEASE_SECONDS))
    counted = kill_publishers(table, int(os.environ.get("KILLS", "10")), {"ours": lambda: table.read(DATE)})
    assert counted["ours: versions"] > 10
    publish_versions(table.uri, 1_000_000, 1, LEASE_SECONDS)
    assert whole_version(table.read(DATE)) == 1_000_000
    assert table.orphans(DATE) == [] and table.verify(DATE) == [] and len(table.versions(DATE)) <= 1
    assert names_in(table, DATE) - {"_retired"} == {"part", "_manifest.json", "_SUCCESS", "_lock"}


@pytest.mark.parametrize("old", [False, True], ids=["first publish", "re-publish"])
def test_a_pod_that_is_evicted_in_mid_commit_is_followed_by_its_retry(
    bucket: str, s3_server: S3Server, old: bool
) -> None:
    """It is asked to end, and does, between its files and its manifest: readers keep what they had, and the next try,
    on another machine, waits for the lease to run out and leaves nothing of the first."""
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=LEASE_SECONDS))
    if old:
        publish(table, DATE, embeddings(0))
    command = [sys.executable, "-m", "tests.feature_store.writers", "slowly", table.uri, "1.5"]
    pod = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    try:
        assert pod.stdout.readline() == "written\n"
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(20) == -signal.SIGTERM
    finally:
        pod.kill()
        pod.wait(20)
    left = set(table.orphans(DATE))
    assert left and (table.read(DATE).equals(embeddings(0)) if old else table.values() == [])
    with pytest.raises(LockHeld, match=r"held by process \d+ on "), table.replace(DATE, wait_seconds=0):
        pytest.fail("the lease of the one that was evicted has not run out")
    with table.replace(DATE, wait_seconds=20) as commit:
        commit.write_table(embeddings(2), sorted_by=["user_id"])
    assert table.read(DATE).equals(embeddings(2)) and table.verify(DATE) == [] and table.orphans(DATE) == []
    assert not left & {entry.name for entry in table.disk.list(table.path(DATE))}
