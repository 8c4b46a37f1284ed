"""The long tests of the store on an object store, `make test-s3`: every kind of fault at every request, 300 kills.

What is counted is printed. `KILLS` in the environment is their number, `SEED` what their moments are drawn by.
"""

import os
import time
from collections.abc import Callable, Iterator

import polars
import pyarrow as pa
import pytest

from feature_store import Table
from tests.faulty_proxy import FAULTS, Proxy, proxy_before
from tests.feature_store.breaking import broken_prunes, broken_publishes, broken_rollbacks
from tests.feature_store.kills import LEASE_SECONDS, kill_publishers, whole_version
from tests.feature_store.samples import names_in
from tests.feature_store.writers import DATE, publish_versions
from tests.s3_server import KEY, SECRET, S3Server


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy_before(s3_server.endpoint) as started:
        yield started


@pytest.mark.parametrize("old", [False, True], ids=["first publish", "re-publish"])
@pytest.mark.parametrize("patience", [0.0, 20.0], ids=["at once", "trying again"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_request_of_a_publish_breaks(
    bucket: str, s3_server: S3Server, proxy: Proxy, old: bool, patience: float, fault: str
) -> None:
    """Readers have the old version or the new one, whole, and the next publish leaves no trace of the broken one. With
    patience nothing of it is noticed."""
    seen = broken_publishes(bucket, s3_server, proxy, old, fault, patience)
    print(f"{fault}, {'re-' if old else 'first '}publish, {patience:g} s: {dict(seen)}")
    assert seen["new"] >= 3
    if patience or fault in ("delay", "twice"):
        assert not seen["refused"] and not seen["old"]


@pytest.mark.parametrize("breaking", [broken_rollbacks, broken_prunes])
def test_every_request_of_a_rollback_and_a_prune_breaks(
    bucket: str, s3_server: S3Server, proxy: Proxy, breaking: Callable[..., None]
) -> None:
    breaking(bucket, s3_server, proxy, every=1)


def test_three_hundred_publishers_are_killed_under_looping_readers(bucket: str, s3_server: S3Server) -> None:
    """Readers by this store and by Polars, which is given the paths of one version."""
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=LEASE_SECONDS))
    options = {
        "aws_endpoint_url": s3_server.endpoint, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET,
        "aws_region": "us-east-1", "aws_allow_http": "true"}  # fmt: skip

    def by_polars() -> pa.Table:
        expected = table.schema(DATE)
        try:
            found = polars.read_parquet(table.files(DATE), storage_options=options)
        except (OSError, polars.exceptions.PolarsError) as gone:  # two versions on, its files are deleted
            raise FileNotFoundError from gone
        vectors = pa.FixedSizeListArray.from_arrays(found["embedding"].explode().to_arrow(), 4)
        columns = [vectors if name == "embedding" else found[name].to_arrow() for name in expected.names]
        return pa.table([pa.array(c).cast(t) for c, t in zip(columns, expected.types, strict=True)], schema=expected)

    kills, start = int(os.environ.get("KILLS", "300")), time.monotonic()
    readers, seed = {"ours": lambda: table.read(DATE), "polars": by_polars}, int(os.environ.get("SEED", "1"))
    counted = kill_publishers(table, kills, readers, seed)
    print(f"{kills} kills in {time.monotonic() - start:.0f} s: {dict(counted)}, none mixed, none short")
    assert counted["ours"] > kills and counted["polars"] > kills / 10
    publish_versions(table.uri, 1_000_000, 1, LEASE_SECONDS)
    assert whole_version(table.read(DATE)) == 1_000_000
    assert table.orphans(DATE) == [] and table.verify(DATE) == [] and len(table.versions(DATE)) <= 1
    assert names_in(table, DATE) - {"_retired"} == {"part", "_manifest.json", "_SUCCESS", "_lock"}
