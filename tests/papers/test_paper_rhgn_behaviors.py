"""The parts of `make paper-rhgn-behaviors`: which weight is chosen, the rank, and that a run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.papers import paper_rhgn_behaviors
from tests.papers.paper_rhgn_behaviors import MARGIN, WEIGHTS, best_weight, kept
from tests.papers.vector_figures import effective_rank


def test_the_highest_weight_that_costs_the_labels_little_is_chosen() -> None:
    f1 = {0.0: 0.5, 0.1: 0.52, 0.3: 0.5 - 0.009 * MARGIN, 1.0: 0.5 - 0.011 * MARGIN}
    assert best_weight(f1) == 0.3
    assert best_weight({weight: 0.5 - weight for weight in WEIGHTS}) == 0.0


def test_the_rank_is_that_of_the_axes_of_variance() -> None:
    random = np.random.default_rng(0)
    assert effective_rank(random.normal(size=(20_000, 8)) + 5) == pytest.approx(8, abs=0.01)  # the mean counts nothing
    assert effective_rank(np.outer(np.arange(9.0), np.arange(4.0))) == pytest.approx(1)
    two = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(two) == pytest.approx(np.exp(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1))))


def test_what_is_kept_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_rhgn_behaviors, "RESULTS", tmp_path / "found.json")
    found = {}
    assert kept(found, "a", lambda: {"rank": 2.5}) == {"rank": 2.5}
    again = json.loads((tmp_path / "found.json").read_text())
    assert kept(again, "a", lambda: pytest.fail("made again")) == {"rank": 2.5}
