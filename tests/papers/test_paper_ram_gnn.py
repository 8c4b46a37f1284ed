"""The RAM-GNN paper's protocol: figures by hand, the splits as they stand in the data, the choice of settings."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.papers import movielens_1m, rcf
from tests.papers.paper_ram_gnn import ablations, draw
from tests.papers.ram_gnn_runs import Recipe, figures, starts_of
from tests.papers.rcf import Split
from tests.papers.tune_ram_gnn import FIRST, TRIALS, best_epoch, chosen, read, trials


def test_figures_are_those_of_one_wanted_item() -> None:
    found = figures(np.array([1.0, 3.0, 11.0, 200.0]))
    assert found["hr@10"] == 0.5 and found["hr@20"] == 0.75
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3) / 4)
    assert found["mrr@20"] == pytest.approx((1 + 1 / 3 + 1 / 11) / 4)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / 2) / 4)


def there(shared_data: Path, name: str) -> None:
    if not (shared_data / name).exists():
        pytest.skip(f"no {name} in ../shared/data beside the repository")


def assert_one_item_a_user_is_held_out(split: Split) -> None:
    for part in (split.validation, split.test):
        np.testing.assert_array_equal(np.sort(part[0]), np.arange(split.n_users))
    known = set(zip(*(side.tolist() for side in split.training), strict=True))
    assert set(zip(*(side.tolist() for side in split.validation), strict=True)) <= known
    assert not set(zip(*(side.tolist() for side in split.test), strict=True)) & known
    assert split.sides["item"].names == ("actor", "director", "genre", "year")
    assert split.sides["user"].rows.n_rows == 3 * split.n_users, "an age, a gender and an occupation each"


def test_the_split_has_one_test_and_one_validation_item_a_user(shared_data: Path) -> None:
    there(shared_data, "ml-100k")
    split = rcf.read_split()
    assert (split.n_users, split.n_items) == (943, 1674) and len(split.training[0]) == 99_031
    assert_one_item_a_user_is_held_out(split)
    baseline = starts_of("ml-100k", trials("MF-BPR")[0], seed=1)
    assert baseline[1].rows.n_rows == 0 and baseline[0].entities.shape == (943, 64)


def test_movielens_1m_is_split_by_the_order_of_ratings(shared_data: Path) -> None:
    there(shared_data, "ml-1m")
    split = movielens_1m.read_split()
    assert (split.n_users, split.n_items) == (6040, 3706) and len(split.training[0]) == 1_000_209 - 6040
    assert_one_item_a_user_is_held_out(split)


def test_every_model_has_as_many_trials_and_the_same_values_to_draw_from() -> None:
    for model in FIRST:
        drawn = [one.settings for one in trials(model)]
        assert len(drawn) == TRIALS and all(drawn[0] != one for one in drawn[1:])
        assert all(Recipe.of(one).settings == one for one in drawn)
        assert {one["interactions"]["layers"] for one in drawn} == ({0} if model == "MF-BPR" else {2, 3, 4})


def test_the_epochs_are_those_of_the_best_mean_over_seeds() -> None:
    runs = [[{"epochs": 5, "ndcg": 0.1}, {"epochs": 10, "ndcg": 0.3}, {"epochs": 15, "ndcg": 0.9}],
            [{"epochs": 5, "ndcg": 0.3}, {"epochs": 10, "ndcg": 0.2}]]  # fmt: skip
    assert best_epoch(runs) == (pytest.approx(0.25), 10), "the second seed did not reach 15"


def test_what_was_chosen_is_a_trial_and_no_ablation_is_another() -> None:
    best, made = chosen(), [one["settings"] for one in read().values()]
    for recipe in best.values():
        assert recipe.with_interactions(epochs=120).settings in made
    settings = [str(one.settings) for one in ablations(best["RAM-GNN"]).values()]
    assert len(set(settings)) == len(settings) == 12


def test_the_plot_has_a_line_for_each_type(tmp_path: Path) -> None:
    draw({"age": [5, 7, 9], "genre": [5, 3, 1]}, tmp_path / "plot.svg")
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {one.text for one in root.iter() if one.tag.endswith("title")} == {"age", "genre"}
