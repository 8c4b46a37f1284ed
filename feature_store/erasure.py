"""Taking rows out of what is committed, for ever: of a partition's current version and of the replaced ones.

A partition of which rows go is published anew without them, in one commit; replaced versions are dropped, since they
hold the rows still. A file at a time is in memory. The manifest tells the content hashes of before
(`ERASED_FROM`), so that what was built on the partition is not stale for that. A segment of a ledger keeps its ids
and gets other texts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store import retired
from feature_store.commit import Commit
from feature_store.errors import explain_os_errors
from feature_store.layout import RETIRED, part_hint
from feature_store.manifest import ERASED_FROM
from feature_store.publish import clean_up, writing
from feature_store.segments import Segments
from feature_store.table import Table

WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Erased:
    """What goes of one partition: rows of the current version, and replaced versions, each as a whole."""

    rows: int = 0
    versions: int = 0


@dataclass(frozen=True)
class Rows:
    """Which rows go: `marks` (bool per row) reads the columns `columns`, and nothing else is read to look for them.

    `text` gives the new content of a file that is no table, from its suffix and old content. `forgotten`: names of
    the manifest's fields that count rows.
    """

    columns: Sequence[str]
    marks: Callable[[pa.Table], pa.Array]
    text: Callable[[str, bytes], bytes] = lambda suffix, content: content
    forgotten: Sequence[str] = ()

    def count(self, table: pa.Table) -> int:
        return pc.sum(self.marks(table)).as_py() or 0


def count(table: Table, value: str, rows: Rows) -> Erased:
    """What `erase` would take out of a committed partition. DataDamaged, ManifestBroken where that cannot be told."""
    current = sum(table.of_each_file(value, rows.count, list(rows.columns)))
    return Erased(current, len(table.versions(value)) if current or _in_versions(table, value, rows) else 0)


def erase(table: Table, value: str, rows: Rows) -> Erased:
    """Takes them out; a partition that has none of them stays as it is. LockHeld, DiskFull, CannotWrite: it is as it
    was, or without them."""
    found = count(table, value, rows)
    if found.rows:
        version = table.existing_manifest(value).schema_version
        with table.replace(value, schema_version=version, keep_versions=0, wait_seconds=WAIT_SECONDS) as commit:
            former = table.existing_manifest(value)  # under the lock: no other publish comes between
            commit.provenance = list(former.provenance)
            schemas = table.of_each_file(value, lambda file: _write_others(commit, file, rows, former.sorted_by))
            if not commit.files:
                commit.write_table(schemas[0].empty_table(), sorted_by=former.sorted_by)
            for name, content in table.blobs(value).items():
                hint, suffix = part_hint(name)
                commit.write_bytes(suffix, rows.text(suffix, content), hint=hint)
            commit.fields |= {name: field for name, field in former.fields.items() if name not in rows.forgotten}
            commit.fields[ERASED_FROM] = [*former.fields.get(ERASED_FROM, []), former.content_hash]
    elif found.versions or _leftovers(table, value):
        tidy(table, value, keep_versions=0 if found.versions else None)
    return found


def _write_others(commit: Commit, file: pa.Table, rows: Rows, sorted_by: Sequence[str]) -> pa.Schema:
    """The rows of a file that stay; its columns."""
    others = file.filter(pc.invert(rows.marks(file)))
    if others.num_rows:
        commit.write_table(others, sorted_by=sorted_by)
    return file.schema


def tidy(table: Table, value: str, keep_versions: int | None) -> None:
    """Removes what neither a committed partition nor its newest replaced versions need (None: all stay)."""
    folder = table.path(value)
    with writing(table, folder, WAIT_SECONDS) as held, explain_os_errors("cleaning up", folder):
        clean_up(held, table.existing_manifest(value), keep_versions)


def uncommitted(table: Table) -> list[str]:
    """Values whose folder has no manifest and holds something all the same: files, or replaced versions."""
    there = [value for value in table.folders() if table.manifest(value) is None]
    return [value for value in there if table.orphans(value) or table.disk.list(f"{table.path(value)}/{RETIRED}")]


def _leftovers(table: Table, value: str) -> bool:
    """Whether a crash left files that no manifest names: this module's own too, after its commit."""
    kept = table.disk.list(f"{table.path(value)}/{RETIRED}")
    return bool(table.orphans(value)) or len(kept) > len(table.versions(value))


def rename(ledger: Segments, names: Mapping[str, str], column: str = "raw") -> int:
    """Gives the ids of some texts, the keys of `names`, others; how many there were. DataDamaged."""
    ledger.check()
    old, renamed = pa.array(names.keys(), pa.string()), 0
    for number, path in enumerate(ledger.files(), 1):
        rows = ledger.segment(path)
        texts = rows.column(column)
        at = pc.index_in(texts, value_set=old)
        if there := len(at) - at.null_count:
            given = pc.coalesce(pa.array(names.values(), pa.string()).take(at), texts)
            place = rows.schema.get_field_index(column)
            ledger.rewrite(number, rows.set_column(place, rows.schema.field(place), given))
            renamed += there
    return renamed


def _in_versions(table: Table, value: str, rows: Rows) -> bool:
    """Whether a replaced version holds one of them; one that cannot be read may."""
    for path in retired.parquet_files(table.disk, table.path(value)):
        try:
            with table.disk.open(path) as source:
                if rows.count(pq.ParquetFile(source).read(list(rows.columns))):
                    return True
        except (OSError, pa.ArrowException, KeyError):
            return True
    return False
