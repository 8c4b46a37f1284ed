"""What RHGN's night says and does of labels that teach nothing, users nobody knows, and relations that come and go."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from feature_store import Segments, Table
from jobs.program import FINAL, SKIPPED
from tests.jobs.embeddings import rhgn_night
from tests.jobs.embeddings.planted import group_of
from tests.jobs.embeddings.rhgn_night import (
    DATES,
    PROFILES,
    RHGN,
    USERS,
    checkpoint,
    content,
    publish,
    write_world,
)

Odd = Callable[[str], str | None]
TASTE, ODD = {"taste": {}}, {"odd": {}}
FEW = (
    r"label odd: not learned by RHGN: fold A has \d classes with at least 4 users "
    r"\(profiles.min_users_per_class\); expected two or more"
)
BAD: dict[str, tuple[Odd, str]] = {
    "one class": (lambda user: "x", FEW),
    "one user": (lambda user: "x" if user == USERS[7] else None, FEW),
    "none": (lambda user: None, FEW),
    "empty texts": (lambda user: "", FEW),
    "a class of their own each": (lambda user: user, FEW),
}


@pytest.fixture
def root(tmp_path: Path, spark: SparkSession) -> Path:
    write_world(tmp_path)
    return tmp_path


def rows(
    odd: Odd = lambda user: None, taste: Odd = lambda user: str(group_of(user)), users: list[str] = USERS
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": users,
            **{name: pd.array([of(user) for user in users], "string") for name, of in (("taste", taste), ("odd", odd))},
        }
    )


def night(root: Path, date: datetime.date, predecessor: datetime.date | None = None, **sections: object) -> int:
    """As rhgn_night has it, with few epochs: contents are compared, and nobody asks how good they are."""
    return rhgn_night.night(root, date, predecessor, **{"rhgn": RHGN | {"epochs": 4}} | sections)


def write_users(root: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(root / "users.parquet", index=False)


def labelled(*labels: dict[str, dict]) -> dict[str, dict]:
    """The configuration's profiles with these labels."""
    return PROFILES | {"labels": {name: one for label in labels for name, one in label.items()}}


def published(root: Path) -> list[str]:
    """Dates of all that RHGN writes."""
    return [date for name in ("checkpoints/rhgn", "attention") for date in Table(str(root / "data" / name)).values()]


@pytest.mark.parametrize("case", BAD)
def test_a_label_that_teaches_nothing_says_why_and_changes_nothing_of_the_others(
    root: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    odd, said = BAD[case]
    write_users(root, rows(odd))
    assert night(root, DATES[0], profiles=labelled(ODD)) == SKIPPED and published(root) == []
    assert re.search(said, caplog.text) and "No label can be learned from" in caplog.text
    assert night(root, DATES[0]) == 0
    alone = content(root)
    assert night(root, DATES[0], profiles=labelled(TASTE, ODD)) == 0
    assert content(root) == alone and list(json.loads(checkpoint(root, DATES[0]).facts["classes"])) == ["taste"]


def test_a_label_without_a_column_is_named_and_stops_no_other(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = {"odd": {"column": "colour"}}
    assert night(root, DATES[0]) == 0
    alone = content(root)
    assert night(root, DATES[0], profiles=labelled(TASTE, missing)) == 0
    assert content(root) == alone
    assert re.search(
        r"label odd: not learned by RHGN: .*has no column 'colour' .*Name the right one: profiles.labels.odd.column",
        caplog.text,
    )
    assert night(root, DATES[1], profiles=labelled(missing)) == SKIPPED and published(root) == [str(DATES[0])] * 2


def test_a_column_that_no_label_names_teaches_nothing(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    alone = content(root)
    write_users(root, rows(lambda user: str(int(user[1:]) % 2)))
    assert night(root, DATES[0]) == 0
    assert content(root) == alone


def test_users_whose_rows_contradict_each_other_are_left_out_and_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = USERS[::7]
    write_users(root, rows(taste=lambda user: None if user in some else str(group_of(user))))
    assert night(root, DATES[0]) == 0
    without = content(root)
    # four say the same twice
    write_users(
        root,
        pd.concat([rows(), rows(taste=lambda user: str((group_of(user) + 1) % 4), users=some), rows(users=USERS[1:5])]),
    )
    assert night(root, DATES[0]) == 0
    assert content(root) == without
    assert (
        f"label taste: {len(some)} users left out, whose rows contradict each other" in caplog.text
        and some[0] not in caplog.text
    )


def test_when_all_contradict_themselves_nothing_is_published(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_users(root, pd.concat([rows(), rows(taste=lambda user: "another")]))
    assert night(root, DATES[0]) == SKIPPED and published(root) == []
    assert f"label taste: {len(USERS)} users left out" in caplog.text


def test_a_rerun_without_a_label_leaves_what_was_published(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    before = content(root)
    write_users(root, rows(taste=lambda user: None))
    assert night(root, DATES[0]) == SKIPPED
    assert content(root) == before


def test_a_table_of_users_that_is_not_there_fails_and_leaves_what_was_published(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert night(root, DATES[0]) == 0
    before = content(root)
    (root / "users.parquet").unlink()
    assert night(root, DATES[0]) == FINAL
    assert "Nothing to read at" in caplog.text and content(root) == before


def test_a_label_that_is_no_longer_configured_leaves_its_place_to_another(root: Path) -> None:
    write_users(root, rows(lambda user: str(group_of(user) % 2)))
    assert night(root, DATES[0]) == publish(root, DATES[0]) == 0
    small = {"rhgn": RHGN | {"epochs": 1, "learning_rate": 1e-6}}
    assert night(root, DATES[1], DATES[0], profiles=labelled(ODD), **small) == 0
    assert publish(root, DATES[1], DATES[0], profiles=labelled(ODD), **small) == 0
    second = checkpoint(root, DATES[1])
    assert (
        json.loads(second.facts["classes"]) == {"odd": ["0", "1"]} and len(second.extra["rhgn.classifiers.0.bias"]) == 2
    )


def test_a_labelled_user_who_has_no_neighbour_is_not_in_the_graph_and_teaches_nothing(root: Path) -> None:
    """Nobody without an edge is: such a user has no vector, and no row of attention."""
    assert night(root, DATES[0]) == 0
    alone = content(root)
    write_users(root, pd.concat([rows(), rows(taste=lambda user: "0", users=["ghost", "u999"])]))
    assert night(root, DATES[0]) == 0
    assert content(root) == alone


def test_a_user_with_one_neighbour_and_no_purchase_has_a_vector_all_the_same(root: Path) -> None:
    lonely = USERS[5]
    edit(
        root,
        DATES[0],
        lambda graph, heads: pc.invert(
            pc.and_(pc.equal(graph.column("relation"), 0), pc.equal(heads, user_id(root, lonely)))
        ),
    )
    assert night(root, DATES[0]) == 0
    heard = Table(str(root / "data/attention")).read(str(DATES[0])).to_pandas().query("user_id == @lonely")
    assert heard["relation"].tolist() == ["user_region"] and heard["weight"].tolist() == pytest.approx([1])


@pytest.mark.parametrize("relation", [0, 1, 2])
def test_a_relation_without_an_edge_the_first_night_comes_the_second(root: Path, relation: int) -> None:
    """Purchases, items' brands, users' regions: two of them take a node type along."""
    edit(root, DATES[0], lambda graph, heads: pc.not_equal(graph.column("relation"), relation))
    assert night(root, DATES[0]) == 0
    assert night(root, DATES[1], DATES[0], rhgn=RHGN | {"epochs": 1, "learning_rate": 1e-6}) == 0
    first, second = (checkpoint(root, date) for date in DATES)
    assert (
        len(first.relation_id) == 2
        and len(second.relation_id) == 3
        and second.extra["rhgn.layers.0.w_att"].shape[0] == 6
    )
    codes = [list(second.relation_id).index(one) for one in first.relation_id]
    assert abs(second.extra["rhgn.layers.0.w_att"][codes] - first.extra["rhgn.layers.0.w_att"][:2]).max() < 1e-4


def edit(root: Path, date: object, kept: Callable) -> None:
    """Keep some edges of a night's graph."""
    table = Table(str(root / "data/knowledge_graph"))
    graph = table.read(str(date))
    with table.replace(str(date)) as commit:
        commit.write_table(graph.filter(kept(graph, graph.column("head"))))


def user_id(root: Path, user: str) -> int:
    ledger = Segments(str(root / "data/entity_ids/user")).read()
    return ledger.column("id")[ledger.column("raw").to_pylist().index(user)].as_py()
