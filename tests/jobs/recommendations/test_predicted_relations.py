"""Predicted relationships over planted nights: lists by relation, probabilities that the last label window taught."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_store import Table
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.recommendations import Recommendations, relations_of
from jobs.recommendations.catalogue import Catalogue
from jobs.recommendations.predicted_relations import Calibration, as_table
from models.vectors.recommendation import Lists
from tests.jobs.audiences.worlds import BRANDS, DATE, DIMENSION, GRAPH, ITEMS, START, events, log_of, planted
from tests.jobs.embeddings.planted import write_config
from tests.jobs.recommendations.test_recommend_items import crowded, night, touched_by
from tests.jobs.report.tables_by_hand import Log, table_input, write_clean_events, write_graphs, write_vectors
from tests.jobs.report.test_write_report import HOSTILE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    planted(folder, users=600)
    return folder


def predicted(root: Path, date: datetime.date = DATE, **changes: Any) -> tuple[list[dict], list[dict]]:
    """(the rows of the table, the figures by relation)."""
    _, figures = night(root, date, **({"relations": ["purchase"], "top_k": ITEMS} | changes))
    return Table(str(root / "predicted_relations/model=transe")).read(str(date)).to_pylist(), figures["relations"]


def bought(root: Path, first: datetime.date, end: datetime.date) -> set[tuple[str, str]]:
    table = table_input(root, "clean_events").table()
    days = [str(first + datetime.timedelta(days=n)) for n in range((end - first).days)]
    rows = (row for day in days if table.manifest(day) for row in table.read(day).to_pylist())
    return {(row["user_id"], row["item_id"]) for row in rows if row["behavior"] == "purchase"}


def test_the_rows_are_each_users_likeliest_and_none_that_has_the_relation(root: Path) -> None:
    rows, (figures,) = predicted(root, top_k=5)
    assert {(r["head_type"], r["relation"], r["tail_type"]) for r in rows} == {("user", "purchase", "item")}
    lists: dict[str, list[dict]] = {}
    for row in rows:
        lists.setdefault(row["head"], []).append(row)
    before = bought(root, START - datetime.timedelta(days=60), DATE)
    for user, mine in lists.items():
        assert [row["rank"] for row in mine] == [1, 2, 3, 4, 5]
        assert (np.diff([row["score"] for row in mine]) <= 0).all()
        assert (np.diff([row["probability"] for row in mine]) <= 0).all()
        assert not {(user, row["tail"]) for row in mine} & before
    assert figures["rows"] == len(rows) == 5 * len(lists)
    manifest = Table(str(root / "predicted_relations/model=transe")).existing_manifest(str(DATE))
    assert manifest.fields["weights"] == {"purchase": figures["weights"]} and figures["weights"]["choices"] > 100
    viewed = touched_by(root, DATE) - before
    assert {(r["head"], r["tail"]) for r in predicted(root)[0]} & viewed, "who viewed may still buy"


def test_the_probability_is_what_the_last_window_taught(root: Path) -> None:
    """It is learned on [D - L, D) by lists of D - L: held against those, its mean is the rate, in every part."""
    rows, (figures,) = predicted(root, unseen_only=False)
    happened = bought(root, START, DATE)
    pairs = {(user, f"i{i}") for user in {row["head"] for row in rows} for i in range(ITEMS)}
    assert figures["learned_from"] == len(pairs) == len(rows)
    assert figures["happened"] == pytest.approx(len(happened & pairs) / len(pairs))
    assert figures["probability"] == pytest.approx(figures["happened"], rel=0.02), "the vectors are those of D - L"
    chances = np.array([row["probability"] for row in rows])
    hits = np.array([(row["head"], row["tail"]) in happened for row in rows])
    order = np.argsort(chances)
    for part in np.array_split(order, 2):
        rate = hits[part].mean()
        assert chances[part].mean() == pytest.approx(rate, abs=3 * (rate / len(part)) ** 0.5 + 0.002)
    assert chances[order[-500:]].mean() > 2 * chances[order[:500]].mean() and chances.max() < 0.2


def test_nothing_from_d_on_is_known(root: Path, tmp_path: Path) -> None:
    first, _ = predicted(root, top_k=3)
    shutil.copytree(root, tmp_path / "again")
    everybody = np.tile(np.arange(600), 3)
    later = events(everybody, (everybody + np.repeat([0, 1, 2], 600)) % ITEMS, np.full(1800, 7.0))  # as D begins
    write_clean_events(tmp_path / "again", log_of([later], 600))
    assert bought(tmp_path / "again", DATE, DATE + datetime.timedelta(days=1))
    assert predicted(tmp_path / "again", top_k=3)[0] == first


def test_without_popularity_the_score_alone_orders_them(tmp_path: Path) -> None:
    crowded(tmp_path, 0.6)
    rows, (figures,) = predicted(tmp_path, popularity=False, top_k=5)
    assert figures["weights"] == {"score": 1.0, "popularity": 0.0, "choices": 0} and figures["learned_from"] > 0
    by_score, _ = night(tmp_path, DATE, popularity=False, unseen_only=False, top_k=ITEMS)
    scores = {(row["user_id"], row["item_id"]): row["score"] for row in by_score}
    assert all(scores[row["head"], row["tail"]] == row["score"] for row in rows)
    with_it, (figures,) = predicted(tmp_path, top_k=5)
    assert figures["weights"]["popularity"] > 0.2, "of choices that popularity decides"
    assert [(row["head"], row["tail"]) for row in with_it] != [(row["head"], row["tail"]) for row in rows]


def with_views(root: Path, vector: np.ndarray) -> None:
    """A vector of the relation view among the published ones."""
    table = table_input(root, "entity_embeddings").table("transe")
    for date in (START, DATE):
        rows, manifest = table.read_version(str(date))
        view = {"entity_type": "relation", "raw": "view", "id": 1, "embedding": vector.tolist()}
        with table.replace(str(date)) as commit:
            commit.write_table(pa.concat_tables([rows, pa.Table.from_pylist([view], schema=rows.schema)]))
            commit.fields |= {name: manifest.fields[name] for name in ("space_id", "rotation", "norm")}


def test_each_relation_has_its_own_vector_its_own_known_pairs_and_its_own_events(tmp_path: Path) -> None:
    log = planted(tmp_path, users=300)
    everybody = np.arange(300)
    views = events(everybody, everybody % ITEMS, np.full(300, 3.0), "view")
    write_clean_events(tmp_path, dataclasses.replace(log, events=pd.concat([log.events, views])))
    with_views(tmp_path, np.ones(DIMENSION))
    rows, (purchase, view) = predicted(tmp_path, relations=["view", "purchase"], unseen_only=False)
    scores = {name: {(r["head"], r["tail"]): r["score"] for r in rows if r["relation"] == name}
              for name in ("purchase", "view")}  # fmt: skip
    far = [abs(scores["purchase"][pair] - score) > 1e-3 for pair, score in scores["view"].items()]
    assert len(far) == len(scores["purchase"]) == view["learned_from"] and np.mean(far) > 0.9
    viewed = {(f"u{u:05d}", f"i{u % ITEMS}") for u in everybody} & set(scores["view"])
    assert view["happened"] == pytest.approx(len(viewed) / len(far)) != purchase["happened"]
    unseen = {(r["head"], r["tail"]) for r in predicted(tmp_path, relations=["view"])[0]}
    before = log.events[log.events["event_time"] >= pd.Timestamp(DATE - datetime.timedelta(days=40), tz="UTC")]
    had = {kind: set(zip(part["user_id"], part["item_id"], strict=True)) for kind, part in before.groupby("behavior")}
    assert unseen == set(scores["view"]) - had["view"] and unseen & had["purchase"]


def test_without_the_vectors_of_the_windows_start_there_is_no_probability(root: Path, tmp_path: Path) -> None:
    rows, (figures,) = predicted(root, START, top_k=2)
    assert {row["probability"] for row in rows} == {None} and figures["learned_from"] == 0
    shutil.copytree(root, tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone/feature_store/user_embeddings/model=transe" / f"dt={START}")
    assert {row["probability"] for row in predicted(tmp_path / "gone", top_k=2)[0]} == {None}


def test_another_space_at_the_windows_start_teaches_nothing(tmp_path: Path) -> None:
    log = planted(tmp_path, users=300)
    write_vectors(tmp_path, "transe", START, *vectors_by_hand(log, ["i1", "i2"]), space_id="another")
    assert {row["probability"] for row in predicted(tmp_path, top_k=2)[0]} == {None}


def test_the_catalogues_filter_and_seen_pairs_hold_for_relations_too(root: Path) -> None:
    rows, _ = predicted(root, items={"brand": "b1"}, unseen_only=False)
    assert {int(row["tail"][1:]) % BRANDS for row in rows} == {1}
    assert len(rows) == len({row["head"] for row in rows}) * ITEMS // BRANDS


def test_a_calibration_finds_the_logistic_function_that_made_what_happened() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(3, 2, 40_000)
    chances = 1 / (1 + np.exp(-(0.8 * scores - 5)))
    found = Calibration.of(scores, random.random(len(scores)) < chances)
    assert (found.slope, found.intercept) == (pytest.approx(0.8, abs=0.04), pytest.approx(-5, abs=0.2))
    np.testing.assert_allclose(found.probabilities(scores), chances, atol=0.03)


def test_a_score_that_goes_against_what_happened_gives_the_rate() -> None:
    scores = np.arange(100.0)
    found = Calibration.of(scores, scores < 20)
    np.testing.assert_allclose(found.probabilities(scores), 0.2, atol=1e-6)
    assert Calibration.of(scores, np.zeros(100, bool)) is None and Calibration.of(scores, np.ones(100, bool)) is None
    equal = Calibration.of(np.zeros(10), np.arange(10) < 3)
    np.testing.assert_allclose(equal.probabilities(np.zeros(2)), 0.3, atol=1e-3)


def test_the_window_is_taught_by_the_catalogue_of_its_own_start(tmp_path: Path) -> None:
    """An item that has no vector any more at D, or another brand, may have stood in the lists of D - L: left out, the
    items that went on selling would teach alone."""
    log = planted(tmp_path, users=300)
    wanted = {"items": {"brand": "b1"}, "unseen_only": False}
    whole, (before,) = predicted(tmp_path, **wanted)
    assert before["learned_from"] == len(whole)
    few, one = vectors_by_hand(log, ["i1", "i5", "i9"]), log.items["brand"].query("value != 'b1' or id == 'i1'")
    write_vectors(tmp_path, "transe", DATE, *few)
    write_graphs(tmp_path, dataclasses.replace(log, items=log.items | {"brand": one}), DATE, GRAPH)
    rows, (after,) = predicted(tmp_path, **wanted)
    assert {row["tail"] for row in rows} == {"i1"}
    for name in ("learned_from", "happened"):
        assert after[name] == before[name], name


def vectors_by_hand(log: Log, items: list[str]) -> tuple[dict, dict, np.ndarray]:
    random = np.random.default_rng(1)
    users = sorted(set(log.events["user_id"]))
    return *({name: random.normal(size=DIMENSION) for name in names} for names in (users, items)), np.zeros(DIMENSION)


def test_a_relation_that_nobody_has_yet_stops_no_night(root: Path, tmp_path: Path) -> None:
    rows, figures = predicted(root, relations=["view", "purchase"], top_k=2)  # views have no vector
    assert {row["relation"] for row in rows} == {"purchase"}
    assert figures[1] == {
        "relation": "view", "rows": 0, "learned_from": 0, "happened": None, "probability": None,
        "weights": {"score": 1.0, "popularity": 0.0, "choices": 0}}  # fmt: skip
    log = planted(tmp_path, users=300)
    for purchase, chances in ((np.zeros(DIMENSION), False), (None, True)):
        write_vectors(tmp_path, "transe", START, *vectors_by_hand(log, ["i1", "i2"])[:2], purchase)
        rows, _ = predicted(tmp_path, top_k=2)
        assert len(rows) > 500 and (rows[0]["probability"] is None) == chances


@pytest.mark.parametrize("gone", ["knowledge_graph", "interactions", "entity_embeddings/transe"])
def test_what_retention_took_of_the_windows_start_stops_no_night(root: Path, tmp_path: Path, gone: str) -> None:
    shutil.copytree(root, tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone" / gone / f"dt={START}")
    assert {row["probability"] for row in predicted(tmp_path / "gone", top_k=2)[0]} == {None}


def test_the_manifest_names_what_the_probabilities_were_learned_from(root: Path) -> None:
    predicted(root, top_k=2)
    fields = Table(str(root / "predicted_relations/model=transe")).existing_manifest(str(DATE)).fields
    names = ("knowledge_graph", "interactions", "feature_store/user_embeddings/model=transe",
             "entity_embeddings/transe")  # fmt: skip
    found = sorted((one["table"], one["dt"]) for one in fields["inputs"])
    assert found == sorted((name, str(date)) for name in names for date in (START, DATE))


def test_hostile_ids_pass_through_in_the_order_of_their_bytes() -> None:
    names = [*HOSTILE, "", "a\nb", "../x", "\u202e", "💥", "B", "a"]
    raw, numbers = pa.array(names, pa.large_string()), np.arange(len(names))
    catalogue = Catalogue(raw, raw, numbers, numbers, np.ones(len(names), bool))
    lists = Lists(numbers, numbers[::-1], np.zeros(len(names), np.float32), np.ones(len(names), np.int32))
    rows = as_table("purchase", lists, catalogue, Calibration(1.0, 0.0, 10, 0.5)).to_pylist()
    assert [row["head"] for row in rows] == sorted(names, key=str.encode)
    assert {(row["head"], row["tail"]) for row in rows} == set(zip(names, names[::-1], strict=True))
    assert {row["probability"] for row in rows} == {0.5}


@pytest.mark.parametrize(("key", "twice"), [("relations", "view"), ("models", "transe")])
def test_what_is_named_twice_is_refused(tmp_path: Path, key: str, twice: str) -> None:
    section = {"models": ["transe"], "relations": ["view"]} | {key: [twice, twice]}
    graph = {"behaviors": {"view": {}, "purchase": {}}, "item_attributes": {"brand": {}}}
    path = write_config(
        tmp_path, events={"behaviors": ["view", "purchase"]}, graph=graph, publishing={"models": ["transe"]},
        recommendations=section)  # fmt: skip
    with pytest.raises(ConfigError, match=rf"recommendations\.{key}\[1\] is '{twice}' .*; expected every one once"):
        load_settings(path)


@pytest.mark.parametrize(("models", "relation", "message"), [
    (["transe"], "cart", r"recommendations\.relations\[0\] is 'cart' .*; expected one of graph\.behaviors"),
    (["ram_gnn_rec"], "view", r"expected purchase, since ram_gnn_rec tells no relations apart")])
def test_a_relation_that_cannot_be_predicted_is_refused(
    tmp_path: Path, models: list[str], relation: str, message: str
) -> None:
    section = {"models": models, "relations": [relation]}
    graph = {"behaviors": {"view": {}, "purchase": {}}, "item_attributes": {"brand": {}}}
    path = write_config(
        tmp_path, publishing={"models": ["transe", "ram_gnn_rec"]}, events={"behaviors": ["view", "purchase"]},
        graph=graph, recommendations=section)  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        load_settings(path)


def test_a_model_that_tells_no_relations_apart_predicts_purchases_alone() -> None:
    section = Recommendations(models=["transe", "ram_gnn_rec"], relations=["view", "purchase", "item_brand"])
    assert relations_of("transe", section, "purchase") == section.relations
    assert relations_of("ram_gnn_rec", section, "purchase") == ["purchase"]
    assert relations_of("ram_gnn_rec", Recommendations(models=["ram_gnn_rec"], relations=["view"]), "purchase") == []
