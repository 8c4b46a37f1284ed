"""The loop over epochs: which look is the best, what a gain is, what is not finite, where a state lies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.learning.divergence import Diverged
from models.learning.epochs import (
    Resume,
    as_checkpoint,
    load_checkpoint,
    optimiser_state,
    parameters_of,
    run_epochs,
)
from models.learning.training import Snapshot

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


@pytest.mark.parametrize(("held_out", "best", "epochs"), [(29, 4, 5), (30, 1, 3), (None, 1, 3)])
def test_of_few_held_out_no_look_counts_and_it_is_said(
    held_out: int | None, best: int, epochs: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The last is kept, which is not the best where the measure falls."""
    assert best_of(patience=2, falls=True, min_gain=1.0, held_out=held_out) == (best, epochs)
    told = "validation_x is that of 29 held out, and fewer than 30 tell no gain from chance: all 5 epochs are trained"
    assert (told in caplog.text) == (held_out == 29)
    caplog.clear()
    best_of(held_out=29)
    assert not caplog.text, "without patience nothing would have stopped it"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_it_before_that_epoch_is_looked_at_kept_or_saved(
    loss: float, tmp_path: Path
) -> None:
    """Every comparison with NaN is false: ranks of such a model are all the first."""
    losses, looks = iter([0.5, 0.4, loss, 0.3]), []
    snapshot = Snapshot(tmp_path / "run", "this one")

    def look() -> dict[str, float]:
        looks.append(0)
        return {"validation_x": len(looks)}

    with pytest.raises(Diverged, match=f"the loss of epoch 3 is {loss}; the model has diverged"):
        run_epochs(
            SimpleNamespace(epochs=4, evaluate_every=1, patience=0), lambda epoch: next(losses),
            lambda: {"x": np.array([float(len(looks))])}, evaluate=look, measure="validation_x", progress=None,
            resume=Resume(snapshot, lambda now: None))  # fmt: skip
    arrays, _ = snapshot.load()
    assert len(looks) == 2 and arrays["now.x"] == arrays["best.x"] == 2


def test_parameters_that_are_not_finite_are_not_kept() -> None:
    """An epoch's last step may be the one that spoils them, of which its loss says nothing."""
    model = torch.nn.Linear(2, 3)
    assert set(parameters_of(model)) == {"weight", "bias"}
    with torch.no_grad():
        model.bias[1] = torch.inf
    with pytest.raises(Diverged, match="parameter 'bias' holds 1 numbers of 3 that are not finite"):
        parameters_of(model)


@pytest.mark.parametrize("option", [{}, {"fused": True}, {"capturable": True}])
def test_a_state_that_is_taken_up_lies_where_torchs_own_loading_puts_it(option: dict[str, bool]) -> None:
    """On a device that is not the CPU: "meta" has shapes and no numbers. The groups differ, as theirs may."""
    here = torch.nn.Linear(2, 1)
    stepped = torch.optim.Adam(here.parameters())
    here(torch.ones(1, 2)).sum().backward()
    stepped.step()
    found = []
    for _ in range(2):
        there = torch.nn.Linear(2, 1, device="meta")
        groups = [{"params": [there.weight], **option}, {"params": [there.bias]}]
        found.append((there, torch.optim.Adam(groups)))
    (mine, taken_up), (theirs, loaded) = found
    load_checkpoint(mine, taken_up, as_checkpoint(parameters_of(here), optimiser_state(here, stepped)))
    loaded.load_state_dict(loaded.state_dict() | {"state": stepped.state_dict()["state"]})
    for own, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        devices = {name: moment.device.type for name, moment in taken_up.state[own].items()}
        assert devices == {name: moment.device.type for name, moment in loaded.state[other].items()}
    assert devices == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}, "of the second group"
