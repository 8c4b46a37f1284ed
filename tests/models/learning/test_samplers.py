"""Samplers of negatives: each against a loop, what is never chosen, pools too small; and TransE and KQGC by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.hyperparameters import HyperparameterError, KQGCHyperparameters, TransEHyperparameters
from models.kqgc import KQGC
from models.kqgc_training import _Trainer, train_kqgc
from models.learning.negatives import Planner, Pools, draw_broken_triples, known_triples
from models.learning.samplers import choose, hardness
from models.sampling_hyperparameters import KINDS, SamplingHyperparameters
from models.transe import TransEState, distance, initialise
from models.transe_torch import TorchEngine
from models.transe_training import train_transe
from tests.models.contract import planted
from tests.models.test_kqgc import FAST, graph_of, vectors_of
from tests.models.test_transe import SMALL, triples_of

B, K = 6, 9


def scores(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(true, broken, counts): of row 0 nothing counts, of row 1 one candidate."""
    random = np.random.default_rng(seed)
    counts = random.random((B, K)) < 0.7
    counts[0], counts[1] = False, np.arange(K) == 4
    true, broken = (torch.from_numpy(random.normal(size=shape)) for shape in (B, (B, K)))
    return true, broken, torch.from_numpy(counts)


def chosen(sampling: SamplingHyperparameters, keep: int, passed: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    found = choose(sampling, keep, *scores(), torch.Generator().manual_seed(seed), passed)
    return tuple(part.numpy() for part in found)


@pytest.mark.parametrize(("kind", "margin"), [("nscaching", 0.0), ("asa", 0.0), ("asa", 0.7)])
def test_the_choice_is_that_of_equations_10_and_11(kind: str, margin: float) -> None:
    places, counts = chosen(SamplingHyperparameters(kind, margin=margin), keep=2)
    true, broken, able = (part.numpy() for part in scores())
    for b in range(2, B):
        there = [k for k in range(K) if able[b, k]]
        if kind == "nscaching":
            order = sorted(there, key=lambda k: -broken[b, k])  # noqa: B023
        else:
            order = sorted(there, key=lambda k: abs(true[b] - broken[b, k] - margin))  # noqa: B023
        assert places[b].tolist() == order[:2] and counts[b].all()


@pytest.mark.parametrize("kind", KINDS)
def test_true_triples_are_chosen_last_and_count_nothing(kind: str) -> None:
    places, counts = chosen(SamplingHyperparameters(kind), keep=3)
    able = scores()[2].numpy()
    assert places.shape == (B, 3) and not counts[0].any(), "every candidate is a known positive"
    assert places[1, 0] == 4 and counts[1].tolist() == [True, False, False]
    np.testing.assert_array_equal(counts, np.take_along_axis(able, places, axis=1))
    assert all(len(set(row)) == 3 for row in places.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_smaller_than_what_is_wanted_gives_all_of_it(kind: str) -> None:
    places, counts = chosen(SamplingHyperparameters(kind), keep=50)
    assert np.sort(places, axis=1).tolist() == [list(range(K))] * B and counts.sum() == scores()[2].sum()


def test_a_pool_of_nobody_chooses_nobody() -> None:
    nobody = torch.zeros(B, 0)
    places, counts = choose(
        SamplingHyperparameters("asa"), 2, torch.zeros(B), nobody, nobody.bool(), torch.Generator())
    assert places.shape == counts.shape == (B, 0)


def test_self_adversarial_draws_by_the_softmax_of_the_scores() -> None:
    random, n = torch.Generator().manual_seed(1), 40_000
    broken = torch.tensor([0.0, 0.5, -1.0, 2.0]).expand(n, 4)
    counts = torch.tensor([True, True, True, False]).expand(n, 4)
    sampling = SamplingHyperparameters("self_adversarial", temperature=2.0)
    places, _ = choose(sampling, 1, torch.zeros(n), broken, counts, random)
    shares = np.bincount(places[:, 0], minlength=4) / n
    weights = np.exp(2 * np.array([0.0, 0.5, -1.0]))
    np.testing.assert_allclose(shares, [*weights / weights.sum(), 0], atol=0.01)


def test_uniform_gives_each_row_its_own_and_each_candidate_its_share() -> None:
    n = 20_000
    zeros, counts = torch.zeros(n, 5), torch.ones(n, 5, dtype=torch.bool)
    places, _ = choose(SamplingHyperparameters(), 1, torch.zeros(n), zeros, counts, torch.Generator().manual_seed(2))
    np.testing.assert_allclose(np.bincount(places[:, 0], minlength=5) / n, 0.2, atol=0.015)


@pytest.mark.parametrize(("decay", "half"), [("constant", 0.4), ("linear", 0.22), ("exponential", 0.4 * 0.1**0.5)])
def test_the_margin_falls_as_its_decay_says(decay: str, half: float) -> None:
    sampling = SamplingHyperparameters("asa", margin=0.4, decay=decay)
    assert sampling.margin_at(0.0) == pytest.approx(0.4) and sampling.margin_at(0.5) == pytest.approx(half)
    assert sampling.margin_at(1.0) == pytest.approx(0.4 if decay == "constant" else 0.04)
    early, late = chosen(sampling, 1)[0], chosen(sampling, 1, passed=1.0)[0]
    assert (early != late).any() == (decay != "constant")


def test_hardness_counts_what_counts() -> None:
    true, broken = torch.tensor([1.0, 0.0]), torch.tensor([[0.5, 2.0], [0.25, 9.0]])
    gap, above, count = hardness(true, broken, torch.tensor([[True, True], [True, False]]))
    assert (gap, above, count) == (pytest.approx(0.5 - 1 - 0.25), 2, 3)


def test_scores_that_do_not_fit_are_refused() -> None:
    true, broken, counts = scores()
    with pytest.raises(ValueError, match=r"expected \(B,\), \(B, K\), \(B, K\)"):
        choose(SamplingHyperparameters(), 1, true, broken.T, counts.T, torch.Generator())


def test_by_degree_draws_by_the_number_of_edges() -> None:
    pools = Pools.by_type(np.array([0, 0, 0, 1]), np.zeros(1, int), np.ones(1, int))
    drawn = pools.by_degree(np.array([0, 0, 0, 1]), np.array([3, 3, 3, 3]))
    assert drawn.members.tolist() == [0, 0, 0, 1, 3, 3, 3, 3] and drawn.offsets.tolist() == [0, 4, 8]
    assert drawn.draw(0, 100, np.random.default_rng(0)).tolist() == [0, 1], "different ones, though the pool is small"
    assert pools.draw(0, 2, np.random.default_rng(0)).max() <= 2
    alone = pools.by_degree(np.zeros(2, int), np.zeros(2, int))
    assert alone.members.tolist() == [0, 0, 0, 0, 3], "a pool of which nobody has an edge stays"


@pytest.mark.parametrize("kind", ["asa", "nscaching"])
def test_transe_scores_a_pool_and_keeps_what_the_sampler_chooses(kind: str) -> None:
    triples = triples_of(planted())
    sampling = SamplingHyperparameters(kind, pool=20, margin=0.3)
    hyper = replace(SMALL, engine="torch", negatives=3, negatives_shared_by=1, sampling=sampling)
    ends = triples.relation_head_type, triples.relation_tail_type
    pools, state = Pools.by_type(triples.entity_type, *ends), initialise(triples, hyper, 1)
    known = known_triples(*triples.edges, triples.n_entities, triples.n_relations)
    engine = TorchEngine(state.to_arrays(), hyper, pools, known)
    plan = Planner(*triples.edges, triples.n_relations, 1, 1).plan(0).by_edge()
    chunks = plan.order[:40]
    found = engine._broken(plan, chunks, torch.Generator().manual_seed(0), 0.0)
    pool = draw_broken_triples(plan, chunks, 20, pools, known).once()
    assert found.entities.shape == (40, 3) and found.counts.all() and (pool.counts.sum(1) > 3).all()
    for b, at in enumerate(found.positions):
        triple = plan.heads[at], plan.relations[at], plan.tails[at]
        far = [
            distances_of(state, triple, found.broken_tail[b], ends, hyper.norm)
            for ends in (triple[2:] if found.broken_tail[b] else triple[:1], pool.entities[b][pool.counts[b]],
                         found.entities[b])]  # fmt: skip
        if kind == "asa":
            far[1:] = (np.abs(ends - far[0] - 0.3) for ends in far[1:])
        np.testing.assert_allclose(np.sort(far[2]), np.sort(far[1])[:3], rtol=1e-5)


@pytest.mark.parametrize("kind", ["asa", "nscaching", "self_adversarial"])
def test_transe_chooses_no_entity_twice_of_a_pool_that_holds_it_twice(kind: str) -> None:
    triples = triples_of(planted())
    hyper = replace(SMALL, engine="torch", negatives=6, negatives_shared_by=1, sampling=SamplingHyperparameters(kind))
    pools = Pools.by_type(triples.entity_type, triples.relation_head_type, triples.relation_tail_type)
    known = known_triples(*triples.edges, triples.n_entities, triples.n_relations)
    engine = TorchEngine(initialise(triples, hyper, 1).to_arrays(), hyper, pools, known)
    plan = Planner(*triples.edges, triples.n_relations, 1, 1).plan(0).by_edge()
    found = engine._broken(plan, plan.order, torch.Generator().manual_seed(0), 0.0)
    brands = (plan.relations[found.positions] == 1) & found.broken_tail  # 8 brands, of which one is the item's own
    assert brands.any() and (found.counts.sum(axis=1)[brands] == 6).all()
    for nodes, counts in zip(found.entities, found.counts, strict=True):
        assert len(set(nodes[counts])) == counts.sum()


def distances_of(state: TransEState, triple: tuple, broken_tail: bool, ends: np.ndarray, norm: str) -> np.ndarray:
    """Of a triple with each of `ends` in place of its tail, or else of its head."""
    e, r, others = state.entities, state.relations[[triple[1]]], state.entities[np.atleast_1d(ends)]
    return distance(e[[triple[0]]], r, others, norm) if broken_tail else distance(others, r, e[[triple[2]]], norm)


@pytest.mark.parametrize("kind", KINDS)
def test_transe_and_kqgc_learn_by_every_sampler(kind: str) -> None:
    data, sampling = planted(), SamplingHyperparameters(kind, pool=30, margin=0.5)
    triples = triples_of(data)
    hyper = replace(SMALL, engine="torch", negatives=4, epochs=6, sampling=sampling, validation_share=0)
    losses = [entry["loss"] for entry in train_transe(triples, hyper, seed=1, deterministic=True).history]
    assert losses[-1] < losses[0]
    entities, relations = vectors_of(data, dimension=6)
    own = replace(FAST, sampling=sampling, epochs=6, validation_share=0)
    given = graph_of(data), entities, relations, data.purchases, 0, data.items, own
    first, again = (train_kqgc(*given, seed=2, deterministic=True) for _ in range(2))
    assert first.history[-1]["loss"] < first.history[0]["loss"]
    for name, values in first.parameters.items():
        np.testing.assert_array_equal(values, again.parameters[name])


@pytest.mark.parametrize(("kind", "middle"), [("nscaching", 0.0), ("asa", 1.5 + 0.3)])
def test_kqgc_chooses_the_best_of_the_pool_that_the_user_did_not_buy(kind: str, middle: float) -> None:
    """The nearest, or those whose distance is nearest to the bought item's and the margin."""
    data = planted()
    entities, relations = vectors_of(data, dimension=6)
    hyper = replace(FAST, sampling=SamplingHyperparameters(kind, pool=500, margin=0.3), negatives=2)
    model = KQGC(6, hyper, 1)
    trainer = _Trainer(graph_of(data), (entities, relations), 0, data.items, model, 1, True, data.purchases)
    trainer.passed, (users, items) = 0.0, (side[:10] for side in data.purchases)
    batch = trainer.batch(users, items)
    assert batch.counts_BK.shape == (10, len(data.items)), "a pool larger than the candidates is all of them, once"
    h, r = model(batch.layers, trainer.entities[batch.sources], trainer.relations)
    rows, counts = trainer.choose(batch, h[batch.users_B], r[0], torch.full((10,), 1.5), h)
    bought = set(zip(*(side.tolist() for side in data.purchases), strict=True))
    assert counts.all()
    for b, user in enumerate(users):
        far = {int(item): float(model.score(h[batch.users_B[b]], r[0], h[row]).detach())
               for item, row in zip(np.unique(data.items), batch.negatives_BK, strict=True)}  # fmt: skip
        able = sorted(abs(d - middle) for item, d in far.items() if (int(user), item) not in bought)
        found = [abs(float(model.score(h[batch.users_B[b]], r[0], h[row]).detach()) - middle) for row in rows[b]]
        assert sorted(found) == pytest.approx(able[:2], abs=1e-6)


@pytest.mark.parametrize("kind", ["asa", "degree"])
def test_a_training_says_how_much_of_it_is_over_and_whose_degrees_count(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, over, ends, by_degree = planted(), {}, [], Pools.by_degree
    for module in ("transe_torch", "kqgc_training"):
        seen = over[module] = set()
        monkeypatch.setattr(f"models.{module}.choose", lambda *given, s=seen: s.add(given[-1]) or choose(*given))
    monkeypatch.setattr(Pools, "by_degree", lambda self, *sides: ends.append(sides) or by_degree(self, *sides))
    few = {"sampling": SamplingHyperparameters(kind, pool=20), "epochs": 3, "validation_share": 0}
    train_transe(triples_of(data), replace(SMALL, engine="torch", negatives=4, **few), seed=1)
    entities, relations = vectors_of(data, dimension=6)
    train_kqgc(graph_of(data), entities, relations, data.purchases, 0, data.items, replace(FAST, **few), seed=2)
    if kind == "asa":
        assert over == dict.fromkeys(over, {0.0, 0.5, 1.0}) and not ends
    else:
        wanted = [data.heads, data.tails, data.purchases[1]]
        assert [np.sort(side).tolist() for sides in ends for side in sides] == [np.sort(w).tolist() for w in wanted]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_compiled_engine_refuses_by_name_what_it_does_not_have(kind: str) -> None:
    with pytest.raises(HyperparameterError, match=f"sampling.kind is '{kind}' with engine 'numba'"):
        TransEHyperparameters(sampling=SamplingHyperparameters(kind))


def test_a_pool_smaller_than_the_negatives_is_refused() -> None:
    for hyper in (TransEHyperparameters, KQGCHyperparameters):
        with pytest.raises(HyperparameterError, match=r"sampling\.pool is 3; expected at least negatives, which is 5"):
            hyper(negatives=5, sampling=SamplingHyperparameters("asa", pool=3), **_engine(hyper))


def _engine(hyper: type) -> dict[str, str]:
    return {"engine": "torch"} if hyper is TransEHyperparameters else {}


@pytest.mark.parametrize("change", [{"kind": "gan"}, {"decay": "steps"}, {"pool": 0}, {"margin": -1.0}])
def test_settings_out_of_range_are_named(change: dict[str, object]) -> None:
    with pytest.raises(HyperparameterError, match=f"^{next(iter(change))} is"):
        SamplingHyperparameters(**change)
