"""Data roots on a real S3 server: what the disk's suite does not see, since a local disk has none of it."""

import pytest

from feature_store import Segments, Table
from feature_store.disk import open_disk
from feature_store.storage import Storage
from tests.feature_store.samples import embeddings, publish

DATE = "2026-01-05"


@pytest.fixture
def table(bucket: str, storage: Storage) -> Table:
    return Table(f"{bucket}/data/user_embeddings/model=transe", filesystem=storage)


def test_publishes_rollbacks_and_prunes_leave_what_readers_need_and_nothing_else(table: Table) -> None:
    for number in range(4):
        publish(table, DATE, embeddings(number))
        assert table.read(DATE).equals(embeddings(number)) and table.verify(DATE) == []
        assert len(table.versions(DATE)) == min(number, 1) and table.orphans(DATE) == []
    parts = [entry.name for entry in table.disk.list(table.path(DATE)) if entry.name.startswith("part-")]
    assert len(parts) == 2, "the version that is read, and the one that a rollback brings back"
    before = table.manifest(DATE)
    table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(2))
    table.rollback(DATE)
    assert table.manifest(DATE) == before and table.manifest(DATE).hash == before.hash


def test_a_ledgers_number_is_given_once(bucket: str, storage: Storage) -> None:
    ledger = Segments(f"{bucket}/ids/user", storage)
    first, second = embeddings(1), embeddings(2)
    assert ledger.append(1, first) and not ledger.append(1, second) and ledger.append(2, second)
    assert not ledger.disk.put_if_absent(ledger.files()[1], b"other")
    assert ledger.read().num_rows == first.num_rows + second.num_rows and ledger.verify() == []


def test_paths_are_whole_uris_however_the_root_is_spelt(bucket: str, storage: Storage) -> None:
    name = bucket.removeprefix("s3://")
    for spelt in (f"s3://{name}/a/b", f"s3a://{name}/a/b/", f"s3://{name}//a//b"):
        assert open_disk(spelt, storage)[1] == f"{bucket}/a/b"
    assert open_disk(bucket, storage)[1] == open_disk(f"{bucket}/", storage)[1] == bucket
