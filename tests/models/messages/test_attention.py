"""Multi-head attention along messages, in every engine against loops; and messages seen as meta relations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.messages.adjacency import Adjacency
from models.messages.attention import Shift
from models.messages.meta_relations import MetaRelations
from models.messages.passing import adjacency_of

ENGINES = ("torch", "dgl", "numba")
V, S, E, HEADS, D = 7, 9, 40, 2, 6


def random_adjacency(engine: str, messages: int = E, destinations: int = V) -> Adjacency:
    """Random messages; the last destination has none."""
    rng = np.random.default_rng(0)
    counts = np.bincount(rng.integers(destinations - 1, size=messages), minlength=destinations)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return adjacency_of(torch.from_numpy(offsets), torch.from_numpy(rng.integers(S, size=messages)), S, engine)


def random_tables(
    destinations: int = V, kind: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(queries, pairs), to be learned."""
    rng, shapes = torch.Generator().manual_seed(1), ((destinations, D), (S, 2 * D))
    return tuple((scale * torch.randn(shape, generator=rng, dtype=kind)).requires_grad_() for shape in shapes)


def some_shift(destinations: int = V) -> Shift:
    """Of three columns; sources take turns."""
    random = torch.Generator().manual_seed(4)
    return Shift(torch.rand(destinations, 3, generator=random, dtype=torch.float64) * 5, torch.arange(S) % 3)


def slow(
    adjacency: Adjacency, queries: np.ndarray, pairs: np.ndarray, shift: Shift | None
) -> tuple[np.ndarray, np.ndarray]:
    """(sums (V, D), weights (E, heads)) by loops."""
    sources, width = adjacency.sources, D // HEADS
    sums, weights = np.zeros_like(queries), np.zeros((sources.numel(), HEADS))
    for v in range(adjacency.n_destinations):
        into = range(adjacency.offsets[v], adjacency.offsets[v + 1])
        for h in range(HEADS):
            of_head = slice(h * width, (h + 1) * width)
            scores = [float(queries[v, of_head] @ pairs[sources[e], :D][of_head]) / np.sqrt(width) for e in into]
            if shift:
                columns = [shift.column_P[sources[e]] for e in into]
                scores = [s + float(shift.amounts_VC[v, column]) for s, column in zip(scores, columns, strict=True)]
            for e, score in zip(into, scores, strict=True):
                weights[e, h] = np.exp(score) / sum(np.exp(scores))
                sums[v, of_head] += weights[e, h] * pairs[sources[e], D:][of_head]
    return sums, weights


@pytest.mark.parametrize("shift", [None, some_shift()], ids=["plain", "shifted"])
@pytest.mark.parametrize("engine", ENGINES)
def test_attention_agrees_with_loops(engine: str, shift: Shift | None) -> None:
    adjacency, (queries, pairs) = random_adjacency(engine), random_tables()
    sums, weights = slow(adjacency, queries.detach().numpy(), pairs.detach().numpy(), shift)
    np.testing.assert_allclose(adjacency.attend(queries, pairs, HEADS, shift).detach().numpy(), sums, atol=1e-12)
    found = adjacency.attention(queries, pairs[:, :D].contiguous(), HEADS, shift)
    np.testing.assert_allclose(found.detach().numpy(), weights, atol=1e-12)
    assert (sums[-1] == 0).all()


@pytest.mark.parametrize("shift", [None, some_shift()], ids=["plain", "shifted"])
def test_engines_have_the_same_gradients(shift: Shift | None) -> None:
    results = {}
    for engine in ENGINES:
        queries, pairs = random_tables()
        sums = random_adjacency(engine).attend(queries, pairs, HEADS, shift)
        random = torch.Generator().manual_seed(2)
        (sums * torch.randn(sums.shape, generator=random, dtype=torch.float64)).sum().backward()
        results[engine] = (queries.grad, pairs.grad)
    for engine in ("dgl", "numba"):
        for found, expected in zip(results[engine], results["torch"], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shift", [None, some_shift()], ids=["plain", "shifted"])
def test_compiled_gradients_agree_with_finite_differences(shift: Shift | None) -> None:
    adjacency = random_adjacency("numba", messages=12)
    assert torch.autograd.gradcheck(lambda *tables: adjacency.attend(*tables, HEADS, shift), random_tables())


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
    adjacency = adjacency_of(torch.zeros(V + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64), S, engine)
    sums = adjacency.attend(queries, pairs, HEADS)
    sums.sum().backward()
    assert torch.equal(sums, torch.zeros(V, D, dtype=torch.float64))
    assert not queries.grad.any() and not pairs.grad.any()


def random_graph() -> KnowledgeGraph:
    rng = np.random.default_rng(3)
    heads, tails = rng.integers(10, size=(2, 50))
    relations = rng.integers(3, size=50)  # relation 3 has no edge
    return KnowledgeGraph(heads, relations, tails, n_entities=12, n_relations=4)


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
    destinations = messages.from_nodes.destinations.numpy()[meta.message]
    codes = messages.from_relations.sources.numpy()[meta.message]
    group_of_message = meta.adjacency.destinations.numpy()
    assert meta.groups.destinations.numpy()[group_of_message].tolist() == destinations.tolist()
    keys = destinations * 8 + codes
    assert (np.diff(keys) >= 0).all() and (np.diff(group_of_message) == (np.diff(keys) > 0)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sample_gives_each_relation_its_share_of_the_whole_neighbourhood(engine: str) -> None:
    """Node 0 hears 90 nodes under one code and 10 under another; five of each are drawn.

    Where all keys are equal, so must all neighbours weigh.
    """
    relations = np.repeat([0, 1], [90, 10])
    graph = KnowledgeGraph(np.zeros(100, np.int64), relations, np.arange(1, 101), n_entities=101, n_relations=2)
    sampler = graph.sampler(5, 0, per_relation=True, engine=engine)
    sources, (messages,) = sampler.sample(torch.tensor([0]), 1)
    counts = sampler.counts(sources[:1])
    assert counts.tolist() == [[0, 0, 90, 10]] and messages.from_nodes.sources.numel() == 10
    weight_by_code = []
    for given in (None, counts):
        meta = MetaRelations.of(messages, counts_VC=given)
        α_E = meta.attention(torch.ones(1, 4), torch.ones(len(meta.sources), 4), 1)[:, 0]
        codes = messages.from_relations.sources[meta.message]
        weight_by_code.append([float(α_E[codes == code].sum()) for code in (2, 3)])
    assert weight_by_code == [pytest.approx([0.5, 0.5]), pytest.approx([0.9, 0.1])]


def test_where_all_are_drawn_nothing_is_shifted() -> None:
    graph = random_graph()
    sampler = graph.sampler(100, 0, per_relation=True)
    sources, (messages,) = sampler.sample(torch.arange(12), 1)
    assert not MetaRelations.of(messages, counts_VC=sampler.counts(sources[:12])).stands_for.amounts_VC.any()


def test_counts_are_those_of_the_graph_for_any_nodes() -> None:
    graph, nodes = random_graph(), torch.tensor([3, 11, 0])
    destinations = torch.repeat_interleave(torch.arange(12), graph.offsets.diff())
    codes = range(graph.n_codes)
    expected = [[int(((destinations == v) & (graph.codes == code)).sum()) for code in codes] for v in nodes]
    assert graph.sampler(2, 0, per_relation=True).counts(nodes).tolist() == expected
