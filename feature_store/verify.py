"""Is a committed partition what its manifest says? Reads every byte once, holds one row group at a time."""

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import retired
from feature_store.columns import batches_of
from feature_store.content import ContentHasher, combined_hash
from feature_store.errors import StoreError
from feature_store.layout import MANIFEST
from feature_store.manifest import FileEntry, Manifest
from feature_store.order import OrderCheck
from feature_store.partitions import Partitions
from feature_store.view import USER_EMBEDDINGS, EmbeddingCheck
from feature_store.whole import problem_of

_BATCH_ROWS = 65_536


def verify_partition(table: Partitions, value: str) -> list[str]:
    """Problems of the committed version and of the replaced ones, each naming its file; [] when there are none."""
    path = f"{table.path(value)}/{MANIFEST}"
    try:
        manifest = table.manifest(value)
    except StoreError as error:
        found = [str(error)]
    else:
        never = f"{path} does not exist: the partition was never committed. Run the job that writes it."
        found = [never] if manifest is None else _verify_version(table, value, manifest)
    return found + retired.problems(table.disk, table.path(value))


def _verify_version(table: Partitions, value: str, manifest: Manifest) -> list[str]:
    path = f"{table.path(value)}/{MANIFEST}"
    misplaced = []
    if manifest.partition != {table.key: value}:
        misplaced.append(f"{path} belongs to {manifest.partition}, and lies in {table.key}={value}. Publish it again.")
    found = [_bytes_problem(table, f"{table.path(value)}/{file.name}", file) for file in manifest.files]
    damaged = [f"{problem} Roll the partition back or publish it again." for problem in found if problem]
    return misplaced + (damaged or _verify_rows(table, value, manifest))


def _bytes_problem(table: Partitions, path: str, file: FileEntry) -> str | None:
    try:
        return problem_of(table.disk, path, file)
    except OSError as error:
        return f"{path} cannot be read ({error})."


def _verify_rows(table: Partitions, value: str, manifest: Manifest) -> list[str]:
    """Row counts, content hash, order and keys:
    what a faulty writer gets wrong although every byte is as it was written."""
    rows = ContentHasher(manifest.provenance)
    order = OrderCheck(manifest.sorted_by)
    embeddings = EmbeddingCheck(value) if USER_EMBEDDINGS in table.uri.split("/") else None
    problems, blobs, tables = [], [], 0
    for file in manifest.files:
        path = f"{table.path(value)}/{file.name}"
        if not file.name.endswith(".parquet"):
            blobs.append(file.content_sha256 or file.sha256)
            continue
        tables += 1
        before = rows.row_count
        try:
            _feed(table, path, [check for check in (rows, order, embeddings) if check])
        except (OSError, pa.ArrowInvalid, StoreError) as error:
            return problems + [f"{path} cannot be read as a table ({error}). Publish it again."]
        if rows.row_count - before != file.row_count:
            problems.append(
                f"{path} has {rows.row_count - before} rows; the manifest says {file.row_count}. Publish it again."
            )
    found = combined_hash(rows.hexdigest() if tables else None, blobs)
    if found != manifest.content_hash:
        problems.append(
            f"{table.path(value)} has the content hash {found}; its manifest says {manifest.content_hash}. "
            "Publish it again."
        )
    if sum(file.row_count for file in manifest.files) != manifest.row_count:
        problems.append(
            f"{table.path(value)}/{MANIFEST} counts {manifest.row_count} rows in all, and others by file. "
            "Publish it again."
        )
    if order.unsorted_at is not None:
        problems.append(
            f"{table.path(value)} is not sorted by {list(manifest.sorted_by)} at row {order.unsorted_at}. "
            "Publish it again."
        )
    return problems + [f"{table.path(value)}: {problem}" for problem in (embeddings.problems() if embeddings else [])]


def _feed(table: Partitions, path: str, checks: list) -> None:
    with table.disk.open(path) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        for batch in batches_of(file, _BATCH_ROWS):
            for check in checks:
                check.update(batch)
