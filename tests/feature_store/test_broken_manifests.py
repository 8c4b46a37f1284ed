"""A manifest that says what it must not: its partition is named as broken, and the rest is listed and verified."""

import dataclasses
import json
from pathlib import Path

import pytest

from feature_store import Manifest, Table
from feature_store.__main__ import main
from feature_store.errors import ManifestBroken
from tests.feature_store.samples import embeddings, publish

DATES = ["2026-01-05", "2026-01-06"]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def table(tmp_path: Path) -> Table:
    table = Table(str(tmp_path / "user_tables"))
    for date in DATES:
        publish(table, date, embeddings(0, dt=date))
    return table


def _with_checksum(path: Path, **changes: object) -> None:
    """As a faulty writer would put it: the checksum fits."""
    manifest = Manifest.from_bytes(path.read_bytes(), "x")
    path.write_bytes(dataclasses.replace(manifest, **changes, written=b"").to_bytes())


def _change(path: Path, name: str, value: str) -> None:
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
    table: Table, name: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(table.path(DATES[1]), "_manifest.json")
    _change(path, name, value)
    with pytest.raises(ManifestBroken, match="publish it again") as refused:
        table.read(DATES[1])
    assert str(path) in str(refused.value) and len(str(refused.value)) < 700
    assert main(["list", "--root", str(tmp_path)]) == 0
    assert "broken" in capsys.readouterr().out
    assert main(["verify", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"PROBLEM {path}" in said and "2 partitions of 1 tables verified: 1 problems" in said
    assert table.read(DATES[0]).equals(embeddings(0, dt=DATES[0]))
    publish(table, DATES[1], embeddings(3))
    assert table.read(DATES[1]).equals(embeddings(3)) and table.verify(DATES[1]) == []


def test_unknown_sorting_columns_are_a_problem_of_that_partition(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_checksum(Path(table.path(DATES[0]), "_manifest.json"), sorted_by=("user_id", "nobody"))
    assert main(["verify", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "Found no column ['nobody'], by which" in said and "2 partitions of 1 tables verified: 1 problems" in said


@pytest.mark.parametrize("fields", [
    {"predecessor": "x"}, {"predecessor": {"dt": 7}}, {"predecessor": {"dt": "2026-01-04", "content_hash": "x"}},
    {"inputs": 7}, {"inputs": "x"}, {"inputs": [7]},
    {"inputs": {"a": [7], "b": {"c": 7}, "d": {"table": [], "dt": "x"}}},
])  # fmt: skip
def test_fields_that_say_no_lineage_stop_nothing(
    table: Table, fields: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_checksum(Path(table.path(DATES[0]), "_manifest.json"), fields=fields)
    assert main(["verify", "--root", str(tmp_path)]) == 0
    assert "2 partitions of 1 tables verified: 0 problems" in capsys.readouterr().out
