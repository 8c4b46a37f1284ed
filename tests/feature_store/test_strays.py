"""Names beside partitions and segments that are none: verify names them, and all else goes on as without them."""


import pyarrow as pa
import pytest

from feature_store import FeatureStore, Segments, Table, prune
from feature_store.__main__ import main
from feature_store.tree import DataRoot
from tests.feature_store.places import Place, at, copy_folder
from tests.feature_store.samples import embeddings, publish

DATES = ["2026-01-05", "2026-01-06"]
STRAYS = ["dt=2026-01-05.bak", "dt=2026-02-30", "dt=", "dt=2026-01-05 (copy)", "DT=2026-01-05", "a=1", "notes", "=x"]
NAME = "feature_store/user_embeddings/model=my_model"


@pytest.fixture
def table(place: Place) -> Table:
    table = FeatureStore(str(place / "feature_store")).table("user_embeddings", "my_model")
    for date in DATES:
        publish(table, date, embeddings(0, dt=date))
    for stray in STRAYS:
        copy_folder(table.path(DATES[0]), f"{table.uri}/{stray}")
    at(table.uri, "dt=2026-01-07").write_bytes(b"a file")
    return table


def test_readers_publishes_and_prunes_ignore_them(table: Table, place: Place) -> None:
    store, root = FeatureStore(str(place / "feature_store")), DataRoot(str(place))
    assert table.values() == DATES and table.unfinished() == []
    assert store.read("user_embeddings", model="my_model", as_of="2026-02-01").manifest.partition == {"dt": DATES[1]}
    publish(table, "2026-01-08", embeddings(1, dt="2026-01-08"))
    assert root.tables[NAME].key == "dt" and root.tables[NAME].values() == [*DATES, "2026-01-08"]
    plan = prune.plan(root, {NAME: 1})
    assert [one.value for one in plan] == DATES
    for one in plan:
        prune.delete(root, one)
    assert table.values() == ["2026-01-08"]
    assert sorted(table.strays()) == sorted([*STRAYS, "dt=2026-01-07"])


def test_list_goes_on_and_verify_names_each(table: Table, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--root", str(place)]) == 0
    assert NAME in capsys.readouterr().out
    assert main(["verify", "--root", str(place)]) == 0
    said = capsys.readouterr().out
    for stray in [*STRAYS, "dt=2026-01-07"]:
        assert f"{table.uri} holds {stray!r}, which is none of its partitions" in said
    assert "2 partitions of 1 tables verified: 0 problems" in said


def test_strays_of_a_ledger_are_named_and_ignored(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Segments(str(place / "entity_ids/user"))
    ledger.append(1, pa.table({"id": [0]}))
    for name in ("segment-00000001 (copy).parquet", "segment-1.parquet", "segment-00000002.parquet.bak"):
        at(ledger.uri, name).write_bytes(at(ledger.files()[0]).read_bytes())
    assert ledger.append(2, pa.table({"id": [1]})) and ledger.read().num_rows == 2
    assert main(["verify", "--root", str(place)]) == 0
    said = capsys.readouterr().out
    assert said.count("which is none of its partitions or segments") == 3 and "segment-1.parquet" in said


def test_a_store_lists_no_view_and_no_model_that_it_cannot_open(table: Table, place: Place) -> None:
    store = FeatureStore(str(place / "feature_store"))
    copy_folder(table.uri, f"{table.uri}.bak")
    at(store.root, "user_embeddings.bak").mkdir()
    assert store.views() == ["user_embeddings"] and store.models("user_embeddings") == ["my_model"]
