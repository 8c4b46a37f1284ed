"""What is held out of a night is held out of the next, whoever comes: no look is at what the night before learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.hyperparameters import KQGCHyperparameters
from models.kqgc_training import held_out_pairs as held_out_of_kqgc
from models.learning.held_out import first_by_key
from models.ram_gnn_hyperparameters import InteractionHyperparameters, RAMGNNHyperparameters
from models.ram_gnn_interactions import Pretrained
from models.ram_gnn_interactions_training import InteractionTrainer
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side, SideTrainer

N, KINDS = 60, 3  # entities, relation types
RAM_GNN = RAMGNNHyperparameters(dimension=4, mlp_width=2, validation_share=0.2)
NETWORK = InteractionHyperparameters(layers=1, validation_share=0.3)
NEWCOMER = 17  # where he stands in the second night's order: all after him have another place
Held = set[tuple[int, ...]]


def keys_of(raw: list[int]) -> np.ndarray:
    return (np.array(raw, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)


def nights() -> tuple[list[int], list[int]]:
    """The entities of two nights by number, in the order of each."""
    return list(range(N)), [*range(NEWCOMER), N, *range(NEWCOMER, N)]


def held_rows(entities: list[int], seed: int) -> Held:
    """RAM-GNN: (entity, value) by number; everybody has a value of each type."""
    table = np.random.default_rng(0).integers(5, size=(N + 1, KINDS)) + 5 * np.arange(KINDS)
    own, values = np.repeat(np.arange(len(entities)), KINDS), table[entities].ravel()
    rows = AttributeRows.of(own, values, np.repeat(np.arange(KINDS), 5), len(entities), KINDS)
    keys = keys_of(entities), keys_of([100, 101, 102]), keys_of(list(range(200, 200 + 5 * KINDS)))
    trainer = SideTrainer("item", Side(rows, *keys, ("a", "b", "c")), RAM_GNN, seed)
    held = trainer.held_out.numpy()
    owners, chosen = rows.entities.numpy()[held], rows.values.numpy()[held]
    return {(entities[e], int(v)) for e, v in zip(owners, chosen, strict=True)}


def touched(users: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(users in the night's order, items, times): six items each."""
    rng = np.random.default_rng(1)
    items, times = np.argsort(rng.random((N + 1, 20)))[:, :6], rng.integers(3, size=(N + 1, 6))
    return np.repeat(np.arange(len(users)), 6), items[users].ravel(), times[users].ravel()


def held_of_network(users: list[int], seed: int, recent: int) -> Held:
    """The interaction network: (user, item) by number."""
    nothing, (rows, items, times) = np.zeros(0, np.int64), touched(users)
    sides = [
        Pretrained(np.ones((n, 4), np.float32), np.zeros((0, 2), np.float32),
                   AttributeRows.of(nothing, nothing, nothing, n, 0), keys)
        for n, keys in ((len(users), keys_of(users)), (20, keys_of(list(range(300, 320)))))]  # fmt: skip
    hyper, taught = replace(NETWORK, recent=recent), np.ones(len(users), bool)
    held = InteractionTrainer(*sides, (rows, items), taught, hyper, seed, None, times).held_out
    return {(users[u], int(i)) for u, i in zip(*held, strict=True)}


def held_of_kqgc(users: list[int], seed: int) -> Held:
    rows, items, _ = touched(users)
    keys = keys_of(users)[rows], keys_of(list(range(300, 320)))[items]
    held = held_out_of_kqgc(*keys, KQGCHyperparameters(learned=True, validation_share=0.2), seed)
    return {(users[u], int(i)) for u, i in zip(rows[held], items[held], strict=True)}


@pytest.mark.parametrize("held_of", [
    held_rows,
    lambda users, seed: held_of_network(users, seed, recent=0),
    lambda users, seed: held_of_network(users, seed, recent=4),
    held_of_kqgc,
], ids=["ram_gnn", "ram_gnn_rec", "ram_gnn_rec that is recent", "kqgc"])  # fmt: skip
def test_a_newcomer_leaves_the_others_held_out(held_of) -> None:  # noqa: ANN001
    """One at the end of so many may come or go, since the share is of one more; most nights none does."""
    moved, found = [], []
    for seed in range(10):
        before, after = (held_of(entities, seed) for entities in nights())
        common = {one for one in after if one[0] != N}
        assert len(before) > 10
        assert common <= before or before <= common, "nobody changes places with another"
        moved.append(len(common ^ before))
        found.append(frozenset(before))
    assert max(moved) <= 3 and np.median(moved) <= 1
    assert len(set(found)) == 10, "by the seed"


def test_the_first_by_key_are_so_many_and_no_others() -> None:
    keys = np.random.default_rng(0).integers(1 << 63, size=50).astype(np.uint64)
    for wanted in (0, 1, 20, 49, 50, 60):
        held = first_by_key(keys, wanted)
        assert held.sum() == min(wanted, 50) and (held.all() or (held.any() == (wanted > 0)))
        assert not held.any() or held.all() or keys[held].max() < keys[~held].min()
    assert len(first_by_key(keys[:0], 0)) == 0
