"""What `python -m feature_store` does: one function per command, each from its options to an exit status."""

import argparse
import json

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import lineage, prune, show
from feature_store.copying import Copied, copy_root
from feature_store.disk import open_disk
from feature_store.errors import PartitionMissing, StoreError, explain_os_errors
from feature_store.layout import rerun_command
from feature_store.segments import Segments
from feature_store.spreadsheet import write_csv
from feature_store.storage import Storage
from feature_store.store import FeatureStore
from feature_store.table import Table
from feature_store.tree import DataRoot

DRY_RUN_DAYS = 30  # retention of every table where a dry run names none


def list_tables(options: argparse.Namespace) -> int:
    """Every table under the root, its first and last partition, and the last one's rows and bytes."""
    root = _root(options)
    rows = []
    for name, table in sorted(root.tables.items()):
        values = table.values()
        first, last = (values[0], values[-1]) if values else ("", "")
        rows.append([name, table.key, len(values), first, last, *_sizes(table, values)])
    rows += [_ledger_row(name, ledger) for name, ledger in sorted(root.ledgers.items())]
    header = ["table", "key", "partitions", "first", "last", "rows in last", "size of last"]
    if options.json:
        print(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=1))
    else:
        print(show.table(header, [[*row, "" if size is None else show.size(size)] for *row, size in rows]))
    return 0


def describe(options: argparse.Namespace) -> int:
    """One partition: columns, files, manifest fields, replaced versions."""
    root, table = _table(options)
    value = options.value or _last(table)
    manifest = table.existing_manifest(value)
    if options.json:
        print(manifest.to_bytes().decode(), end="")
        return 0
    print(f"{options.table} {table.key}={value}\n  in {table.path(value)}")
    facts = {
        "rows": f"{manifest.row_count:,}",
        "size": show.size(manifest.size),
        "committed": manifest.created_timestamp,
        "content hash": manifest.content_hash,
        "manifest hash": manifest.hash,
        "schema version": ".".join(map(str, manifest.schema_version)),
        "sorted by": ", ".join(manifest.sorted_by),
    }
    print("\n".join(f"  {name}: {fact}" for name, fact in facts.items() if fact))
    if all(file.name.endswith(".parquet") for file in manifest.files):
        print("\n" + show.table(["column", "type"], [[field.name, str(field.type)] for field in table.schema(value)]))
    files = [[file.name, file.row_count, show.size(file.size)] for file in manifest.files]
    print("\n" + show.table(["file", "rows", "size"], files))
    if manifest.fields:
        fields = [[name, _short(field)] for name, field in sorted(manifest.fields.items())]
        print("\nfields\n" + show.table(["name", "value"], fields))
    for number, former in enumerate(reversed(table.versions(value)), 1):
        print(
            f"\nreplaced version {number}: {former.row_count:,} rows, committed {former.created_timestamp}"
            + (" (what `rollback` restores)" if number == 1 else "")
        )
    for finding in lineage.findings(root, options.table):
        if finding.value == value:
            print(f"\n{finding}")
    return 0


def read(options: argparse.Namespace) -> int:
    """Rows of a feature view, to a file (.parquet, .csv) or the first ones to the terminal."""
    store = FeatureStore(f"{DataRoot(options.root).path}/feature_store")
    dt, as_of = options.dt, options.as_of
    if dt is None and as_of is None:
        dt = _last(store.table(options.view, options.model))
    features = store.read(
        options.view,
        model=options.model,
        dt=dt,
        as_of=as_of,
        max_age_days=options.max_age_days,
        user_ids=options.user_id,
        columns=options.columns and options.columns.split(","),
    )
    source = f"{options.view} model={options.model} dt={features.manifest.partition['dt']}"
    if options.output:
        with explain_os_errors("writing the rows read", options.output, "The store is unchanged."):
            _write(features.table, options.output)
        print(f"{features.table.num_rows:,} rows of {source} written to {options.output}")
        return 0
    head = features.table.slice(0, options.head)
    print(show.table(head.column_names, zip(*[column.to_pylist() for column in head.columns], strict=True)))
    print(f"{head.num_rows:,} of {features.table.num_rows:,} rows of {source}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Checksums, counts, order and lineage of everything, one table, or one partition.

    The first line is the command that mends what nights have to mend; then a line a date.
    """
    root = _root(options)
    names = [options.table] if options.table else sorted(root.tables)
    problems, notes, count = [], [], 0
    for name in names:
        table = _named(root, name) if name not in root.ledgers else None
        for value in ([options.value] if options.value else table.values()) if table else []:
            count += 1
            problems += table.verify(value)
            notes += _orphans(table, value)
        of_table = (table or root.ledgers[name]) if options.value is None else None
        notes += _strays(of_table) if of_table else []
        unfinished = table.unfinished() if table else []
        notes += [_left_over(table, value) for value in unfinished if options.value in (None, value)]
    for name, ledger in root.ledgers.items():
        notes += _strays(ledger) if not options.table else []
        problems += ledger.verify() if not options.table or options.table == name else []
    found = [finding for finding in lineage.findings(root, options.table) if options.value in (None, finding.value)]
    stale = lineage.told_by_date(one for one in found if one.rerun)
    notes += lineage.told_by_date(one for one in found if not one.rerun)
    dates = lineage.hanging_on(root, found)
    hanging = sorted({*dates} - {one.rerun for one in found})
    notes += [f"{date}: hangs on a date that is to be run again" for date in hanging]
    if dates:
        these = "this date again" if len(dates) == 1 else f"these {len(dates)} dates again, oldest first"
        print(f"Run {these}: {rerun_command(dates[0], dates[-1])}")
    lines = [f"PROBLEM {problem}" for problem in [*stale, *problems]] + [f"note    {note}" for note in notes]
    print("\n".join(lines) or "no problem found")
    print(
        f"{count} partitions of {len(names)} tables verified: {len(stale) + len(problems)} problems, {len(notes)} notes"
    )
    return 1 if problems or stale else 0


def rollback(options: argparse.Namespace) -> int:
    """Puts the newest replaced version of a partition back; a second call undoes the first."""
    _, table = _table(options)
    restored = table.rollback(options.value, wait_seconds=options.wait_seconds)
    print(
        f"{options.table} {table.key}={options.value} is again the version committed {restored.created_timestamp} "
        f"({restored.row_count:,} rows)"
    )
    return 0


def delete(options: argparse.Namespace) -> int:
    """Deletes a partition for good, with its replaced versions and leftovers: of a model that is published no more,
    say. Refused where a partition that stays was built on it as its predecessor, or a night may read it."""
    root, table = _table(options)
    if options.value not in table.unfinished():
        table.existing_manifest(options.value)  # says what there is
    if reason := prune.why_kept(root, options.table, options.value):
        raise StoreError(f"{options.table} {options.value} was not deleted: {reason}. Delete what was built on it "
                         "first, or wait for the night's end.")
    prune.delete_partition(table, options.value, options.wait_seconds)
    print(f"{options.table} {table.key}={options.value} is deleted")
    return 0


def prune_tables(options: argparse.Namespace) -> int:
    """Deletes partitions beyond their retention that nothing kept still needs;
    with --dry-run alone, says what could go. 1 where something was broken and left, the rest done."""
    root = _root(options)
    keep = options.keep.split(",") if options.keep else []
    manifests, retention = prune.Manifests(root), _retention(options, root)
    candidates = prune.plan(root, retention, keep, options.as_of, manifests, options.allow_missing)
    print("".join(f"{name}: no table under {root.path} yet\n" for name in prune.missing(root, retention)), end="")
    done, gone, problems = "would go" if options.dry_run else "deleted", [], list(manifests.broken.values())
    for candidate in candidates:
        problem = None if candidate.kept_because or options.dry_run else prune.problem_of_deleting(root, candidate)
        problems += [str(problem)] if problem else []
        kept_because = candidate.kept_because or (problem and "it could not be deleted")
        gone += [] if kept_because else [candidate]
        verb = f"kept: {kept_because}" if kept_because else done
        print(f"{candidate.table} {candidate.value} ({show.size(candidate.size)}): {verb}")
    print("".join(f"PROBLEM {problem}\n" for problem in problems), end="")
    size = show.size(sum(candidate.size for candidate in gone))
    print(f"{len(gone)} partitions, {size}, {'would be' if options.dry_run else 'were'} deleted")
    return 1 if problems else 0


def copy(options: argparse.Namespace) -> int:
    """Everything committed under one data root, to another: between disks and buckets, for a move or a backup.

    Goes on where it was broken off. 1 where something was damaged and left, the rest done.
    """
    source = _filled(DataRoot(options.source, Storage(options.from_endpoint, profile=options.from_profile)))
    disk, path = open_disk(options.target, Storage(options.to_endpoint, profile=options.to_profile))
    done: list[Copied] = []
    for one in copy_root(source, disk, path):
        done.append(one)
        said = f"PROBLEM {one.problem}" if one.problem else "was there" if one.was_there else show.size(one.size)
        print(f"{one.table} {one.value}: {said}", flush=True)
    new = [one for one in done if not one.was_there and not one.problem]
    failed = sum(bool(one.problem) for one in done)
    size = show.size(sum(one.size for one in new))
    print(f"{len(new)} partitions and segments, {size}, copied to {path}; {len(done) - len(new) - failed} were there")
    return 1 if failed else 0


def _retention(options: argparse.Namespace, root: DataRoot) -> dict[str, int]:
    if options.dry_run and not (options.retention or options.table):
        return dict.fromkeys(root.tables, options.days or DRY_RUN_DAYS)
    if (options.retention is None) == (options.table is None):
        raise StoreError(
            "Expected either --table with --days, or --retention with JSON like '{\"clean_events\": 90}', "
            "or --dry-run alone."
        )
    if options.table:
        return {options.table: options.days}
    return _object("--retention", options.retention, "an object table → days, like '{\"clean_events\": 90}'")


def storage_of(text: str) -> Storage:
    """Of the option `--storage`. StoreError, which does not repeat the text: it may hold a key."""
    wanted = "an object, like '{\"endpoint\": \"https://s3.example.com\"}'"
    return Storage.from_mapping(_object("--storage", text, wanted))


def _object(option: str, text: str, wanted: str) -> dict:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{option} is no JSON ({error}); expected {wanted}.") from error
    if not isinstance(found, dict):
        raise StoreError(f"{option} is a JSON {type(found).__name__}; expected {wanted}.")
    return found


def _root(options: argparse.Namespace) -> DataRoot:
    """The data root, or PartitionMissing: a wrong path must not pass for one without problems."""
    return _filled(DataRoot(options.root))


def _filled(root: DataRoot) -> DataRoot:
    if not root.tables and not root.ledgers:
        raise PartitionMissing(
            f"Nothing is committed under {root.path}. Name the data root with --root, or run a night first."
        )
    return root


def _table(options: argparse.Namespace) -> tuple[DataRoot, Table]:
    root = DataRoot(options.root)
    return root, _named(root, options.table)


def _named(root: DataRoot, name: str) -> Table:
    if name not in root.tables:
        raise PartitionMissing(
            f"Found no table {name!r} under {root.path}; there are: {', '.join(sorted(root.tables)) or 'none'}."
        )
    return root.tables[name]


def _last(table: Table) -> str:
    values = table.values()
    if not values:
        raise PartitionMissing(f"Nothing is committed in {table.uri}. Run the job that writes it.")
    return values[-1]


def _orphans(table: Table, value: str) -> list[str]:
    try:
        found = table.orphans(value)
    except StoreError:
        return []  # a broken manifest, which `verify` has named as a problem
    if not found:
        return []
    return [
        f"{table.path(value)} holds {len(found)} files that its manifest does not name ({', '.join(found[:3])}): "
        "from a publish that crashed, or from one that runs now; readers ignore them, a plain glob does not; "
        "the next publish removes them"
    ]


def _strays(table: Table | Segments) -> list[str]:
    return [
        f"{table.uri} holds {show.safe(name)!r}, which is none of its partitions or segments (a copy, a link, a file "
        "of something else): readers ignore it, a plain glob does not; move it elsewhere or delete it"
        for name in table.strays()
    ]


def _left_over(table: Table, value: str) -> str:
    return (
        f"{table.path(value)} was never committed and holds {len(table.orphans(value))} files, "
        "of a publish that crashed or runs now, or of a prune that crashed; "
        "readers ignore them, a plain glob does not; the next publish or prune of that date removes them"
    )


def _sizes(table: Table, values: list[str]) -> tuple[int | str, int | None]:
    """(rows, bytes) of the last partition; `verify` says more of a broken one."""
    try:
        last = table.manifest(values[-1]) if values else None
    except StoreError:
        return "broken", None
    return (last.row_count, last.size) if last else (0, 0)


def _ledger_row(name: str, ledger: Segments) -> list:
    try:
        files = ledger.files()
        rows = 0
        if files:
            with ledger.disk.open(files[-1]) as source:
                rows = pq.read_metadata(source).num_rows
    except (OSError, pa.ArrowException, StoreError):
        return [name, "segment", 0, "", "", "damaged", None]  # `verify` says more
    return [name, "segment", len(files), "1" if files else "", str(len(files) or ""), rows, None]


def _short(field: object) -> str:
    text = json.dumps(field, sort_keys=True)
    return text if len(text) <= 100 else f"{text[:90]} ... ({len(text):,} characters)"


def _write(table: pa.Table, path: str) -> None:
    if path.endswith(".parquet"):
        pq.write_table(table, path, compression="zstd")
    elif path.endswith(".csv"):
        with open(path, "wb") as sink:
            write_csv(table, sink)
    else:
        raise StoreError(f"Found the output {path!r}; expected a name that ends in .parquet or .csv.")
