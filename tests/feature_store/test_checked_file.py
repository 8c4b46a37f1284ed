"""Column chunks against their hashes in the manifest: what is read is read once, and refused where it was changed."""

import contextlib
import dataclasses
import errno
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import xxhash

from feature_store import Manifest, Table, checked_file
from feature_store.checked_file import CheckedFile, Chunk
from feature_store.errors import DataDamaged, StoreError
from tests.feature_store import faulty
from tests.feature_store.faulty import CountingFile, CountingHandler
from tests.feature_store.samples import embeddings, publish

DATE = "2026-01-05"
NESTED = pa.table(
    {
        "user_id": [f"u{number:03}" for number in range(90)],
        "b": range(90),
        "a": [{"b": number, "c": [f"x{number % 3}"] * (number % 4)} for number in range(90)],
        "kind": pa.array([f"k{number % 5}" for number in range(90)]).dictionary_encode(),
    }
)


def _published(folder: Path, rows: pa.Table, **writing: object) -> Table:
    """In three row groups."""
    table = Table(str(folder / "t"))
    with table.replace(DATE) as commit:
        pq.write_table(rows, f"{commit.path}/engine.parquet", row_group_size=-(-rows.num_rows // 3), **writing)
        commit.adopt(["engine.parquet"])
    return table


def _flip(path: Path, position: int) -> bytes:
    """Returns what was there before."""
    content = path.read_bytes()
    path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    return content


def _rewritten(table: Table, **changed: object) -> None:
    """The manifest with other fields of its file, as another version of this store would have written it."""
    path = Path(table.path(DATE), "_manifest.json")
    manifest = Manifest.from_bytes(path.read_bytes(), "x")
    files = tuple(dataclasses.replace(file, **changed) for file in manifest.files)
    path.write_bytes(dataclasses.replace(manifest, files=files, written=b"").to_bytes())


def _middle(path: Path, group: int, column: int) -> int:
    chunk = pq.read_metadata(path).row_group(group).column(column)
    first = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    return first + chunk.total_compressed_size // 2


def test_a_manifest_has_sixteen_digits_for_each_column_chunk(tmp_path: Path) -> None:
    """No more: a file of 77 row groups and 8 columns has 10 kB of them."""
    table = _published(tmp_path, embeddings(0))
    (entry,), (path,) = table.manifest(DATE).files, table.files(DATE)
    assert [len(digests) for digests in entry.chunks] == [16 * 4] * 3
    chunk = pq.read_metadata(path).row_group(1).column(2)
    first = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    content = Path(path).read_bytes()[first : first + chunk.total_compressed_size]
    assert entry.chunks[1][32:48] == xxhash.xxh3_64_hexdigest(content)


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("columns", [["b"], ["a"], ["kind", "user_id"], None])
def test_every_chunk_of_what_is_read_counts(tmp_path: Path, compression: str, columns: list[str] | None) -> None:
    """Also where the pages have no CRC. Others may: of small chunks Arrow reads those between them too."""
    table = _published(tmp_path, NESTED, compression=compression, write_page_index=True)
    path, wanted = Path(table.files(DATE)[0]), columns or NESTED.column_names
    metadata, expected = pq.read_metadata(path), table.read(DATE, columns)
    assert expected.equals(NESTED.select(wanted).cast(expected.schema))
    for number in range(metadata.num_columns):
        chunk = metadata.row_group(1).column(number)
        is_read = any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in wanted)
        before = _flip(path, _middle(path, 1, number))
        if is_read:
            with pytest.raises(DataDamaged, match=f"{path.name} was changed .* of row group 1 does not fit"):
                table.read(DATE, columns)
        else:
            with contextlib.suppress(DataDamaged):
                assert table.read(DATE, columns).equals(expected)
        path.write_bytes(before)


def test_a_look_up_refuses_the_row_group_that_it_reads(tmp_path: Path) -> None:
    table = _published(tmp_path, NESTED)
    path, asked = Path(table.files(DATE)[0]), pc.field("user_id") == "u031"
    assert table.read(DATE, ["b"], asked).column("b").to_pylist() == [31]
    for column in (0, 1):
        before = _flip(path, _middle(path, 1, column))
        with pytest.raises(DataDamaged, match="of row group 1 does not fit its checksum"):
            table.read(DATE, ["b"], asked)
        path.write_bytes(before)
    for group in (0, 2):
        before = _flip(path, _middle(path, group, 1))
        assert table.read(DATE, ["b"], asked).num_rows == 1
        path.write_bytes(before)


@pytest.mark.parametrize("before", [("chunks",), ("chunks", "frames")])
def test_a_partition_of_before_these_hashes_is_read_on(tmp_path: Path, before: tuple[str, ...]) -> None:
    """By Arrow's check of the pages' CRCs, and of page headers where there are frames."""
    table, asked = _published(tmp_path, NESTED, write_page_checksum=True), pc.field("user_id") == "u031"
    _rewritten(table, **dict.fromkeys(before, ()))
    path, expected = Path(table.files(DATE)[0]), table.read(DATE)
    assert expected.equals(NESTED.cast(expected.schema)) and table.verify(DATE) == []
    assert table.read(DATE, ["b"], asked).to_pylist() == [{"b": 31}]
    header = pq.read_metadata(path).row_group(1).column(1).data_page_offset + 1
    for position in [_middle(path, 1, 1), header][: 1 if "frames" in before else 2]:
        content = _flip(path, position)
        for filter in (None, asked):
            with pytest.raises(DataDamaged):
                table.read(DATE, filter=filter)
        path.write_bytes(content)


@pytest.mark.parametrize("changed", ["a row group less", "a column less", "no digit", "a frame less"])
def test_hashes_of_another_file_are_refused(tmp_path: Path, changed: str) -> None:
    table = _published(tmp_path, embeddings(0))
    entry = table.manifest(DATE).files[0]
    others = {
        "a row group less": {"chunks": entry.chunks[:-1]},
        "a column less": {"chunks": (entry.chunks[0][16:], *entry.chunks[1:])},
        "no digit": {"chunks": ("x" * len(entry.chunks[0]), *entry.chunks[1:])},
        "a frame less": {"frames": entry.frames[:-1]},
    }
    _rewritten(table, **others[changed])
    for reading in ({}, {"filter": pc.field("user_id") == "u00001"}):
        with pytest.raises(DataDamaged, match="engine.parquet .*publish it again"):
            table.read(DATE, **reading)


def test_what_is_read_is_read_once(tmp_path: Path) -> None:
    rows = embeddings(0, users=30_000)
    table = _published(tmp_path, rows)
    size, counted = table.manifest(DATE).size, CountingHandler()
    counting = Table(table.uri, filesystem=pyarrow.fs.PyFileSystem(counted))
    assert counting.read(DATE).num_rows == rows.num_rows and size < counted.read_bytes < 1.1 * size
    counted.read_bytes = 0
    assert counting.read(DATE, ["n_events"]).num_rows == rows.num_rows and counted.read_bytes < size / 4


class FailingFile(CountingFile):
    """Of a disk that fails when rows are read, and not for footers."""

    def read(self, size: int = -1) -> bytes:
        if size > os.fstat(self.fileno()).st_size // 4:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def test_a_disk_that_fails_while_rows_are_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _published(tmp_path, embeddings(0, users=30_000))
    counting = Table(table.uri, filesystem=pyarrow.fs.PyFileSystem(CountingHandler()))
    monkeypatch.setattr(faulty, "CountingFile", FailingFile)
    with pytest.raises(StoreError, match="[Ii]nput/output error") as raised:
        counting.read(DATE)
    assert not isinstance(raised.value, DataDamaged)


def test_a_part_of_a_chunk_is_handed_out_when_the_whole_was_checked() -> None:
    content = bytes(range(100))
    chunks = [Chunk(4, 40, xxhash.xxh3_64_hexdigest(content[4:40]), "one"), Chunk(40, 80, "0" * 16, "two")]
    file = CheckedFile(pa.BufferReader(content), chunks, "x.parquet")
    assert file.seek(0, os.SEEK_END) == 100
    file.seek(0)
    assert file.read(10) == content[:10] and file.tell() == 10
    file.seek(20)
    assert file.read(20) == content[20:40]
    with pytest.raises(DataDamaged, match=r"x\.parquet was changed after it was published: two does not fit"):
        file.read(1)
    file.seek(-30, os.SEEK_END)  # as Arrow looks for the footer, which is read without the chunk before it
    assert file.read(30) == bytes(10) + content[80:]
    file.seek(80)
    assert file.read(1000) == content[80:] and file.tell() == 100


@pytest.mark.parametrize("held", ["file", "file.read_buffer(1)"])
def test_a_program_ends_only_when_arrows_threads_have_let_go_of_its_files(held: str) -> None:
    """Else Python's end and theirs meet, and the process is aborted."""
    program = f"""
import threading, time
import pyarrow as pa
from feature_store.checked_file import CheckedFile
def hold(file):
    time.sleep(0.3)
    print("let go", flush=True)
file = CheckedFile(pa.BufferReader(b"x"), [], "x")
threading.Thread(target=hold, args=[{held}], daemon=True).start()
del file
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "let go\n"


def test_rows_that_were_read_hold_no_buffer_of_the_file(tmp_path: Path) -> None:
    """Else a program that keeps them would wait at its end."""
    publish(Table(str(tmp_path / "t")), DATE, embeddings(1))
    program = f"""
import time
from feature_store import Table, checked_file
kept = Table({str(tmp_path / "t")!r}).read({DATE!r})
end = time.monotonic() + 20
while not checked_file._all_gone() and time.monotonic() < end:
    time.sleep(0.001)
print(kept.num_rows, len(checked_file._HELD) > 1, checked_file._all_gone())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{embeddings(1).num_rows} True True\n"


class Interrupted(dict):
    """Other threads go on while one goes through it, as they may wherever Python collects garbage."""

    def items(self) -> Iterator[tuple[int, weakref.ref]]:
        for pair in super().items():
            time.sleep(0.0001)
            yield pair


def test_threads_may_open_files_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    held, source = Interrupted(), pa.BufferReader(b"x")
    monkeypatch.setattr(checked_file, "_HELD", held)

    def open_files(_: int) -> list[CheckedFile]:
        return [CheckedFile(source, [], "x") for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_files, range(4)))
    assert len(held) == sum(map(len, opened)) == 40
