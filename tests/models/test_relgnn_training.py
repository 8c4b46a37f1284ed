"""RelGNN's training: the contract, the loss by hand, what a batch hides, resuming, warm starts, bad input."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.learning.initialisation import keyed_vectors
from models.relgnn import infer_relgnn, vectors_of
from models.relgnn_attributes import Attribute
from models.relgnn_candidates import Candidates, Siblings, Validation
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.relgnn_training import World, _Trainer, losses, train_relgnn
from models.sampling_hyperparameters import KINDS, SamplingHyperparameters
from models.transe import Triples
from tests.models.contract import Fitted, ModelContract, Planted, planted
from tests.models.test_transe import triples_of

FAST = RelGNNHyperparameters(
    dimension=16, heads=2, bases=2, attribute_width=4, epochs=12, batch_size=128, dropout=0.0, learning_rate=0.02,
    sampling=SamplingHyperparameters("uniform", pool=20), validation_share=0.1)  # fmt: skip


def world_of(data: Planted, learn: bool = True) -> World:
    """The edges; a category of items with a brand that says the same as their edges; vectors of the nodes' own."""
    triples = triples_of(data)
    given = keyed_vectors(triples.entity_keys, 16, 1, 0.4)
    attributes = []
    if data.n_relations > 1:
        edges = np.flatnonzero(data.relations == 1)
        brands = data.tails[edges] - data.n_users - data.n_items
        attributes = [Attribute.of("brand", int(triples.entity_type[data.items[0]]), data.heads[edges], brands,
                                   int(brands.max()) + 1, edges)]  # fmt: skip
    return World(triples, attributes, given, learn)


def trained(data: Planted, hyper: RelGNNHyperparameters = FAST, seed: int = 1, **more: object) -> object:
    return train_relgnn(world_of(data), hyper, seed=seed, deterministic=True, **more)


class TestRelGNN(ModelContract):
    def fit(self, data: Planted, seed: int) -> Fitted:
        world = world_of(data)
        found = train_relgnn(world, FAST, seed=seed, deterministic=True)
        vectors = infer_relgnn(world.model(FAST, seed), world.graph(), found.arrays)
        return Fitted(vectors, found.arrays["relations"], found.arrays)

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        hyper = dataclasses.replace(FAST, fanout=0)
        trainer = trainer_of(world_of(data), hyper)
        loss, _ = trainer.loss(np.arange(0, len(data.heads), 7), *random(), 0.0)
        loss.backward()
        # a batch hides its own brands: they are missing there, and only there
        return {name: values.grad.numpy() for name, values in trainer.model.named_parameters()
                if name != "inputs.no_given"}  # fmt: skip


def random() -> tuple[np.random.Generator, torch.Generator]:
    return np.random.default_rng(0), torch.Generator().manual_seed(0)


def trainer_of(world: World, hyper: RelGNNHyperparameters, held_out: np.ndarray | None = None) -> _Trainer:
    n = len(world.triples.heads)
    held_out = np.zeros(n, bool) if held_out is None else held_out
    return _Trainer(world, world.model(hyper, 1), held_out, np.ones(n, bool), 1, True)


def test_the_loss_is_the_cross_entropy_of_equation_8() -> None:
    true, broken = np.array([0.5, -1.0]), np.array([[0.2, 3.0], [1.0, -2.0]])
    counts = np.array([[True, False], [True, True]])

    def chance(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    expected = [-np.log(chance(0.5)) - np.log(1 - chance(0.2)),
                -np.log(chance(-1)) - (np.log(1 - chance(1)) + np.log(1 - chance(-2))) / 2]  # fmt: skip
    found = losses(*(torch.from_numpy(x) for x in (true, broken, counts)))
    np.testing.assert_allclose(found, expected)
    nothing = losses(torch.tensor([0.5]), torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    assert float(nothing) == pytest.approx(expected[0] + np.log(1 - chance(0.2))), "no negative counts"


@pytest.mark.parametrize("hides", ["edge", "pair"])
@pytest.mark.parametrize(("fanout", "layers"), [(0, 2), (1000, 2), (0, 0)])
def test_a_batch_does_not_see_its_own_edges(hides: str, fanout: int, layers: int) -> None:
    """Its vectors are those of a graph without them: with pairs, also without the other edges between their ends."""
    data = planted()
    world = world_of(data)
    more = {name: np.append(getattr(data, name), getattr(data, name)[0]) for name in ("heads", "tails")}
    twice = dataclasses.replace(world.triples, relations=np.append(data.relations, 1), **more)
    world = World(twice, world.attributes, world.given, True)
    hyper = dataclasses.replace(FAST, fanout=fanout, hides=hides, layers=layers)
    trainer, edges = trainer_of(world, hyper), np.array([0, 5, len(data.heads) - 1])
    hidden = trainer.siblings.of_edges(edges) if hides == "pair" else edges
    assert sorted(hidden) == [0, 5, len(data.heads) - 1, len(data.heads)][: 4 if hides == "pair" else 3]
    trainer.model.eval()
    nodes = np.arange(data.n_entities)
    found = trainer.vectors(nodes, hidden).detach().numpy()
    left = np.ones(len(twice.heads), bool)
    left[hidden] = False
    mask = ~left
    np.testing.assert_allclose(found, vectors_of(trainer.model, world.graph(left), mask), rtol=1e-4, atol=1e-5)
    everything = trainer.vectors(nodes, np.zeros(0, np.int64)).detach().numpy()
    assert np.abs(everything - found).max() > 1e-3 and not trainer.hidden.any(), "nothing stays hidden"


def test_held_out_edges_pass_no_message_and_are_never_learned_from() -> None:
    data = planted()
    world, held_out = world_of(data), np.arange(len(data.heads)) % 7 == 0
    trainer = trainer_of(world, dataclasses.replace(FAST, fanout=0), held_out)
    assert not held_out[trainer.trained].any() and len(trainer.trained) == (~held_out).sum()
    trainer.model.eval()
    found = trainer.vectors(np.arange(data.n_entities), np.array([1])).detach().numpy()
    left = ~held_out
    left[1] = False
    np.testing.assert_allclose(found, vectors_of(trainer.model, world.graph(left), ~left), rtol=1e-4, atol=1e-5)
    assert trainer.hidden.sum() == held_out.sum()


def test_candidates_are_of_the_right_type_and_not_known() -> None:
    data = planted()
    triples = triples_of(data)
    known = np.arange(len(data.heads)) % 2 == 0
    candidates, ends = Candidates.of(triples, known), tuple(column[:20] for column in triples.edges)
    drawn = candidates.draw(ends[1], 1000, np.random.default_rng(0))
    true = set(zip(*(column[known].tolist() for column in triples.edges), strict=True))
    for broken_tail in (True, False):
        counts = candidates.counts(ends, broken_tail, drawn)
        for b, (h, r, t) in enumerate(zip(*(column.tolist() for column in ends), strict=True)):
            kind = (triples.relation_tail_type if broken_tail else triples.relation_head_type)[r]
            for k, node in enumerate(drawn.tolist()):
                triple = (h, r, node) if broken_tail else (node, r, t)
                assert counts[b, k] == (triples.entity_type[node] == kind and triple not in true)


def test_a_held_out_edges_rank_is_counted_by_hand() -> None:
    data = planted()
    world, held_out = world_of(data), np.arange(len(data.heads)) % 9 == 0
    model = world.model(FAST, 1)
    validation = Validation.of(world.triples, held_out, dataclasses.replace(FAST, evaluate_candidates=1000), 1)
    x = torch.from_numpy(keyed_vectors(world.triples.entity_keys, 16, 5, 1.0))
    found = validation.figures(x, model)
    r, v, inverse, below = model.relations.detach().numpy(), x.numpy(), [], []
    true = set(zip(*(column.tolist() for column in world.triples.edges), strict=True))
    for h, rel, t in zip(*(column[held_out].tolist() for column in world.triples.edges), strict=True):
        ranks = []
        for tail in (True, False):
            kinds = world.triples.relation_tail_type if tail else world.triples.relation_head_type
            others = [n for n in np.flatnonzero(world.triples.connected & (world.triples.entity_type == kinds[rel]))
                      if ((h, rel, n) if tail else (n, rel, t)) not in true]  # fmt: skip
            scores = [(v[h] * r[rel]) @ v[n] if tail else (v[n] * r[rel]) @ v[t] for n in others]
            ranks.append((1 + np.sum(np.array(scores) > (v[h] * r[rel]) @ v[t]), len(others)))
        inverse.append(np.mean([1 / rank for rank, _ in ranks]))
        below.append(np.mean([1 - (rank - 1) / n for rank, n in ranks]))
    assert found["validation_mrr"] == pytest.approx(np.mean(inverse), rel=1e-6)
    assert found["validation_auc"] == pytest.approx(np.mean(below), rel=1e-6)
    assert found["validation_mrr_error"] == pytest.approx(np.std(inverse, ddof=1) / len(inverse) ** 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_teaches_and_says_how_hard_its_negatives_are(kind: str) -> None:
    sampling = SamplingHyperparameters(kind, pool=40, margin=0.1, temperature=5.0)
    history = trained(planted(), dataclasses.replace(FAST, sampling=sampling, patience=0)).history
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["validation_auc"] > 0.6
    assert all(0 <= entry["negative_above"] <= 1 and 0 <= entry["negative_held_out"] <= 1 for entry in history)
    if kind == "nscaching":  # the hardest are the most often held out, and the nearest to the true ones
        easy = trained(planted(), dataclasses.replace(FAST, patience=0)).history
        for name, sign in (("negative_gap", -1), ("negative_above", 1), ("negative_held_out", 1)):
            sums = [sum(entry[name] for entry in entries) for entries in (history, easy)]
            assert sign * (sums[0] - sums[1]) > 0, name


class _KilledError(Exception):
    pass


def test_a_killed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, path = trained(planted()), tmp_path / "state"

    def kill(entry: dict[str, float]) -> None:
        if entry["epoch"] == 6:
            raise _KilledError

    with pytest.raises(_KilledError):
        trained(planted(), resume=path, progress=kill)
    seen = []
    again = trained(planted(), resume=path, progress=seen.append)
    assert seen[0]["epoch"] == 6 and again.best_epoch == whole.best_epoch
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(values, again.arrays[name], err_msg=name)


def test_a_warm_start_goes_on_at_a_share_of_the_rate_with_the_optimisers_state() -> None:
    hyper = dataclasses.replace(FAST, validation_share=0.0, epochs=5)
    first = trained(planted(), hyper)
    second = trained(planted(), hyper, initial=first.arrays)
    assert second.history[0]["loss"] < first.history[0]["loss"] and second.best_epoch == 4
    step = "optimiser.relations.step"
    assert second.arrays[step] == 2 * first.arrays[step]
    moved = np.abs(first.arrays["relations"] - 1).max()
    assert np.abs(second.arrays["relations"] - first.arrays["relations"]).max() < moved


def test_only_taught_edges_are_learned_from() -> None:
    data = planted()
    taught = data.relations == 1
    # with attention the state h_r has a part in every message, and so a gradient
    hyper = dataclasses.replace(FAST, epochs=2, validation_share=0.0, attends=False)
    found = train_relgnn(world_of(data), hyper, seed=1, taught=taught, deterministic=True).arrays
    assert np.ptp(found["optimiser.relations.exp_avg"][0]) == 0 != np.ptp(found["optimiser.relations.exp_avg"][1])
    nothing = train_relgnn(world_of(data), hyper, seed=1, taught=np.zeros_like(taught))
    assert nothing.best_epoch == -1 and nothing.history == [] and (nothing.arrays["relations"] == 1).all()


def test_who_was_not_in_training_has_a_vector_by_attributes_and_messages() -> None:
    """A newcomer who bought what one taste buys lies among its users."""
    data = planted()
    world = dataclasses.replace(world_of(data), given=None, learn_given=False)
    found = train_relgnn(world, FAST, seed=1, deterministic=True).arrays
    old, newcomer = np.flatnonzero((data.heads == 0) & (data.relations == 0)), data.n_entities
    more = dataclasses.replace(
        world.triples, heads=np.append(data.heads, np.full(len(old), newcomer)),
        relations=np.append(data.relations, np.zeros(len(old), np.int64)), tails=np.append(data.tails, data.tails[old]),
        entity_type=np.append(world.triples.entity_type, 0), entity_keys=np.append(world.triples.entity_keys, [9]))
    tonight = dataclasses.replace(world, triples=more)
    vectors = infer_relgnn(tonight.model(FAST, 1), tonight.graph(), found)
    near = np.argsort(np.linalg.norm(vectors[data.users] - vectors[newcomer], axis=1))[:5]
    assert (data.tastes[near] == data.tastes[0]).mean() >= 0.6


def tiny(relations: list[int]) -> Triples:
    """Two users, two items, and a node that has neither attribute nor edge; relation 1 with one edge."""
    edges = np.array([[0, 0, 1, 0], relations, [2, 3, 3, 2]])
    keys = np.arange(5, dtype=np.uint64)
    return Triples(*edges, np.array([0, 0, 1, 1, 1]), np.array([0, 0]), np.array([1, 1]), keys, keys[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_graphs_are_learned_without_a_number_that_is_none(kind: str) -> None:
    """A relation with one edge, constant attributes, a pool larger than the candidates, and every candidate a known
    positive (both users bought all)."""
    constant = [Attribute.of("region", 0, np.array([0, 1]), np.array([0, 0]), 1),
                Attribute.of("age", 0, np.array([0, 1]), np.full(2, 0.5, np.float32))]  # fmt: skip
    hyper = dataclasses.replace(FAST, sampling=SamplingHyperparameters(kind, pool=100), negatives=3, epochs=3)
    triples = tiny([0, 0, 0, 1])
    full = dataclasses.replace(triples, heads=np.append(triples.heads, 1), relations=np.append(triples.relations, 0),
                               tails=np.append(triples.tails, 2))  # fmt: skip
    for one in (triples, full):
        world = World(one, constant)
        found = train_relgnn(world, hyper, seed=1, deterministic=True)
        vectors = infer_relgnn(world.model(hyper, 1), world.graph(), found.arrays)
        assert np.isfinite(vectors).all() and all(np.isfinite(entry["loss"]) for entry in found.history)


def test_siblings_are_all_edges_of_a_pair_in_either_direction() -> None:
    keys = np.arange(4, dtype=np.uint64)
    columns = np.array([[0, 1, 0, 2], [0, 0, 1, 0], [1, 0, 1, 3]])
    triples = Triples(*columns, np.zeros(4, int), np.zeros(2, int), np.zeros(2, int), keys, keys[:2])
    siblings = Siblings.of(triples, 1)
    assert sorted(siblings.of_edges(np.array([1]))) == [0, 1, 2] and siblings.of_edges(np.array([3])).tolist() == [3]


def test_another_look_may_choose_the_epoch() -> None:
    data, seen = planted(), []

    def look(x_ND: torch.Tensor, model: object) -> dict[str, float]:
        seen.append(tuple(x_ND.shape))
        return {"nearness": float(len(seen) == 2), "nearness_error": 0.0}

    hyper = dataclasses.replace(FAST, epochs=5, evaluate_every=1, patience=0, validation_share=0.0)
    found = trained(data, hyper, look=look, measure="nearness")
    assert found.best_epoch == 1 and seen == [(data.n_entities, 16)] * 5
    assert all("validation_mrr" not in entry and "nearness" in entry for entry in found.history)


@pytest.mark.parametrize("broken_tail", [True, False])
def test_a_batchs_negatives_are_of_the_right_type_not_known_and_scored_by_their_own_vectors(broken_tail: bool) -> None:
    """Purchases and brands in one batch: items stand in for items, brands, of which there are 8, for brands."""
    data = planted()
    hyper = dataclasses.replace(FAST, sampling=SamplingHyperparameters("nscaching", pool=30), negatives=10)
    trainer = trainer_of(world_of(data), hyper)
    triples, edges = trainer.world.triples, np.arange(0, len(data.heads), 3)
    ends, x = tuple(column[edges] for column in triples.edges), torch.randn(data.n_entities, 16)
    drawn = trainer.candidates.draw(ends[1], 30, np.random.default_rng(0))
    own, other = (ends[0], ends[2]) if broken_tail else (ends[2], ends[0])
    queries = trainer.model.queries(x[own], torch.from_numpy(ends[1]), broken_tail).detach()
    true_B = (queries * x[other]).sum(1)
    given = ends, broken_tail, queries, true_B, drawn, x[drawn], random()[1], 0.0
    scores, counts, nodes = trainer.negatives(*given)
    known = set(zip(*(column.tolist() for column in triples.edges), strict=True))
    for b, (h, r, t) in enumerate(zip(*(column.tolist() for column in ends), strict=True)):
        kind = (triples.relation_tail_type if broken_tail else triples.relation_head_type)[r]
        able = [n for n in drawn.tolist() if triples.entity_type[n] == kind
                and ((h, r, n) if broken_tail else (n, r, t)) not in known]  # fmt: skip
        found = nodes[b][counts[b].numpy()]
        assert len(found) == min(len(able), 10) and set(found.tolist()) <= set(able)
        best = sorted((float(queries[b] @ x[n]) for n in able), reverse=True)[: len(found)]
        np.testing.assert_allclose(scores[b][counts[b]], best, rtol=1e-4, atol=1e-5)
