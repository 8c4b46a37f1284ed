"""What verify finds: damage by file, faulty rows, and dates built on what has been published anew since;
and what prune spares."""

import errno
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store import FeatureStore, Manifest, Segments, Table, lineage, prune
from feature_store.errors import CannotWrite, DataDamaged, StoreError
from feature_store.tree import DataRoot
from tests.feature_store.places import Place, at, copy_folder, on_disk
from tests.feature_store.samples import embeddings, publish

DATE = "2026-01-05"


@pytest.fixture
def table(place: Place) -> Table:
    table = FeatureStore(str(place / "feature_store")).table("user_embeddings", "transe")
    publish(table, DATE, embeddings(0, users=300))
    assert table.verify(DATE) == []
    return table


def test_a_truncated_file_is_named(table: Table) -> None:
    path = at(table.files(DATE)[0])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-7])
    (problem,) = table.verify(DATE)
    assert str(path) in problem and f"has {size - 7} bytes; the manifest says {size}" in problem
    with pytest.raises(DataDamaged, match="verify"):
        table.read(DATE)


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_byte_anywhere_is_found_and_its_file_named(table: Table, seed: int) -> None:
    for path in (at(table.files(DATE)[0]), at(table.path(DATE), "_manifest.json")):
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[np.random.default_rng(seed).integers(0, len(whole) - 2)] ^= 0x01
        path.write_bytes(bytes(changed))
        problems = table.verify(DATE)
        assert len(problems) == 1 and str(path) in problems[0]
        path.write_bytes(whole)
    assert table.verify(DATE) == []


def test_a_read_of_pages_that_do_not_unpack_says_damaged(table: Table) -> None:
    path = at(table.files(DATE)[0])
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[start + 60 : start + 400] = bytes(340)
    path.write_bytes(damaged)
    for filter in (None, pc.field("user_id") == "u00001"):
        with pytest.raises(DataDamaged, match="`verify` names the file"):
            table.read(DATE, filter=filter)


def test_a_file_that_is_gone_is_named_by_verify_and_by_a_read(table: Table) -> None:
    path = at(table.files(DATE)[0])
    path.unlink()
    assert str(path) in table.verify(DATE)[0]
    with pytest.raises(DataDamaged, match=path.name):
        table.read(DATE)


def _forge(table: Table, **changes: object) -> None:
    path = at(table.path(DATE), "_manifest.json")
    manifest = Manifest.from_bytes(path.read_bytes(), str(path))
    path.write_bytes(Manifest(**{**vars(manifest), **changes, "written": b""}).to_bytes())


def test_counts_hashes_and_places_that_do_not_fit_are_found(table: Table) -> None:
    manifest = table.manifest(DATE)
    entry = manifest.files[0]
    _forge(table, row_count=7)
    assert "counts 7 rows" in table.verify(DATE)[0]
    _forge(table, row_count=manifest.row_count, content_hash="0" * 64)
    assert "content hash" in table.verify(DATE)[0]
    _forge(table, content_hash=manifest.content_hash, files=(type(entry)(entry.name, entry.size, entry.sha256, 3),))
    expected = f"{entry.name} has {entry.row_count} rows; the manifest says 3"
    assert any(expected in problem for problem in table.verify(DATE))
    _forge(table, files=manifest.files)
    copy_folder(table.path(DATE), table.path("2026-01-06"))
    assert "belongs to {'dt': '2026-01-05'}" in table.verify("2026-01-06")[0]
    assert "never committed" in table.verify("2026-01-07")[0]


def test_faulty_rows_are_found_although_every_byte_is_as_written(table: Table) -> None:
    rows = embeddings(0)
    vectors = np.array(rows.column("embedding").combine_chunks().values)
    vectors[5] = np.nan
    not_finite = rows.set_column(1, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4))
    for broken, expected in (
        (pa.concat_tables([rows.slice(0, 2), rows.slice(1)]), "repeated at row 2"),
        (rows.take([1, 0]), "not sorted by its bytes at row 1"),
        (not_finite, "1 numbers are not finite"),
    ):
        with table.replace(DATE) as commit:
            commit.write_table(broken)
        (problem,) = table.verify(DATE)
        assert expected in problem and "u0000" not in problem  # no user's id in a message


def test_orphans_are_told_and_are_no_damage(table: Table) -> None:
    at(table.path(DATE), "part-00000-crashed.parquet").write_bytes(b"half")
    at(table.path(DATE), ".tmp-x").write_bytes(b"half")
    assert table.verify(DATE) == [] and table.orphans(DATE) == [".tmp-x", "part-00000-crashed.parquet"]
    publish(table, DATE, embeddings(1))
    assert table.orphans(DATE) == []


def _ref(table: Table, name: str, value: str) -> dict:
    return {"table": name, table.key: value, "content_hash": table.manifest(value).content_hash}


@pytest.fixture
def root(place: Place) -> Place:
    """Five nights, each built on the one before it and on three days of clean events."""
    days, nights = Table(str(place / "clean_events"), key="day"), Table(str(place / "checkpoints/transe"))
    for day in range(1, 10):
        publish(days, f"2026-01-{day:02d}", embeddings(day))
    for night in range(4, 9):
        date, before = f"2026-01-{night:02d}", f"2026-01-{night - 1:02d}"
        read = [f"2026-01-{d:02d}" for d in range(night - 3, night)]
        inputs = {"clean_events": {day: days.manifest(day).content_hash for day in read}}
        with nights.replace(date) as commit:
            commit.write_bytes(".safetensors", date.encode())
            commit.fields["inputs"] = inputs
            if night > 4:
                commit.fields["predecessor"] = _ref(nights, "checkpoints/transe", before)
    return place


def _found(root: Place) -> list[lineage.Finding]:
    return list(lineage.findings(DataRoot(str(root))))


def test_a_republished_predecessor_lists_the_dates_built_on_it_and_their_command(root: Place) -> None:
    assert _found(root) == []
    nights = Table(str(root / "checkpoints/transe"))
    fields = nights.manifest("2026-01-06").fields
    for content, stale in ((b"2026-01-06", []), (b"other", ["2026-01-07"])):
        with nights.replace("2026-01-06") as commit:
            commit.write_bytes(".safetensors", content)
            commit.fields.update(fields)
        assert [finding.rerun for finding in _found(root)] == stale  # equal content: nothing to rerun
    assert "former version of its predecessor checkpoints/transe 2026-01-06" in str(_found(root)[0])
    again = "airflow backfill create --dag-id nightly_user_embeddings --from-date 2026-01-07 --to-date 2026-01-07 "
    assert f"Run it again: {again}--max-active-runs 1 --reprocess-behavior completed\n" in str(_found(root)[0])


def test_dates_that_hang_on_a_stale_one_are_told_with_it(root: Place) -> None:
    nights, reports = Table(str(root / "checkpoints/transe")), Table(str(root / "reports"))
    with reports.replace("2026-01-08") as commit:
        commit.write_bytes(".html", b"")
        commit.fields["inputs"] = [_ref(nights, "checkpoints/transe", "2026-01-07")]
    assert lineage.hanging_on(DataRoot(str(root)), _found(root)) == []
    fields = nights.manifest("2026-01-05").fields
    with nights.replace("2026-01-05") as commit:
        commit.write_bytes(".safetensors", b"other")
        commit.fields.update(fields)
    data = DataRoot(str(root))
    assert [finding.rerun for finding in _found(root)] == ["2026-01-06"]
    assert lineage.hanging_on(data, _found(root)) == ["2026-01-06", "2026-01-07", "2026-01-08"]


def test_a_changed_day_lists_every_later_date_built_on_its_former_version(root: Place) -> None:
    days = Table(str(root / "clean_events"), key="day")
    publish(days, "2026-01-05", embeddings(99))
    assert [finding.rerun for finding in _found(root)] == ["2026-01-06", "2026-01-07", "2026-01-08"]
    assert "input clean_events 2026-01-05" in str(_found(root)[0])


def test_a_nearer_date_filled_in_since_is_for_information(root: Place) -> None:
    nights = Table(str(root / "checkpoints/transe"))
    with nights.replace("2026-01-12") as commit:
        commit.write_bytes(".safetensors", b"x")
        commit.fields["predecessor"] = _ref(nights, "checkpoints/transe", "2026-01-08")
    with nights.replace("2026-01-10") as commit:
        commit.write_bytes(".safetensors", b"y")
    (finding,) = _found(root)
    assert finding.value == "2026-01-12" and finding.rerun is None and "2026-01-10 is nearer" in finding.text


def test_a_day_that_came_later_within_the_window_is_found(root: Place) -> None:
    nights = Table(str(root / "checkpoints/transe"))
    fields = dict(nights.manifest("2026-01-08").fields)
    del fields["inputs"]["clean_events"]["2026-01-06"]
    with nights.replace("2026-01-08") as commit:
        commit.write_bytes(".safetensors", b"2026-01-08")
        commit.fields.update(fields)
    (finding,) = _found(root)
    assert finding.rerun == "2026-01-08" and "built without clean_events 2026-01-06, committed since" in finding.text


def test_two_dates_that_were_read_are_no_span(root: Place) -> None:
    """As the lookalike's label window: its start and its end were read, and what lies between is of nights between."""
    nights, lists = Table(str(root / "checkpoints/transe")), Table(str(root / "recommendations"))
    with lists.replace("2026-01-08") as commit:
        commit.write_bytes(".json", b"")
        commit.fields["inputs"] = [_ref(nights, "checkpoints/transe", day) for day in ("2026-01-06", "2026-01-08")]
    assert nights.manifest("2026-01-07") is not None and _found(root) == []


def test_prune_spares_predecessors_label_windows_and_the_newest(root: Place) -> None:
    data = DataRoot(str(root))
    plan = prune.plan(data, {"checkpoints": 2, "clean_events": 5}, keep=["2026-01-02"])
    told = {(candidate.table, candidate.value): candidate.kept_because for candidate in plan}
    assert told == {
        ("checkpoints/transe", "2026-01-04"): None,
        ("checkpoints/transe", "2026-01-05"): "the predecessor of checkpoints/transe 2026-01-06",
        ("clean_events", "2026-01-01"): None,
        ("clean_events", "2026-01-02"): "a label window needs it",
        ("clean_events", "2026-01-03"): None,
    }
    assert data.tables["clean_events"].values()[0] == "2026-01-01"  # a plan deletes nothing
    for candidate in plan:
        if not candidate.kept_because:
            prune.delete(data, candidate)
    assert data.tables["clean_events"].values() == ["2026-01-02", *(f"2026-01-{day:02d}" for day in range(4, 10))]
    folder = root / "clean_events" / "day=2026-01-01"
    left = {path.name for path in folder.iterdir()} if folder.exists() else set()
    assert not left - (set() if isinstance(root, Path) else {"_lock", "_retired"}), "of empty folders the server tells"
    assert all(finding.rerun is None for finding in _found(root))  # pruned inputs are no reason to rerun


def test_prune_knows_the_label_windows_that_manifests_record(root: Place) -> None:
    models = Table(str(root / "lookalike_models"))
    for start, end in (("2026-01-01", "2026-01-05"), ("2026-01-04", "2026-01-08")):
        with models.replace(end) as commit:
            commit.write_bytes(".json", b"{}")
            commit.fields["label_window"] = [start, end]
    plan = prune.plan(DataRoot(str(root)), {"clean_events": 3})
    needed = dict.fromkeys(["2026-01-04", "2026-01-05"], "a label window needs it")
    gone = dict.fromkeys(["2026-01-01", "2026-01-02", "2026-01-03"])
    assert {candidate.value: candidate.kept_because for candidate in plan} == gone | needed


def test_prune_counts_from_the_data_and_never_takes_everything(root: Place) -> None:
    data = DataRoot(str(root))
    assert prune.plan(data, {"clean_events": 100}) == []
    table_alone = prune.plan(DataRoot(str(root / "clean_events")), {"": 7})
    assert [one.value for one in table_alone] == [one.value for one in prune.plan(data, {"clean_events": 7})] != []
    plan = prune.plan(data, {"clean_events": 1}, as_of="2030-01-01")
    assert [candidate.value for candidate in plan][-1] == "2026-01-08"  # the newest, the 9th, stays
    for wrong in ({"nix": 3}, {"clean_events": 0}, {"clean_events": True}):
        with pytest.raises(StoreError, match="Found"):
            prune.plan(data, wrong)


@on_disk
def test_what_a_crashed_prune_or_first_publish_left_is_told_and_goes_with_the_next_prune(root: Place) -> None:
    data = DataRoot(str(root))
    days, folder = data.tables["clean_events"], root / "clean_events" / "day=2026-01-01"
    days.disk.sync_folder = lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "killed after the manifest"))
    with pytest.raises(CannotWrite, match="prune again"):
        prune.delete(data, prune.Candidate("clean_events", "2026-01-01", 0, None))
    assert days.values()[0] == "2026-01-02" and list(folder.glob("*.parquet")) and days.unfinished() == ["2026-01-01"]
    del days.disk.sync_folder
    (candidate,) = prune.plan(data, {"clean_events": 7})
    assert candidate.value == "2026-01-01" and candidate.kept_because is None and candidate.size > 1000
    prune.delete(data, candidate)
    assert not folder.exists() and days.unfinished() == []
    with days.replace("2026-01-01") as commit:  # a first publish that runs is no leftover
        commit.write_table(embeddings(0))
        assert days.unfinished() == ["2026-01-01"]
        finishing = threading.Thread(target=prune.delete, args=(data, candidate))
        finishing.start()
        finishing.join(0.2)
    finishing.join(20)
    assert days.read("2026-01-01").equals(embeddings(0))


@on_disk
def test_a_publish_that_waited_for_a_prune_makes_the_date_anew(root: Place) -> None:
    data, days = DataRoot(str(root)), Table(str(root / "clean_events"), key="day")
    publishing = threading.Thread(target=publish, args=(days, "2026-01-01", embeddings(7)))
    disk = data.tables["clean_events"].disk
    sync = disk.sync_folder

    def manifest_is_gone(folder: str) -> None:
        sync(folder)
        if folder.endswith("day=2026-01-01"):
            publishing.start()
            publishing.join(0.3)  # it waits for our lock

    disk.sync_folder = manifest_is_gone
    prune.delete(data, prune.Candidate("clean_events", "2026-01-01", 0, None))
    publishing.join(20)
    assert days.read("2026-01-01").equals(embeddings(7)) and days.verify("2026-01-01") == []
    assert days.orphans("2026-01-01") == []


def test_the_tree_finds_tables_and_ledgers_wherever_they_are(root: Place) -> None:
    Segments(str(root / "entity_ids" / "user")).append(1, pa.table({"id": [1]}))
    publish(Table(str(root / "run_metrics" / "stage=validate_events")), DATE, embeddings(0))
    publish(FeatureStore(str(root / "feature_store")).table("user_embeddings", "kqgc_mean"), DATE, embeddings(0))
    for start in (root, root / "feature_store"):
        found = DataRoot(str(start))
        assert sorted(found.tables) == [
            "checkpoints/transe",
            "clean_events",
            "feature_store/user_embeddings/model=kqgc_mean",
            "run_metrics/stage=validate_events",
        ]
        assert list(found.ledgers) == ["entity_ids/user"] and found.tables["clean_events"].key == "day"
    assert json.dumps(sorted(DataRoot(str(root / "nowhere")).tables)) == "[]"
