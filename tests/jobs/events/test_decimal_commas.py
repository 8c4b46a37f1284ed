"""Numbers in texts with a decimal comma: of events, of attributes and labels, and as `look` proposes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from pyspark.errors import SparkRuntimeException
from pyspark.sql import functions as F

from jobs.configuration.load import load_settings
from jobs.events.look import main as look
from jobs.events.looking.column_kinds import look_at
from jobs.events.looking.plain_judge import judged, no_numbers
from jobs.events.looking.sample import take
from jobs.graphs.catalogue import as_number
from tests.jobs.events.night import Sandbox, event, every_day

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HEADER = "user_id;item_id;behavior;event_time;quantity;value"


def test_of_events(sandbox: Sandbox) -> None:
    """A point is no decimal's there: what it means is not guessed."""
    sandbox.source |= {"path": "events.csv", "format": "csv", "delimiter": ";", "decimal": ","}
    values = ["12,50", "3", "-0,25", "1.234,5", "1,2,3", "12.5", ""]
    lines = [f"u{n};i;view;2026-01-07 12:00:00;1,0;{value}" for n, value in enumerate(values)]
    sandbox.write_lines([HEADER, *lines], "events.csv")
    figures = sandbox.run()
    assert figures["rejected_by_reason"] == {"value is no number": 3}
    assert {row["user_id"]: row["value"] for row in sandbox.clean()} == {"u0": 12.5, "u1": 3, "u2": -0.25, "u6": None}
    settings = load_settings(sandbox.config_file())
    found = judged(take(settings.source.events, ""), settings.events, settings.graph.purchase)
    assert dict(found.reasons) == figures["rejected_by_reason"], "look counts them alike"


def test_numbers_that_are_no_texts_are_what_they_are(sandbox: Sandbox) -> None:
    sandbox.source |= {"decimal": ","}
    sandbox.write_parquet([*every_day(), event("u", 7, value=2.5)])
    assert sandbox.run()["rows_rejected"] == 0 and 2.5 in {row["value"] for row in sandbox.clean()}


@pytest.mark.parametrize(("decimal", "text", "number"), [(",", " 12,5 ", 12.5), (".", "12.5", 12.5), (",", "", None)])
def test_of_attributes(spark: SparkSession, decimal: str, text: str, number: float | None) -> None:
    frame = spark.createDataFrame([(text,)], "price string")
    assert frame.select(as_number(F.col("price"), "string", "there", decimal)).first()[0] == number


@pytest.mark.parametrize(("decimal", "text"), [(".", "12,5"), (",", "12.5"), (",", "1.234,5")])
def test_of_attributes_the_other_way_stops_the_job(spark: SparkSession, decimal: str, text: str) -> None:
    frame = spark.createDataFrame([(text,)], "price string")
    with pytest.raises(SparkRuntimeException, match="say how its numbers are written"):
        frame.select(as_number(F.col("price"), "string", "there", decimal)).collect()


@pytest.mark.parametrize(("decimal", "wrong"), [(".", ["12,5", "many"]), (",", ["12.5", "many"])])
def test_attributes_that_would_stop_a_night_are_told(decimal: str, wrong: list[str]) -> None:
    assert no_numbers(["12,5", " 3 ", "", 2.5, None, "12.5", "many"], decimal) == wrong


@pytest.mark.parametrize(("texts", "decimal"), [
    ([f"{n},{n % 10}5" for n in range(50)], ","), ([f"{n},{n:03d}" for n in range(1, 51)], "."),
    ([str(n) for n in range(50)], "."), ([f"{n / 4}" for n in range(50)], ".")])
def test_what_look_takes_for_a_decimal_comma(texts: list[str], decimal: str) -> None:
    """Three digits behind a comma may be thousands."""
    assert look_at(texts).decimal == decimal and (decimal == "." or look_at(texts).kind == "number")


def test_look_proposes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"u{n};i{n % 7};{n},{n % 10}5;2026-01-{1 + n % 28:02d} 10:00:00" for n in range(60)]
    (tmp_path / "buy.csv").write_text("\n".join(["user;item;price;ts", *rows]) + "\n")
    assert look(["--source", str(tmp_path / "buy.csv")]) == 0
    said = capsys.readouterr().out
    tree = yaml.safe_load(said[said.index("# A configuration"):])
    assert tree["source"]["events"]["decimal"] == "," and "is no number" not in said
