"""Erasure: nothing names or numbers a user afterwards, nobody else's row changes, and nothing is lost on the way."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from feature_store import Leases, Segments, Table, lineage
from feature_store.__main__ import main as store_command
from feature_store.spreadsheet import safe, to_csv
from feature_store.tree import DataRoot
from jobs import erase_users
from jobs.program import FAILED, FINAL
from jobs.report.text import shown
from jobs.tables import TABLES
from tests.jobs.erasing import (
    GONE,
    LATER,
    NAMELESS,
    NAMING,
    NEXT,
    SOME,
    STAYS,
    USERS,
    D,
    commit,
    erase,
    files_of,
    fill,
    names_left,
    row_of,
    table_of,
)  # fmt: skip


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Every table that names users."""
    fill(tmp_path, NAMING)
    return tmp_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Some of them."""
    fill(tmp_path, SOME)
    return tmp_path


def test_nothing_names_him_afterwards_and_all_else_is_as_it_was(whole: Path) -> None:
    root = whole
    before = {name: table_of(root, name).read(D) for name in NAMING}
    said = {name: table_of(root, name).existing_manifest(D) for name in NAMING}
    assert len(names_left(root)) > 2 * 12
    assert erase(root) == 0
    assert names_left(root) == []
    for name, rows in before.items():
        table, sorts = table_of(root, name), name == "user_embeddings"
        assert table.read(D).equals(rows.take([1, 2] if sorts else [0, 2])), name
        assert table.versions(D) == [] and table.orphans(D) == [], name
        for kept in ("schema_version", "provenance", "sorted_by"):
            assert getattr(table.existing_manifest(D), kept) == getattr(said[name], kept), name
    assert {one.schema_version for one in said.values()} > {(1, 0)} and any(one.provenance for one in said.values())
    assert store_command(["verify", "--root", str(root / "data")]) == 0


@pytest.mark.parametrize("name", ["audiences", "requested_audiences"])
def test_files_beside_the_rows_lose_his_line_alone(root: Path, name: str) -> None:
    commit(root, name, D, USERS)
    (before,) = table_of(root, name).blobs(D).values()
    assert erase(root) == 0
    ((file, after),) = table_of(root, name).blobs(D).items()
    wanted = to_csv(table_of(root, name).read(D))
    assert after == wanted and len(after) < len(before) and file.startswith("part-00001-a-control-")


def test_tables_without_users_are_known_to_be_such() -> None:
    """A new table that names users under a column of another name would be forgotten here, not in production."""
    people = erase_users.People(pa.array([GONE]), erase_users.Ledger.read(Segments("/nowhere")), None)
    of_nobody = {name for name, contract in TABLES.items() if people.rows_of(contract) is None}
    assert of_nobody == NAMELESS


def test_numbers_stay_and_get_names_that_nobody_can_have(root: Path) -> None:
    assert erase(root) == 0
    ledger = Segments(str(root / "data" / "entity_ids" / "user"))
    assert ledger.read().to_pydict() == {"id": [0, 1, 2], "raw": [STAYS, "\0erased 1", "user-3"]}
    assert ledger.verify() == []


def test_items_of_his_number_and_name_stay(root: Path) -> None:
    contract = TABLES["entity_embeddings"]
    rows = [row_of(contract, GONE) | {"entity_type": "item"}, row_of(contract, GONE)]
    with table_of(root, "entity_embeddings").replace(NEXT) as part:
        part.write_table(pa.Table.from_pylist(rows, contract.arrow_schema(2)))
    edges = [row_of(TABLES["knowledge_graph"], GONE) | more for more in ({"relation": 9}, {"head": 0, "tail": 1}, {})]
    with table_of(root, "knowledge_graph").replace(NEXT) as part:
        part.write_table(pa.Table.from_pylist(edges, TABLES["knowledge_graph"].arrow_schema()))
    assert erase(root) == 0
    assert table_of(root, "entity_embeddings").read(NEXT).column("entity_type").to_pylist() == ["item"]
    assert table_of(root, "knowledge_graph").read(NEXT).to_pylist() == edges[:2]


def test_the_receipt_counts_and_names_nobody(root: Path) -> None:
    assert erase(root) == 0
    receipt = Table(str(root / "data" / "erasures")).read(NEXT).to_pylist()
    of = {row["table"]: row for row in receipt}
    assert of["audiences"] == {
        "reference": "T-1", "users": 2, "table": "audiences", "partitions": 1, "rows": 1, "versions": 1}
    assert of["entity_ids/user"]["rows"] == 1 and len(receipt) == len(SOME) + 1
    commit(root, "audiences", NEXT, [GONE])
    assert erase(root, "--reference", "T-2") == 0
    more = Table(str(root / "data" / "erasures")).read(NEXT).to_pylist()
    assert more[: len(receipt)] == receipt
    since = [(row["reference"], row["table"], row["rows"]) for row in more[len(receipt) :]]
    assert since == [("T-2", "audiences", 1), ("T-2", "entity_ids/user", 0)]


def test_what_was_built_on_an_erased_partition_is_not_stale(root: Path) -> None:
    for user, value in ((GONE, NEXT), ("user-3", LATER)):  # by every content that it had
        source = table_of(root, "clean_events").existing_manifest(D).content_hash
        commit(root, "user_activity", value, [STAYS], inputs={"clean_events": {D: source}})
        assert erase(root, users=(user,)) == 0
    hashes = {table_of(root, "user_activity").existing_manifest(value).fields["inputs"]["clean_events"][D]
              for value in (NEXT, LATER)}  # fmt: skip
    assert len(hashes | {table_of(root, "clean_events").existing_manifest(D).content_hash}) == 3
    assert list(lineage.findings(DataRoot(str(root / "data")))) == []
    with (table := table_of(root, "clean_events")).replace(D) as again:  # as whoever runs the date again does
        again.write_table(table.read(D))
    assert list(lineage.findings(DataRoot(str(root / "data")))) == []
    commit(root, "clean_events", D, [STAYS, STAYS])
    assert len(list(lineage.findings(DataRoot(str(root / "data")), "user_activity"))) == 2


def test_a_partition_without_him_keeps_its_versions(root: Path) -> None:
    table = commit(root, "audiences", NEXT, [STAYS])
    commit(root, "audiences", NEXT, ["user-3"])
    before = table.existing_manifest(NEXT).hash
    assert erase(root) == 0
    assert table.existing_manifest(NEXT).hash == before and len(table.versions(NEXT)) == 1


def test_a_replaced_version_that_alone_has_him_goes(root: Path) -> None:
    table = commit(root, "audiences", NEXT, [GONE])
    commit(root, "audiences", NEXT, ["user-3"])
    before = table.existing_manifest(NEXT).hash
    assert erase(root) == 0
    assert table.existing_manifest(NEXT).hash == before and table.versions(NEXT) == []


def test_a_count_of_returns_is_not_kept(root: Path) -> None:
    commit(root, "clean_events", D, [GONE, STAYS], returns=1, files=["a"])
    assert erase(root) == 0
    fields = table_of(root, "clean_events").existing_manifest(D).fields
    assert "returns" not in fields and fields["files"] == ["a"]


def test_a_dry_run_counts_and_changes_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = files_of(root)
    assert erase(root, "--dry-run", "true") == 0
    assert files_of(root) == before
    assert f"{len(SOME) + 1} rows of {len(SOME) + 1} tables would be erased" in caplog.text


def test_nothing_is_erased_while_a_night_is_under_way(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    leases, before = Leases(str(root / "data" / "nights")), files_of(root)
    leases.write(D, datetime.timedelta(hours=1))
    assert erase(root) == FAILED and f"Nights are under way: {D}" in caplog.text
    leases.end(D)
    assert files_of(root) == before
    assert erase(root) == 0


def test_a_damaged_partition_is_told_and_his_number_is_kept_until_it_is_mended(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of(root, "attributes")
    (file,) = table.files(D)
    content = Path(file).read_bytes()
    Path(file).write_bytes(content[:-20])
    assert erase(root) == FINAL and file in caplog.text and "the rest is done" in caplog.text
    ledger = Segments(str(root / "data" / "entity_ids" / "user"))
    assert GONE in ledger.read().column("raw").to_pylist()
    assert GONE not in table_of(root, "audiences").read(D).column("user_id").to_pylist()
    Path(file).write_bytes(content)
    assert erase(root) == 0 and names_left(root) == []
    assert table.read(D).column("entity").to_pylist() == [2, 0]


def test_what_a_publish_that_crashed_left_goes(root: Path) -> None:
    folder = Path(table_of(root, "audiences").path(NEXT))
    folder.mkdir()
    pq.write_table(pa.table({"user_id": [GONE]}), folder / "part-00000-crashed.parquet")
    assert erase(root) == 0
    assert not folder.exists()


def test_a_list_of_nobody_is_told_and_has_a_receipt(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: content for path, content in files_of(root).items() if "erasures" not in path}
    assert erase(root, users=("user-2 ",)) == 0
    assert "1 of 1 ids of" in caplog.text and "are nobody's in the ledger" in caplog.text
    assert {path: content for path, content in files_of(root).items() if "erasures" not in path} == before
    (row,) = Table(str(root / "data" / "erasures")).read(NEXT).to_pylist()
    assert (row["table"], row["rows"]) == ("entity_ids/user", 0)


def test_an_id_may_be_a_cell_of_our_own_csv(root: Path) -> None:
    assert erase(root, users=(safe(GONE),)) == 0 and safe(GONE) != GONE
    assert names_left(root) == []


@pytest.mark.parametrize("can_be_written", [True, False])
def test_a_page_that_names_him_is_written_anew_or_deleted(
    root: Path, can_be_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {D: f"<td>{escape(GONE)}</td>", NEXT: f"<td>{STAYS}</td>"}
    table = table_of(root, "reports")
    for value, page in [*pages.items(), *pages.items()]:  # twice: each has a replaced page
        with table.replace(value) as part:
            part.write_bytes(".html", page.encode())

    def write(run: object, given: dict[str, Any], settings: object) -> int:
        assert given == {"date": datetime.date.fromisoformat(D)}
        if not can_be_written:
            raise KeyError("a figure of an old release")
        with table.replace(D) as part:
            part.write_bytes(".html", b"anew")
        return 0

    monkeypatch.setattr(erase_users, "run_stage", write)
    before = table.existing_manifest(NEXT).hash
    assert erase(root) == 0
    assert table.existing_manifest(NEXT).hash == before
    assert table.values() == ([D, NEXT] if can_be_written else [NEXT])
    assert not can_be_written or (list(table.blobs(D).values()) == [b"anew"] and table.versions(D) == [])
    assert table.versions(NEXT) == []
    (row,) = (one for one in Table(str(root / "data" / "erasures")).read(NEXT).to_pylist() if one["table"] == "reports")
    assert (row["partitions"], row["rows"], row["versions"]) == (2, 1, 2)


def test_an_id_within_another_does_not_count_as_its_name() -> None:
    people = erase_users.People(pa.array(["12"]), erase_users.Ledger.read(Segments("/nowhere")), None)
    assert people.named_in(b"<td>12</td>") and people.named_in(b"user 12.")
    assert not people.named_in(b"<td>u12</td><td>120</td>")


def test_an_id_is_found_as_a_page_shows_it() -> None:
    """Marks that turn text are spelled out there, and long ids cut."""
    for raw in ("a\u202eb", "long" * 30):
        people = erase_users.People(pa.array([raw]), erase_users.Ledger.read(Segments("/nowhere")), None)
        assert shown(raw) != raw and people.named_in(f"<td>{shown(raw)}</td>".encode())
