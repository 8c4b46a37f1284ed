"""Texts that hold several values, and the warning on attributes that say one thing of each item."""

from __future__ import annotations

import datetime
from pathlib import Path

import polars as pl
import pytest
import yaml

from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.sections import Attribute, ListColumn, SourceTable
from jobs.events.read_source import read_entities
from jobs.graphs.catalogue import Kind, attribute_rows, read_catalogue
from jobs.graphs.sizes import FEWEST_ENTITIES, Sizes, own_values, report
from jobs.program import JobError, metrics
from tests.jobs.events.night import Sandbox

CELLS = ["c3|c7", "c3", "|c1||c7|", "", None, "=1+1|<b>"]
PARTS = [["c3", "c7"], ["c3"], ["c1", "c7"], [], None, ["=1+1", "<b>"]]


def catalogue(tmp_path: Path, ending: str, separator: str) -> Path:
    path = tmp_path / f"items.{ending}"
    cells = [cell and cell.replace("|", separator) for cell in CELLS]
    frame = pl.DataFrame({"item_id": [f"{n}" for n in range(len(CELLS))], "cats": cells})
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[ending](path)
    return path


@pytest.mark.parametrize(("ending", "separator"), [
    ("parquet", "|"), ("csv", "|"), ("jsonl", "|"), ("csv", "||"), ("csv", "\\E.\\Q"), ("csv", ", ")])
def test_a_text_is_cut_where_the_configuration_says(ending: str, separator: str, tmp_path: Path, spark) -> None:
    path = catalogue(tmp_path, ending, separator)
    source = SourceTable(str(path), ending, {"category": ListColumn("cats", separator)})
    rows = {row.item_id: row.category for row in read_entities(spark, source, "item_id").collect()}
    expected = [None if parts == [] and ending == "csv" else parts for parts in PARTS]  # CSV has no empty text
    found = [rows[f"{n}"] for n in range(len(CELLS))]
    if separator == "||":
        found, expected = found[:2], expected[:2]
    assert [f or None for f in found] == [e or None for e in expected]


def test_each_part_is_an_edge(tmp_path: Path, spark) -> None:
    source = SourceTable(str(catalogue(tmp_path, "csv", "|")), "csv", {"category": ListColumn("cats", "|")})
    kind = Kind("item", source, {"category": Attribute()})
    rows = attribute_rows(read_catalogue(spark, kind, datetime.date(2026, 1, 1)).frame, kind, ["raw"]).collect()
    assert sorted((row.raw, row.value) for row in rows) == sorted(
        (f"{n}", part) for n, parts in enumerate(PARTS) for part in parts or [])


def test_a_column_that_is_no_text_is_refused(tmp_path: Path, spark) -> None:
    pl.DataFrame({"item_id": ["1"], "cats": [["c3"]]}).write_parquet(tmp_path / "items.parquet")
    source = SourceTable(str(tmp_path / "items.parquet"), columns={"category": ListColumn("cats", "|")})
    with pytest.raises(JobError, match=r"column 'cats' \(our 'category'\) is of type array<string>; expected texts"):
        read_entities(spark, source, "item_id")


@pytest.mark.parametrize(("table", "columns", "message"), [
    ("events", {"item_id": {"column": "a", "separator": "|"}}, "events.columns.item_id.separator.*only an attribute"),
    ("items", {"item_id": {"column": "a", "separator": "|"}}, "items.columns.item_id.separator.*only an attribute"),
    ("items", {"brand": {"column": "a", "separator": ""}}, "items.columns.brand.separator"),
    ("items", {"brand": {"column": "a"}}, "Missing key 'source.items.columns.brand.separator'"),
    ("items", {"brand": {"column": "a", "sep": "|"}}, "Unknown key 'source.items.columns.brand.sep'"),
    ("items", {"brand": 5}, "source.items.columns.brand is 5"),
])
def test_a_wrong_mapping_is_told_by_its_path(table: str, columns: dict, message: str, sandbox: Sandbox) -> None:
    tree = yaml.safe_load(sandbox.config_file().read_text())
    tree["source"].setdefault(table, {"path": "i"})["columns"] = columns
    path = sandbox.folder / "wrong.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=message):
        load_settings(path)


def test_attributes_with_a_value_for_nearly_every_item_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    heads = {"item_cats": 10_000, "item_brand": 10_000, "item_few": FEWEST_ENTITIES - 1, "user_name": 50}
    values = {"item_cats": 7_245, "item_brand": 5_999, "item_few": FEWEST_ENTITIES - 1, "user_name": 50}
    kinds = dict.fromkeys(heads, "item") | {"user_name": "user"}
    sizes = Sizes({}, heads, {"item": 10_000, "user": 50}, {}, 0, values)
    assert own_values(sizes, kinds) == {"item_cats": (7_245, 10_000), "user_name": (50, 50)}
    metrics.rows.clear()
    report(sizes, kinds)
    assert "item_cats has 7245 values among 10000 items: nearly every one has its own" in caplog.text
    assert ("own_values", 2.0) in [row[:2] for row in metrics.rows]
