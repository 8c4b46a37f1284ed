"""The RAM-GNN paper's protocol: figures by hand, and the split as it stands in the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.ram_gnn_hyperparameters import InteractionHyperparameters
from tests.papers.paper_ram_gnn import figures, starts_of
from tests.papers.rcf import read_split


def test_figures_are_those_of_one_wanted_item() -> None:
    found = figures(np.array([1.0, 3.0, 11.0, 200.0]))
    assert found["hr@10"] == 0.5 and found["hr@20"] == 0.75
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3) / 4)
    assert found["mrr@20"] == pytest.approx((1 + 1 / 3 + 1 / 11) / 4)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / 2) / 4)


def test_the_split_has_one_test_and_one_validation_item_a_user(shared_data: Path) -> None:
    if not (shared_data / "ml-100k").exists():
        pytest.skip("no ml-100k in ../shared/data beside the repository")
    split = read_split()
    assert (split.n_users, split.n_items) == (943, 1674) and len(split.training[0]) == 99_031
    for part in (split.validation, split.test):
        np.testing.assert_array_equal(np.sort(part[0]), np.arange(943))
    known = set(zip(*(side.tolist() for side in split.training), strict=True))
    assert set(zip(*(side.tolist() for side in split.validation), strict=True)) <= known
    assert not set(zip(*(side.tolist() for side in split.test), strict=True)) & known
    assert split.sides["item"].names == ("actor", "director", "genre", "year")
    assert split.sides["user"].rows.n_rows == 3 * 943, "an age, a gender and an occupation each"
    baseline = starts_of(split, "MF-BPR", InteractionHyperparameters(), seed=1)
    assert baseline["item"].rows.n_rows == 0 and baseline["user"].entities.shape == (943, 64)
