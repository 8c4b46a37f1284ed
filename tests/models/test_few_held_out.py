"""What little held-out data stops: nothing. RelGNN, RAM-GNN and HUGT say how much they hold out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from models.hugt_training import train_hugt
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_training import train_ram_gnn
from tests.models import test_hugt_training as hugt
from tests.models import test_ram_gnn_interactions as interactions
from tests.models import test_relgnn_training as relgnn
from tests.models.contract import planted
from tests.models.ram_gnn_worlds import side_of_planted

STOPS = {"epochs": 4, "evaluate_every": 1, "patience": 1, "min_gain": 1.0}
RAM_GNN = RAMGNNHyperparameters(dimension=8, mlp_width=4, min_epochs=0)


def of_relgnn(share: float) -> object:
    return relgnn.trained(planted(), dataclasses.replace(relgnn.FAST, **STOPS, validation_share=share))


def of_interactions(share: float) -> object:
    return interactions.trained(planted(), dataclasses.replace(interactions.LEARNS, **STOPS, validation_share=share))


def of_ram_gnn(share: float) -> object:
    sides = {"item": side_of_planted(planted())}
    return train_ram_gnn(sides, dataclasses.replace(RAM_GNN, **STOPS, validation_share=share), seed=1)


def of_hugt(share: float) -> object:
    able = np.flatnonzero(hugt.planted().lengths >= 3)
    held_out = np.isin(np.arange(hugt.USERS), able[: int(share * hugt.USERS)])
    return train_hugt(hugt.world(), dataclasses.replace(hugt.FAST, **STOPS), seed=1, held_out=held_out)


@pytest.mark.parametrize("trained", [of_relgnn, of_interactions, of_ram_gnn, of_hugt])
def test_few_held_out_stop_nothing_and_enough_do(
    trained: Callable[[float], object], caplog: pytest.LogCaptureFixture
) -> None:
    """The first look is a gain, and no later one gains 100 %."""
    few = trained(0.05)
    assert len(few.history) == 4 and few.best_epoch == 3
    assert "fewer than 30 tell no gain from chance: all 4 epochs are trained" in caplog.text
    caplog.clear()
    enough = trained(0.5)
    assert len(enough.history) < 4 and not caplog.text
