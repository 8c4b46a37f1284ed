"""Publishes of which one request breaks, and what has to hold afterwards."""

import contextlib
from collections import Counter
from collections.abc import Collection

from feature_store import Table, prune
from feature_store.errors import PartitionMissing, StoreError
from feature_store.tree import DataRoot
from tests.faulty_proxy import Proxy
from tests.feature_store.samples import embeddings, names_in, publish
from tests.s3_server import S3Server

DATE, LATER = "2026-01-05", "2026-02-05"
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
    uri: str, server: S3Server, proxy: Proxy, old: bool, fault: str, patience: float = 0.0, only: str = "",
    of: str = "", every: int = 1,
) -> Counter[str]:  # fmt: skip
    """A publish for each of its requests, which breaks: what readers had then, and how many were refused. only: those
    of this method; of: those whose path ends so; every: so many of those that are left, from the last on."""
    _, through = fresh(f"{uri}/{fault}{patience}{only}-counted", server, proxy, old, patience)
    proxy.start(lambda *_: None)
    publish(through, DATE, NEW)
    seen = Counter[str]()
    asked = [(number, *request) for number, request in enumerate(proxy.requests, 1)]
    meant = [one for one in asked if only in ("", one[1]) and one[2].endswith(of)]
    for number, method, path in meant[::-every]:
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


def broken_rollbacks(uri: str, server: S3Server, proxy: Proxy, every: int) -> None:
    """A rollback for each so many of its requests, whose connection is cut: one whole version is read afterwards."""
    proxy.start(lambda *_: None)
    fresh(f"{uri}/counted", server, proxy, True)[1].rollback(DATE)
    for number in range(1, len(proxy.requests) + 1, every):
        table, through = fresh(f"{uri}/{number}", server, proxy, True)
        proxy.break_at(number, "cut")
        with contextlib.suppress(StoreError):
            through.rollback(DATE)
        seen = table.read(DATE)
        assert (seen.equals(OLD) or seen.equals(embeddings(0))) and table.verify(DATE) == [], number


def broken_prunes(uri: str, server: S3Server, proxy: Proxy, every: int) -> None:
    """As `broken_rollbacks`, of a prune: the partition is whole or gone, and the next prune and publish go through."""
    gone, number, broke = 0, 1, True
    while broke:
        table, through = fresh(f"{uri}/{number}", server, proxy, True)
        publish(table, LATER, OLD)
        proxy.start(lambda *_: None)
        root = DataRoot(f"{uri}/{number}", through.disk)
        (candidate,) = prune.plan(root, dict.fromkeys(root.tables, 3))
        proxy.break_at(number, "cut")
        refused = prune.problem_of_deleting(root, candidate)
        broke = len(proxy.requests) >= number
        gone += table.values() == [LATER]
        if table.values() != [LATER]:
            assert refused and table.read(DATE).equals(OLD) and table.verify(DATE) == []
        again = DataRoot(root.path, table.disk)
        for left in prune.plan(again, dict.fromkeys(again.tables, 3)):
            prune.delete(again, left)
        assert table.values() == [LATER] and table.unfinished() == []
        publish(table, DATE, NEXT)
        assert table.read(DATE).equals(NEXT)
        number += every
    assert gone >= 2 and number > 8


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
