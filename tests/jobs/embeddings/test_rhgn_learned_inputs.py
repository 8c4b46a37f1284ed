"""RHGN's random inputs in the night: learned, kept in the checkpoint, and gone on from the next night."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from feature_store import Table
from jobs.arrays import Checkpoint, keys_of, raw_of
from jobs.program import Input
from models.rhgn import filled_features
from tests.jobs.embeddings.planted import DIMENSION, write_graph, write_ledgers
from tests.jobs.embeddings.rhgn_night import DATES, RHGN, USERS, checkpoint, night, publish, write_world

RANDOM = {"rhgn": RHGN | {"init": "random", "init_attributes": "random", "epochs": 6}}
SEED = 3  # of the planted configuration
MOMENTS = ("exp_avg", "exp_avg_sq")


@pytest.fixture
def root(tmp_path: Path, spark: SparkSession) -> Path:
    write_world(tmp_path)
    return tmp_path


def names(root: Path, found: Checkpoint) -> list[tuple[str, str]]:
    """(type, raw id) of the nodes whose vectors were learned."""
    ids = Input("entity_ids", str(root / "data/entity_ids"))
    raw = {k: dict(zip(i, raw_of(ids.segments(k), i, k).to_pylist(), strict=True)) for k, i in _ids(found).items()}
    kinds = [found.types[kind] for kind in found.entity_type[found.extra["learned_rows"]]]
    return [(k, raw[k][i]) for k, i in zip(kinds, found.entity_id[found.extra["learned_rows"]], strict=True)]


def _ids(found: Checkpoint) -> dict[str, np.ndarray]:
    return {kind: found.entity_id[found.entity_type == number] for number, kind in enumerate(found.types)}


def by_name(root: Path, found: Checkpoint, array: str) -> dict[tuple[str, str], np.ndarray]:
    return dict(zip(names(root, found), found.extra[array], strict=True))


def at_random(nodes: list[tuple[str, str]]) -> np.ndarray:
    """As the paper's ablation draws them: keyed by type and raw id."""
    types = sorted({kind for kind, _ in nodes})
    kinds = np.array([types.index(kind) for kind, _ in nodes])
    keys = keys_of(kinds, types, np.array([raw for _, raw in nodes], object))
    return filled_features(np.full((len(nodes), DIMENSION), np.nan, np.float32), keys, SEED)


def test_random_inputs_of_all_nodes_are_learned_as_in_the_papers_ablation(root: Path) -> None:
    assert night(root, DATES[0], **RANDOM) == 0
    found = checkpoint(root, DATES[0])
    assert len(found.extra["learned_rows"]) == len(found.entity_id)
    moved = np.linalg.norm(found.extra["learned"] - at_random(names(root, found)), axis=1)
    assert (moved > 0.01).mean() > 0.9
    for moment in MOMENTS:
        assert found.extra[f"rhgn.optimiser.learned_rows.{moment}"].shape == found.extra["learned"].shape


def test_of_users_and_items_alone_where_values_have_pretrained_ones(root: Path) -> None:
    assert night(root, DATES[0], rhgn=RHGN | {"init": "random"}) == 0
    found = checkpoint(root, DATES[0])
    assert {kind for kind, _ in names(root, found)} == {"user", "item"}
    assert night(root, DATES[0]) == 0
    assert not {"learned", "learned_rows"} & set(checkpoint(root, DATES[0]).extra)


def test_the_next_night_goes_on_from_them_and_newcomers_begin_at_random(root: Path) -> None:
    """Whose index is another: a newcomer sorts before all."""
    assert night(root, DATES[0], **RANDOM) == publish(root, DATES[0], **RANDOM) == 0
    users = ["a900", *USERS[1:]]
    write_ledgers(root / "data", users)
    write_graph(root / "data", DATES[1], users)
    hardly = {"rhgn": RANDOM["rhgn"] | {"epochs": 1, "learning_rate": 1e-9}}
    assert night(root, DATES[1], DATES[0], **hardly) == publish(root, DATES[1], DATES[0], **hardly) == 0
    first, second = (checkpoint(root, date) for date in DATES)
    before, after = by_name(root, first, "learned"), by_name(root, second, "learned")
    common = sorted(before.keys() & after.keys())
    assert len(common) > 90 and set(after) - set(before) == {("user", "a900")}
    np.testing.assert_allclose([after[n] for n in common], [before[n] for n in common], atol=1e-6)
    np.testing.assert_allclose(after[("user", "a900")], at_random([*common, ("user", "a900")])[-1], atol=1e-6)
    moments = [by_name(root, one, "rhgn.optimiser.learned_rows.exp_avg_sq") for one in (first, second)]
    kept = np.array([moments[1][n].sum() / moments[0][n].sum() for n in common])
    assert (kept > 0.5).all(), "fading at 0.999 a step, and not begun anew"
    spaces = [_space(root, date) for date in DATES]
    assert spaces[0] == spaces[1]


def _space(root: Path, date: object) -> str:
    return Table(str(root / "data/feature_store/user_embeddings/model=rhgn")).manifest(str(date)).fields["space_id"]


def test_a_night_without_training_hands_them_on(root: Path) -> None:
    rarely = RANDOM | {"training": {"train_every_days": 30}}
    assert night(root, DATES[0], **rarely) == night(root, DATES[1], DATES[0], **rarely) == 0
    first, second = (checkpoint(root, date) for date in DATES)
    assert second.facts["trained_at"] == str(DATES[0])
    for array in ("learned", *(f"rhgn.optimiser.learned_rows.{moment}" for moment in MOMENTS)):
        before, after = by_name(root, first, array), by_name(root, second, array)
        common = sorted(before.keys() & after.keys())
        np.testing.assert_array_equal([after[n] for n in common], [before[n] for n in common])


def test_a_predecessor_of_before_they_were_learned_is_gone_on_from(root: Path) -> None:
    """It has no such arrays: they start where its frozen ones were."""
    assert night(root, DATES[0], **RANDOM) == 0
    table = Table(str(root / "data/checkpoints/rhgn"))
    former = checkpoint(root, DATES[0])
    for name in [name for name in former.extra if "learned" in name]:
        del former.extra[name]
    fields = dict(table.manifest(str(DATES[0])).fields)
    with table.replace(str(DATES[0])) as commit:
        former.write(commit)
        commit.fields |= fields
    hardly = {"rhgn": RANDOM["rhgn"] | {"epochs": 1, "learning_rate": 1e-9}}
    assert night(root, DATES[1], DATES[0], **hardly) == 0
    found = checkpoint(root, DATES[1])
    np.testing.assert_allclose(found.extra["learned"], at_random(names(root, found)), atol=1e-6)
