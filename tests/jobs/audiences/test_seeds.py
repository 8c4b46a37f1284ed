"""Seed files in three formats, and what of them is known."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.spreadsheet import to_csv
from jobs.audiences.seeds import match, read_days, read_seeds
from jobs.program import JobError

IDS = ["u1", " u2", "=u3", 'q"u4', "é5"]


def written(folder: Path) -> dict[str, Path]:
    text, table, own, parquet = (folder / name for name in ("seeds.txt", "seeds.csv", "own.csv", "seeds.parquet"))
    text.write_bytes("\r\n".join([*IDS, "u1", ""]).encode())
    table.write_text('name,user_id\nx,u1\nx," u2"\nx,=u3\nx,"q""u4"\nx,é5\n', encoding="utf-8")
    own.write_bytes(to_csv(pa.table({"rank": range(5), "user_id": IDS})))
    pq.write_table(pa.table({"other": [1] * 5, "user_id": IDS}), parquet)
    return {path.name: path for path in (text, table, own, parquet)}


@pytest.mark.parametrize("name", ["seeds.txt", "seeds.csv", "seeds.parquet"])
def test_ids_are_read_as_they_stand_and_once(name: str, tmp_path: Path) -> None:
    assert read_seeds(written(tmp_path)[name]).to_pylist() == IDS


def test_our_own_csv_matches_although_its_cells_are_made_safe(tmp_path: Path) -> None:
    known = pa.array([*IDS, "u9"], pa.large_string())
    found = match(read_seeds(written(tmp_path)["own.csv"]), known, pa.array(["u1", "=u3"], pa.large_string()))
    assert (set(found.known.to_pylist()), found.given, found.active) == (set(IDS), 5, 2)


def test_unknown_ids_are_counted(tmp_path: Path) -> None:
    given, known, active = (pa.array(ids, pa.large_string()) for ids in (["u1", "nobody", "'nobody"], ["u1"], []))
    found = match(given, known, active)
    assert (found.known.to_pylist(), found.given, found.active) == (["u1"], 3, 0)
    assert found.rate == pytest.approx(1 / 3)


def test_a_csv_without_header_is_its_first_column(tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("u1,x\nu2,y\n")
    assert read_seeds(path).to_pylist() == ["u1", "u2"]


@pytest.mark.parametrize("before", ["\n\r\n", "sep=,\r\n", "\ufeffsep=,\n"])
def test_lines_before_the_header_are_none_of_the_list(before: str, tmp_path: Path) -> None:
    path = tmp_path / "exported.csv"
    path.write_bytes(f"{before}name,user_id,event_time\r\nx,u1,2026-01-05\r\n\r\ny,u2,\r\n".encode())
    assert read_seeds(path).to_pylist() == ["u1", "u2"]
    assert read_days(path) == {"u1": datetime.date(2026, 1, 5)}
    path.write_bytes(before.replace(",", ";").encode() + b"name;user_id\nx;u1\n")
    with pytest.raises(JobError, match="columns separated by ';'"):
        read_seeds(path)


def test_empty_cells_above_the_header_are_none_of_the_list(tmp_path: Path) -> None:
    """As spreadsheets write an empty row: were it the header, the first column would be taken for the ids."""
    (tmp_path / "list.csv").write_text(",,\nname,user_id,event_time\nx,u1,2026-01-05\n,,\n")
    assert read_seeds(tmp_path / "list.csv").to_pylist() == ["u1"]
    assert read_days(tmp_path / "list.csv") == {"u1": datetime.date(2026, 1, 5)}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_of_text_end_as_each_system_ends_them(ending: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(ending.join(["u1", " u2", "u3", ""]).encode())
    assert read_seeds(tmp_path / "list.txt").to_pylist() == ["u1", " u2", "u3"]


def test_days_stand_beside_ids_under_any_name(tmp_path: Path) -> None:
    rows = {"customer": ["u1", "u2"], "event_time": ["2026-01-05", "2026-01-07"]}
    pq.write_table(pa.table(rows), tmp_path / "of.parquet")
    (tmp_path / "of.csv").write_text("customer,event_time\nu1,2026-01-05\nu2,2026-01-07\n")
    for path in (tmp_path / "of.parquet", tmp_path / "of.csv"):
        assert read_seeds(path).to_pylist() == ["u1", "u2"]
        assert read_days(path) == {"u1": datetime.date(2026, 1, 5), "u2": datetime.date(2026, 1, 7)}


@pytest.mark.parametrize(
    ("ids", "days"), [("User_ID", "Event_Time"), (" user_id", "event_time "), ("user_id", " event_time")])
def test_blanks_and_capitals_of_names_say_nothing(ids: str, days: str, tmp_path: Path) -> None:
    """Else days that a list has would be lost without a word, and what made users seeds be learned."""
    columns = {"why": ["wrote"], ids: ["u1"], days: ["2026-01-05"]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text(f"why,{ids},{days}\nwrote,u1,2026-01-05\n")
    for path in (tmp_path / "list.parquet", tmp_path / "list.csv"):
        assert read_seeds(path).to_pylist() == ["u1"] and read_days(path) == {"u1": datetime.date(2026, 1, 5)}


@pytest.mark.parametrize("name", ["UserId", "user-id", "USER ID"])
def test_a_name_that_is_nearly_that_of_the_ids_is_no_other_column(name: str, tmp_path: Path) -> None:
    """Else names would be compared with ids, and whoever is on a list of opt-outs would be mailed."""
    pq.write_table(pa.table({"why": ["wrote"], name: ["u1"]}), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text(f"why,{name}\nwrote,u1\n")
    for path in (tmp_path / "list.parquet", tmp_path / "list.csv"):
        with pytest.raises(JobError, match=f"has a column '{name}', which is not 'user_id'.*Call the column of ids"):
            read_seeds(path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="Nothing to read at .*none.txt, which the parameter seeds names"):
        read_seeds(tmp_path / "none.txt")
    pq.write_table(pa.table({"user_id": [["u1"]]}), tmp_path / "lists.parquet")
    with pytest.raises(JobError, match="cannot be read as .parquet"):
        read_seeds(tmp_path / "lists.parquet")
    broken = {
        "broken.parquet": (b"no parquet", "broken.parquet is no readable Parquet"),
        "latin.txt": (b"u1\n\xff\xff", "latin.txt cannot be read"), "empty.csv": (b"", "empty.csv holds no user id"),
        "wide.txt": ("u1\n".encode("utf-16"), "wide.txt is UTF-16 text; expected CSV in UTF-8")}
    for name, (content, message) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(JobError, match=message):
            read_seeds(tmp_path / name)


@pytest.mark.parametrize("header", ["user_id\twhy", "why,user_id", '"why";"user_id"', "since | user_id\r"])
@pytest.mark.parametrize("name", ["opted_out.tsv", "opted_out.txt", "opted_out"])
def test_a_table_under_another_name_is_not_taken_for_an_id_a_line(name: str, header: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"\n{header}\nu1\twrote to us\n", encoding="utf-8")
    wanted = r"has columns separated by .*, user_id among them.*Write it with commas and name it \.csv, or"
    with pytest.raises(JobError, match=f"{name} {wanted}"):
        read_seeds(tmp_path / name)


def test_ids_with_such_marks_are_ids_all_the_same(tmp_path: Path) -> None:
    ids = ["a,b", "user_id", "c\td", "[e]", "{f}", "g|user_id"]
    (tmp_path / "seeds.txt").write_text("\n".join(ids), encoding="utf-8")
    assert read_seeds(tmp_path / "seeds.txt").to_pylist() == ids


OTHER_FORMATS = {
    "ids.json": b'["u1", "u2"]', "lines.jsonl": b'{"user_id": "u1"}\n', "pretty.json": b'[\n  {\n "user_id": "u1"}]',
    "numbers.json": b"[1, 2,\n 3]",
    "json.csv": b'["u1"]', "sheet.xlsx": b"PK\x03\x04\x14\x00\x06\x00", "sheet.parquet": b"PK\x03\x04" * 4}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_a_list_of_another_format_is_refused_with_advice_for_a_list(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(OTHER_FORMATS[name])
    kind = "JSON" if "json" in name else "ZIP or Excel"
    with pytest.raises(JobError, match=f"is {kind}.*write it as one id a line, or as CSV") as refused:
        read_seeds(tmp_path / name)
    assert "source." not in str(refused.value), "a setting that no list has"


def test_seeds_of_a_lake_table_are_refused_and_damage_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "lake/_delta_log").mkdir(parents=True)
    pq.write_table(pa.table({"user_id": IDS}), tmp_path / "lake/part[0].parquet")
    with pytest.raises(JobError, match="lake is a table of Delta"):
        read_seeds(tmp_path / "lake/part[0].parquet")
    (tmp_path / "lake/_delta_log").rmdir()
    assert read_seeds(tmp_path / "lake/part[0].parquet").to_pylist() == IDS, "a name with brackets is that file"
    many = tmp_path / "many.parquet"
    pq.write_table(pa.table({"user_id": [f"u{n}" for n in range(3000)]}), many, write_page_checksum=True)
    content = bytearray(many.read_bytes())
    content[len(content) // 2] ^= 4
    many.write_bytes(content)
    with pytest.raises(JobError, match="many.parquet is damaged"):
        read_seeds(many)


def test_an_id_that_begins_like_json_is_an_id(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text('["weird\n{"u2\n' + "[" * 5000, encoding="utf-8")
    assert read_seeds(tmp_path / "ids.txt").to_pylist()[:2] == ['["weird', '{"u2']
