"""A changed bit anywhere in a published Parquet file: a read refuses it, or gives the rows that were published."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store import FeatureStore, Manifest, Segments, Table
from feature_store.errors import DataDamaged
from tests.feature_store.places import Place, at, on_disk
from tests.feature_store.samples import embeddings, publish

DATE = "2026-01-05"
TRIES = 400


@pytest.fixture
def table(place: Place) -> Table:
    table = FeatureStore(str(place / "feature_store")).table("user_embeddings", "my_model")
    publish(table, DATE, embeddings(0, users=300))
    return table


def _read_as_published(table: Table, expected: pa.Table, **reading: object) -> bool:
    """False where the read was refused."""
    try:
        found = table.read(DATE, **reading)
    except DataDamaged as error:
        assert "roll the partition back or publish it again" in str(error)
        return False
    assert found.equals(expected)
    return True


@pytest.mark.parametrize("rows", ["written", "adopted without page checksums"])
def test_a_flipped_bit_is_refused_or_changes_no_row(table: Table, rows: str) -> None:
    if rows != "written":
        with table.replace(DATE, keep_versions=0) as commit:
            pq.write_table(embeddings(0, users=300), f"{commit.path}/engine.parquet", data_page_version="2.0")
            commit.adopt(["engine.parquet"])
    path, filter = at(table.files(DATE)[0]), pc.field("user_id") == "u00001"
    whole, some = table.read(DATE), table.read(DATE, filter=filter)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for bit in random.choice(len(content) * 8, TRIES if isinstance(path, Path) else TRIES // 10, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        assert not _read_as_published(table, whole)
        _read_as_published(table, some, filter=filter)
        _read_as_published(table, whole.select(["embedding"]), columns=["embedding"])
    path.write_bytes(content)
    assert table.verify(DATE) == []


@on_disk
@pytest.mark.parametrize(("groups", "step"), [(1, 1), (3, 4)])
def test_every_byte_of_footer_and_page_headers_counts(table: Table, groups: int, step: int) -> None:
    """Of one row group each byte, of three every fourth."""
    rows = embeddings(0, users=5)
    with table.replace(DATE, keep_versions=0) as commit:
        size = -(-rows.num_rows // groups)
        pq.write_table(rows, f"{commit.path}/engine.parquet", row_group_size=size, write_page_checksum=True)
        commit.adopt(["engine.parquet"])
    path = at(table.files(DATE)[0])
    content = path.read_bytes()
    assert len(table.manifest(DATE).files[0].frames) == 2 + groups
    for position in range(0, len(content), step):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert not _read_as_published(table, rows)


def test_a_look_up_does_not_refuse_damage_in_row_groups_that_it_does_not_read(table: Table) -> None:
    rows = embeddings(0, users=300)
    with table.replace(DATE, keep_versions=0) as commit:
        pq.write_table(rows, f"{commit.path}/engine.parquet", row_group_size=100, write_page_checksum=True)
        commit.adopt(["engine.parquet"])
    path = at(table.files(DATE)[0])
    content = bytearray(path.read_bytes())
    content[pq.read_metadata(path).row_group(2).column(0).data_page_offset] ^= 1
    path.write_bytes(content)
    assert table.read(DATE, filter=pc.field("user_id") == "u00001").num_rows == 1
    with pytest.raises(DataDamaged, match="row group 2"):
        table.read(DATE)


def test_a_partition_of_before_the_frames_is_read_on(table: Table) -> None:
    path = at(table.path(DATE), "_manifest.json")
    manifest = Manifest.from_bytes(path.read_bytes(), "x")
    files = tuple(dataclasses.replace(file, frames=()) for file in manifest.files)
    path.write_bytes(dataclasses.replace(manifest, files=files, written=b"").to_bytes())
    assert table.read(DATE).equals(embeddings(0, users=300)) and table.verify(DATE) == []
    data = at(table.files(DATE)[0])
    changed = bytearray(data.read_bytes())
    changed[len(changed) // 2] ^= 1  # in a page: its own checksum finds it
    data.write_bytes(changed)
    with pytest.raises(DataDamaged):
        table.read(DATE)


def test_files_for_other_engines_can_be_verified_first(table: Table, place: Place) -> None:
    store = FeatureStore(str(place / "feature_store"))
    asked = {"model": "my_model", "dt": DATE}
    (path,) = store.files("user_embeddings", **asked, verify=True)
    changed = bytearray(at(path).read_bytes())
    changed[len(changed) // 2] ^= 1
    at(path).write_bytes(changed)
    assert store.files("user_embeddings", **asked) == [path]
    with pytest.raises(DataDamaged, match="was changed after it was published"):
        store.files("user_embeddings", **asked, verify=True)


def test_a_changed_bit_of_a_file_that_is_no_table_is_refused(place: Place) -> None:
    table, content = Table(str(place / "checkpoints/my_model")), bytes(range(100))
    with table.replace(DATE) as commit:
        commit.write_table(embeddings(0))
        names = [commit.write_bytes(".safetensors", content), commit.write_bytes(".json", b"{}")]
    assert table.blobs(DATE) == dict(zip(names, (content, b"{}"), strict=True))
    path = at(table.path(DATE), names[0])
    for position in range(100):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DataDamaged, match=f"{path.name} was changed after it was published"):
            table.blobs(DATE)
    path.write_bytes(content[:-1])
    with pytest.raises(DataDamaged, match="has 99 bytes .*the manifest says 100 bytes"):
        table.blobs(DATE)
    path.unlink()
    with pytest.raises(DataDamaged, match="is gone"):
        table.blobs(DATE)


def test_a_changed_bit_of_a_ledger_is_refused_or_changes_no_row(place: Place) -> None:
    ledger = Segments(str(place / "entity_ids/user"))
    ledger.append(1, pa.table({"id": range(100), "raw": [f"u{number}" for number in range(100)]}))
    (path,), expected = map(at, ledger.files()), ledger.read()
    content = path.read_bytes()
    for position in range(0, len(content), 1 if isinstance(path, Path) else 10):
        path.write_bytes(content[:position] + bytes([content[position] ^ 8]) + content[position + 1 :])
        try:
            assert ledger.read().equals(expected)
            ledger.check()
        except DataDamaged as error:
            assert path.name in str(error) and "backup" in str(error)


def test_an_engine_that_checks_pages_is_given_checked_headers(table: Table) -> None:
    path = at(table.files(DATE)[0])
    content, manifest = path.read_bytes(), table.manifest(DATE)
    table.check_frames(DATE, manifest)
    chunk = pq.read_metadata(path).row_group(0).column(1)
    for position in (chunk.data_page_offset, chunk.data_page_offset + 2, len(content) - 1, len(content) - 9):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DataDamaged, match=path.name):
            table.check_frames(DATE, manifest)
