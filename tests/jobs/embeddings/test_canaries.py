"""Canaries before publishing: what they ask, what they refuse, and how they are handed on."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store import FeatureStore, Manifest, Segments, Table
from feature_store.__main__ import main as rollback
from feature_store.lineage import findings
from feature_store.tree import DataRoot
from jobs.arrays import Checkpoint, vectors
from jobs.embeddings import pretrain_transe, publish_users
from jobs.embeddings.canaries import Questions
from jobs.embeddings.space import Space
from jobs.program import FINAL, execute
from jobs.tables import TABLES
from tests.jobs.embeddings.planted import GROUPS, group_of, write_config, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, night

README = Path(__file__).resolve().parents[3] / "README.md"
MANY = [f"u{n:03d}" for n in range(240)]
PUBLISHED = "feature_store/user_embeddings/model="


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ledgers(tmp_path / "data", MANY)
    for date in DATES:
        write_graph(tmp_path / "data", date, MANY)
    return tmp_path


def config_of(root: Path, **publishing: Any) -> Path:
    return write_config(root, publishing={"models": ["transe"], "min_neighbour_overlap": 0.0} | publishing)


def canaries(root: Path, date: object, model: str = "transe") -> tuple[pa.Table, Manifest]:
    return Table(str(root / f"data/canaries/{model}")).read_version(str(date))


def told(root: Path, date: object, model: str = "transe") -> dict[str, dict[str, Any]]:
    """The figures by task."""
    manifest = Table(str(root / f"data/{PUBLISHED}{model}")).existing_manifest(str(date))
    return {row["task"]: row for row in manifest.fields["quality"]["canaries"]}


def publish_of(config: Path, date: object, predecessor: object) -> list[str]:
    """Command line of a publish."""
    return ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor), "--model", "transe"]


def second_night(config: Path) -> int:
    """How its publish ends."""
    given = publish_of(config, DATES[1], DATES[0])
    assert execute(pretrain_transe.run, given[:-2]) == 0
    return execute(publish_users.run, given)


def turned(native: np.ndarray) -> np.ndarray:
    """A rotation that has nothing to do with the space's."""
    return np.linalg.qr(np.random.default_rng(1).normal(size=(native.shape[1],) * 2))[0]


def purchases(root: Path) -> dict[str, set[str]]:
    """Raw ids of the items of each user in the first night's graph."""
    raw = {kind: dict(zip(*ledger_of(root, kind), strict=True)) for kind in ("user", "item")}
    edges = Table(str(root / "data/knowledge_graph")).read(str(DATES[0])).to_pylist()
    found = defaultdict(set)
    for edge in edges:
        if edge["relation"] == 0:
            found[raw["user"][edge["head"]]].add(raw["item"][edge["tail"]])
    return found


def ledger_of(root: Path, kind: str) -> tuple[list[int], list[str]]:
    rows = Segments(str(root / "data/entity_ids" / kind)).read()
    return rows.column("id").to_pylist(), rows.column("raw").to_pylist()


def test_questions_are_frozen_on_the_first_night_and_handed_on(root: Path) -> None:
    config = config_of(root)
    night(config, DATES[0])
    night(config, DATES[1], DATES[0])
    night(config, DATES[2], DATES[1])
    (first, opened), (last, manifest) = canaries(root, DATES[0]), canaries(root, DATES[2])
    assert first.equals(last) and manifest.fields["questions"]["frozen"] == str(DATES[0])
    assert opened.fields["predecessor"] is None
    assert manifest.fields["predecessor"] == {
        "table": "canaries/transe", "dt": str(DATES[1]), "content_hash": opened.content_hash}
    assert set(told(root, DATES[0])) == {"likes", "item"}, "the neighbours are those that were frozen"
    tonight = told(root, DATES[2])
    assert set(tonight) == {"likes", "item", "neighbours"}, "there are no labels"
    assert all(0.8 < tonight["likes"][when] <= 1 for when in ("frozen", "before", "tonight"))
    assert tonight["item"]["tonight"] > 0.7 and tonight["item"]["frozen"] is None
    assert tonight["neighbours"]["tonight"] > 0.3, "guessing gives 0.04"
    assert {row["since"] for row in tonight.values()} == {str(DATES[0])}
    assert not list(findings(DataRoot(str(root / "data")))), "verify finds nothing stale"


def test_answers_are_those_of_the_graph(root: Path) -> None:
    night(config_of(root, canaries=100), DATES[0])
    rows, manifest = canaries(root, DATES[0])
    assert rows.num_rows == 100 and 30 < sum(rows.column("asked").to_pylist()) < 70
    published = FeatureStore(str(root / "data/feature_store")).read(
        "user_embeddings", model="transe", dt=str(DATES[0]), user_ids=rows.column("user_id").to_pylist())
    assert published.table.column("embedding").to_pylist() == rows.column("embedding").to_pylist()
    kind = manifest.fields["questions"]["likes"]
    assert kind["attribute"] == "item_brand"
    group = int(kind["value"][1:])
    likes = {row["user_id"]: row["likes"] for row in rows.to_pylist()}
    assert all(likes[user] for user in likes if group_of(user) == group), "five of their six items are of the brand"
    bought = purchases(root)
    of_brand = [sum(any(int(item[1:]) % GROUPS == brand for item in bought[user]) for user in likes)
                for brand in range(GROUPS)]  # fmt: skip
    assert sum(likes.values()) == of_brand[group] and len(set(of_brand)) > 1
    assert abs(of_brand[group] - 50) == min(abs(count - 50) for count in of_brand), "the brand that divides them best"
    pairs = [row for row in rows.to_pylist() if row["item"] is not None]
    assert len(pairs) > 50 and all(row["item"] in bought[row["user_id"]] for row in pairs)
    assert not any(row["other"] in bought[row["user_id"]] for row in pairs)
    assert all(row["other"] is None for row in rows.to_pylist() if row["item"] is None)
    assert rows.column("label").null_count == 100


def test_labels_are_asked_where_there_are_any(root: Path) -> None:
    schema = TABLES["user_labels"].arrow_schema()
    rows = [{"label": "taste", "user_id": user, "class": f"t{group_of(user) % 2}" if group_of(user) < 3 else "rare"}
            for user in MANY]  # fmt: skip
    with Table(str(root / "data/user_labels")).replace(str(DATES[0])) as commit:
        commit.write_table(pa.Table.from_pylist(rows, schema))
        commit.fields["labels"] = {"taste": {"column": "taste", "bounds": [], "problem": ""}}
    config = write_config(root, profiles={"labels": {"taste": {}}}, publishing={"models": ["transe"]})
    night(config, DATES[0])
    found, manifest = canaries(root, DATES[0])
    assert manifest.fields["questions"]["label"] == {"label": "taste", "ours": "t0", "rest": "rare"}
    of = {row["user_id"]: row["label"] for row in found.to_pylist()}
    assert of == {user: {0: True, 2: True, 3: False}.get(group_of(user)) for user in MANY}
    assert told(root, DATES[0])["label"]["tonight"] > 0.7


def test_a_label_that_all_share_is_not_asked(root: Path) -> None:
    schema = TABLES["user_labels"].arrow_schema()
    with Table(str(root / "data/user_labels")).replace(str(DATES[0])) as commit:
        commit.write_table(pa.Table.from_pylist(
            [{"label": "taste", "user_id": user, "class": "same"} for user in MANY], schema))
        commit.fields["labels"] = {"taste": {"column": "taste", "bounds": [], "problem": ""}}
    night(write_config(root, profiles={"labels": {"taste": {}}}, publishing={"models": ["transe"]}), DATES[0])
    rows, manifest = canaries(root, DATES[0])
    assert rows.column("label").null_count == len(MANY) and manifest.fields["questions"]["label"] is None


def test_where_the_items_of_the_night_before_are_gone_pairs_are_not_asked(root: Path) -> None:
    config = config_of(root)
    night(config, DATES[0])
    shutil.rmtree(root / f"data/entity_embeddings/transe/dt={DATES[0]}")
    assert second_night(config) == 0
    assert set(told(root, DATES[1])) == {"likes", "neighbours"}


def test_labels_that_were_read_for_others_keep_nobody_from_publishing(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Table(str(root / "data/user_labels")).replace(str(DATES[0])) as commit:
        commit.write_table(TABLES["user_labels"].arrow_schema().empty_table())
        commit.fields["labels"] = {}
    config = write_config(root, profiles={"labels": {"taste": {}}}, publishing={"models": ["transe"]})
    night(config, DATES[0])
    assert "no label is asked" in caplog.text and canaries(root, DATES[0])[1].fields["questions"]["label"] is None


def test_a_rotation_that_is_not_the_spaces_is_not_published(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(root)
    night(config, DATES[0])
    space_id = canaries(root, DATES[0])[1].fields["space_id"]
    monkeypatch.setattr(
        publish_users, "choose_space", lambda _, native, *__: Space(space_id, turned(native), False, "wrong"))
    before = Table(str(root / "data/entity_embeddings/transe")).values()
    assert second_night(config) == FINAL
    said = caplog.text
    assert "Not published; readers keep what they have" in said and str(DATES[0]) in said
    assert "who has “purchase” of items with item_brand “b" in said and "publishing.on_canary_failure" in said
    for name in (f"{PUBLISHED}transe", "entity_embeddings/transe", "canaries/transe"):
        assert Table(str(root / "data" / name)).values() == before == [str(DATES[0])]


def items_exchanged(checkpoint: Checkpoint) -> Checkpoint:
    """Users as they are, but each item has the vector of one of another brand."""
    entities, items = checkpoint.entities.copy(), checkpoint.entity_type == checkpoint.types.index("item")
    entities[items] = np.roll(entities[items], 1, axis=0)
    return dataclasses.replace(checkpoint, entities=entities)


def test_items_that_no_longer_belong_to_the_users_are_not_published(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else sees it: the users' vectors are sound."""
    config = config_of(root)
    night(config, DATES[0])
    read = publish_users.read_checkpoint
    monkeypatch.setattr(publish_users, "read_checkpoint", lambda *given: items_exchanged(read(*given)))
    assert second_night(config) == FINAL
    said = caplog.text
    assert "which of two items a user has “purchase” of" in said and "who has “purchase” of" not in said


def test_who_wants_it_published_all_the_same_is_asked_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    night(config_of(root), DATES[0])
    config = config_of(root, on_canary_failure="publish")
    read = publish_users.read_checkpoint
    monkeypatch.setattr(publish_users, "read_checkpoint", lambda *given: items_exchanged(read(*given)))
    with caplog.at_level(logging.WARNING, logger="nocturne"):
        assert second_night(config) == 0
    assert "worse than the night before's" in caplog.text
    pairs = told(root, DATES[1])["item"]
    assert pairs["tonight"] < 0.6 < pairs["before"] and pairs["since"] == str(DATES[0])
    _, manifest = canaries(root, DATES[1])
    assert manifest.fields["questions"]["frozen"] == str(DATES[1]) and manifest.fields["predecessor"] is None


def test_a_version_taken_back_as_the_readme_says_has_its_own_questions_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(root)
    night(config, DATES[0])
    night(config, DATES[1], DATES[0])
    with monkeypatch.context() as broken:
        config_of(root, on_canary_failure="publish")
        broken.setattr(Space, "rotate", lambda space, native: (native @ turned(native)).astype(np.float32))
        assert execute(publish_users.run, publish_of(config, DATES[1], DATES[0])) == 0
    assert canaries(root, DATES[1])[1].fields["questions"]["frozen"] == str(DATES[1])
    line = next(line for line in README.read_text().splitlines() if line.startswith("| **Take a version back**"))
    for name in re.findall(r"[a-z_/]+/(?:model=)?transe", line):
        assert rollback(["rollback", "--root", str(root / "data"), name, str(DATES[1])]) == 0
    night(config_of(root), DATES[2], DATES[1])
    assert {row["since"] for row in told(root, DATES[2]).values()} == {str(DATES[0])}
    assert canaries(root, DATES[2])[1].fields["questions"]["frozen"] == str(DATES[0])


def test_a_slow_decline_is_told_and_asked_anew(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As if the space had turned a little every night: none lost anything, and who learned at first reads nothing."""
    config = config_of(root)
    night(config, DATES[0])
    table = Table(str(root / "data/canaries/transe"))
    rows, manifest = table.read_version(str(DATES[0]))
    frozen = np.array(rows.column("embedding").to_pylist(), np.float32)
    with table.replace(str(DATES[0])) as commit:
        commit.write_table(rows.set_column(1, rows.schema.field("embedding"), vectors(-frozen)))
        commit.fields |= manifest.fields
    with caplog.at_level(logging.WARNING, logger="nocturne"):
        night(config, DATES[1], DATES[0])
    assert "cannot read tonight's as well" in caplog.text and "Learn anew downstream" in caplog.text
    assert canaries(root, DATES[1])[1].fields["questions"]["frozen"] == str(DATES[1])
    likes = told(root, DATES[1])["likes"]
    assert likes["since"] == str(DATES[0]) and likes["frozen"] > 0.8 > likes["tonight"]


def test_foreign_text_keeps_to_its_line() -> None:
    facts = {"frozen": "2026-01-05", "relation": "pur{chase}", "label": None,
             "likes": {"relation": "buy", "attribute": "item_brand", "value": "a\n{b}" + "c" * 100}}  # fmt: skip
    questions = Questions(pa.table({}), facts)
    assert questions.named("likes") == f"who has “buy” of items with item_brand “a\\n{{b}}{'c' * 73}…”"
    assert questions.named("item") == "which of two items a user has “pur{chase}” of"


def test_a_new_space_has_questions_of_its_own(root: Path) -> None:
    night(config_of(root), DATES[0])
    config = config_of(root, min_neighbour_overlap=1.0, on_space_break="publish")
    night(config, DATES[1], DATES[0])
    spaces = [canaries(root, date)[1].fields["space_id"] for date in DATES[:2]]
    assert spaces[0] != spaces[1]
    assert canaries(root, DATES[1])[1].fields["questions"]["frozen"] == str(DATES[1])
    assert told(root, DATES[1])["likes"]["before"] is None


def test_a_shop_that_shrinks_asks_those_who_are_left(root: Path) -> None:
    config = config_of(root)
    night(config, DATES[0])
    write_graph(root / "data", DATES[1], MANY[:100])
    night(config, DATES[1], DATES[0])
    rows, manifest = canaries(root, DATES[1])
    assert manifest.fields["questions"]["frozen"] == str(DATES[0]) and rows.num_rows == len(MANY)
    assert told(root, DATES[1])["item"]["questions"] <= 100, "carried vectors are copies"


@pytest.mark.parametrize("before", [MANY[:60], MANY[160:]], ids=["it has grown", "most have gone"])
def test_where_many_more_could_be_drawn_questions_are_frozen_anew(root: Path, before: list[str]) -> None:
    config = config_of(root)
    write_graph(root / "data", DATES[0], before)
    night(config, DATES[0])
    write_graph(root / "data", DATES[1], MANY[:200])
    night(config, DATES[1], DATES[0])
    rows, manifest = canaries(root, DATES[1])
    assert manifest.fields["questions"]["frozen"] == str(DATES[1])
    assert rows.column("user_id").to_pylist() == MANY[:200]
    assert told(root, DATES[1])["item"]["since"] == str(DATES[0]), "those who are left were asked once more"


def test_items_of_another_publish_than_the_users_are_not_asked_about(root: Path) -> None:
    """As where the users of the night before were rolled back alone: the R that they are under is not the items'."""
    night(config_of(root), DATES[0])
    night(config_of(root), DATES[1], DATES[0])
    again = write_config(root, seed=4, publishing={"models": ["transe"], "min_neighbour_overlap": 0.0})
    night(again, DATES[1], DATES[0])
    Table(str(root / f"data/{PUBLISHED}transe")).rollback(str(DATES[1]))
    night(again, DATES[2], DATES[1])
    assert set(told(root, DATES[2])) == {"likes", "neighbours"}


def test_without_canaries_nothing_is_frozen(root: Path) -> None:
    night(config_of(root, canaries=0), DATES[0])
    assert not (root / "data/canaries").exists()
    fields = Table(str(root / f"data/{PUBLISHED}transe")).existing_manifest(str(DATES[0])).fields
    assert "canaries" not in fields["quality"]


def test_run_again_without_canaries_a_date_has_none_left_that_verify_would_take_for_stale(root: Path) -> None:
    night(config_of(root), DATES[0])
    write_graph(root / "data", DATES[0], MANY, seed=2)
    night(config_of(root, canaries=0), DATES[0])
    assert not Table(str(root / "data/canaries/transe")).values()
    assert not list(findings(DataRoot(str(root / "data"))))


def test_few_users_say_nothing(root: Path) -> None:
    config = config_of(root, canaries=15)
    night(config, DATES[0])
    night(config, DATES[1], DATES[0])
    assert told(root, DATES[1]) == {} and canaries(root, DATES[1])[0].num_rows == 15


@pytest.mark.parametrize("model", ["kqgc_mean"])
def test_a_family_that_takes_no_relation_is_asked_too(root: Path, model: str) -> None:
    config = config_of(root, models=["transe", model])
    night(config, DATES[0], models=("transe", model))
    night(config, DATES[1], DATES[0], models=("transe", model))
    assert told(root, DATES[1], model)["item"]["tonight"] > 0.6
