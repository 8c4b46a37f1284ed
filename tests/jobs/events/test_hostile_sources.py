"""Names and values that nobody would choose: messages and `look` stay plain lines, and nothing is read that is no file
of the source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from jobs.configuration.sections import SourceTable
from jobs.events.files import statuses
from jobs.events.fingerprint import require_unchanged
from jobs.events.lake_tables import files_of
from jobs.events.look import main
from jobs.events.places import SourceError, find_files
from jobs.program import JobError, MayPass
from tests.jobs.events.test_lake_tables import Delta, Iceberg, rows_of

HEADER, ROW = "user_id,item_id,behavior,event_time", "u,i,view,2026-01-07 12:00:00"
NAMES = ["red\x1b[31m", "two\nlines", "left\u202eright", "bell\x07", "next\x85line", "line\u2028separator", "\udcff"]


def looked(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, str]:
    status = main(["--source", *map(str, paths)])
    out = capsys.readouterr()
    return status, out.out + out.err


def is_plain(text: str) -> bool:
    return text.replace("\n", "").isprintable()


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_look_prints_names_of_folders_files_and_columns_plainly(name: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / name
    folder.mkdir()
    column = name.replace("\udcff", "q\x9b")
    lines = [f'{HEADER},"{column}"', f'{ROW},"{column}|a"', f'u,i,"{column}",2026-01-07 12:00:00,"a|<b>"']
    (folder / f"{name}.csv").write_text("\n".join(lines))
    (folder / f"{name}.txt").write_text("")
    status, text = looked(capsys, folder / f"{name}.csv", folder / f"{name}.txt")
    assert status == 0 and is_plain(text) and "rejected: none" in text and "it is empty" in text
    settings = yaml.safe_load(text[text.index("# A configuration to start from"):])
    assert len(settings["events"]["behaviors"]) == 2
    if name != "\udcff":  # which no YAML holds
        assert settings["source"]["events"]["path"] == str(folder / f"{name}.csv")
    status, text = looked(capsys, folder / "nowhere.csv")
    assert status == 1 and is_plain(text) and text.count("\n") == 1


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_messages_on_sources_are_one_plain_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.parquet"
    file.write_bytes(b"nothing")
    for read in (lambda: files_of(SourceTable(str(tmp_path / f"{name}.csv"), "csv"), "source.events"),
                 lambda: pq_of(file), lambda: find_files(str(tmp_path / name / "x"), "csv")):
        with pytest.raises(JobError) as error:
            read()
        assert str(error.value).isprintable()
    before = statuses([str(file)])
    file.write_bytes(b"something else")
    with pytest.raises(MayPass) as error:
        require_unchanged(before)
    assert str(error.value).isprintable()


def pq_of(file: Path) -> None:
    from jobs.events.damage import check_parquet

    check_parquet(str(file))


def test_look_counts_numbers_of_any_length(tmp_path: Path, capsys) -> None:
    long = "9" * 5000
    lines = [f"{HEADER},value", f"{ROW},{long}", f"{ROW},{long}.5", f"u,i,view,{long},1", f"{ROW},1e99"]
    lines += [f"{ROW},1"] * 40
    (tmp_path / "long.csv").write_text("\n".join(lines))
    status, text = looked(capsys, tmp_path / "long.csv")
    assert status == 0 and "value is not finite: 3" in text and "unparseable event_time: 1" in text
    (tmp_path / "cell.csv").write_text("\n".join([HEADER, ROW, f"{'x' * 200_000},i,view,2026-01-07 12:00:00", ROW]))
    status, text = looked(capsys, tmp_path / "cell.csv")
    assert status == 0 and "1 of 3 rows, 33.3%: malformed line: 1" in text


def test_look_takes_of_a_folder_what_a_night_takes(tmp_path: Path) -> None:
    """No pipe, which would be waited for, and nothing that is hidden; links into circles end."""
    for folder in ("log", "log/_temporary", "elsewhere"):
        (tmp_path / folder).mkdir()
    for file in ("log/a.csv", "log/_temporary/b.csv", "elsewhere/c.csv"):
        (tmp_path / file).write_text(f"{HEADER}\n{ROW}\n")
    os.mkfifo(tmp_path / "log/pipe.csv")
    (tmp_path / "log/again").symlink_to(tmp_path / "log")
    (tmp_path / "log/linked").symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-m", "jobs.events.look", "--source", str(tmp_path / "log")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "csv, 2 files" in found.stdout and "view 2" in found.stdout


OUTSIDE = {
    "above": "../secret.parquet", "escaped": "..%2Fsecret.parquet", "roundabout": "x/../../secret.parquet",
    "absolute": "{folder}/secret.parquet", "an address": "file://{folder}/secret.parquet",
    "beside, by the same beginning": "../delta table of others/secret.parquet"}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_log_reaches_no_file_outside_its_tables_folder(name: str, tmp_path: Path) -> None:
    lake = Delta(tmp_path)
    lake.write(rows_of("a"))
    (tmp_path / "delta table of others").mkdir()
    for folder in (tmp_path, tmp_path / "delta table of others"):
        pq.write_table(rows_of("s"), folder / "secret.parquet")
    log = lake.path / "_delta_log/00000000000000000000.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"]["path"] = OUTSIDE[name].format(folder=str(tmp_path))
    log.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(SourceError, match="1 of the 1 files of version 0 lie outside the table's folder"):
        files_of(SourceTable(str(lake.path), "delta"), "source.events")


def test_a_table_of_iceberg_that_was_moved_is_not_read_at_its_former_place(tmp_path: Path) -> None:
    lake = Iceberg(tmp_path)
    lake.write(rows_of("a"))
    assert len(files_of(SourceTable(str(lake.path), "iceberg"), "source.events")) == 1
    link = tmp_path / "link"
    link.symlink_to(lake.path)
    assert len(files_of(SourceTable(str(link), "iceberg"), "source.events")) == 1, "a link is the table"
    copied = tmp_path / "copied"
    subprocess.run(["cp", "-r", str(lake.path), str(copied)], check=True)
    with pytest.raises(SourceError, match="lie outside the table's folder.*a table that was moved"):
        files_of(SourceTable(str(copied), "iceberg"), "source.events")
