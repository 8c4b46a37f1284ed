"""The comparison of samplers: what is hidden, what the entropies are, and that runs are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.learning.initialisation import keyed_vectors
from models.relgnn_training import Triples, World
from tests.papers import paper_relgnn_samplers as paper

FIGURES = dict.fromkeys(
    ["mrr", "hits@1", "hits@10", "hits@30", "negative_gap", "negative_above", "negative_held_out"], 0.5)  # fmt: skip


def test_runs_differ_in_the_sampler_alone() -> None:
    wanted = paper.settings()
    assert {"Random", "NSCaching500", "ASA10", "ASA100 μ=0.0", "one head"} <= set(wanted)
    assert sum(name.startswith("ASA100") for name in wanted) == len(paper.MARGINS)
    for name, hyper in wanted.items():
        changed = {key for key in vars(hyper) if getattr(hyper, key) != getattr(paper.COMMON, key)}
        assert changed <= ({"sampling", "heads"} if name == "one head" else {"sampling"})


def test_pairs_are_hidden_with_all_their_edges(shared_data: Path) -> None:
    if not (shared_data / "alibaba-ecomm").exists():
        pytest.skip("no alibaba-ecomm in ../shared/data beside the repository")
    world, choosing, ranked = paper.read_world(1, shared_data / "alibaba-ecomm")
    heads, _, tails = world.triples.edges
    pairs = heads * world.triples.n_entities + tails
    parts = [set(pairs[mask].tolist()) for mask in (choosing, ranked, ~(choosing | ranked))]
    assert not parts[0] & parts[1] and not (parts[0] | parts[1]) & parts[2]
    assert (choosing | ranked).mean() == pytest.approx(paper.HIDDEN, abs=0.01)
    assert (world.triples.entity_type[tails] == 1).all() and not world.triples.entity_type[heads].any()
    price = world.attributes[2]
    assert price.is_number and np.abs(price.values.mean()) < 1e-3 and price.values.std() == pytest.approx(1, abs=1e-3)


def test_the_entropy_of_equal_weights_is_the_log_of_the_number_of_messages() -> None:
    """Of a new model with attention off a relation's messages weigh the same, and here all are of one relation."""
    heads, tails = np.array([0, 1, 2, 0]), np.array([3, 3, 3, 4])
    kinds, keys = np.array([0, 0, 0, 1, 1]), np.arange(5, dtype=np.uint64)
    triples = Triples(heads, np.zeros(4, np.int64), tails, kinds, np.zeros(1, np.int64), np.ones(1, np.int64), keys,
                      np.zeros(1, np.uint64))  # fmt: skip
    hyper = dataclasses.replace(paper.COMMON, attends=False, dimension=8)
    world = World(triples, (), keyed_vectors(keys, 8, 0, 1.0), True)
    torch.manual_seed(0)
    first, second = paper.entropies(world.model(hyper, 0), world, np.zeros(4, bool))
    expected = (np.log(3) + np.log(2)) / 2  # node 3 hears three, node 0 two
    for layer in (first, second):
        assert layer["mean"] == pytest.approx(expected) == layer["equal weights"]
        assert layer["deciles of the share"] == [1.0] * 11


def test_what_is_made_is_kept_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "results.json")
    asked = []

    def made(missing: list[tuple[str, int]], end: float, workers: int) -> Iterator[tuple[str, int, dict[str, float]]]:
        asked.append(missing)
        for name, seed in missing[:3]:
            yield name, seed, FIGURES | {"mrr": float(seed)}

    monkeypatch.setattr(paper, "made", made)
    first = paper.runs(1, 1.0, 1)
    assert len(asked[0]) == len(paper.settings()) and list(first) == [name for name, _ in asked[0][:3]]
    second = paper.runs(2, 1.0, 1)
    assert asked[1] == asked[0][3:] + [(name, 2) for name, _ in asked[0]] and len(second) == 6
    assert "Random" in second and not paper.lines(second)[1].startswith("one head")


def test_a_line_has_the_mean_and_spread_of_the_seeds() -> None:
    said = paper.lines({"Random": [FIGURES | {"mrr": 0.1}, FIGURES | {"mrr": 0.3}]})
    assert said[1].split() == ["Random", "2", "0.1000", "0.2000"] + ["0.5000"] * 6
