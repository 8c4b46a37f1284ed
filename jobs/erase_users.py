"""Erase users for ever: their rows in every table, their names in the ledger; with a receipt.

Reads: a list of user ids (one a line, CSV or Parquet with a column user_id); every table below the data root. Writes:
every partition that has a row of theirs, anew without it; the ledger of users, in which their numbers get names that no
user can have; reports that name them, anew; erasures of D, the receipt: a row a table.
Guarantees: a partition is as it was, or without them, whenever this ends; replaced versions that hold them are gone for
`rollback`. The ledger comes last, so that whoever runs it again after a failure finds their numbers still, and a
damaged partition is told when the rest is done. What was built on a partition does not count as stale for an erasure
(feature_store/erasure.py). Nothing is erased while a night is under way, which could bring them back.
Stays: what the sources hold, which is to be taken out there before this; the numbers in checkpoints, of nobody by then;
backups and copies of the data root; files that were handed out. `--dry-run=true` only counts.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import escape

from feature_store import Leases, Table, erasure
from feature_store.erasure import Erased, Rows
from feature_store.errors import StoreError, explain_os_errors, may_pass
from feature_store.layout import LOCK
from feature_store.prune import Candidate, delete, problem_of_deleting
from feature_store.spreadsheet import plain
from feature_store.tree import DataRoot
from jobs.audiences.seeds import read_ids
from jobs.audiences.snapshot import Ledger
from jobs.configuration.settings import Settings
from jobs.contracts import Contract
from jobs.events import staging
from jobs.events.returns import COUNT
from jobs.graphs import scratch
from jobs.graphs.ledgers import ERASED, USER
from jobs.program import Input, JobError, MayPass, Output, log, main, metrics, run_stage
from jobs.report import write_report
from jobs.report.text import shown
from jobs.tables import TABLES

LEDGER = f"{TABLES['entity_ids'].folder}/{USER}"
REPORTS = TABLES["reports"].folder


class People:
    """Those to be erased: raw ids, and their numbers in the ledger. relations: the graph's."""

    def __init__(self, raw: pa.Array, ledger: Ledger, relations: pa.Table | None) -> None:
        self.raw = _as_known(raw, ledger)
        numbers = ledger.ids_of(self.raw)
        self.texts = frozenset(self.raw.to_pylist())
        self.numbers = pa.array(numbers[numbers >= 0])
        of_users = relations and relations.filter(pc.equal(relations.column("head_type"), USER))
        self._relations = of_users.column("id").combine_chunks() if of_users else pa.array([], pa.int64())

    def rows_of(self, contract: Contract) -> Rows | None:
        """Which rows of a table are theirs; None of tables that name no user."""
        columns = set(contract.columns)
        if "user_id" in columns:
            return Rows(["user_id"], lambda rows: self._named(rows, "user_id"), self._without_cells, (COUNT,))
        if {"entity_type", "raw"} <= columns:
            return Rows(["entity_type", "raw"], lambda rows: self._of_users(rows, "entity_type", "raw", True))
        if {"entity_type", "entity"} <= columns:
            return Rows(["entity_type", "entity"], lambda rows: self._of_users(rows, "entity_type", "entity", False))
        if "user" in columns:
            return Rows(["user"], lambda rows: self._numbered(rows, "user"))
        if {"head_type", "head"} <= columns:
            return Rows(["head_type", "head"], lambda rows: self._of_users(rows, "head_type", "head", True))
        if {"metric", "detail"} <= columns:
            return Rows(["metric", "detail"], self._of_examples)
        if {"head", "relation"} <= columns:
            return Rows(["head", "relation"], self._of_edges)
        return None

    def _named(self, rows: pa.Table, column: str) -> pa.Array:
        return pc.is_in(rows.column(column), value_set=self.raw).combine_chunks()

    def _numbered(self, rows: pa.Table, column: str) -> pa.Array:
        return pc.is_in(rows.column(column), value_set=self.numbers).combine_chunks()

    def _of_users(self, rows: pa.Table, kind: str, column: str, by_name: bool) -> pa.Array:
        theirs = self._named(rows, column) if by_name else self._numbered(rows, column)
        return pc.and_(pc.equal(rows.column(kind), USER).combine_chunks(), theirs)

    def _of_edges(self, rows: pa.Table) -> pa.Array:
        """No relation of the graph has users as its tails."""
        of_users = pc.is_in(rows.column("relation"), value_set=self._relations).combine_chunks()
        return pc.and_(of_users, self._numbered(rows, "head"))

    def _of_examples(self, rows: pa.Table) -> pa.Array:
        """Figures that show some users, as `recommend_items` does; all others name nobody."""
        texts = zip(rows.column("metric").to_pylist(), rows.column("detail").to_pylist(), strict=True)
        shown_in = [json.loads(detail) if metric == "examples" and detail else [] for metric, detail in texts]
        return pa.array([any(one.get("user") in self.texts for one in users) for users in shown_in], pa.bool_())

    def _without_cells(self, suffix: str, content: bytes) -> bytes:
        """A CSV of the store's without their lines; every other line as it was."""
        if suffix != ".csv":
            return content
        lines = list(io.StringIO(content.decode(), newline=""))
        reader, kept, start, place = csv.reader(iter(lines)), [], 0, None
        for row in reader:
            place = row.index("user_id") if place is None else place
            if plain(row[place]) not in self.texts:
                kept += lines[start : reader.line_num]
            start = reader.line_num
        return "".join(kept).encode()

    def named_in(self, page: bytes) -> bool:
        """Whether a page names one of them; a number in it that reads like an id counts as well."""
        text = page.decode()
        forms = {str(escape(form)) for one in self.texts for form in (one, shown(one))}
        return any(form in text and re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in forms)

    def nameless(self, ledger: Ledger) -> dict[str, str]:
        """The names that their numbers get."""
        return {raw: f"{ERASED}{number}" for raw, number in zip(
            self.raw.to_pylist(), ledger.ids_of(self.raw).tolist(), strict=True) if number >= 0}  # fmt: skip


def _as_known(raw: pa.Array, ledger: Ledger) -> pa.Array:
    """The ids; one that the ledger does not know as the cell of a CSV of ours, where it knows that."""
    ids, known = raw.cast(pa.string()).to_pylist(), (ledger.ids_of(raw) >= 0).tolist()
    cells = pa.array([plain(one) for one in ids], pa.string())
    is_cell = (ledger.ids_of(cells) >= 0).tolist()
    meant = [cells[k].as_py() if is_cell[k] and not known[k] else one for k, one in enumerate(ids)]
    return pc.unique(pa.array(meant, pa.string()))


@contextmanager
def alone(root: DataRoot, erasures: Output) -> Iterator[None]:
    """One erasure at a time: each of two would put the other's names back into the ledger. LockHeld."""
    with explain_os_errors("making the folder of the receipts", erasures.uri):
        root.disk.make_folder(erasures.uri)
    with root.disk.lock(f"{erasures.uri}/{LOCK}", 0):
        yield


def refuse_nights(root: DataRoot) -> None:
    """MayPass while a night is under way: it has read them, and may write them after this."""
    if leases := Leases(f"{root.path}/{TABLES['nights'].folder}", filesystem=root.disk).holding():
        nights = ", ".join(lease.value for lease in leases)
        raise MayPass(f"Nights are under way: {nights}. They have read these users and may write them again. Run this "
                      "again when they have ended: the ledger has them still.")


def contract_of(name: str) -> Contract | None:
    """Of a table by its path below the root; None where it is none of ours."""
    for contract in TABLES.values():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[a-z0-9_]+", re.escape(contract.path)), name):
            return contract
    return None


class Receipt:
    """What is erased, table by table, in erasures of D beside what was erased on that date before; a dry run only
    counts."""

    def __init__(self, erasures: Output, dt: str, users: int, reference: str, dry_run: bool) -> None:
        self.erasures, self.dt, self.dry_run = erasures, dt, dry_run
        self.of_all, self.rows, self.tables = {"reference": reference, "users": users}, 0, 0

    def add(self, name: str, gone: list[Erased]) -> None:
        self.rows, self.tables = self.rows + sum(one.rows for one in gone), self.tables + 1
        if self.dry_run:
            return
        counts = {
            "table": name, "partitions": len(gone), "rows": sum(one.rows for one in gone),
            "versions": sum(one.versions for one in gone)}  # fmt: skip
        table = self.erasures.table()
        new = pa.Table.from_pylist([self.of_all | counts], self.erasures.contract.arrow_schema())
        with table.replace(self.dt, keep_versions=0) as commit:
            former = [table.read(self.dt)] if table.manifest(self.dt) else []
            commit.write_table(pa.concat_tables([*former, new]))


def erase_from_tables(root: DataRoot, people: People, receipt: Receipt) -> list[StoreError]:
    """What kept partitions from being read or written."""
    problems: list[StoreError] = []
    for name, table in root.tables.items():
        contract = contract_of(name)
        rows, gone = people.rows_of(contract) if contract else None, []
        for value in table.values() if rows else ():
            try:
                one = (erasure.count if receipt.dry_run else erasure.erase)(table, value, rows)
            except StoreError as error:
                problems.append(error)
                continue
            if one != Erased():
                log.info("%s %s: %d rows, %d replaced versions", name, value, one.rows, one.versions)
                gone.append(one)
        if gone:
            receipt.add(name, gone)
        if rows and not receipt.dry_run:
            left = (problem_of_deleting(root, _left(name, value)) for value in erasure.uncommitted(table))
            problems += filter(None, left)
    return problems


def _left(name: str, value: str) -> Candidate:
    return Candidate(name, value, 0, None)


def clear_scratch(root: DataRoot) -> None:
    """What killed nights were at work on."""
    clean, rejected, ids = (f"{root.path}/{TABLES[name].folder}" for name in (
        "clean_events", "rejected_events", "entity_ids"))  # fmt: skip
    with explain_os_errors("removing what killed nights left", root.path):
        staging.remove_abandoned(Table(clean, "day", root.disk), Table(rejected, "dt", root.disk))
        scratch.remove_abandoned(root.disk, ids)


def write_reports_again(root: DataRoot, people: People, settings: Settings, receipt: Receipt) -> list[StoreError]:
    """Pages that name them, from the tables as they are now; one that cannot be written so is deleted. Replaced pages
    are dropped, whomever they name."""
    table, gone, problems = root.tables.get(REPORTS), [], []
    for dt in table.values() if table else ():
        try:
            named, versions = any(map(people.named_in, table.blobs(dt).values())), len(table.versions(dt))
            gone += [Erased(int(named), versions)] if named or versions else []
            if receipt.dry_run:
                continue
            if named:
                _write_again(root, dt, settings)
            if table.manifest(dt):
                erasure.tidy(table, dt, keep_versions=0)
        except StoreError as error:
            problems.append(error)
    if gone:
        receipt.add(REPORTS, gone)
    return problems


def _write_again(root: DataRoot, dt: str, settings: Settings) -> None:
    try:
        status = run_stage(write_report.run, {"date": datetime.date.fromisoformat(dt)}, settings)
        problem = f"it ended with {status}" if status else ""
        metrics.told.clear()  # the page's name is for a night's scheduler
    except Exception as error:  # also a bug on figures of an old release: the page has to go all the same
        problem = f"{type(error).__name__}: {error}"
    if problem:
        log.warning("%s %s is deleted, since it cannot be written anew: %s", REPORTS, dt, problem)
        delete(root, _left(REPORTS, dt))


def run(
    date: datetime.date, entity_ids: Input, relations: Input, erasures: Output, config: Settings, user_ids: str,
    reference: str = "", dry_run: bool = False,
) -> None:  # fmt: skip
    """Tables, reports, ledger, receipt. user_ids: the list's file; reference: what the receipt is to say of it."""
    root = DataRoot(config.data_root)
    with alone(root, erasures):
        segments = entity_ids.segments(USER)
        refuse_nights(root)
        ledger = Ledger.read(segments)
        people = People(read_ids(user_ids, "the parameter user_ids"), ledger, relations.segments().read())
        names = people.nameless(ledger)
        if unknown := len(people.raw) - len(names):
            log.warning("%d of %d ids of %s are nobody's in the ledger; they must be the log's own, byte by byte",
                        unknown, len(people.raw), user_ids)  # fmt: skip
        receipt = Receipt(erasures, date.isoformat(), len(people.raw), reference, dry_run)
        problems = erase_from_tables(root, people, receipt)
        if not dry_run:
            clear_scratch(root)
        problems += write_reports_again(root, people, config, receipt)
        refuse_nights(root)  # one that began meanwhile: the numbers are needed once more
        if not problems:
            receipt.add(LEDGER, [Erased(len(names) if dry_run or not names else erasure.rename(segments, names))])
        metrics.put("rows_in", len(people.raw))
        metrics.put("rows_out", receipt.rows)
        log.info("%d users, of whom the ledger knows %d: %d rows of %d tables %s", len(people.raw), len(names),
                 receipt.rows, receipt.tables, "would be erased" if dry_run else "were erased")  # fmt: skip
        if problems:
            kind = MayPass if any(map(may_pass, problems)) else JobError
            raise kind(f"{len(problems)} partitions may hold them still, and the ledger does; the rest is done. "
                       f"{problems[0]} Mend that, and run this again.")


if __name__ == "__main__":
    main(run)
