"""A quote that nobody closes takes the lines after it: each of them counts as malformed, in a night and in `look`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from jobs.configuration.sections import SourceTable
from jobs.events.look import main
from jobs.events.looking.sample import take
from jobs.events.places import SourceError
from jobs.events.read_events import columns_of
from jobs.events.text_rows import MALFORMED, TextSource, read_batches, read_rows
from jobs.program import JobError
from tests.jobs.events.night import Sandbox

HEADER = "user_id,item_id,behavior,event_time"
ROWS = 20_000


def lines_of(n: int = ROWS) -> list[str]:
    """Of one length, events of five days."""
    return [f"u{k:05d},i{k:05d},view,2026-01-{6 + k % 5:02d} 12:00" for k in range(n)]


def written(folder: Path, lines: list[str], end: str = "\n") -> str:
    (folder / "events.csv").write_text(end.join([HEADER, *lines]) + end, newline="")
    return str(folder / "events.csv")


def problems_of(file: str, delimiter: str = ",") -> list[str | None]:
    return [problem for problem, _ in read_rows(file, TextSource("csv", {}, delimiter))]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CR LF"])
@pytest.mark.parametrize("at", [0, 9_000, ROWS - 50, ROWS - 1], ids=["first", "in the midst", "near the end", "last"])
def test_every_line_of_an_unclosed_quote_counts(at: int, end: str, tmp_path: Path) -> None:
    """As far as the parser's limit of 128 KiB, or to the end of the file where that comes first."""
    lines = lines_of()
    taken = min(ROWS - at, 1 + csv.field_size_limit() // len(lines[at] + end))
    lines[at] = '"' + lines[at]
    file = written(tmp_path, lines, end)
    found = problems_of(file)
    assert len(found) == ROWS, "a line is missed"
    assert found == [None] * at + [MALFORMED] * taken + [None] * (ROWS - at - taken)
    batches = read_batches(file, "events.csv", TextSource("csv", {"user_id": "user_id"}))
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["row_number"] for row in rows] == list(range(1, ROWS + 1))
    assert all(row["user_id"] == f"u{n:05d}" for n, row in enumerate(rows) if not row["problem"])


@pytest.mark.parametrize("delimiter", [",", "\t"], ids=["CSV", "TSV"])
def test_two_stray_quotes_far_apart_lose_no_line(delimiter: str, tmp_path: Path) -> None:
    """The second closes the first: a row of one field, over many lines."""
    lines = lines_of(1000)
    lines[100], lines[900] = '"' + lines[100], lines[900] + '"'
    file = Path(written(tmp_path, lines))
    file.write_text(file.read_text().replace(",", delimiter))
    found = problems_of(str(file), delimiter)
    assert len(found) == 1000 and found.count(MALFORMED) == 801


def test_fields_over_several_lines_are_one_row_each(tmp_path: Path) -> None:
    lines = ['"a\n\n""b""",i,view,2026-01-07 12:00', "", 'u,"x\r\ny",view,2026-01-07 12:00', "u,i", "u,i,view,\"\""]
    rows = list(read_rows(written(tmp_path, lines), TextSource("csv", {})))
    assert [problem for problem, _ in rows] == [None, None, MALFORMED, None]
    assert (rows[0][1]["user_id"], rows[1][1]["item_id"], rows[3][1]["event_time"]) == ('a\n\n"b"', "x\r\ny", None)


@pytest.mark.parametrize("name", ['"user_id', '"user"_id'], ids=["unclosed", "closed within a name"])
def test_a_stray_quote_among_the_names_is_one_message(name: str, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("\n".join([HEADER.replace("user_id", name), *lines_of(10)]))
    source = SourceTable(str(tmp_path / "events.csv"), "csv")
    for read in (lambda: columns_of(source, [source.path]), lambda: take(source, "source.events")):
        with pytest.raises(SourceError, match="events.csv has no readable header .*Check that it is a CSV"):
            read()


def test_a_night_of_a_stray_quote_stops_and_look_counts_alike(sandbox: Sandbox, capsys) -> None:
    lines = lines_of()
    lines[9_000] = '"' + lines[9_000]
    file = written(sandbox.folder, lines)
    assert main(["--source", file]) == 0
    looked = capsys.readouterr().out
    gone = problems_of(file).count(MALFORMED)
    assert f"rejected: {gone:,} of {ROWS:,} rows" in looked and f"malformed line: {gone:,}" in looked
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    sandbox.events["max_rejected_share"] = 0.01
    with pytest.raises(JobError, match=MALFORMED):
        sandbox.run()
    sandbox.events["max_rejected_share"] = 1.0
    figures = sandbox.run()
    assert (figures["rows_in"], figures["rows_rejected"]) == (ROWS, gone)
    assert figures["rejected_by_reason"] == {MALFORMED: gone}
