"""A manifest that says what it must not: its partition is named as broken, and the rest is listed and verified."""

import dataclasses
import json
import re
from collections.abc import Callable

import pytest

from feature_store import Manifest, Table, prune
from feature_store.__main__ import main
from feature_store.errors import LockHeld, ManifestBroken
from tests.feature_store.places import Place, at, on_disk
from tests.feature_store.samples import embeddings, publish

DATES = ["2026-01-05", "2026-01-06"]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def table(place: Place) -> Table:
    table = Table(str(place / "user_tables"))
    for date in DATES:
        publish(table, date, embeddings(0, dt=date))
    return table


def _with_checksum(path: Place, **changes: object) -> None:
    """As a faulty writer would put it: the checksum fits."""
    manifest = Manifest.from_bytes(path.read_bytes(), "x")
    path.write_bytes(dataclasses.replace(manifest, **changes, written=b"").to_bytes())


def _change(path: Place, name: str, value: str) -> None:
    tree = json.loads(path.read_bytes())
    tree[name] = "HERE"
    path.write_text(json.dumps(tree).replace('"HERE"', value))


BROKEN = [
    ("row_count", "1e999"),
    ("row_count", "NaN"),
    ("row_count", "-1"),
    ("row_count", "true"),
    ("row_count", "9" * 5000),
    ("fields", '{"a": 1e999}'),
    ("fields", '{"a": NaN}'),
    ("fields", '{"a": -Infinity}'),
    ("fields", f'{{"a": {DEEP}}}'),
    ("fields", "7"),
    ("files", '[{"name": 7, "size": 1, "sha256": "x", "row_count": 1}]'),
    ("files", '[{"name": "x", "size": 1e999, "sha256": "x", "row_count": 1}]'),
    ("files", '[{"name": "x", "size": 1, "sha256": null, "row_count": 1}]'),
    ("files", "7"),
    ("files", "[7]"),
    ("sorted_by", "[7]"),
    ("sorted_by", "7"),
    ("schema_version", "[1e999, 0]"),
    ("format", "1e999"),
    ("format", "[]"),
    ("partition", '{"dt": 7}'),
    ("partition", '"dt"'),
    ("table", "7"),
    ("content_hash", "{}"),
    ("created_timestamp", "[]"),
    ("provenance", "[[]]"),
    ("checksum", "7"),
]


@pytest.mark.parametrize(("name", "value"), BROKEN, ids=[f"{name} {value[:30]}" for name, value in BROKEN])
def test_that_partition_is_named_as_broken_and_the_rest_goes_on(
    table: Table, name: str, value: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = at(table.path(DATES[1]), "_manifest.json")
    _change(path, name, value)
    with pytest.raises(ManifestBroken, match="publish it again") as refused:
        table.read(DATES[1])
    assert str(path) in str(refused.value) and len(str(refused.value)) < 700
    assert main(["list", "--root", str(place)]) == 0
    assert "broken" in capsys.readouterr().out
    assert main(["verify", "--root", str(place)]) == 1
    said = capsys.readouterr().out
    assert f"PROBLEM {path}" in said and "2 partitions of 1 tables verified: 1 problems" in said
    assert table.read(DATES[0]).equals(embeddings(0, dt=DATES[0]))
    publish(table, DATES[1], embeddings(3))
    assert table.read(DATES[1]).equals(embeddings(3)) and table.verify(DATES[1]) == []


def _spoil_not_json(path: Place) -> None:
    path.write_text("{")


def _spoil_newer(path: Place) -> None:
    _with_checksum(path, schema_version=(9, 0))


def _spoil_folder(path: Place) -> None:
    path.unlink()
    path.mkdir()


def _spoil_link(path: Place) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _spoil_window(path: Place) -> None:
    _with_checksum(path, fields={"label_window": ["2026-01-01", 7]})


@on_disk
@pytest.mark.parametrize("spoil", [_spoil_folder, _spoil_link])
def test_prune_leaves_what_is_no_file_and_does_the_rest(
    spoil: Callable[[Place], None], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    test_prune_leaves_what_is_broken_and_does_the_rest(spoil, place, capsys)


@pytest.mark.parametrize("spoil", [_spoil_not_json, _spoil_newer, _spoil_window])
def test_prune_leaves_what_is_broken_and_does_the_rest(
    spoil: Callable[[Place], None], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    dates = [f"2026-01-{day:02d}" for day in range(1, 13)]
    table, other = (Table(str(place / name)) for name in ("user_tables", "others"))
    for date in dates:
        publish(table, date, embeddings(0, dt=date))
        publish(other, date, embeddings(0, dt=date))
    broken = at(table.path(dates[2]), "_manifest.json")
    spoil(broken)
    before = sorted(path.name for path in broken.parent.iterdir())
    older = ["prune", "--root", str(place), "--retention", '{"user_tables": 5, "others": 5}']
    assert main([*older, "--dry-run"]) == 1 and table.values() == dates
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("10 partitions"), "6 and 6, but the broken one and the one before it"
    assert main(older) == 1
    said = capsys.readouterr().out
    assert f"PROBLEM {broken.parent}" in said
    assert re.search(rf"^user_tables {dates[2]} \(.*\): kept: its manifest is broken$", said, re.MULTILINE)
    assert table.values() == [dates[1], dates[2], *dates[6:]], "what may be its predecessor stays"
    assert f"perhaps the predecessor of user_tables {dates[2]}, whose manifest is broken" in said
    assert other.values() == dates[6:]
    assert sorted(path.name for path in broken.parent.iterdir()) == before


def test_a_broken_newest_manifest_hides_no_label_window(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    dates = [f"2026-01-{day:02d}" for day in range(1, 13)]
    vectors, models = (Table(str(place / name)) for name in ("vectors", "models"))
    for nth, date in enumerate(dates):
        publish(vectors, date, embeddings(0, dt=date))
        if nth >= 7:
            with models.replace(date) as commit:
                commit.write_bytes(".txt", b"x")
                commit.fields["label_window"] = [dates[nth - 7], date]
    at(models.path(dates[-1]), "_manifest.json").write_text("{")
    assert main(["prune", "--root", str(place), "--retention", '{"vectors": 2}']) == 1
    assert "a label window needs it" in capsys.readouterr().out
    assert vectors.values() == dates[3:], "from the last readable window's start on"


def test_a_partition_that_cannot_be_deleted_stops_no_other(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, honest = Table(str(place / "user_tables")), prune.delete
    dates = ["2026-01-01", "2026-01-02", "2026-01-09"]
    for date in dates:
        publish(table, date, embeddings(0, dt=date))

    def delete(root: object, candidate: prune.Candidate) -> None:
        if candidate.value == dates[0]:
            raise LockHeld("somebody writes it")
        honest(root, candidate)

    monkeypatch.setattr(prune, "delete", delete)
    assert main(["prune", "--root", str(place), "--table", "user_tables", "--days", "3"]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM somebody writes it" in said and "kept: it could not be deleted" in said and "1 partitions" in said
    assert table.values() == [dates[0], dates[2]]


def test_unknown_sorting_columns_are_a_problem_of_that_partition(
    table: Table, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_checksum(at(table.path(DATES[0]), "_manifest.json"), sorted_by=("user_id", "nobody"))
    assert main(["verify", "--root", str(place)]) == 1
    said = capsys.readouterr().out
    assert "Found no column ['nobody'], by which" in said and "2 partitions of 1 tables verified: 1 problems" in said


@pytest.mark.parametrize("fields", [
    {"predecessor": "x"}, {"predecessor": {"dt": 7}}, {"predecessor": {"dt": "2026-01-04", "content_hash": "x"}},
    {"inputs": 7}, {"inputs": "x"}, {"inputs": [7]},
    {"inputs": {"a": [7], "b": {"c": 7}, "d": {"table": [], "dt": "x"}}},
])  # fmt: skip
def test_fields_that_say_no_lineage_stop_nothing(
    table: Table, fields: dict, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_checksum(at(table.path(DATES[0]), "_manifest.json"), fields=fields)
    assert main(["verify", "--root", str(place)]) == 0
    assert "2 partitions of 1 tables verified: 0 problems" in capsys.readouterr().out
