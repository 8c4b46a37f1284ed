"""Guarantee 1 on an object store, broken on purpose: each request of a publish breaks in turn."""

from collections.abc import Iterator

import pytest

from feature_store import Table
from feature_store.errors import StoreError
from tests.faulty_proxy import Proxy, proxy_before
from tests.feature_store.breaking import DATE, NEXT, OLD, broken_prunes, broken_publishes, broken_rollbacks, fresh
from tests.feature_store.samples import publish
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy_before(s3_server.endpoint) as started:
        yield started


@pytest.mark.parametrize("fault, old, only", [("fail", True, "PUT"), ("cut", False, "")])
def test_a_publish_whose_requests_break_leaves_old_or_new(
    bucket: str, s3_server: S3Server, proxy: Proxy, fault: str, old: bool, only: str
) -> None:
    """Every second request of those; all, and all kinds of breaking: `make test-s3`."""
    seen = broken_publishes(bucket, s3_server, proxy, old, fault, only=only, every=2)
    assert seen["old"] and seen["new"], "both sides of the commit were reached"


def test_with_patience_a_commit_that_is_seen_twice_is_not_noticed(
    bucket: str, s3_server: S3Server, proxy: Proxy
) -> None:
    """Its second answer says that another was first. Every other request: `make test-s3`."""
    seen = broken_publishes(bucket, s3_server, proxy, True, "twice", 20.0, "PUT", of="_manifest.json")
    assert seen["refused"] == 0 and seen["old"] == 0 and seen["new"] >= 2, "the fence's, the commit's"


def test_a_commit_that_arrives_after_its_writer_has_given_up_is_refused(
    bucket: str, s3_server: S3Server, proxy: Proxy
) -> None:
    """Else it would name files that the writer has removed."""
    table, through = fresh(bucket, s3_server, proxy, True)
    puts = iter(range(99))

    def the_second_of_the_manifest(_: int, method: str, path: str) -> str | None:
        is_manifest = method == "PUT" and path.endswith(f"dt={DATE}/_manifest.json".replace("=", "%3D"))
        return "late" if is_manifest and next(puts) == 1 else None

    proxy.start(the_second_of_the_manifest)
    with pytest.raises(StoreError, match="committing"):
        publish(through, DATE, NEXT)
    proxy.settle()
    assert next(puts) >= 2, "the fence's, the commit's"
    assert table.read(DATE).equals(OLD) and table.verify(DATE) == [] and table.orphans(DATE) == []


def test_a_rollback_whose_requests_break_leaves_one_whole_version(
    bucket: str, s3_server: S3Server, proxy: Proxy
) -> None:
    """Every fourth of them; all: `make test-s3`."""
    broken_rollbacks(bucket, s3_server, proxy, every=4)


def test_a_prune_whose_requests_break_leaves_the_partition_whole_or_gone(
    bucket: str, s3_server: S3Server, proxy: Proxy
) -> None:
    """Every third of them; all: `make test-s3`."""
    broken_prunes(bucket, s3_server, proxy, every=3)


def test_a_read_that_is_cut_is_an_error_and_never_short(bucket: str, s3_server: S3Server, proxy: Proxy) -> None:
    table, through = fresh(bucket, s3_server, proxy, True)
    for fault in ("fail", "half", "drop"):
        for number in range(1, 9):
            proxy.break_at(number, fault)
            try:
                assert through.read(DATE).equals(OLD)
            except StoreError as refused:
                assert "s3://" in str(refused)
    patient = Table(table.uri, filesystem=s3_server.storage(endpoint=proxy.endpoint))
    for number in range(1, 6):
        proxy.break_at(number, "fail")
        assert patient.read(DATE).equals(OLD)


def test_lists_and_deletions_whose_answers_are_cut_are_asked_for_again(
    bucket: str, s3_server: S3Server, proxy: Proxy
) -> None:
    _, through = fresh(bucket, s3_server, proxy, True, patience=20.0)
    for ask in (through.values, lambda: through.orphans(DATE), lambda: through.disk.delete_folder(f"{bucket}/none")):
        proxy.start(lambda at, method, path: "half" if at < 3 and ("list-type" in path or method == "POST") else None)
        ask()
    proxy.start(lambda at, method, _: "half" if method == "POST" and at == 2 else None)
    through.disk.delete_folder(through.path(DATE))
    assert through.values() == []
    _, impatient = fresh(f"{bucket}/other", s3_server, proxy, True)
    proxy.start(lambda *_: "half")
    with pytest.raises(StoreError, match="did not answer as it should"):
        impatient.values()
