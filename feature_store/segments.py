"""An append-only ledger of numbered Parquet segments; of two runs that want the same number exactly one gets it."""

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from feature_store.columns import SchemaProblem, check_columns
from feature_store.content import ContentHasher, content_hash
from feature_store.disk import Disk, open_disk
from feature_store.errors import DataDamaged, StoreError, explain_os_errors
from feature_store.storage import Storage

_CONTENT_HASH = b"nocturne.content_hash"  # in the footer: page checksums do not cover the columns' names
_PREFIX, _SUFFIX = "segment-", ".parquet"


class Segments:
    """`<uri>/segment-00000001.parquet`, ...: never deleted, and changed by nothing but the erasure of a user.

    Each is put whole, and only if its name was free.

    `schema_problem`: as in Table.
    """

    def __init__(
        self,
        uri: str,
        filesystem: fs.FileSystem | Disk | Storage | None = None,
        schema_problem: SchemaProblem | None = None,
    ) -> None:
        self.disk, self.uri = open_disk(str(uri), filesystem)
        self.schema_problem = schema_problem

    def files(self) -> list[str]:
        """Full paths in the order of their numbers. DataDamaged when a number is missing."""
        with explain_os_errors("listing the ledger", self.uri, "Nothing was changed."):
            entries = self.disk.list(self.uri)
        names = [entry.name for entry in entries if is_segment(entry.name) and not entry.is_folder]
        expected = [_name(number) for number in range(1, len(names) + 1)]
        if names != expected:
            missing = sorted(set(expected) - set(names))
            raise DataDamaged(
                f"{self.uri} lacks {missing[:3]} before {names[-1]}. "
                "Ledgers are never cut: restore the file from a backup."
            )
        return [f"{self.uri}/{name}" for name in names]

    def strays(self) -> list[str]:
        """Names beside the segments that are none. Nothing here reads them, a glob may."""
        names = [entry.name for entry in self.disk.list(self.uri)]
        return [name for name in names if not is_segment(name) and not name.startswith((".", "_"))]

    def read(self) -> pa.Table | None:
        """All rows of all segments in order; None when there is no segment."""
        tables = [self.segment(path) for path in self.files()]
        return pa.concat_tables(tables) if tables else None

    def segment(self, path: str) -> pa.Table:
        """The rows of one of `files`. DataDamaged."""
        try:
            with self.disk.open(path) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                table, metadata = file.read(), file.metadata.metadata
        except (OSError, pa.ArrowException) as error:
            raise DataDamaged(
                f"{path} cannot be read ({error}). Ledgers are never rewritten: restore the file from a backup."
            ) from error
        if problem := _problem_of(path, content_hash([table]), metadata):
            raise DataDamaged(problem)
        return table

    def row_count(self, path: str) -> int:
        """Of one of `files`, as it says itself."""
        with explain_os_errors("reading the ledger", path, "Nothing was changed."), self.disk.open(path) as source:
            return pq.read_metadata(source).num_rows

    def verify(self) -> list[str]:
        """Problems found, each naming its file: a missing number, or rows and bytes that do not fit their checksums."""
        try:
            paths = self.files()
        except DataDamaged as error:
            return [str(error)]
        return [problem for path in paths for problem in _verify_segment(self.disk, path)]

    def check(self) -> None:
        """DataDamaged unless every segment is as it was appended."""
        if problems := self.verify():
            raise DataDamaged(" ".join(problems))

    def next_number(self) -> int:
        return len(self.files()) + 1

    def append(self, number: int, rows: pa.Table | pa.RecordBatchReader) -> bool:
        """Commits segment `number`; a reader is streamed.

        False when another run has taken it: read again, and try the next.
        """
        there = self.next_number()
        if number > there:
            raise StoreError(
                f"Asked to append segment {number} to {self.uri}, which has {there - 1}. "
                f"Expected {there}: use next_number()."
            )
        if number < there:
            return False
        content = self._bytes_of(number, rows)
        state = "The segment is whole or absent, and the ones before it are unchanged."
        with explain_os_errors(f"appending segment {number}", self.uri, state):
            self.disk.make_folder(self.uri)
            self.disk.remove_strays(self.uri)
            return self.disk.put_if_absent(f"{self.uri}/{_name(number)}", content)

    def rewrite(self, number: int, rows: pa.Table) -> None:
        """Puts other rows in place of a segment's, as many: for an erasure alone, since nothing else may change one.
        StoreError where there are not as many."""
        path = self.files()[number - 1]
        if rows.num_rows != (there := self.row_count(path)):
            raise StoreError(f"Asked to put {rows.num_rows} rows in place of the {there} of {path}; expected as many.")
        content = self._bytes_of(number, rows.replace_schema_metadata(None))  # that of a segment has its own hash
        with explain_os_errors(f"rewriting segment {number}", self.uri, "The segment is as it was, or as asked."):
            self.disk.remove_strays(self.uri)
            self.disk.put_atomic(path, content)

    def _bytes_of(self, number: int, rows: pa.Table | pa.RecordBatchReader) -> pa.Buffer:
        check_columns(rows.schema, f"segment {number} of {self.uri}", self.schema_problem)
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, rows.schema, compression="zstd", write_page_checksum=True) as writer:
            content = ContentHasher()
            for batch in rows.to_reader() if isinstance(rows, pa.Table) else rows:
                content.update(batch)
                writer.write_batch(batch)
            writer.add_key_value_metadata({_CONTENT_HASH.decode(): content.hexdigest()})
        return sink.getvalue()


def _verify_segment(disk: Disk, path: str) -> list[str]:
    advice = "Ledgers are never rewritten: restore the file from a backup."
    try:
        with disk.open(path) as source:
            file, content = pq.ParquetFile(source, page_checksum_verification=True), ContentHasher()
            for batch in file.iter_batches():
                content.update(batch)
            recorded = file.metadata.metadata
    except (OSError, pa.ArrowException) as error:
        return [f"{path} cannot be read ({error}). {advice}"]
    problem = _problem_of(path, content.hexdigest(), recorded)
    return [problem] if problem else []


def _problem_of(path: str, found: str, metadata: dict[bytes, bytes] | None) -> str | None:
    """None where the rows are those that were appended; so are those of segments of before the hash."""
    if (metadata or {}).get(_CONTENT_HASH, found.encode()) == found.encode():
        return None
    return (
        f"{path} was changed after it was written: its content hash does not fit. "
        "Ledgers are never rewritten: restore the file from a backup."
    )


def is_segment(name: str) -> bool:
    number = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return number.isdecimal() and int(number) > 0 and name == _name(int(number))


def _name(number: int) -> str:
    return f"{_PREFIX}{number:08d}{_SUFFIX}"
