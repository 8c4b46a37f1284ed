"""Replacing a partition: what a rerun leaves, what a failure leaves, and what the files look like."""

import datetime
import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store import Manifest, Table, commit, content_hash
from feature_store.errors import BadName, DataDamaged, LockHeld, NothingToRollBackTo, PartitionMissing, StoreError
from tests.feature_store.places import Place, at, on_disk
from tests.feature_store.samples import embeddings, names_in, publish

DATE = "2026-01-05"


@pytest.fixture
def table(place: Place) -> Table:
    return Table(str(place / "user_embeddings" / "model=transe"))


@pytest.mark.parametrize("seed", range(3))
def test_what_was_written_is_read_and_the_manifest_tells_it(table: Table, seed: int) -> None:
    rows = embeddings(seed, users=200 + seed)
    publish(table, DATE, rows, space_id="a", rotation=[[1.0]])
    manifest = table.manifest(DATE)
    assert table.read(DATE).equals(rows) and table.read(DATE, columns=["n_events"]).equals(rows.select(["n_events"]))
    assert table.values() == [DATE] and manifest.table == "user_embeddings/model=transe"
    assert manifest.partition == {"dt": DATE}
    assert manifest.row_count == rows.num_rows and manifest.content_hash == content_hash([rows])
    assert manifest.fields == {"space_id": "a", "rotation": [[1.0]]} and manifest.sorted_by == ("user_id",)
    assert [at(path).name for path in table.files(DATE)] == [file.name for file in manifest.files]
    assert table.verify(DATE) == []


def test_a_rerun_replaces_and_keeps_the_last_version_for_rollback(table: Table) -> None:
    for seed in range(4):
        publish(table, DATE, embeddings(seed))
    assert table.read(DATE).equals(embeddings(3))
    assert names_in(table, DATE) == {"part", "_manifest.json", "_SUCCESS", "_lock", "_retired"}
    assert [version.content_hash for version in table.versions(DATE)] == [content_hash([embeddings(2)])]
    third = table.manifest(DATE)
    restored = table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(2)) and table.manifest(DATE) == restored and table.verify(DATE) == []
    assert table.rollback(DATE).hash == third.hash and table.read(DATE).equals(embeddings(3))


def test_keep_versions_counts_and_none_can_be_kept(table: Table) -> None:
    for seed in range(5):
        with table.replace(DATE, keep_versions=3) as one:
            one.write_table(embeddings(seed))
    assert [v.content_hash for v in table.versions(DATE)] == [content_hash([embeddings(seed)]) for seed in (1, 2, 3)]
    for expected in ((1, 2, 4), (1, 2, 3)):  # a rollback keeps the older ones, and a second undoes the first
        table.rollback(DATE)
        assert [v.content_hash for v in table.versions(DATE)] == [content_hash([embeddings(seed)]) for seed in expected]
    with table.replace(DATE, keep_versions=0) as one:
        one.write_table(embeddings(9))
    assert table.versions(DATE) == []
    with pytest.raises(NothingToRollBackTo, match="Run the job"):
        table.rollback(DATE)


@on_disk
def test_no_recursive_glob_finds_a_replaced_version(table: Table) -> None:
    for seed in range(3):
        publish(table, DATE, embeddings(seed))
    assert [str(path) for path in at(table.uri).rglob("*.parquet")] == table.files(DATE)


def test_an_exception_leaves_what_readers_had(table: Table) -> None:
    with pytest.raises(ZeroDivisionError), table.replace(DATE) as one:
        one.write_table(embeddings(0))
        raise ZeroDivisionError
    assert table.values() == [] and names_in(table, DATE) == {"_lock"}
    publish(table, DATE, embeddings(1))
    before = table.manifest(DATE)
    with pytest.raises(KeyboardInterrupt), table.replace(DATE) as one:
        one.write_table(embeddings(2))
        raise KeyboardInterrupt
    assert table.manifest(DATE) == before and table.read(DATE).equals(embeddings(1)) and table.orphans(DATE) == []


def test_only_if_changed_keeps_the_former_commit(table: Table) -> None:
    publish(table, DATE, embeddings(1))
    before = table.manifest(DATE)
    for rows, is_same in ((embeddings(1), True), (embeddings(2), False)):
        with table.replace(DATE, only_if_changed=True) as one:
            one.write_table(rows, sorted_by=["user_id"])
        assert (table.manifest(DATE).hash == before.hash) is is_same and table.orphans(DATE) == []
    assert table.read(DATE).equals(embeddings(2))


def test_equal_content_is_committed_anew_since_its_lineage_may_differ(table: Table) -> None:
    publish(table, DATE, embeddings(1), config_hash="x")
    publish(table, DATE, embeddings(1), config_hash="y")
    assert table.manifest(DATE).fields == {"config_hash": "y"}
    assert table.versions(DATE)[0].content_hash == table.manifest(DATE).content_hash


def test_nothing_written_is_an_error_and_no_rows_are_a_table(table: Table) -> None:
    with pytest.raises(StoreError, match="Nothing was written"), table.replace(DATE):
        pass
    assert table.values() == []
    publish(table, DATE, embeddings(0).slice(0, 0))
    assert table.read(DATE).num_rows == 0 and table.read(DATE).schema == embeddings(0).schema
    assert table.verify(DATE) == []


def test_bytes_are_a_partition_too(table: Table) -> None:
    with table.replace(DATE) as one:
        name = one.write_bytes(".safetensors", b"weights", hint="optimiser")
    assert name.startswith("part-00000-optimiser-") and at(table.files(DATE)[0]).read_bytes() == b"weights"
    assert table.verify(DATE) == []
    with pytest.raises(StoreError, match="holds no table"):
        table.read(DATE)
    with pytest.raises(BadName), table.replace(DATE) as one:
        one.write_bytes("/../../x", b"")


def test_the_layout_of_a_file(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "ROW_GROUP_ROWS", 100)
    rows = embeddings(0, users=250)
    publish(table, DATE, rows)
    metadata = pq.read_metadata(table.files(DATE)[0])
    assert metadata.num_row_groups == 3 and metadata.row_group(0).num_rows == 100
    group = metadata.row_group(1)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(metadata.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name for name, column in columns.items() if column.is_stats_set} == {"user_id"}
    assert [sorting.column_index for sorting in group.sorting_columns] == [0] and columns["user_id"].has_column_index
    assert not any("BYTE_STREAM_SPLIT" in column.encodings for column in columns.values())


def test_large_tables_become_several_files_in_row_order(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "ROW_GROUP_ROWS", 100)
    monkeypatch.setattr(commit, "FILE_BYTES", 4000)
    rows = embeddings(0, users=1000)
    publish(table, DATE, rows)
    files = table.files(DATE)
    assert len(files) > 2 and files == sorted(files) and table.read(DATE).equals(rows)
    assert table.manifest(DATE).content_hash == content_hash([rows]) and table.verify(DATE) == []


def test_a_false_claim_of_order_is_refused(table: Table) -> None:
    with pytest.raises(StoreError, match="Row 1 .*smaller than the one before.*Sort the rows"):
        publish(table, DATE, pa.table({"user_id": ["b", "a"]}))
    publish(table, DATE, pa.table({"user_id": ["B", "a", "ä"]}))  # by bytes, not by alphabet


def test_one_partition_has_one_schema(table: Table) -> None:
    with pytest.raises(StoreError, match="One partition, one schema"), table.replace(DATE) as one:
        one.write_table(pa.table({"a": [1]}))
        one.write_table(pa.table({"b": [1]}))


@pytest.mark.parametrize("field", [float("nan"), np.float32(1.0), {1, 2}, b"x"])
def test_fields_that_are_no_json_are_refused_and_the_old_version_stays(table: Table, field: object) -> None:
    publish(table, DATE, embeddings(0))
    with pytest.raises(StoreError, match="no JSON"):
        publish(table, DATE, embeddings(1), quality=field)
    assert table.read(DATE).equals(embeddings(0)) and table.orphans(DATE) == []


def test_engine_files_are_adopted_and_their_leftovers_removed(table: Table) -> None:
    new = embeddings(1)
    publish(table, DATE, embeddings(0))
    with table.replace(DATE) as one:
        folder = at(one.path)
        halves = {"part-00001-b.snappy.parquet": new.slice(10), "part-00000-a.snappy.parquet": new.slice(0, 10)}
        for name, rows in halves.items():
            pq.write_table(rows, folder / name)
            (folder / f".{name}.crc").write_bytes(b"crc")
        (folder / "_temporary" / "0").mkdir(parents=True)
        (folder / "_SUCCESS").write_bytes(b"")
        (folder / "._SUCCESS.crc").write_bytes(b"")
        one.adopt_new()
    assert table.read(DATE).equals(new) and table.manifest(DATE).content_hash == content_hash([new])
    assert names_in(table, DATE) == {"part", "_manifest.json", "_SUCCESS", "_lock", "_retired"}
    assert table.verify(DATE) == []


def test_a_file_that_is_no_parquet_is_not_adopted(table: Table) -> None:
    with pytest.raises(DataDamaged, match="part-x.parquet is no readable Parquet"), table.replace(DATE) as one:
        at(one.path, "part-x.parquet").write_bytes(b"PAR1 no")
        one.adopt_new()
    with pytest.raises(StoreError, match="directly in"), table.replace(DATE) as one:
        one.adopt(["/elsewhere/part-0.parquet"])
    assert table.values() == []


def test_a_second_writer_waits_and_then_says_who_holds_the_lock(table: Table) -> None:
    publish(table, DATE, embeddings(0))
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with table.replace(DATE) as one:
            one.write_table(embeddings(1))
            entered.set()
            leave.wait(20)

    writer = threading.Thread(target=hold)
    writer.start()
    try:
        assert entered.wait(20)
        with pytest.raises(LockHeld, match=r"held by process \d+ on .+ since 20.*\+00:00 \(.+\); waited 0.1 s"):
            with table.replace(DATE, wait_seconds=0.1) as one:
                one.write_table(embeddings(2))
        threading.Timer(0.2, leave.set).start()
        publish(table, DATE, embeddings(3))  # waits for the first to finish
    finally:
        leave.set()
        writer.join()
    assert table.read(DATE).equals(embeddings(3))
    assert table.versions(DATE)[-1].content_hash == content_hash([embeddings(1)])
    publish(table, "2026-01-06", embeddings(4))  # another date has its own lock


NO_DATES = ["../x", "2026-1-5", "2026-02-30", "20260105", "", "2026-01-05/..", "2026-01-05\n", None, "_retired"]


@pytest.mark.parametrize("value", NO_DATES)
def test_values_that_are_no_dates_never_become_a_path(table: Table, value: str) -> None:
    calls = (table.path, table.manifest, table.read, table.files, table.verify)
    for call in (*calls, lambda value: table.replace(value).__enter__()):
        with pytest.raises(BadName, match="expected a date that exists"):
            call(value)


@pytest.mark.parametrize("value", ["../x", "a/b", "..", ".", "", "-x", "a..b", "a b", "a\0"])
def test_other_values_are_plain_words(place: Place, value: str) -> None:
    with pytest.raises(BadName):
        Table(str(place), key="stage").path(value)
    assert Table(str(place), key="stage").path("smooth_kqgc-1.2").endswith("/stage=smooth_kqgc-1.2")


def test_dates_may_be_given_as_dates(table: Table) -> None:
    publish(table, datetime.date(2026, 1, 5), embeddings(0))
    assert table.values() == [DATE]


@pytest.mark.parametrize("filter", [None, pc.field("n_events") >= 0])
def test_a_read_starts_over_when_its_version_was_replaced_after_the_manifest(
    table: Table, monkeypatch: pytest.MonkeyPatch, filter: pc.Expression | None
) -> None:
    publish(table, DATE, embeddings(0))
    read_files, replaced = Table._read_files, []

    def replaced_meanwhile(self: Table, value: str, manifest: Manifest, *rest: object) -> pa.Table:
        if len(replaced) < 3:
            replaced.append(manifest.hash)
            with Table(table.uri).replace(value, keep_versions=0) as one:  # nowhere are its files left
                one.write_table(embeddings(len(replaced)), sorted_by=["user_id"])
        return read_files(self, value, manifest, *rest)

    monkeypatch.setattr(Table, "_read_files", replaced_meanwhile)
    rows, manifest = table.read_version(DATE, filter=filter)
    assert rows.equals(embeddings(3)) and manifest.content_hash == content_hash([embeddings(3)])
    assert len(set(replaced)) == 3


def test_what_is_missing_says_what_there_is(table: Table) -> None:
    with pytest.raises(PartitionMissing, match="There is none at all"):
        table.read(DATE)
    publish(table, DATE, embeddings(0))
    with pytest.raises(PartitionMissing, match="No committed partition dt=2026-01-06.*There are 1, from 2026-01-05"):
        table.files("2026-01-06")
    with pytest.raises(StoreError, match=r"no column \['nix'\].*user_id"):
        table.read(DATE, columns=["nix"])


def test_every_type_reads_back_with_the_content_hash_it_was_written_with(place: Place) -> None:
    moments = [datetime.datetime(2026, 1, 5, 1, 2, 3), None]
    kinds = [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Paris"), pa.timestamp("ns")]
    columns = {str(kind): pa.array(moments, kind) for kind in kinds}
    columns |= {str(kind): pa.array([datetime.date(2026, 1, 5), None], kind) for kind in (pa.date32(), pa.date64())}
    times = (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    columns |= {str(kind): pa.array([datetime.time(1, 2, 3), None], kind) for kind in times}
    numbers = (pa.int8(), pa.uint8(), pa.uint32(), pa.uint64(), pa.float64(), pa.duration("s"))
    columns |= {str(kind): pa.array([1, None], kind) for kind in numbers}
    texts = (pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string()))
    columns |= {str(kind): pa.array(["a", None], kind) for kind in texts}
    columns |= {"null": pa.nulls(2), "lists": pa.array([[1.5], None], pa.large_list(pa.float32()))}
    table = Table(str(place / "t"))
    with table.replace(DATE) as one:
        one.write_table(pa.table(columns))
    assert table.verify(DATE) == []
    with pytest.raises(StoreError, match="Spark cannot read"), table.replace(DATE) as one:
        one.write_table(pa.table({"v": pa.array([[1.0]], pa.list_(pa.float16(), 1))}))
