"""CSV cells: no formula survives, every id comes back."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest

from jobs.audiences.spreadsheet import plain, safe, to_csv

HOSTILE = [
    "=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1",
    "'=1", "'", "''x", "  =1", 'a"b', "a,b", "line\nbreak", "", "plain", "../../x", "\u202eabc", "é"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_begins_a_formula_and_the_text_comes_back(text: str) -> None:
    cell = safe(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "＝"))
    assert not cell.startswith(("\t", "\r", "\n"))
    assert plain(cell) == text


def test_texts_that_harm_nothing_stay_as_they_are() -> None:
    assert [safe(text) for text in ("plain", "12", "a=b", "é")] == ["plain", "12", "a=b", "é"]


def test_a_table_survives_as_csv() -> None:
    table = pa.table({"rank": pa.array(range(len(HOSTILE)), pa.int32()), "user_id": HOSTILE})
    rows = list(csv.reader(io.StringIO(to_csv(table).decode(), newline="")))
    assert rows[0] == ["rank", "user_id"]
    assert [plain(row[1]) for row in rows[1:]] == HOSTILE
