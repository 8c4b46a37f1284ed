"""The interaction network's batches: how many an epoch has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.ram_gnn_interactions_training import InteractionTrainer
from tests.models.test_ram_gnn_interactions import ITEMS, PLAIN, TOUCHED, USERS, U, both


@pytest.mark.parametrize(("least", "updates"), [(1, 4), (2, 4), (4, 2), (5, 1), (9, 1), (10, 1)])
def test_an_update_has_its_least_number_of_pairs_and_every_pair_counts_once(least: int, updates: int) -> None:
    hyper = dataclasses.replace(PLAIN, batches=4, least_batch=least, validation_share=0)
    trainer = InteractionTrainer(USERS, ITEMS, both(TOUCHED), np.ones(U, bool), hyper, 1, None)
    seen, whole = [], trainer.loss

    def spy(users: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(users))
        return whole(users, *rest)

    trainer.loss = spy
    trainer.epoch(0)
    assert len(seen) == updates and sum(seen) == len(TOUCHED)
