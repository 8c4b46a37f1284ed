"""Suppression lists and control groups: who is taken out, byte for byte, and who is drawn, whatever the score."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Segments
from feature_store.spreadsheet import to_csv
from jobs.audiences.campaign import Campaign, campaign_of, known_among, read_lists
from jobs.audiences.population import never_trained_on
from jobs.audiences.score_lookalike import best
from jobs.configuration.sections import Campaign as Settings
from jobs.configuration.sections import Lookalike
from jobs.program import Input, JobError, is_final
from jobs.tables import TABLES

HOSTILE = [
    "u1", " u1", "u1 ", "U1", "=u1", "'=u1", "é5", unicodedata.normalize("NFD", "é5"), 'q"u4', "a,b", "a;b\tc",
    "\u202etfel", "<script>", "../../etc", "user_id", "007", "7", "-1", "'", "x" * 1024]  # fmt: skip
OUT = [" u1", "=u1", "é5", 'q"u4', "a,b", "\u202etfel", "007", "'", "x" * 1024]


def write(path: Path, ids: list[str]) -> Path:
    """As the name's ending says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"other": range(len(ids)), "user_id": ids}), path)
    elif path.suffix == ".csv":
        cells = ['"{}"'.format(one.replace('"', '""')) for one in ids]
        path.write_text("\n".join(["why,user_id", *(f"asked,{cell}" for cell in cells)]), encoding="utf-8")
    else:
        path.write_bytes("\r\n".join([*ids, ""]).encode())
    return path


def ledger(root: Path, ids: list[str]) -> Input:
    Segments(str(root / "entity_ids" / "user")).append(1, pa.table({"id": pa.array(range(len(ids))), "raw": ids}))
    return Input("entity_ids", str(root / "entity_ids"))


def left_out(look: Lookalike, root: Path, users: list[str], client: str | None = "acme") -> set[str]:
    """Of these users, those who are in none of the client's audiences."""
    lists = read_lists(look, [client] if client else [])
    lists = known_among(lists, ledger(root, users[::2]), [pa.chunked_array([users])])
    allowed = campaign_of(look, client, lists, 0, "seeds").may_be_in(pa.chunked_array([users]))
    return {user for user, may in zip(users, allowed, strict=True) if not may}


@pytest.mark.parametrize("name", ["opt_outs.txt", "opt_outs.csv", "opt_outs.parquet", "opt_outs"])
def test_those_on_the_list_are_out_byte_for_byte(tmp_path: Path, name: str) -> None:
    """Every second one has no event that the graph takes in, and is in no ledger."""
    path = write(tmp_path / name, [*OUT, "nobody", OUT[0]])
    assert left_out(Lookalike(suppress=str(path)), tmp_path, HOSTILE) == set(OUT)


def test_a_csv_of_ours_is_a_list(tmp_path: Path) -> None:
    """Its cells are made safe; where a cell is the id of somebody it is meant as it stands."""
    path = tmp_path / "part-00001-acme-control.csv"
    path.write_bytes(to_csv(pa.table({"rank": range(3), "user_id": ["=u1", "-1", "u1"]})))
    assert left_out(Lookalike(suppress=str(path)), tmp_path / "a", ["=u1", "-1", "u1", "1"]) == {"=u1", "-1", "u1"}
    assert left_out(Lookalike(suppress=str(path)), tmp_path / "b", ["'=u1", "=u1", "-1"]) == {"'=u1", "-1"}


def test_a_client_has_the_list_of_all_and_its_own(tmp_path: Path) -> None:
    everybody, own = write(tmp_path / "all.txt", ["a"]), write(tmp_path / "own.csv", ["b"])
    look = Lookalike(suppress=str(everybody), campaigns={"acme": Settings(suppress=str(own)), "dune": Settings()})
    users = ["a", "b", "c"]
    assert left_out(look, tmp_path / "1", users, "acme") == {"a", "b"}
    assert left_out(look, tmp_path / "2", users, "dune") == {"a"} == left_out(look, tmp_path / "3", users, None)
    assert left_out(Lookalike(), tmp_path / "4", users) == set()


BROKEN: dict[str, tuple[bytes | None, str]] = {
    "missing.txt": (None, "Nothing to read at"), "empty.txt": (b"", "holds no user id"),
    "blank.csv": (b"\r\n", "holds no user id"), "empty.csv": (b"", "holds no user id"),
    "nulls.csv": (b"user_id\n\"\"\n", "holds no user id"), "empty.parquet": (b"", "is empty: 0 bytes"),
    "broken.parquet": (b"PAR1 no more", "is cut off"), "latin.txt": (b"u1\n\xff", "cannot be read"),
    "wide.csv": ("user_id\nu1".encode("utf-16"), "is UTF-16 text"), "packed.csv": (b"\x1f\x8b\x08\0", "is a gzip"),
    "german.csv": (b"user_id;since\nu1;2026-01-05\n", "separated by ';'"),
    "tabs.csv": (b"\xef\xbb\xbf\"since\"\t\"user_id\"\nx\tu1\n", r"separated by '\t'")}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_list_that_cannot_be_used_is_final_and_named_by_its_key(tmp_path: Path, name: str) -> None:
    content, said = BROKEN[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    named = {
        "lookalike.suppress": Lookalike(suppress=str(path)),
        "lookalike.campaigns.acme.suppress": Lookalike(campaigns={"acme": Settings(suppress=str(path))})}  # fmt: skip
    for key, look in named.items():
        with pytest.raises(JobError) as refused:
            read_lists(look, ["acme", "dune"])
        assert key in str(refused.value) and said in str(refused.value) and name in str(refused.value)
        assert "leave the key out" in str(refused.value) and is_final(refused.value)
    with pytest.raises(JobError, match="the parameter suppress"):
        read_lists(Lookalike(), [], path)
    assert read_lists(named["lookalike.campaigns.acme.suppress"], ["dune"]) == [], "another client's is not read"


def test_a_folder_and_a_name_that_cannot_be_are_refused_too(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / ("x" * 400)):
        with pytest.raises(JobError, match=r"lookalike\.suppress"):
            read_lists(Lookalike(suppress=str(path)), [])


@pytest.mark.parametrize("name", ["nobody.csv", "nobody.parquet"])
def test_a_header_without_a_row_says_that_there_is_nobody(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if name.endswith(".csv"):
        (tmp_path / name).write_text("user_id\n", encoding="utf-8")
    else:
        pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), tmp_path / name)
    assert left_out(Lookalike(suppress=str(tmp_path / name)), tmp_path, ["u1", "u2"]) == set()
    assert "lookalike.suppress" in caplog.text and "names nobody" in caplog.text


def test_a_list_of_strangers_is_warned_of_and_a_list_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    look = Lookalike(suppress=str(write(tmp_path / "all.txt", ["A", "B", "u1 "])))
    (found,) = known_among(read_lists(look, []), ledger(tmp_path / "1", ["u1"]), [pa.chunked_array([["u2"]])])
    assert found.figures == {"key": "lookalike.suppress", "file": "all.txt", "listed": 3, "known": 0}
    assert "none of the 3 ids of all.txt is a user of the event log" in caplog.text
    (found,) = known_among(read_lists(look, []), ledger(tmp_path / "2", ["u1", "B"]), [pa.chunked_array([["A"]])])
    assert found.figures["known"] == 2 and found.read[0]["size"] == (tmp_path / "all.txt").stat().st_size


USERS = pa.array([f"u{number:05d}" for number in range(20_000)], pa.large_string())


def of(share: float, name: str = "acme", seed: int = 0) -> np.ndarray:
    look = Lookalike(control_share=0.5, campaigns={name: Settings(control_share=share)})
    return campaign_of(look, name, [], seed).in_control(USERS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_the_control_group_is_a_share(share: float) -> None:
    error = 4 * np.sqrt(share * (1 - share) / len(USERS))
    assert of(share).mean() == pytest.approx(share, abs=error)


def test_the_control_group_hangs_on_client_and_user_alone() -> None:
    some = of(0.2)
    assert (some == of(0.2)).all() and not (of(0.1) & ~some).any(), "a larger share keeps who was in it"
    for other in (of(0.2, "dune"), of(0.2, seed=1), never_trained_on(USERS, 0)):
        together = (some & other).mean() / other.mean()
        assert together == pytest.approx(0.2, abs=0.03), "independent of other draws"
    campaign = campaign_of(Lookalike(control_share=0.2), None, [], 0, "acme")
    fewer = USERS.take(pa.array(np.random.default_rng(0).permutation(len(USERS))[:500]))
    at = np.array([int(user[1:]) for user in fewer.to_pylist()])
    assert (campaign.in_control(fewer) == some[at]).all(), "untouched by who else there is, and in which order"


def scored(values: np.ndarray) -> pa.Table:
    schema, n = TABLES["lookalike_scores"].arrow_schema(), len(values)
    columns = {
        "client": ["acme"] * n, "feature_set": ["strong"] * n, "user_id": USERS.slice(0, n).cast(pa.string()),
        "score": pa.array(values, pa.float32()), "chosen": [True] * n}  # fmt: skip
    return pa.table(columns).cast(schema)


def test_the_best_of_those_allowed_fill_the_audience_and_the_draw_knows_no_score() -> None:
    values = np.random.default_rng(2).random(8000).astype(np.float32)
    table = scored(values)
    plain = best(table, 4000, Campaign("acme", pa.array([], pa.large_string()), 0.0, 0))
    out = plain.column("user_id").to_pylist()[:1500:3]
    kept = best(table, 4000, Campaign("acme", pa.array(out, pa.large_string()), 0.25, 0))
    assert kept.num_rows == 4000 and not set(kept.column("user_id").to_pylist()) & set(out)
    assert kept.column("rank").to_pylist() == list(range(1, 4001))
    honest = [user for user in best(table, 4500, Campaign("acme", pa.array([], pa.large_string()), 0.0, 0))
              .column("user_id").to_pylist() if user not in set(out)]
    assert kept.column("user_id").to_pylist() == honest[:4000]
    group = np.array(kept.column("group").to_pylist())
    assert set(plain.column("group").to_pylist()) == {"mailing"} and set(group) == {"mailing", "control"}
    halves = [(half == "control").mean() for half in (group[:2000], group[2000:])]
    assert halves == [pytest.approx(0.25, abs=0.04)] * 2


def test_everybody_on_the_list_leaves_an_audience_of_nobody() -> None:
    nobody = best(scored(np.ones(5)), 3, Campaign("acme", USERS, 0.1, 0))
    assert nobody.num_rows == 0 and nobody.schema.equals(TABLES["audiences"].arrow_schema())
