"""A model of lists of seeds: what is played, who is a row, what is kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store import Table, lineage
from feature_store.tree import DataRoot
from jobs.audiences import learn_pool, seed_lessons, train_lookalike
from jobs.audiences.backtest import own_buyers_at
from jobs.audiences.fitted import repeatable
from jobs.audiences.learn_pool import lessons_of
from jobs.audiences.nights import Tables
from jobs.audiences.pooled import Lessons, chosen_sets
from jobs.audiences.pooled_rows import NOBODYS
from jobs.audiences.seed_lessons import (
    SIZES,  # fmt: skip
    fit_seed_lists,
    lists_of,
    played,
    read_seed_model,
    repeatable_entry,
    seeds_played,
)
from jobs.audiences.seed_sets import SeedLists
from jobs.program import Skip
from tests.jobs.audiences.worlds import (
    DATE,
    DIMENSION,
    GRAPH,
    START,
    config,
    figures,
    planted,
    reads,
    score,
    train,
)
from tests.jobs.report.tables_by_hand import table_input, write_vectors

DT = DATE.isoformat()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    planted(root, users=700)
    return root


@pytest.fixture
def few_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world has nine sets of items."""
    monkeypatch.setattr(learn_pool, "LEAST_SETS", 5)
    monkeypatch.setattr(seed_lessons, "LEAST_LISTS", 5)


@pytest.fixture
def lessons(root: Path, few_sets: None) -> Lessons:
    tables, look = Tables(**reads(root)), config().lookalike
    found = lessons_of(tables, DATE, tables.snapshot(DATE, GRAPH), {}, ["transe"], GRAPH, look, 0)
    assert not isinstance(found, str), found
    return found


def index_of(root: Path) -> dict[str, Any]:
    blobs = Table(f"{root}/lookalike_models").blobs(DT)
    (index,) = (json.loads(blob) for name, blob in blobs.items() if name.endswith(".json"))
    return index


def test_a_window_that_begins_before_anybody_bought_goes_without_vectors(tmp_path: Path, few_sets: None) -> None:
    """A translation has no vector of a relation that nobody had; a product needs none."""
    planted(tmp_path, users=300)
    models, random = ["transe", "ram_gnn_rec"], np.random.default_rng(0)
    for model in models:
        users, items = ({f"{kind}": random.normal(size=DIMENSION) for kind in ids} for ids in (
            [f"u{u:05d}" for u in range(300)], [f"i{i}" for i in range(80)]))
        write_vectors(tmp_path, model, START, users, items, None)
    tables, look = Tables(**reads(tmp_path)), config().lookalike
    found = lessons_of(tables, DATE, tables.snapshot(DATE, GRAPH), {}, models, GRAPH, look, 0)
    newest, *_ = lists_of(found, models)
    assert list(newest.spaces) == ["ram_gnn_rec"] and list(played(found, lists_of(found, models)))


def test_seeds_bought_before_and_are_never_asked_for(lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are others; their label is whether they buy in the window; no row of the list is a seed."""
    asked, honest = [], SeedLists.columns

    def columns(self: SeedLists, found: Any, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.append((self.past.today, seeds, self.past.eligible[rows]))
        return honest(self, found, seeds, rows)

    monkeypatch.setattr(SeedLists, "columns", columns)
    parts = list(played(lessons, lists_of(lessons, ["transe"])))
    assert len(parts) == len(asked) > 10
    assert {len(seeds) for _, seeds, _ in asked} == set(SIZES)
    by_day = {window.past.today: window for window in lessons.windows}
    for part, (today, seeds, users) in zip(parts, asked, strict=True):
        assert not set(seeds) & set(users) and len(users) == len(part.labels)
        assert (part.fold == lessons.fold[users]).all()
        window = by_day[today]
        fits = []
        for place in range(len(lessons.sets)):
            of_set = lessons.sets.mask(place).astype(np.float32)
            rows = np.searchsorted(window.past.eligible, users)
            bought = (window.past.bought[seeds] @ of_set > 0).all()
            fits.append(bought and (window.labels(place)[rows] == part.labels).all())
        assert any(fits), "of one set all seeds bought before, and the buyers after are the labels"


def test_of_more_sets_than_are_played_those_are_that_come_first_by_the_hash(
    lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One list more is one set more, and the others stay: a set too many for the lists does not halve them."""
    window, asked = lessons.windows[0], []
    usable = chosen_sets(window, lessons.sets)
    monkeypatch.setattr(seed_lessons, "rows_of_list", lambda lessons, number, place, *_: asked.append(place))
    newest = dataclasses.replace(lessons, windows=[window])
    found = {}
    for most in range(1, len(usable) + 2):
        monkeypatch.setattr(seed_lessons, "MOST_LISTS", most)
        asked.clear()
        assert not list(played(newest, [None]))
        found[most] = list(asked)
    assert [len(places) for places in found.values()] == [*range(1, len(usable) + 1), len(usable)] and len(usable) > 5
    assert found[len(usable)] == found[len(usable) + 1] == usable.tolist(), "all, in their order, where they are few"
    assert all(set(found[most]) < set(found[most + 1]) for most in range(1, len(usable)))


def test_a_list_that_takes_all_past_buyers_is_not_played(lessons: Lessons) -> None:
    window = lessons.windows[0]
    buyers = np.flatnonzero(~window.past.never_bought(lessons.sets.mask(0)))
    assert len(seeds_played(lessons, window, 0, len(buyers), "seeds")) == 0
    some = seeds_played(lessons, window, 0, len(buyers) - 1, "seeds")
    assert len(some) == len(buyers) - 1 and set(some) < set(buyers) and (np.diff(some) > 0).all()


def test_trees_of_a_fold_learn_from_no_user_of_it(lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    given, honest = [], seed_lessons.fit_rows

    def fit_rows(rows: Any, *more: Any) -> Any:
        given.append(rows)
        return honest(rows, *more)

    monkeypatch.setattr(seed_lessons, "fit_rows", fit_rows)
    model = fit_seed_lists(lessons, ["transe"], config().lookalike, 0)
    assert model is not None and len(model.boosters) == config().lookalike.pooled_trees.boosters
    (rows,) = given
    assert set(np.unique(rows.fold)) == {NOBODYS, *range(len(model.boosters))}
    assert model.figures["lists"] > 10 and model.figures["columns"] == len(model.columns) == rows.features.shape[1]
    assert any(name.startswith("transe:density") for name in model.columns)
    at = model.columns.index("transe:density_1")
    sizes = model.columns.index("list:seeds")
    assert np.isfinite(rows.features[:, at]).any() and np.isnan(rows.features[:, at]).any(), "one window has vectors"
    assert set(np.unique(rows.features[:, sizes])) == set(map(float, SIZES))


def test_too_few_lists_or_a_window_without_buyers_give_no_model(lessons: Lessons) -> None:
    said, few = "0 lists of seeds can be played; 5 are needed", dataclasses.replace(lessons, windows=[])
    assert fit_seed_lists(few, ["transe"], config().lookalike, 0) == said
    nobody = [dataclasses.replace(w, bought=w.bought * 0) for w in lessons.windows]
    assert fit_seed_lists(dataclasses.replace(lessons, windows=nobody), [], config().lookalike, 0) == said


def test_the_night_keeps_it_and_equal_nights_keep_the_same(root: Path, few_sets: None) -> None:
    assert train(root, config())["seed_lists"]["lists"] > 10
    table = Table(f"{root}/lookalike_models")
    before = table.existing_manifest(DT).content_hash
    model = read_seed_model(table_input(root, "lookalike_models"), DT)
    assert model is not None and model.models == ["transe"]
    assert [b.num_features() for b in model.boosters] == [len(model.columns)] * len(model.boosters)
    index = index_of(root)
    shown = repeatable_entry(repeatable(index))
    assert "files" in index["seed_lists"] and "files" not in shown["seed_lists"]
    assert "seconds" not in shown["seed_lists"]["figures"]
    train(root, config())
    assert table.existing_manifest(DT).content_hash == before


def test_a_night_that_learns_each_client_alone_has_none(root: Path) -> None:
    assert train(root, config(pooled=False))["seed_lists"] is None
    assert read_seed_model(table_input(root, "lookalike_models"), DT) is None


def test_a_night_without_classifiers_has_none(tmp_path: Path) -> None:
    assert read_seed_model(table_input(tmp_path, "lookalike_models"), DT) is None


def test_without_clients_it_alone_is_learned_and_kept(
    root: Path, few_sets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_lookalike, "fit_clients", None)  # nobody's
    settings = config(clients={})
    found = train(root, settings)
    assert found["seed_lists"]["lists"] > 10 and found["rows_out"] == 1 and found["rows_in"] > 300
    assert found["clients"] == found["pr_auc"] == found["curves"] == [] and found["chosen"] == found["spaces"] == {}
    assert found["pool"] == {"reason": "no client is configured under lookalike.clients"}
    index = index_of(root)
    assert index["models"] == [] and index["chosen"] is None and START.isoformat() in index["label_windows"]
    models = table_input(root, "lookalike_models")
    assert read_seed_model(models, DT).models == ["transe"] and own_buyers_at(models, DATE) == {}
    manifest = models.table().existing_manifest(DT)
    read = {(one["table"], one.get("dt")) for one in manifest.fields["inputs"]}
    assert {("knowledge_graph", DT), ("feature_store/user_embeddings/model=transe", START.isoformat())} <= read
    assert [found for found in lineage.findings(DataRoot(str(root)), "lookalike_models") if found.rerun] == []
    train(root, settings)
    assert models.table().existing_manifest(DT).content_hash == manifest.content_hash
    with pytest.raises(Skip, match="No client is configured under lookalike.clients: .*Lists of seeds can be asked"):
        score(root, settings)
    assert not figures(), "no backtest either"


def test_without_clients_a_night_that_cannot_learn_it_is_skipped_and_keeps_no_former_one(
    root: Path, few_sets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changed, patched, said in (
        ({"pooled": False}, {}, "lookalike.pooled is false"),
        ({}, {"LEAST_LISTS": 1000}, r"\d+ lists of seeds can be played; 1000 are needed"),
        ({"label_window_days": 28}, {}, "the log begins less than two label windows before"),
    ):  # fmt: skip
        train(root, config(clients={}))
        assert index_of(root)["seed_lists"]
        with monkeypatch.context() as patch, pytest.raises(Skip, match=f"No client is configured.*: {said}"):
            for name, value in patched.items():
                patch.setattr(seed_lessons, name, value)
            train(root, config(clients={}, **changed))
        assert figures()["seed_lists"] is None and figures()["rows_out"] == 0
        assert read_seed_model(table_input(root, "lookalike_models"), DT) is None, "a list is not ranked by it"
