"""Publishes of which one request breaks, and what has to hold afterwards."""

from collections import Counter
from collections.abc import Collection

from feature_store import Table
from feature_store.errors import PartitionMissing, StoreError
from tests.faulty_proxy import Proxy
from tests.feature_store.samples import embeddings, names_in, publish
from tests.s3_server import S3Server

DATE = "2026-01-05"
OLD, NEW, NEXT = embeddings(1), embeddings(2), embeddings(3)
OURS = {"part", "_manifest.json", "_SUCCESS", "_lock"}


def fresh(uri: str, server: S3Server, proxy: Proxy, old: bool, patience: float = 0.0) -> tuple[Table, Table]:
    """A table, with two versions where `old`, and the same through the proxy. `patience`: seconds of trying again."""
    settings = {"retry_seconds": patience, "timeout_seconds": 5.0, "lease_seconds": 0.25}
    table = Table(f"{uri}/t", filesystem=server.storage(lease_seconds=0.25))
    if old:
        publish(table, DATE, embeddings(0))
        publish(table, DATE, OLD)
    return table, Table(table.uri, filesystem=server.storage(endpoint=proxy.endpoint, **settings))


def broken_publishes(
    uri: str, server: S3Server, proxy: Proxy, old: bool, fault: str, patience: float = 0.0, only: str = "", of: str = ""
) -> Counter[str]:
    """A publish for each of its requests, which breaks: what readers had then, and how many were refused. only: those
    of this method; of: those whose path ends so."""
    _, through = fresh(f"{uri}/{fault}{patience}{only}-counted", server, proxy, old, patience)
    proxy.start(lambda *_: None)
    publish(through, DATE, NEW)
    requests, seen = list(proxy.requests), Counter[str]()
    for number, (method, path) in enumerate(requests, 1):
        if (only and method != only) or not path.endswith(of):
            continue
        where = f"{fault} at {number}: {method} {path}"
        table, through = fresh(f"{uri}/{fault}{patience}{only}-{number}", server, proxy, old, patience)
        proxy.break_at(number, fault)
        try:
            publish(through, DATE, NEW)
        except StoreError as refused:
            seen["refused"] += 1
            print(f"{where}: {refused}")
        else:
            assert table.read(DATE).equals(NEW), where
        proxy.settle()
        seen["new" if _reads(table, where, old) else "old"] += 1
        check_afterwards(table, old, where, (OLD, NEW))
    return seen


def _reads(table: Table, where: str, old: bool) -> bool:
    """Whether readers have the new version; the old one else, or none where there was none."""
    try:
        found = table.read(DATE)
    except PartitionMissing:
        assert not old, where
        return False
    assert table.verify(DATE) == [], where
    assert found.equals(NEW) or (old and found.equals(OLD)), where
    return found.equals(NEW)


def check_afterwards(table: Table, old: bool, where: str, kept: Collection) -> None:
    """The next publish goes through, and leaves nothing but itself and one version, which a rollback brings back."""
    publish(table, DATE, NEXT)
    assert table.read(DATE).equals(NEXT) and table.orphans(DATE) == [], where
    assert names_in(table, DATE) - {"_retired"} == OURS, where
    assert len(table.versions(DATE)) <= 1 and table.verify(DATE) == [], where
    if old and kept:
        table.rollback(DATE)
        back = table.read(DATE)
        assert any(back.equals(one) for one in kept) and table.verify(DATE) == [], where
