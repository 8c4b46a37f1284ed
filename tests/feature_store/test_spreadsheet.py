"""CSV cells: no formula survives, whatever the lines are cut at, and every id comes back."""

import csv
import datetime
import io
import re
import unicodedata

import pyarrow as pa
import pytest

from feature_store.spreadsheet import plain, safe, to_csv

HOSTILE = [
    "=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "\ufe661", "\u22121",
    "'=1", "'", "''x", "  =1", 'a"b', "a,b", "line\nbreak", "", "plain", "../../x", "\u202eabc", "é",
    "x;=1+cmd|' /C calc'!A0;y", "x\n=1", "x\r\n@y", "x\t+1", "x,=1", ";=1", ";;=1", "x;'=1", "x;'", "x;\"=1\"", '"=1"',
    '"";=1',
    "\u200b=1", "\ufeff=1", "\u00ad=1", "\u3164=1", "\u2800=1", "\ufe0f=1", "\u00a0=1", "x;\u200b\u2060 =1", "\x00=1",
    "|=1", ",", ";", "\t", "\n", "\r\n", " ", "';'", "a;b", "1;2", "-", "x\u2028=1",
]  # fmt: skip
FORMULA = re.compile("[=+\\-@\u2212]")


def _seen(cell: str) -> str:
    """What a spreadsheet may take for the cell's beginning."""
    blank = '"\u115f\u1160\u2800\u3164\uffa0'
    return (
        unicodedata.normalize("NFKC", cell)
        .lstrip()
        .lstrip("".join(c for c in cell if unicodedata.category(c)[0] in "CZM" or c in blank))
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_part_of_a_cell_begins_a_formula_and_the_text_comes_back(text: str) -> None:
    cell = safe(text)
    assert plain(cell) == text
    assert not cell.startswith(("\t", "\r", "\n"))
    for part in re.split("[,;\t\r\n|\u2028]", cell):
        assert not FORMULA.match(_seen(part)), part


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_no_cell_of_a_file_begins_a_formula_wherever_its_lines_are_cut(delimiter: str) -> None:
    content = to_csv(pa.table({"user_id": HOSTILE, "rank": range(len(HOSTILE)), "again": HOSTILE})).decode()
    for text in (content, content.replace('"', "")):
        for line in text.replace("\r", "\n").split("\n"):
            for row in csv.reader([line.replace("\x00", "")], delimiter=delimiter):
                assert not [cell for cell in row if FORMULA.match(_seen(cell))], row


def test_texts_that_harm_nothing_stay_as_they_are() -> None:
    assert [safe(text) for text in ("plain", "12", "a=b", "é", "a;b", "x y")] == [
        "plain",
        "12",
        "a=b",
        "é",
        "a;b",
        "x y",
    ]


def test_a_table_survives_as_csv_and_numbers_are_numbers() -> None:
    numbers = [-0.5, 1e-9, None] * (len(HOSTILE) // 3) + [0.0] * (len(HOSTILE) % 3)
    moment = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
    rows = pa.table({
        "rank": pa.array(range(len(HOSTILE)), pa.int32()), "user_id": HOSTILE, "score": numbers,
        "at": [moment] * len(HOSTILE), "vector": [[-0.5, 2.0]] * len(HOSTILE), "yes": [True] * len(HOSTILE),
    })  # fmt: skip
    content = to_csv(rows).decode()
    found = list(csv.reader(io.StringIO(content, newline="")))
    assert found[0] == rows.column_names
    assert [plain(row[1]) for row in found[1:]] == HOSTILE
    assert [float(row[2]) if row[2] else None for row in found[1:]] == numbers
    assert content.split("\r\n")[1] == '0,"\'=1+1",-0.5,"2026-01-05T00:00:00+00:00","-0.5 2.0","true"'


def test_a_table_without_rows_has_its_header() -> None:
    assert to_csv(pa.table({"user_id": pa.array([], pa.string())})) == b'"user_id"\r\n'
