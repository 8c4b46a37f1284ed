"""What other models start from in `paper_ram_gnn_init.py`, and where its nights lie."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from jobs.configuration.load import select
from jobs.embeddings import training
from jobs.embeddings.family import sources_of
from tests.papers import lookalike_rows, paper_ram_gnn_init, profiling_tasks
from tests.papers.lookalike_frames import frame_of
from tests.papers.lookalike_rows import Row
from tests.papers.paper_ram_gnn_init import INITS, InitNights, scores_of
from tests.papers.profiling_runs import with_pretrained
from tests.papers.profiling_tasks import DIMENSION, Task, ram_gnn_vectors
from tests.papers.shops import SHOPS


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """Three users, four items of two brands and a colour, each node's id its number."""
    hyper = profiling_tasks.RAMGNNHyperparameters
    monkeypatch.setattr(profiling_tasks, "RAMGNNHyperparameters", lambda **more: hyper(epochs=30, **more))
    edges = [(0, 0, 3), (0, 1, 3), (0, 0, 4), (1, 0, 5), (3, 2, 7), (4, 2, 7), (5, 2, 8), (6, 2, 8), (3, 3, 9)]
    heads, relations, tails = np.array(edges).T
    types = np.array([0] * 3 + [1] * 4 + [2, 2, 3])
    names = ["user", "item", "brand", "colour"]
    return Task("small", heads, relations, tails, ["liked", "seen", "item_brand", "item_colour"], 2, types, names,
                np.arange(10).astype(str), np.zeros((3, 2), np.int64), [["a"], ["b"]])  # fmt: skip


def test_items_are_pretrained_by_their_attributes_and_users_lie_among_their_items(task: Task) -> None:
    found = ram_gnn_vectors(task)
    assert found.shape == (7, DIMENSION) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    users, items = found[:3], found[3:]
    mean = items[0] + items[1]
    np.testing.assert_allclose(users[0], mean / np.linalg.norm(mean), atol=1e-5, err_msg="two items, one of them twice")
    np.testing.assert_allclose(users[1], items[2], atol=1e-5)
    assert items[0] @ items[1] > items[0] @ items[2] and items[2] @ items[3] > items[1] @ items[3], "a brand shared"


def test_attributes_keep_transes_vectors(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.papers.profiling_runs.kept", lambda name, make: make())
    transe = np.random.default_rng(1).normal(size=(10, DIMENSION)).astype(np.float32)
    found = with_pretrained(task, transe)
    np.testing.assert_array_equal(found[7:], transe[7:])
    assert found.shape == transe.shape and not (found[:7] == transe[:7]).any()


def test_both_starts_share_the_graphs_and_nothing_else() -> None:
    first, second = (InitNights(SHOPS[0], init) for init in INITS)
    assert first.models == ["transe", "kqgc_mean"] and second.models == ["ram_gnn", "kqgc_mean"]
    assert [nights.settings().kqgc.init for nights in (first, second)] == list(INITS)
    assert dataclasses.replace(second.settings().kqgc, init="transe") == first.settings().kqgc
    config = select(second.settings(), training.Config)
    assert tuple(sources_of("kqgc_mean", config)) == ("ram_gnn",)
    for name in ("knowledge_graph", "attributes"):
        assert first.table(name, 1).uri == second.table(name, 1).uri
    for name in ("checkpoints", "user_embeddings"):
        assert first.table(name, 1).uri != second.table(name, 1).uri and "seed1" in first.table(name, 1).uri


@pytest.mark.parametrize(("init", "rows"), [("transe", ["pooled", "pooled+kqgc from transe"]),
                                            ("ram_gnn", ["pooled+kqgc from ram_gnn"])])  # fmt: skip
def test_what_is_scored_of_either_start(
    init: str, rows: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pooled(frame: object, variant: str, models: list[str], windows: int) -> dict[tuple[str, str], Row]:
        assert (models, windows) == (["kqgc_mean"] if variant else [], 3)
        return {(f"{name}{variant}", "acme"): Row(np.zeros(2), np.ones(2)) for name in ("pooled", "own")}

    frame = SimpleNamespace(labels={"acme": np.array([True, False])})
    monkeypatch.setattr(paper_ram_gnn_init, "frame_of", create_autospec(frame_of, return_value=frame))
    monkeypatch.setattr(lookalike_rows, "pooled", create_autospec(lookalike_rows.pooled, side_effect=pooled))
    nights = InitNights(SHOPS[0], init)
    nights.root = tmp_path
    assert sorted(scores_of(nights, 0)) == sorted(["labels\tacme", *(f"{row}\tacme" for row in rows)])
