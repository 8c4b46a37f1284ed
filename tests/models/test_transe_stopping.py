"""When TransE stops: which edges it looks at, how sure a look is, and how many epochs come before one counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import transe
from models.hyperparameters import TransEHyperparameters
from models.learning.divergence import Diverged
from models.learning.initialisation import WarmStart
from models.transe import TransE, TransEState, Triples, held_out_edges, initialise
from models.transe_training import train_transe
from models.vectors.ranking import filtered_ranks
from tests.models.contract import planted
from tests.models.test_transe import SMALL, triples_of

LOOKS = replace(SMALL, validation_share=0.1, evaluate_every=1, epochs=40)


def twins(seed: int = 0) -> Triples:
    """The planted graph, each purchase with one or two more edges between the same two: a cart, and one backwards."""
    triples, random = triples_of(planted(n_users=100)), np.random.default_rng(seed)
    bought = np.flatnonzero(triples.relations == 0)
    cart, back = (bought[random.random(len(bought)) < share] for share in (0.7, 0.4))
    heads, tails = triples.heads, triples.tails
    more = np.repeat([2, 3], [len(cart), len(back)])
    return replace(
        triples,
        heads=np.concatenate([heads, heads[cart], tails[back]]),
        relations=np.concatenate([triples.relations, more]),
        tails=np.concatenate([tails, tails[cart], heads[back]]),
        relation_head_type=np.append(triples.relation_head_type, [0, 1]),
        relation_tail_type=np.append(triples.relation_tail_type, [1, 0]),
        relation_keys=np.append(triples.relation_keys, np.array([5, 6], np.uint64)),
    )


def warm(triples: Triples, state: TransEState) -> WarmStart:
    known = np.ones(triples.n_entities, bool), np.ones(triples.n_relations, bool)
    return WarmStart(state.entities, state.relations, *known, state.entity_accumulators, state.relation_accumulators)


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_is_held_out_with_all_that_is_between_the_two(seed: int) -> None:
    triples = twins(seed)
    held_out = held_out_edges(triples, replace(SMALL, validation_share=0.2), seed)
    pairs = np.sort(np.stack([triples.heads, triples.tails], 1), axis=1)
    out, kept = (set(map(tuple, pairs[mask].tolist())) for mask in (held_out, ~held_out))
    assert 0.1 * len(held_out) < held_out.sum() <= 0.2 * len(held_out) and not out & kept
    assert len(out) < held_out.sum(), "some have twins"
    left = np.concatenate([triples.heads[~held_out], triples.tails[~held_out]])
    assert set(left) == set(pairs.ravel()) and set(triples.relations[~held_out]) == {0, 1, 2, 3}
    order = np.random.default_rng(1).permutation(len(held_out))
    shuffled = replace(triples, **{name: getattr(triples, name)[order] for name in ("heads", "relations", "tails")})
    again = held_out_edges(shuffled, replace(SMALL, validation_share=0.2), seed)
    np.testing.assert_array_equal(again, held_out[order])


def test_a_pair_that_is_all_that_someone_has_stays() -> None:
    """Two edges of one pair are no two neighbours: without them a user would have no vector."""
    triples = twins()
    alone = triples.heads != 0
    alone[np.flatnonzero((triples.heads == 0) & (triples.relations == 0))[:1]] = True
    item = triples.tails[np.flatnonzero(alone & (triples.heads == 0))[0]]
    alone &= (triples.tails != 0) | (triples.heads == item)
    columns = {name: getattr(triples, name)[alone] for name in ("heads", "relations", "tails")}
    columns = {name: np.append(values, new) for (name, values), new in zip(columns.items(), (0, 2, item), strict=True)}
    few = replace(triples, **columns)
    for seed in range(20):
        held_out = held_out_edges(few, replace(SMALL, validation_share=0.5), seed)
        assert not held_out[few.heads == 0].any()


def test_a_looks_error_is_that_of_its_pairs() -> None:
    """Twice the same edges say nothing new: the error of edges would be 1 / sqrt(2) of it."""
    triples, hyper = twins(), replace(SMALL, validation_share=0.2)
    model = TransE(triples, hyper, seed=1, deterministic=True, state=initialise(triples, hyper, 1))
    for epoch in range(5):
        model.train_epoch(epoch)
    mrr, error = model.look()
    edges = tuple(column[model._held_out] for column in triples.edges)
    state = model.state
    given = (state.entities, state.relations, edges, triples.edges, "l2")
    of_edges = (1 / filtered_ranks(*given, pools=model._pools)).mean(axis=0)
    pairs = np.unique(np.sort(np.stack([edges[0], edges[2]], 1), axis=1), axis=0, return_inverse=True)[1]
    random, n, means = np.random.default_rng(0), pairs.max() + 1, []
    for _ in range(2000):  # a bootstrap over pairs
        weights = np.bincount(random.integers(n, size=n), minlength=n)[pairs.ravel()]
        means.append((weights * of_edges).sum() / weights.sum())
    assert mrr == pytest.approx(of_edges.mean()) and error == pytest.approx(np.std(means), rel=0.1)


def test_a_look_ranks_among_so_many_candidates_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose keys come first, whatever their index; a type with no more keeps all."""
    triples = triples_of(planted())
    monkeypatch.setattr(transe, "_MOST_CANDIDATES", 20)
    model = TransE(triples, SMALL, seed=0, state=initialise(triples, SMALL, 0))
    pools = np.split(model._candidates.members, model._candidates.offsets[1:-1])
    assert [len(pool) for pool in pools] == [20, 20, 8]
    for kind, pool in enumerate(pools):
        mine = np.flatnonzero(triples.entity_type == kind)
        first = mine[np.argsort(triples.entity_keys[mine])[: len(pool)]]
        np.testing.assert_array_equal(np.sort(pool), np.sort(first))
    assert 0 < model.look()[0] < 1


@pytest.mark.parametrize(("cold", "min_epochs"), [(True, 12), (False, 4)])
def test_no_look_counts_before_the_least_number_of_epochs(cold: bool, min_epochs: int) -> None:
    """Nothing gains 100 %: it stops after its patience, and keeps the best of the looks that count; on a warm start the
    first one, on which nothing gained."""
    triples = twins()
    hyper = replace(LOOKS, min_epochs=12, warm_min_epochs=4, patience=2, min_gain=1.0)
    start = None if cold else warm(triples, train_transe(triples, SMALL, seed=0, deterministic=True).state)
    result = train_transe(triples, hyper, seed=1, deterministic=True, initial=start)
    assert len(result.history) == min_epochs + 2
    counting = [record["validation_mrr"] for record in result.history[min_epochs - 1 :]]
    assert result.best_epoch == min_epochs - 1 + (int(np.argmax(counting)) if cold else 0)


def test_a_start_that_knows_no_relation_is_a_cold_one() -> None:
    """Users and items that stay, around which all relations and values are random."""
    triples = twins()
    hyper = replace(LOOKS, min_epochs=12, warm_min_epochs=4, patience=2, min_gain=1.0)
    start = warm(triples, train_transe(triples, SMALL, seed=0, deterministic=True).state)
    start = replace(start, relation_known=np.zeros(triples.n_relations, bool), entity_known=triples.entity_type < 2)
    result = train_transe(triples, hyper, seed=1, deterministic=True, initial=start)
    counting = [record["validation_mrr"] for record in result.history[11:]]
    assert len(result.history) == 14 and result.best_epoch == 11 + int(np.argmax(counting))


def test_fewer_epochs_than_the_least_number_keep_the_last_one() -> None:
    result = train_transe(twins(), replace(LOOKS, epochs=6, min_epochs=20, patience=1), seed=1, deterministic=True)
    assert len(result.history) == 6 and result.best_epoch == 5


def test_a_gain_within_the_looks_error_does_not_go_on() -> None:
    triples = twins()
    hyper = replace(LOOKS, epochs=200, min_epochs=0, patience=3, min_gain=0.0)
    history, reached, since = train_transe(triples, hyper, seed=1, deterministic=True).history, -np.inf, 0
    for record in history:
        assert 0 < record["validation_mrr_error"] < 0.5 * record["validation_mrr"]
        gained = record["validation_mrr"] > reached + record["validation_mrr_error"]
        reached, since = (record["validation_mrr"], 0) if gained else (reached, since + 1)
    assert since == 3 and len(history) < 200


def test_few_held_out_pairs_stop_nothing_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Of 30 on a look's error is small enough to tell a gain; of fewer all epochs are trained, and the last is kept."""
    data = triples_of(planted(n_users=100))
    few, enough = (replace(LOOKS, epochs=12, patience=1, min_epochs=2, min_gain=1.0, validation_share=share)
                   for share in (20 / len(data.heads), 60 / len(data.heads)))  # fmt: skip
    result = train_transe(data, few, seed=0, deterministic=True)
    assert len(result.history) == 12 and result.best_epoch == 11
    assert "fewer than 30 tell no gain from chance: all 12 epochs are trained" in caplog.text
    assert all("validation_mrr" in record for record in result.history), "looks are still told"
    caplog.clear()
    stopped = train_transe(data, enough, seed=0, deterministic=True)
    assert len(stopped.history) < 12 and not caplog.text


def test_the_defaults_look_at_enough_edges_for_an_error_below_the_gain_asked_for() -> None:
    """On a log of 10^5 purchases, the least that the defaults are for."""
    random, users, items, tastes = np.random.default_rng(0), 10_000, 200, 8
    heads = np.repeat(np.arange(users), 10)
    tails = users + (heads % tastes + tastes * random.integers(items // tastes, size=len(heads))) % items
    heads, tails = np.unique(np.stack([heads, tails]), axis=1)
    types, keys = np.repeat([0, 1], [users, items]), random.integers(2**63, size=users + items).astype(np.uint64)
    relations, one = np.zeros(len(heads), int), np.zeros(1, np.uint64)
    triples = Triples(heads, relations, tails, types, np.array([0]), np.array([1]), keys, one)
    hyper = TransEHyperparameters(dimension=16, epochs=2, threads=1)
    record = train_transe(triples, hyper, seed=0, deterministic=True).history[-1]
    assert 0 < record["validation_mrr_error"] < hyper.min_gain * record["validation_mrr"]


def test_edges_between_the_same_two_are_one_draw_of_a_look() -> None:
    data = twins()
    hyper = replace(LOOKS, epochs=6, patience=1, min_epochs=2, min_gain=1.0, validation_share=45 / len(data.heads))
    edges = held_out_edges(data, hyper, 0)
    pairs = {frozenset(pair) for pair in zip(data.heads[edges].tolist(), data.tails[edges].tolist(), strict=True)}
    assert len(pairs) < 30 <= edges.sum()
    assert len(train_transe(data, hyper, seed=0, deterministic=True).history) == 6


def test_a_diverged_training_is_told_where_nothing_is_held_out(tmp_path: Path) -> None:
    triples = twins()
    hyper = replace(LOOKS, validation_share=0.0, epochs=2, unit_norm=False)
    start = warm(triples, initialise(triples, hyper, 0))
    start.entities[triples.heads[0]] = np.nan
    with pytest.raises(Diverged, match="the loss of epoch 1 is nan"):
        train_transe(triples, hyper, seed=1, initial=start, resume=tmp_path / "run")
    assert not (tmp_path / "run").exists()
