"""Columns of one name: what is read stands once, or its file is named; what nobody reads may stand as often as it
likes, but in Parquet, which Spark does not open."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import Attribute, SourceTable
from jobs.events.look import main
from jobs.events.names_twice import names_twice
from jobs.events.places import SourceError
from jobs.events.read_events import check_parquet_columns, columns_of
from jobs.events.read_source import read_entities
from jobs.graphs.catalogue import Kind, read_catalogue
from tests.jobs.events.night import DATE, Sandbox

HEADER = "user_id,item_id,behavior,event_time"
ROWS = [f"u{n},i{n},view,2026-01-{day:02d} 12:00:00" for day in range(6, 11) for n in (1, 2)]


def csv_of(folder: Path, more: str, name: str = "events.csv") -> SourceTable:
    """Events, and columns of these names beside, each with a value of its own."""
    more_cells = "".join(f",x{k}" for k in range(more.count(",") + 1))
    (folder / name).write_text("\n".join([f"{HEADER},{more}", *(row + more_cells for row in ROWS)]) + "\n")
    return SourceTable(str(folder / name), "csv")


def parquet_of(folder: Path, more: list[str]) -> SourceTable:
    names = [*HEADER.split(","), *more]
    columns = [pa.array(["2026-01-07 12:00:00" if name == "event_time" else name]) for name in names]
    pq.write_table(pa.Table.from_arrays(columns, names=names), folder / "events.parquet")
    return SourceTable(str(folder / "events.parquet"))


def test_names_that_stand_more_than_once() -> None:
    assert names_twice(["a", "b", "A", "b", "b"]) == ["b"]
    assert names_twice(["a", "b", "A", "b"], str.lower) == ["a", "b", "A"]


@pytest.mark.parametrize("name", ["user_id", "value"], ids=["required", "optional"])
def test_events_of_which_a_column_that_is_read_stands_twice_stop_the_night(name: str, sandbox: Sandbox) -> None:
    csv_of(sandbox.folder, "value,value" if name == "value" else name)
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    said = rf"events.csv has 2 columns of the name '{name}' \(our '{name}'\); expected one.*source.\*.columns.{name}"
    with pytest.raises(SourceError, match=said):
        sandbox.run()
    assert sandbox.manifests() == {}


def test_a_mapped_column_is_looked_for_by_the_sources_name_and_in_every_file(tmp_path: Path) -> None:
    csv_of(tmp_path, "shop")
    csv_of(tmp_path, "shop,shop", "later.csv")
    files = [str(tmp_path / name) for name in ("events.csv", "later.csv")]
    assert columns_of(SourceTable(str(tmp_path), "csv"), files)["user_id"] == "user_id"
    with pytest.raises(SourceError, match=r"later.csv has 2 columns of the name 'shop' \(our 'event_id'\)"):
        columns_of(SourceTable(str(tmp_path), "csv", {"event_id": "shop"}), files)


def test_what_nobody_reads_may_stand_twice_in_a_csv(sandbox: Sandbox) -> None:
    csv_of(sandbox.folder, "shop,shop,Shop,,")
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    assert sandbox.run()["rows_out"] == len(ROWS)


@pytest.mark.parametrize(("more", "said"), [
    (["user_id"], r"events.parquet has 2 columns of the name 'user_id' \(our 'user_id'\); expected one"),
    (["User_ID"], r"2 columns of the name 'user_id' \(our 'user_id'\), as 'user_id', 'User_ID'; expected one"),
    (["shop", "shop"], "events.parquet has several columns of one name, capitals or not: 'shop'; expected each once"),
    (["shop", "Shop"], "several columns of one name, capitals or not: 'shop', 'Shop'; expected each once"),
])
def test_parquet_with_two_columns_of_one_name_is_one_message(
    more: list[str], said: str, tmp_path: Path, spark
) -> None:
    source = parquet_of(tmp_path, more)
    columns = columns_of(source, [source.path])
    reads = (lambda: check_parquet_columns([source.path], columns), lambda: read_entities(spark, source, "user_id"))
    for read in reads:
        with pytest.raises(SourceError, match=said):
            read()


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"], ids=["by Spark", "by ourselves"])
def test_an_attribute_that_stands_twice_is_one_message(encoding: str, tmp_path: Path, spark) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,brand,colour,brand,valid_from\ni1,a,red,b,2026-01-01\n")

    def of(name: str) -> Kind:
        return Kind("item", SourceTable(str(items), "csv", encoding=encoding), {name: Attribute()})

    (row,) = read_catalogue(spark, of("colour"), DATE).frame.collect()
    assert row["values"].colour == "red"
    with pytest.raises(SourceError, match=r"items.csv has 2 columns of the name 'brand' \(our 'brand'\); expected one"):
        read_catalogue(spark, of("brand"), DATE)
    items.write_text("item_id,colour,valid_from,Valid_From\ni1,red,2026-01-01,2027-01-01\n")
    with pytest.raises(SourceError, match=r"2 columns of the name 'valid_from' .*as 'valid_from', 'Valid_From'"):
        read_catalogue(spark, of("colour"), DATE)


def test_look_says_that_a_name_stands_twice(tmp_path: Path, capsys) -> None:
    for more, said in (("shop,shop", "rejected: none"), ("user_id", "cannot be read so: ")):
        assert main(["--source", csv_of(tmp_path, more).path]) == 0
        shown = capsys.readouterr().out
        name = more.split(",")[0]
        assert f"'{name}' stands more than once among the names" in shown and said in shown
        assert "no names of columns" not in shown and "# A configuration to start from" in shown
    (tmp_path / "values.csv").write_text("anna,bert,anna\nbert,anna,carl\n")
    main(["--source", str(tmp_path / "values.csv")])
    assert "its first line has no names of columns but values" in capsys.readouterr().out
