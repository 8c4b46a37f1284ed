"""After a SIGKILL at any time readers of an object store see one whole version, and the next publish goes through."""

import os

from feature_store import Table
from tests.feature_store.kills import LEASE_SECONDS, kill_publishers, whole_version
from tests.feature_store.samples import names_in
from tests.feature_store.writers import DATE, publish_versions
from tests.s3_server import S3Server


def test_twenty_publishers_are_killed_under_looping_readers(bucket: str, s3_server: S3Server) -> None:
    """300 of them: `make test-s3`."""
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=LEASE_SECONDS))
    counted = kill_publishers(table, int(os.environ.get("KILLS", "20")), {"ours": lambda: table.read(DATE)})
    assert counted["ours: versions"] > 10
    publish_versions(table.uri, 1_000_000, 1, LEASE_SECONDS)
    assert whole_version(table.read(DATE)) == 1_000_000
    assert table.orphans(DATE) == [] and table.verify(DATE) == [] and len(table.versions(DATE)) <= 1
    assert names_in(table, DATE) - {"_retired"} == {"part", "_manifest.json", "_SUCCESS", "_lock"}
