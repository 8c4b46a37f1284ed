"""What RelGNN's training is told: what a batch hides, what is known, how a figure and a choice are come by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.relgnn import vectors_of
from models.relgnn_attributes import Attribute
from models.relgnn_candidates import Validation
from models.relgnn_training import World, _Trainer, train_relgnn
from models.sampling_hyperparameters import SamplingHyperparameters
from tests.models.contract import planted
from tests.models.test_relgnn_training import FAST, random, trainer_of, world_of

DATA = planted()
WORLD = world_of(DATA)
WHOLE = dataclasses.replace(FAST, fanout=0)


def without(held_out: np.ndarray) -> World:
    """A world in which these edges, and the brands that they say, never were."""
    triples, (brand,) = WORLD.triples, WORLD.attributes
    columns = {name: getattr(triples, name)[~held_out] for name in ("heads", "relations", "tails")}
    kept = ~held_out[brand.edges]
    brands = Attribute.of("brand", brand.node_type, brand.nodes[kept], brand.values[kept], brand.n_values)
    return dataclasses.replace(WORLD, triples=dataclasses.replace(triples, **columns), attributes=[brands])


def test_held_out_edges_are_judged_by_vectors_that_never_heard_of_them() -> None:
    held_out = np.arange(len(DATA.heads)) % 7 == 0
    assert held_out[WORLD.attributes[0].edges].any() and held_out[DATA.relations == 0].any()
    trainer, seen = trainer_of(WORLD, WHOLE, held_out), []
    trainer.look = lambda x_ND, model: seen.append(x_ND) or {}
    trainer.evaluate()
    other = without(held_out)
    model = other.model(WHOLE, 1)
    model.load_state_dict(trainer.model.state_dict())
    np.testing.assert_allclose(seen[0], vectors_of(model, other.graph()), rtol=1e-4, atol=1e-5)


def test_a_batch_hides_the_other_edges_between_its_ends_from_its_own_loss() -> None:
    more = {name: np.append(getattr(DATA, name), getattr(DATA, name)[0]) for name in ("heads", "tails")}
    twice = dataclasses.replace(WORLD.triples, relations=np.append(DATA.relations, 1), **more)
    for hides, expected in (("pair", [0, 3, len(DATA.heads)]), ("edge", [0, 3])):
        trainer = trainer_of(dataclasses.replace(WORLD, triples=twice), dataclasses.replace(WHOLE, hides=hides))
        found, vectors = [], trainer.vectors
        trainer.vectors = lambda nodes, edges, f=found, v=vectors: f.append(sorted(edges)) or v(nodes, edges)
        trainer.loss(np.array([0, 3]), *random(), 0.0)
        assert found == [expected]


def test_edges_that_teach_nothing_are_known_all_the_same() -> None:
    taught, held_out = np.arange(len(DATA.heads)) % 2 == 0, np.arange(len(DATA.heads)) % 7 == 0
    trainer = _Trainer(WORLD, WORLD.model(WHOLE, 1), held_out, taught, 1, True)
    for broken_tail, others in ((True, DATA.tails), (False, DATA.heads)):
        unknown = trainer.candidates.unknown(WORLD.triples.edges, broken_tail, others[:, None])[:, 0]
        np.testing.assert_array_equal(unknown, held_out)


def chance(x: float) -> float:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("keep", [2, 25])
def test_a_batchs_loss_and_its_negatives_figures_are_those_of_loops(keep: int) -> None:
    """Both ends are broken, the choice is by probabilities, and a held-out edge may be chosen, which is counted; where
    fewer are left than are wanted, what fills up counts nothing."""
    held_out = np.arange(len(DATA.heads)) % 3 == 0
    hyper = dataclasses.replace(WHOLE, negatives=keep, sampling=SamplingHyperparameters("asa", pool=25, margin=0.1))
    trainer, edges = trainer_of(WORLD, hyper, held_out), random()[0].permutation(np.flatnonzero(~held_out))[::9]
    with torch.no_grad():
        trainer.model.relations.copy_(2 * torch.rand(trainer.model.relations.shape, generator=random()[1]) - 1)
        x = trainer.vectors(np.arange(DATA.n_entities), trainer.siblings.of_edges(edges)).double().numpy()
        loss, figures = trainer.loss(edges, *random(), 0.0)
    drawn = trainer.candidates.draw(DATA.relations[edges], 25, random()[0])
    r, kinds = trainer.model.relations.detach().double().numpy(), WORLD.triples.entity_type
    triples = list(zip(*(column.tolist() for column in WORLD.triples.edges), strict=True))
    known = {one for one, held in zip(triples, held_out, strict=True) if not held}
    total, expected = 0.0, np.zeros(4)
    for h, m, t in (triples[e] for e in edges):
        true = (x[h] * r[m]) @ x[t]
        for tail in (True, False):
            kind = kinds[t if tail else h]
            able = {(h, m, n) if tail else (n, m, t) for n in drawn.tolist() if kinds[n] == kind} - known
            gaps = {(a, m, b): chance(true) - chance((x[a] * r[m]) @ x[b]) for a, m, b in able}
            chosen = sorted(gaps, key=lambda one: abs(gaps[one] - 0.1))[:keep]  # noqa: B023
            total += -np.log(chance(true)) - np.mean([np.log(1 - chance(true) + gaps[one]) for one in chosen])
            signs = [gaps[one] < 0 for one in chosen]
            expected += [sum(gaps[one] for one in chosen), sum(signs), len(set(chosen) & set(triples)), len(chosen)]
    assert float(loss) == pytest.approx(total / len(edges), rel=1e-4)
    np.testing.assert_allclose(figures, expected, rtol=1e-4)
    assert expected[2] > 0 and 0 < expected[1] < expected[3]


def test_an_epoch_has_so_many_batches_trains_and_knows_how_much_is_over() -> None:
    hyper = dataclasses.replace(WHOLE, epochs=5, batch_size=50, max_batches_per_epoch=2, dropout=0.5)
    trainer, seen = trainer_of(WORLD, hyper, np.arange(len(DATA.heads)) % 7 == 0), []
    whole = trainer.loss

    def spied(edges: np.ndarray, *more: object) -> object:
        seen.append((len(edges), more[-1], trainer.model.training))
        return whole(edges, *more)

    trainer.loss = spied
    for number in range(5):
        loss, figures = trainer.epoch(number)
        trainer.evaluate()
        assert np.isfinite(loss) and set(figures) == {"negative_gap", "negative_above", "negative_held_out"}
    assert seen == [(50, passed, True) for passed in (0, 0.25, 0.5, 0.75, 1) for _ in range(2)]


def test_draws_by_degree_are_by_the_trained_edges_at_either_end() -> None:
    held_out = np.arange(len(DATA.heads)) % 3 == 0
    for kind in ("degree", "uniform"):
        hyper = dataclasses.replace(WHOLE, sampling=SamplingHyperparameters(kind))
        found = np.bincount(trainer_of(WORLD, hyper, held_out).candidates.pools.members, minlength=DATA.n_entities)
        degrees = sum(np.bincount(side[~held_out], minlength=DATA.n_entities) for side in (DATA.heads, DATA.tails))
        np.testing.assert_array_equal(found, degrees if kind == "degree" else WORLD.triples.connected)


@pytest.mark.parametrize(("warm", "best"), [(False, 3), (True, 1)])
def test_the_training_stops_by_its_own_settings(warm: bool, best: int) -> None:
    """A look that gains less than min_gain is none; on a warm start the last that gained is kept."""
    figures = iter([0.5, 0.8, 0.801, 0.802, 0.803])

    def look(x_ND: torch.Tensor, model: object) -> dict[str, float]:
        return {"nearness": next(figures), "nearness_error": 0.0}

    hyper = dataclasses.replace(WHOLE, epochs=5, evaluate_every=1, patience=2, min_gain=0.1, validation_share=0.0)
    initial = trainer_of(WORLD, hyper).state() if warm else None
    found = train_relgnn(WORLD, hyper, seed=1, look=look, measure="nearness", initial=initial)
    assert len(found.history) == 4 and found.best_epoch == best


def test_a_snapshot_of_another_training_is_no_start(tmp_path: Path) -> None:
    hyper = dataclasses.replace(WHOLE, epochs=3, evaluate_every=1)
    taught, (brand,) = np.arange(len(DATA.heads)) % 5 > 0, WORLD.attributes
    others = dataclasses.replace(WORLD, attributes=[dataclasses.replace(brand, values=brand.values[::-1].copy())])
    start = {"initial": trainer_of(WORLD, hyper).state()}
    other = {"initial": start["initial"] | {"relations": start["initial"]["relations"] + 1}}
    for number, calls in enumerate([
        ((WORLD, {}), (WORLD, {"taught": taught})), ((WORLD, {}), (others, {})), ((WORLD, start), (WORLD, other))
    ]):  # fmt: skip
        for world, more in calls:
            seen = []
            train_relgnn(world, hyper, seed=1, resume=tmp_path / str(number), progress=seen.append, **more)
            assert [entry["epoch"] for entry in seen] == [0, 1, 2], number


def test_ties_count_half_and_edges_are_ranked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = np.arange(len(DATA.heads)) % 9 == 0
    validation, model = Validation.of(WORLD.triples, held_out, FAST, 1), WORLD.model(FAST, 1)
    x = torch.randn(DATA.n_entities, FAST.dimension, generator=random()[1])
    whole = validation.figures(x, model)
    monkeypatch.setattr("models.relgnn_candidates._ROWS", 4)
    assert validation.figures(x, model) == pytest.approx(whole)
    again = Validation.of(WORLD.triples, held_out, dataclasses.replace(FAST, evaluate_candidates=9), 1)
    same = Validation.of(WORLD.triples, held_out, dataclasses.replace(FAST, evaluate_candidates=9), 1)
    np.testing.assert_array_equal(again.drawn, same.drawn, err_msg="the same candidates in every training of a seed")
    assert validation.figures(torch.zeros_like(x), model)["validation_auc"] == pytest.approx(0.5)
