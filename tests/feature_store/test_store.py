"""Reading by model and date: point in time, age, users, spaces, and the join."""

import datetime
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from feature_store import FeatureStore, commit
from feature_store.errors import BadName, CannotWrite, DataDamaged, PartitionMissing, SpaceMismatch, StoreError, TooOld
from feature_store.join import point_in_time
from tests.feature_store.faulty import CountingHandler
from tests.feature_store.places import Place, at, on_disk
from tests.feature_store.samples import HOSTILE_IDS, embeddings, publish

VIEW = "user_embeddings"
DATES = ["2026-01-05", "2026-01-12", "2026-01-19"]
UTC = datetime.UTC


@pytest.fixture
def store(place: Place) -> FeatureStore:
    store = FeatureStore(str(place / "feature_store"))
    for number, date in enumerate(DATES):
        publish(store.table(VIEW, "transe"), date, embeddings(number, users=20 + number, dt=date), space_id="a")
    return store


@pytest.mark.parametrize(
    "as_of, expected",
    [
        ("2026-01-05", "2026-01-05"),
        ("2026-01-05T00:00:00+01:00", None),  # 23:00 UTC of the day before
        ("2026-01-11T23:59:59.999999", "2026-01-05"),
        ("2026-01-12T00:00:00Z", "2026-01-12"),
        ("2026-01-11T23:30:00-01:00", "2026-01-12"),  # 00:30 UTC of the 12th
        (datetime.date(2026, 1, 18), "2026-01-12"),
        (datetime.datetime(2027, 1, 1), "2026-01-19"),
        ("2026-01-04T23:59:59.999999", None),
    ],
)
def test_as_of_never_knows_more_than_its_moment(store: FeatureStore, as_of: object, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(PartitionMissing, match="the first is 2026-01-05"):
            store.read(VIEW, model="transe", as_of=as_of)
        return
    features = store.read(VIEW, model="transe", as_of=as_of)
    assert features.manifest.partition == {"dt": expected}
    assert features.table.equals(embeddings(DATES.index(expected), users=20 + DATES.index(expected), dt=expected))


def test_random_moments_against_a_plain_search(store: FeatureStore) -> None:
    random = np.random.default_rng(5)
    for minutes in random.integers(0, 30 * 24 * 60, 40):
        moment = datetime.datetime(2026, 1, 1, tzinfo=UTC) + datetime.timedelta(minutes=int(minutes))
        known = [date for date in DATES if datetime.datetime.fromisoformat(date).replace(tzinfo=UTC) <= moment]
        if known:
            latest = max(store.read(VIEW, model="transe", as_of=moment).table.column("event_timestamp").to_pylist())
            assert latest == datetime.datetime.fromisoformat(known[-1]).replace(tzinfo=UTC) <= moment
        else:
            with pytest.raises(PartitionMissing):
                store.read(VIEW, model="transe", as_of=moment)


def test_a_partition_that_lies_about_its_time_is_refused(store: FeatureStore) -> None:
    table = store.table(VIEW, "transe")
    publish(table, "2026-01-12", embeddings(1, dt="2026-01-13"), space_id="a")
    for columns in (None, ["user_id"]):
        with pytest.raises(DataDamaged, match="event_timestamp after .*leak the future"):
            store.read(VIEW, model="transe", as_of="2026-01-12", columns=columns)
    assert any("event_timestamp after dt" in problem for problem in table.verify("2026-01-12"))


def test_too_old_says_how_old(store: FeatureStore) -> None:
    assert store.read(VIEW, model="transe", as_of="2026-01-22", max_age_days=3).manifest.partition["dt"] == "2026-01-19"
    with pytest.raises(TooOld, match=r"dt=2026-01-19, 3\.5 days old; at most 3 were asked for.*nightly"):
        store.read(VIEW, model="transe", as_of="2026-01-22T12:00", max_age_days=3)


def test_users_and_columns(store: FeatureStore) -> None:
    wanted = ["u00003", "no such user", *HOSTILE_IDS]
    features = store.read(VIEW, model="transe", dt=DATES[0], user_ids=wanted, columns=["embedding", "user_id"])
    assert features.user_ids() == sorted(["u00003", *HOSTILE_IDS], key=str.encode)
    assert features.table.column_names == ["embedding", "user_id"]
    everything = store.read(VIEW, model="transe", dt=DATES[0])
    rows = [everything.user_ids().index(user) for user in features.user_ids()]
    assert np.array_equal(features.matrix(), everything.matrix()[rows])
    assert store.read(VIEW, model="transe", dt=DATES[0], user_ids=[]).table.num_rows == 0


def test_the_matrix_is_a_view_of_the_arrow_memory(store: FeatureStore) -> None:
    features = store.read(VIEW, model="transe", dt=DATES[0])
    matrix = features.matrix()
    chunk = features.table.column("embedding").chunk(0)
    assert matrix.dtype == np.float32 and matrix.shape == (features.table.num_rows, 4)
    assert matrix.tolist() == chunk.to_pylist()
    assert matrix.__array_interface__["data"][0] == chunk.values.buffers()[1].address and not matrix.flags.owndata
    assert features.to_pandas()["n_events"].tolist() == features.table.column("n_events").to_pylist()
    sliced = type(features)(features.table.slice(3, 5), features.manifests)
    assert np.array_equal(sliced.matrix(), matrix[3:8])


def test_several_dates_are_one_space_or_an_error_that_names_the_dates(store: FeatureStore) -> None:
    features = store.read(VIEW, model="transe", dt=DATES[:2], user_ids=["u00001"])
    assert features.table.num_rows == 2 and [m.partition["dt"] for m in features.manifests] == DATES[:2]
    with pytest.raises(StoreError, match="from 2 partitions"):
        _ = features.manifest
    publish(store.table(VIEW, "transe"), DATES[1], embeddings(1, dt=DATES[1]), space_id="b")
    publish(store.table(VIEW, "transe"), DATES[2], embeddings(1, dt=DATES[2]), space_id="b")
    rerun = "airflow backfill create --dag-id nightly_user_embeddings --from-date 2026-01-12 --to-date 2026-01-19 --max"
    with pytest.raises(SpaceMismatch, match=rf"dt=2026-01-05 is in 'a', dt=2026-01-12 is in 'b'.*{rerun}"):
        store.read(VIEW, model="transe", dt=DATES)
    assert store.read(VIEW, model="transe", dt=DATES[1:]).table.num_rows


@pytest.mark.parametrize("name", ["../x", "TransE", "a b", "", "a/b", "trans-e"])
def test_names_never_become_a_path(store: FeatureStore, name: str) -> None:
    with pytest.raises(BadName):
        store.table(VIEW, name)
    with pytest.raises(BadName):
        store.models(name)


def test_exactly_one_of_dt_and_as_of(store: FeatureStore) -> None:
    for arguments in ({}, {"dt": DATES[0], "as_of": DATES[0]}, {"dt": []}):
        with pytest.raises(StoreError, match="expected"):
            store.read(VIEW, model="transe", **arguments)
    assert store.models(VIEW) == ["transe"] and store.views() == [VIEW]
    assert store.files(VIEW, model="transe", as_of="2026-01-06") == store.files(VIEW, model="transe", dt=DATES[0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"as_of": "yesterday"}, "Found the time 'yesterday'; expected a date or a time, like"),
        ({"as_of": 20260105}, "Found the time 20260105"),
        ({"dt": DATES[0], "max_age_days": 3}, "together with as_of"),
        ({"dt": DATES[:2], "max_age_days": 3}, "max_age_days=3; expected"),
        ({"as_of": DATES[0], "max_age_days": float("nan")}, "from 0 on"),
        ({"dt": DATES[0], "user_ids": "u00001"}, "Found one text as user_ids; expected a list"),
        ({"dt": DATES[0], "user_ids": [1717171717]}, "user_ids that are no texts"),
        ({"dt": DATES[0], "columns": "embedding"}, "Found one text as columns"),
        ({"dt": DATES[0], "columns": ["nix"], "user_ids": ["u00001"]}, r"no column \['nix'\].*it has \['user_id'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_and_no_reason_to_suspect_the_data(
    store: FeatureStore, arguments: dict, expected: str
) -> None:
    with pytest.raises(StoreError, match=expected) as raised:
        store.read(VIEW, model="transe", **arguments)
    assert type(raised.value) is StoreError and "u00001" not in str(raised.value)
    assert "1717171717" not in str(raised.value)


@pytest.mark.parametrize("kind", [np.array, set, iter, pa.array, lambda ids: pa.chunked_array([ids[:1], ids[1:]])])
def test_users_may_come_as_any_collection(store: FeatureStore, kind: Callable) -> None:
    two = ["u00001", "u00002"]
    assert store.read(VIEW, model="transe", dt=DATES[:2], user_ids=kind(two)).user_ids() == two * 2


@on_disk
def test_a_look_up_reads_the_row_groups_that_may_hold_the_users_and_no_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ROW_GROUP_ROWS", 1000)
    store = FeatureStore(str(place / "feature_store"))
    publish(store.table(VIEW, "transe"), DATES[0], embeddings(0, users=20_000, dimension=32, dt=DATES[0]))
    size, counted = store.table(VIEW, "transe").manifest(DATES[0]).size, CountingHandler()
    counting = FeatureStore(store.root, pyarrow.fs.PyFileSystem(counted))
    assert counting.read(VIEW, model="transe", dt=DATES[0]).table.num_rows > 20_000 and counted.read_bytes >= size
    for users, rows in ((["u00003"], 1), (["u00003", "u19999"], 2), (["nobody"], 0), ([], 0)):
        counted.read_bytes = 0
        assert counting.read(VIEW, model="transe", dt=DATES[0], user_ids=users).table.num_rows == rows
        assert counted.read_bytes < size / 4, users


@on_disk
def test_any_arrow_file_system_reads_and_says_that_it_does_not_write(store: FeatureStore) -> None:
    parent = pyarrow.fs.SubTreeFileSystem(str(at(store.root).parent), pyarrow.fs.LocalFileSystem())
    other = FeatureStore("feature_store", parent)
    assert other.models(VIEW) == ["transe"] and other.table(VIEW, "transe").values() == DATES
    found, expected = (one.read(VIEW, model="transe", as_of="2026-01-13").table for one in (other, store))
    assert found.equals(expected)
    with pytest.raises(CannotWrite, match="which only reads"):
        publish(other.table(VIEW, "transe"), DATES[0], embeddings(0))
    assert FeatureStore(f"file://{store.root}").models(VIEW) == ["transe"]


@on_disk
@pytest.mark.parametrize("kind", ["Arrow", "a part of it", "fsspec"])
def test_file_systems_in_memory_read_as_the_disk_does(store: FeatureStore, kind: str) -> None:
    disk, memory = pyarrow.fs.LocalFileSystem(), pyarrow.fs._MockFileSystem()
    if kind == "fsspec":
        memory = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(MemoryFileSystem()))
    pyarrow.fs.copy_files(store.root, "lake/store", source_filesystem=disk, destination_filesystem=memory)
    other = FeatureStore("lake/store", memory)
    if kind == "a part of it":
        other = FeatureStore("store", pyarrow.fs.SubTreeFileSystem("lake", memory))
    for arguments in ({}, {"user_ids": ["u00002"], "columns": ["embedding"]}):
        read, expected = (one.read(VIEW, model="transe", as_of="2026-01-13", **arguments) for one in (other, store))
        assert read.table.equals(expected.table) and read.manifest == expected.manifest
        assert np.array_equal(read.matrix(), expected.matrix())
    assert other.table(VIEW, "transe").verify(DATES[0]) == []
    with pytest.raises(PartitionMissing, match="There are 3"):
        other.read(VIEW, model="transe", dt="2026-01-06")


def test_a_file_system_that_is_not_arrows_says_how_to_wrap_it() -> None:
    with pytest.raises(StoreError, match="Found the file system MemoryFileSystem; .*FSSpecHandler"):
        FeatureStore("store", MemoryFileSystem())


def _slow_join(
    store: FeatureStore, rows: list[tuple[str, datetime.datetime]], max_age_days: float | None
) -> list[tuple[list | None, object]]:
    answers = []
    for user, moment in rows:
        known = [d for d in DATES if datetime.datetime.fromisoformat(d).replace(tzinfo=UTC) <= moment]
        start = datetime.datetime.fromisoformat(known[-1]).replace(tzinfo=UTC) if known else None
        found = None
        if known and (max_age_days is None or moment - start <= datetime.timedelta(days=max_age_days)):
            table = store.read(VIEW, model="transe", dt=known[-1]).table.to_pylist()
            found = next((row["embedding"] for row in table if row["user_id"] == user), None)
        answers.append((found, start if found else None))
    return answers


@pytest.mark.parametrize("max_age_days", [None, 3])
def test_the_join_against_a_plain_loop(store: FeatureStore, max_age_days: float | None) -> None:
    random = np.random.default_rng(2)
    start = datetime.datetime(2026, 1, 3, tzinfo=UTC)
    hours = random.integers(0, 24 * 24, 60).tolist()
    rows = [(f"u{random.integers(0, 25):05d}", start + datetime.timedelta(hours=hour)) for hour in hours]
    rows += [
        ("u00001", datetime.datetime(2026, 1, 12, tzinfo=UTC)),
        ("u00001", datetime.datetime(2026, 1, 11, 23, 59, 59, 999999, tzinfo=UTC)),
        ("../../etc/passwd", start.replace(day=30)),
    ]
    users, moments = zip(*rows, strict=True)
    times = pa.array(moments, pa.timestamp("us", "UTC"))
    entities = pa.table({"user_id": users, "event_timestamp": times, "label": range(len(rows))})
    joined = point_in_time(store, entities, VIEW, model="transe", max_age_days=max_age_days, columns=["embedding"])
    assert joined.select(entities.column_names).equals(entities)
    assert joined.column_names[3:] == ["embedding", "feature_timestamp"]
    columns = (joined.column(name).to_pylist() for name in ("embedding", "feature_timestamp"))
    answers = list(zip(*columns, strict=True))
    assert answers == _slow_join(store, rows, max_age_days)
    assert any(found is None for found, _ in answers) and any(found for found, _ in answers)
    assert all(taken is None or taken <= moment for (_, taken), (_, moment) in zip(answers, rows, strict=True))


def test_the_join_at_its_borders(store: FeatureStore) -> None:
    midnight = np.datetime64("2026-01-12T00:00:00", "ns")
    later = (np.timedelta64(3, "D"), np.timedelta64(3 * 86_400_000_001, "us"))
    moments = np.array([midnight - np.timedelta64(1, "ns"), midnight, *(midnight + one for one in later)])
    rows = pa.table({"user_id": ["u00001"] * 4, "event_timestamp": pa.array(moments, pa.timestamp("ns"))})
    taken = point_in_time(store, rows, VIEW, model="transe").column("feature_timestamp").to_pylist()
    # a nanosecond early is early
    assert [moment.date().isoformat() for moment in taken] == [DATES[0], DATES[1], DATES[1], DATES[1]]
    young = point_in_time(store, rows, VIEW, model="transe", max_age_days=3).column("feature_timestamp").to_pylist()
    assert [moment and moment.date().isoformat() for moment in young] == [None, DATES[1], DATES[1], None]


def test_the_join_refuses_to_mix_spaces(store: FeatureStore) -> None:
    publish(store.table(VIEW, "transe"), DATES[1], embeddings(1, dt=DATES[1]), space_id="b")
    moments = pa.array([datetime.datetime(2026, 1, 6), datetime.datetime(2026, 1, 13)], pa.timestamp("ns"))
    rows = pa.table({"user_id": ["u00001", "u00001"], "event_timestamp": moments})
    with pytest.raises(SpaceMismatch, match="--from-date 2026-01-12 --to-date 2026-01-12"):
        point_in_time(store, rows, VIEW, model="transe")
    assert point_in_time(store, rows, VIEW, model="transe", allow_other_spaces=True).column("embedding").null_count == 0
    assert point_in_time(store, rows.slice(1), VIEW, model="transe").num_rows == 1


def test_the_join_without_any_answer_still_has_the_columns(store: FeatureStore) -> None:
    rows = pa.table({"user_id": ["u00001"], "event_timestamp": [datetime.date(2020, 1, 1)]})
    joined = point_in_time(store, rows, VIEW, model="transe")
    assert joined.column("embedding").to_pylist() == [None] and joined.column("feature_timestamp").to_pylist() == [None]
    with pytest.raises(StoreError, match="expected user_id and event_timestamp"):
        point_in_time(store, pa.table({"user_id": ["a"]}), VIEW, model="transe")
