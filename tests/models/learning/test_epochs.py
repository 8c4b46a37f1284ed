"""The loop over epochs: which look is the best, and what a gain is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from models.learning.epochs import run_epochs

FIGURES = (0.5, 0.4, 0.52, 0.3, 0.9)


def best_of(patience: int = 0, **options: object) -> tuple[int, int]:
    """(the best epoch, the epochs trained) of a training that looks at these figures, one after the other."""
    looks = iter(FIGURES)
    _, history, best_epoch = run_epochs(
        SimpleNamespace(epochs=5, evaluate_every=1, patience=patience), lambda epoch: 0.0, lambda: None,
        evaluate=lambda: {"validation_x": next(looks), "validation_x_error": 0.01}, measure="validation_x",
        progress=None, **options)  # fmt: skip
    return best_epoch, len(history)


@pytest.mark.parametrize(("falls", "best"), [(False, 4), (True, 3)])
def test_the_measure_decides_upwards_or_downwards(falls: bool, best: int) -> None:
    assert best_of(falls=falls)[0] == best


@pytest.mark.parametrize(("min_gain", "epochs"), [(None, 5), (0.0, 5), (0.1, 3)])
def test_a_gain_below_the_share_of_the_figure_does_not_count(min_gain: float | None, epochs: int) -> None:
    assert best_of(patience=2, min_gain=min_gain)[1] == epochs
