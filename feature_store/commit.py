"""The writing half of a publish: files go into the partition's folder under unique names
and count for nothing until the manifest names them."""

import datetime
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.columns import SchemaProblem, batches_of, check_columns, check_types, described
from feature_store.content import ContentHasher, combined_hash
from feature_store.disk import Disk
from feature_store.errors import DataDamaged, StoreError, explain_os_errors
from feature_store.frames import Frames
from feature_store.layout import part_name
from feature_store.manifest import FileEntry
from feature_store.order import OrderCheck
from feature_store.whole import sha256_of

ROW_GROUP_ROWS = 131_072
LOOKED_UP_ROWS = 16_384  # of a sorted table: whoever looks up one user in a million reads 1.6 % of the rows
FILE_BYTES = 512 << 20
_SPARK_LEFTOVERS = ("_temporary", "_committed_", "_started_", "_spark_metadata")


class Commit:
    """Collects the new version's files. `path` is the folder to write into; put JSON-able extras into `fields`.

    `created_timestamp` is the one reading of the clock: use it for the column of that name. `provenance` (set it
    before the first file) names columns that the content hash leaves out, for files written by an engine that keeps
    no Arrow metadata. `schema_problem` judges the columns of every Parquet file, whoever writes it, before the
    manifest can name it.
    """

    def __init__(
        self, disk: Disk, path: str, known: frozenset[str], schema_problem: SchemaProblem | None = None
    ) -> None:
        self.path = path
        self.fields: dict = {}
        self.provenance: list[str] = []
        self.created_timestamp = datetime.datetime.now(datetime.UTC)
        self.sorted_by: list[str] = []
        self._disk = disk
        self._known = known
        self._schema_problem = schema_problem
        self._files: list[FileEntry] = []
        self._rows: ContentHasher | None = None
        self._schema: pa.Schema | None = None
        self._blobs: list[str] = []

    @property
    def disk(self) -> Disk:
        """Of `path`."""
        return self._disk

    @property
    def files(self) -> tuple[FileEntry, ...]:
        return tuple(self._files)

    @property
    def row_count(self) -> int:
        return sum(file.row_count for file in self._files)

    def content_hash(self) -> str:
        """The content hash of everything written so far."""
        return combined_hash(self._rows.hexdigest() if self._rows is not None else None, self._blobs)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The rows of the Parquet files so far, in order. ValueError where there is none."""
        tables = []
        for file in self._files:
            if file.name.endswith(".parquet"):
                with self._disk.open(f"{self.path}/{file.name}") as source:
                    tables.append(pq.ParquetFile(source, pre_buffer=True).read(columns))
        return pa.concat_tables(tables)

    def write_table(self, table: pa.Table, *, sorted_by: Iterable[str] = ()) -> None:
        """Streams the rows into zstd Parquet, a new file beyond about 512 MB.

        `sorted_by` names the columns by which the rows are sorted already: they alone get statistics, and a page index
        over them. Several calls write one table in order; their columns must be the same.
        """
        sorted_by = list(sorted_by)
        self._check_schema(table.schema, f"a table for {self.path}")
        check_types(table.schema, self.path)
        check_sorted(table, sorted_by, self.path)
        self.sorted_by = sorted_by
        with ThreadPoolExecutor(1) as beside:  # while rows are packed and sent; neither needs the other
            hashing = beside.submit(self._hash_rows, table)
            end = self._write_file(table, 0, sorted_by)  # also without rows: the columns are a table
            while end < table.num_rows:
                end = self._write_file(table, end, sorted_by)
            hashing.result()

    def write_bytes(self, suffix: str, content: bytes, *, hint: str = "", hashed: bytes | None = None) -> str:
        """Writes one file that is no table, e.g. ".safetensors".

        Returns its name, `part-<number>-<hint->` + unique + suffix.

        `hashed` is what the content hash covers in place of `content`, where that holds what
        two equal runs do not share (a report's seconds).
        """
        name = part_name(len(self._files), suffix, hint)
        with explain_os_errors("writing a file", f"{self.path}/{name}"):
            sink = self._disk.create(f"{self.path}/{name}")
            sink.write(content)
            sink.close()
        covered = "" if hashed is None else hashlib.sha256(hashed).hexdigest()
        self._files.append(FileEntry(name, len(content), sink.sha256(), 0, covered))
        self._blobs.append(covered or sink.sha256())
        return name

    def adopt(self, paths: Iterable[str]) -> None:
        """Takes Parquet files that an engine wrote into `path` itself, in the given order:
        checked, hashed, made durable."""
        for path in paths:
            folder, _, name = str(path).replace("file://", "").rpartition("/")
            if folder not in ("", self.path):
                raise StoreError(
                    f"Asked to adopt {path}; expected a file directly in {self.path}. Let the engine write there."
                )
            self._adopt_file(name)

    def adopt_new(self) -> None:
        """Adopts every Parquet file in the folder that no manifest names, in file-name order,
        and removes what Spark leaves beside them."""
        taken = self._known.union(file.name for file in self._files)
        with explain_os_errors("looking for new files", self.path):
            entries = self._disk.list(self.path)
            for entry in entries:
                if entry.name.endswith(".crc") or entry.name.startswith(_SPARK_LEFTOVERS):
                    (self._disk.delete_folder if entry.is_folder else self._disk.delete)(f"{self.path}/{entry.name}")
        for entry in entries:
            is_data = entry.name.endswith(".parquet") and not entry.name.startswith((".", "_"))
            if is_data and not entry.is_folder and entry.name not in taken:
                self._adopt_file(entry.name)

    def adopt_parts(self, parts: Iterable[FileEntry]) -> None:
        """Takes Parquet files that `put_parts` wrote into `path`, in the given order: each is read back once."""
        for part in parts:
            path = f"{self.path}/{part.name}"
            with explain_os_errors("reading a part back", path):
                rows = self._adopt_rows(path)
            if rows != part.row_count:
                raise DataDamaged(f"{path} has {rows} rows; {part.row_count} were written. Nothing was published. "
                                  "Write it again.")
            self._files.append(part)

    def _adopt_file(self, name: str) -> None:
        path = f"{self.path}/{name}"
        with explain_os_errors("adopting a file", path):
            self._disk.sync(path)
            digest, size = sha256_of(self._disk, path)
            rows = self._adopt_rows(path)
            with self._disk.open(path) as source:
                frames, chunks = Frames(source).all(), Frames(source).chunks()
        self._files.append(FileEntry(name, size, digest, rows, frames=frames, chunks=chunks))

    def _adopt_rows(self, path: str) -> int:
        """Checks a file's columns and hashes its rows; how many there are."""
        try:
            with self._disk.open(path) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                self._check_schema(file.schema_arrow, path)
                for batch in batches_of(file, ROW_GROUP_ROWS):
                    self._hash_rows(batch)
                return file.metadata.num_rows
        except pa.ArrowInvalid as error:
            raise DataDamaged(
                f"{path} is no readable Parquet file ({error}). Nothing was published. Write it again."
            ) from error

    def _check_schema(self, schema: pa.Schema, where: str) -> None:
        check_columns(schema, where, self._schema_problem)
        if self._schema is None:
            self._schema = schema
        elif not schema.equals(self._schema):
            found, expected = (", ".join(described(one)) for one in (schema, self._schema))
            raise StoreError(
                f"Found the columns {found} in {where}; the partition so far has {expected}. "
                "One partition, one schema: write them alike."
            )

    def _hash_rows(self, rows: pa.Table | pa.RecordBatch) -> None:
        if self._rows is None:
            self._rows = ContentHasher(self.provenance)
        self._rows.update(rows)

    def _write_file(self, table: pa.Table, start: int, sorted_by: list[str]) -> int:
        """Writes one file from row `start`; returns the row after its last."""
        name = part_name(len(self._files), ".parquet")
        with explain_os_errors("writing rows", f"{self.path}/{name}"):
            sink = self._disk.create(f"{self.path}/{name}")
            try:
                end = _write_rows(table, start, sink, sorted_by)
            finally:
                sink.close()
            with sink.reread() as source:
                frames, chunks = Frames(source).all(), Frames(source).chunks()
        entry = FileEntry(name, sink.tell(), sink.sha256(), end - start, frames=frames, chunks=chunks)
        self._files.append(entry)
        return end


def check_sorted(table: pa.Table, columns: list[str], path: str) -> None:
    """Engines trust the sorting columns that a file declares: a wrong claim would make them lose rows."""
    check = OrderCheck(columns)
    check.update(table)
    if check.unsorted_at is not None:
        raise StoreError(
            f"Row {check.unsorted_at} of the table for {path} is smaller than the one before it by {columns}. "
            "Sort the rows first (strings by their bytes)."
        )


def _write_rows(table: pa.Table, start: int, sink: object, sorted_by: list[str]) -> int:
    schema = table.schema
    sorting = pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in sorted_by]) if sorted_by else None
    writer = pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        schema,
        compression="zstd",
        use_dictionary=[f.name for f in schema if pa.types.is_string(f.type) and f.name not in sorted_by],
        write_statistics=sorted_by or False,
        write_page_index=bool(sorted_by),
        write_page_checksum=True,
        sorting_columns=sorting,
    )
    group_rows = min(ROW_GROUP_ROWS, LOOKED_UP_ROWS) if sorted_by else ROW_GROUP_ROWS
    with writer:
        end = start
        while end < table.num_rows and sink.tell() < FILE_BYTES:
            rows = table.slice(end, ROW_GROUP_ROWS)
            writer.write_table(rows, row_group_size=group_rows)
            end += rows.num_rows
    return end
