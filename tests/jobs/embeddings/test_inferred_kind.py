"""Who was not trained gets a vector of the trained ones' kind, with the unit sphere and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store import FeatureStore, Table
from jobs.arrays import INDUCTIVE, TRAINED, Checkpoint, read_checkpoint
from tests.jobs.embeddings.planted import DIMENSION, write_config, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS, night, same_group_share

TRANSE = {"dimension": DIMENSION, "epochs": 60, "negatives": 8, "negatives_shared_by": 4, "threads": 1, "patience": 0}


def users_lengths(checkpoint: Checkpoint, source: int) -> np.ndarray:
    users = checkpoint.entity_type == checkpoint.types.index("user")
    return np.linalg.norm(checkpoint.entities[users & (checkpoint.source == source)], axis=1)


@pytest.mark.parametrize(("unit_norm", "margin"), [(True, 1.0), (False, 1.0), (False, 4.0)])
def test_inferred_users_are_as_long_as_trained_ones_and_lie_among_their_like(
    root: Path, unit_norm: bool, margin: float
) -> None:
    transe = TRANSE | {"unit_norm": unit_norm, "margin": margin}
    config = write_config(root, transe=transe, training={"min_train_events": 6})
    night(config, DATES[0], models=("transe", "kqgc_mean"))
    for model in ("transe", "kqgc_mean"):
        checkpoint = read_checkpoint(Table(str(root / f"data/checkpoints/{model}")), str(DATES[0]))
        trained, inferred = (users_lengths(checkpoint, source) for source in (TRAINED, INDUCTIVE))
        low, high = np.quantile(trained, [0.05, 0.95])
        assert len(inferred) >= 5 and 0.75 * low < np.median(inferred) < 1.25 * high, (model, trained, inferred)
        if model == "transe" and unit_norm:
            np.testing.assert_allclose(inferred, 1, atol=1e-5)
    store = FeatureStore(str(root / "data" / "feature_store"))
    found = store.read("user_embeddings", model="transe", dt=str(DATES[0]))
    inductive = np.array(found.table.column("source").to_pylist()) == "inductive"
    assert same_group_share(found, inductive) > 0.6  # chance: 0.24


def test_a_newcomer_without_the_unit_sphere_is_of_the_others_kind_on_a_night_without_training(root: Path) -> None:
    given = {"transe": TRANSE | {"unit_norm": False, "margin": 4.0}, "training": {"train_every_days": 30}}
    config, newcomers = write_config(root, **given), [f"a{n}" for n in range(900, 912)]
    night(config, DATES[0])
    write_ledgers(root / "data", [*USERS, *newcomers])
    write_graph(root / "data", DATES[1], [*USERS, *newcomers])
    night(config, DATES[1], DATES[0])
    checkpoint = read_checkpoint(Table(str(root / "data/checkpoints/transe")), str(DATES[1]))
    trained, inferred = (users_lengths(checkpoint, source) for source in (TRAINED, INDUCTIVE))
    low, high = np.quantile(trained, [0.05, 0.95])
    assert len(inferred) == len(newcomers) and 0.75 * low < np.median(inferred) < 1.25 * high
