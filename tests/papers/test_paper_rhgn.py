"""The experiment of the RHGN paper: splits, merged graphs, figures,
and that the peers see the very neighbourhoods that RHGN draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score

from models.graph import NeighbourSampler
from models.rhgn import MISSING
from tests.papers import paper_rhgn, profiling_runs
from tests.papers.paper_rhgn import Confusions, differences
from tests.papers.profiling_runs import Settings, bags, judged, neighbourhoods, run_rhgn, scores
from tests.papers.profiling_tasks import TEST, Task, assemble, split_of
from tests.papers.tune_rhgn import SPACE, TREES, TRIALS, trials


@pytest.fixture
def toy() -> Task:
    """48 users of two genders who look at items of a kind of their own; users 0 to 7 lack an age."""
    random, rows = np.random.default_rng(0), []
    for user in range(48):
        for item in random.choice(10, 4, replace=False):
            rows.append((f"u{user:02d}", f"i{item + 10 * (user % 2)}", "click"))
        rows.append((f"u{user:02d}", rows[-1][1], "purchase"))
    events = pa.table(dict(zip(("user_id", "item_id", "behavior"), map(list, zip(*rows, strict=True)), strict=True)))
    tags = [[f"t{n % 3}", f"t{n % 5}"] for n in range(25)]
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(25)], "tags": tags, "brand": [None, "b"] * 12 + ["b"]})
    ages = [None] * 8 + ["old", "old", "young", "young"] * 10
    users = pd.DataFrame({"user_id": [f"u{n:02d}" for n in range(48)], "gender": ["F", "M"] * 24, "age": ages})
    return assemble("alibaba-ecomm", events, items, {"tags": "tag", "brand": "brand"}, users, ["click", "purchase"])


def test_a_task_is_the_log_and_the_catalogue(toy: Task) -> None:
    assert toy.n_users == 48 and np.bincount(toy.types).tolist() == [48, 20, 5, 1]  # items without event stay out
    assert toy.relation_names == ["click", "purchase", "item_tag", "item_brand"]
    assert (np.bincount(toy.relations)[:2] == [192, 48]).all()
    tags = {(toy.raw[h], toy.raw[t]) for h, r, t in zip(toy.heads, toy.relations, toy.tails, strict=True) if r == 2}
    assert tags == {(f"i{n}", f"t{k}") for n in range(20) for k in (n % 3, n % 5)}
    assert toy.classes == [["F", "M"], ["old", "young"]] and (toy.labels[:8, 1] == MISSING).all()
    assert toy.labels[9].tolist() == [1, 0]
    assert np.unique(toy.keys).size == len(toy.types)


def test_merged_relations_keep_each_pair_once(toy: Task) -> None:
    behaviors, attributes = toy.merged(True), toy.merged(False)
    assert behaviors.relation_names == ["click", "item_tag", "item_brand"] and behaviors.behaviors == 1
    assert (behaviors.relations == 0).sum() == 192
    assert attributes.relation_names == ["click", "purchase", "item_tag"] and attributes.behaviors == 2
    both = (toy.relations >= 2).sum()
    assert (attributes.relations == 2).sum() == both and (attributes.relations == 1).sum() == 48


def test_a_split_is_stratified_and_its_own(toy: Task) -> None:
    for seed in range(3):
        part = split_of(toy.labels, seed)
        assert np.bincount(part).tolist() == [36, 6, 6]
        for gender in range(2):
            trained, *others = np.bincount(part[toy.labels[:, 0] == gender], minlength=3).tolist()
            assert trained + sum(others) == 24  # of them 18, 3 and 3, to within one
            assert abs(trained - 18) <= 1 and all(abs(n - 3) <= 1 for n in others)
    assert (split_of(toy.labels, 0) == split_of(toy.labels, 0)).all()
    assert (split_of(toy.labels, 0) != split_of(toy.labels, 1)).any()


def test_bags_know_items_by_behaviour_and_values_of_theirs(toy: Task) -> None:
    clicks_and_more, items_only = bags(toy, True).toarray(), bags(toy, False).toarray()
    assert items_only.shape[1] < clicks_and_more.shape[1] and set(np.unique(items_only)) == {0, 1}
    mine = [t for h, r, t in zip(toy.heads, toy.relations, toy.tails, strict=True) if h == 0 and r == 0]
    with_brand = sum(1 for item in mine if int(toy.raw[item][1:]) % 2)
    assert any(np.isclose(column[0], np.log1p(with_brand)) for column in clicks_and_more.T[items_only.shape[1] :])


def test_figures_leave_out_users_without_the_label() -> None:
    labels, named = np.array([0, 1, MISSING, 1]), np.array([0, 0, 1, 1])
    assert scores(labels, named) == {"macro_f1": pytest.approx(2 / 3), "accuracy": pytest.approx(2 / 3)}


@pytest.fixture
def kept_here(tmp_path: Path, toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling_runs, "KEPT", tmp_path)
    monkeypatch.setattr(profiling_runs, "task_of", lambda name: toy)
    monkeypatch.setattr(paper_rhgn, "task_of", lambda name: toy)
    monkeypatch.setattr(profiling_runs, "MOST_EPOCHS", 3)


def test_peers_get_the_neighbourhoods_that_rhgn_draws(
    toy: Task, kept_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(profiling_runs.BATCH, "alibaba-ecomm", 16)
    drawn, sample = [], NeighbourSampler.sample

    def noted(self: NeighbourSampler, *given: object) -> object:
        drawn.append(sample(self, *given))
        return drawn[-1]

    monkeypatch.setattr(NeighbourSampler, "sample", noted)
    run_rhgn(toy, Settings(epochs=3, width=8, init="random"), 1)
    for_rhgn = list(drawn)
    folder = neighbourhoods(toy, 1)
    for epoch in range(3):  # three batches of 36 users who train, then one of 6 who choose
        for file, first, n_batches in ((f"epoch_{epoch}", 4 * epoch, 3), ("validation", 4 * epoch + 3, 1)):
            stored = np.load(folder / f"{file}.npz")
            assert stored["n_batches"] == n_batches
            for b in range(n_batches):
                nodes, layers = for_rhgn[first + b]
                assert stored[f"{b}.nodes"].tolist() == nodes.tolist()
                for number, layer in enumerate(layers):
                    assert stored[f"{b}.{number}.sources"].tolist() == layer.from_nodes.sources.tolist()
                    assert stored[f"{b}.{number}.offsets"].tolist() == layer.from_nodes.offsets.tolist()
                    assert stored[f"{b}.{number}.codes"].tolist() == layer.from_relations.sources.tolist()


def test_rhgn_learns_what_is_planted_from_the_users_who_train_alone(
    toy: Task, kept_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(learning_rate=0.01, epochs=20, width=16, dropout=0.0, init="random")
    figures = run_rhgn(toy, settings, 0)
    assert figures["test"]["gender"]["macro_f1"] == 1
    part = split_of(toy.labels, 0)
    monkeypatch.setattr(profiling_runs, "split_of", lambda labels, seed: part)
    toy.labels[part == TEST] = 1 - np.maximum(toy.labels[part == TEST], 0)
    assert run_rhgn(toy, settings, 0)["named"] == figures["named"]


def test_confusions_are_the_usual_macro_f1_for_any_weights(toy: Task, kept_here: None) -> None:
    random = np.random.default_rng(0)
    runs = [judged(toy.labels, random.integers(2, size=(48, 2)), split_of(toy.labels, split)) for split in range(2)]
    weights = random.integers(3, size=(4, 48)).astype(float)
    weights[0] = 1
    found = Confusions.of("alibaba-ecomm", "age", runs).macro_f1(weights)
    assert found[0] == pytest.approx(np.mean([one["test"]["age"]["macro_f1"] for one in runs]))
    expected = []
    for split, one in enumerate(runs):
        tested = np.flatnonzero(split_of(toy.labels, split) == TEST)
        known = toy.labels[tested, 1] != MISSING
        truth, named = toy.labels[tested[known], 1], np.array(one["named"]["age"])[known]
        weight = weights[1, tested[known]]
        present = np.unique(np.concatenate([truth[weight > 0], named[weight > 0]]))
        expected.append(f1_score(truth, named, labels=present, average="macro", sample_weight=weight, zero_division=0))
    assert found[1] == pytest.approx(np.mean(expected))


def test_a_model_leads_itself_by_nothing(toy: Task, kept_here: None) -> None:
    runs = [judged(toy.labels, toy.labels.clip(0), split_of(toy.labels, split)) for split in range(2)]
    wrong = [judged(toy.labels, 1 - toy.labels.clip(0), split_of(toy.labels, split)) for split in range(2)]
    for theirs, points in ((runs, 0), (wrong, 100)):
        others = {("alibaba-ecomm", label): theirs for label in ("gender", "age")}
        ahead, intervals = differences({"alibaba-ecomm": runs}, others)
        assert set(ahead.values()) == {points} and intervals["mean"][1] == points and intervals["mean"][0] >= 0


def test_every_model_gets_as_many_trials_from_all_values() -> None:
    for model, space in (("rhgn", SPACE), ("xgboost", TREES)):
        drawn = trials(model)
        assert len(drawn) == TRIALS and len({str(one) for one in drawn}) == TRIALS
        assert all({one[name] for one in drawn[1:]} == set(values) for name, values in space.items())
    assert trials("rhgn") == trials("hgt") == trials("rgcn")


