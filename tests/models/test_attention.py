"""Multi-head attention along messages, in every engine against loops; and messages seen as meta relations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.graph import Adjacency, KnowledgeGraph
from models.meta_relations import MetaRelations

ENGINES = ("torch", "dgl", "numba")
V, S, E, HEADS, D = 7, 9, 40, 2, 6


def random_adjacency(engine: str, messages: int = E, destinations: int = V) -> Adjacency:
    """Random messages; the last destination has none."""
    rng = np.random.default_rng(0)
    counts = np.bincount(rng.integers(destinations - 1, size=messages), minlength=destinations)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Adjacency(torch.from_numpy(offsets), torch.from_numpy(rng.integers(S, size=messages)), S, engine)


def random_tables(destinations: int = V, kind: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return tuple((scale * torch.randn(shape, generator=rng, dtype=kind)).requires_grad_() for shape in ((destinations, D), (S, 2 * D)))


def slow(adjacency: Adjacency, queries: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sums (V, D), weights (E, heads)) by loops."""
    sums, weights, width = np.zeros_like(queries), np.zeros((adjacency.sources.numel(), HEADS)), D // HEADS
    for v in range(adjacency.n_destinations):
        into = range(adjacency.offsets[v], adjacency.offsets[v + 1])
        for h in range(HEADS):
            of_head = slice(h * width, (h + 1) * width)
            scores = [float(queries[v, of_head] @ pairs[adjacency.sources[e], :D][of_head]) / np.sqrt(width) for e in into]
            for e, score in zip(into, scores, strict=True):
                weights[e, h] = np.exp(score) / sum(np.exp(scores))
                sums[v, of_head] += weights[e, h] * pairs[adjacency.sources[e], D:][of_head]
    return sums, weights


@pytest.mark.parametrize("engine", ENGINES)
def test_attention_agrees_with_loops(engine: str) -> None:
    adjacency, (queries, pairs) = random_adjacency(engine), random_tables()
    sums, weights = slow(adjacency, queries.detach().numpy(), pairs.detach().numpy())
    np.testing.assert_allclose(adjacency.attend(queries, pairs, HEADS).detach().numpy(), sums, atol=1e-12)
    found = adjacency.attention(queries, pairs[:, :D].contiguous(), HEADS)
    np.testing.assert_allclose(found.detach().numpy(), weights, atol=1e-12)
    assert (sums[-1] == 0).all()


def test_engines_have_the_same_gradients() -> None:
    results = {}
    for engine in ENGINES:
        queries, pairs = random_tables()
        sums = random_adjacency(engine).attend(queries, pairs, HEADS)
        (sums * torch.randn(sums.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).sum().backward()
        results[engine] = (queries.grad, pairs.grad)
    for engine in ("dgl", "numba"):
        for found, expected in zip(results[engine], results["torch"], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_compiled_gradients_agree_with_finite_differences() -> None:
    adjacency = random_adjacency("numba", messages=12)
    assert torch.autograd.gradcheck(lambda queries, pairs: adjacency.attend(queries, pairs, HEADS), random_tables())


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_of_any_size_give_finite_numbers(engine: str) -> None:
    queries, pairs = random_tables(kind=torch.float32, scale=1000.0)
    sums = random_adjacency(engine).attend(queries, pairs, HEADS)
    sums.sum().backward()
    assert all(torch.isfinite(values).all() for values in (sums, queries.grad, pairs.grad))
    assert sums.abs().max() > 1


def test_threads_change_no_bit() -> None:
    """Enough messages that the work is cut; one destination and one source hold most of them."""
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        queries, pairs = random_tables(destinations=500)
        adjacency = random_adjacency("numba", messages=60_000, destinations=500)
        adjacency.sources[:30_000] = 3
        adjacency.offsets[5:] = torch.maximum(adjacency.offsets[5:], torch.tensor(30_000))
        sums = adjacency.attend(queries, pairs, HEADS)
        sums.square().sum().backward()
        results.append((sums, queries.grad, pairs.grad))
    torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_message_gives_zeros(engine: str) -> None:
    queries, pairs = random_tables()
    adjacency = Adjacency(torch.zeros(V + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64), S, engine)
    sums = adjacency.attend(queries, pairs, HEADS)
    sums.sum().backward()
    assert torch.equal(sums, torch.zeros(V, D, dtype=torch.float64)) and not queries.grad.any() and not pairs.grad.any()


def random_graph() -> KnowledgeGraph:
    rng = np.random.default_rng(3)
    heads, tails = rng.integers(10, size=(2, 50))
    return KnowledgeGraph(heads, rng.integers(3, size=50), tails, n_entities=12, n_relations=4)  # relation 3 has no edge


@pytest.mark.parametrize("per_relation", [False, True])
def test_pairs_are_the_sources_under_their_codes(per_relation: bool) -> None:
    messages = random_graph().into(0, 12)
    meta = MetaRelations.of(messages, per_relation)
    code_of_pair = np.repeat(np.arange(8), meta.counts)
    found = list(zip(code_of_pair.tolist(), meta.sources.tolist(), strict=True))
    expected = list(zip(messages.from_relations.sources.tolist(), messages.from_nodes.sources.tolist(), strict=True))
    assert found == sorted(set(expected)) and meta.counts[3] == meta.counts[7] == 0
    pair_of_message = meta.adjacency.sources.tolist()
    assert [found[pair] for pair in pair_of_message] == [expected[e] for e in meta.message.tolist()]
    assert meta.n_destinations == 12


def test_groups_are_the_messages_of_one_destination_and_code() -> None:
    messages = random_graph().into(0, 12)
    meta = MetaRelations.of(messages, per_relation=True)
    destinations, codes = messages.from_nodes.destinations.numpy()[meta.message], messages.from_relations.sources.numpy()[meta.message]
    group_of_message = meta.adjacency.destinations.numpy()
    assert meta.groups.destinations.numpy()[group_of_message].tolist() == destinations.tolist()
    keys = destinations * 8 + codes
    assert (np.diff(keys) >= 0).all() and (np.diff(group_of_message) == (np.diff(keys) > 0)).all()
