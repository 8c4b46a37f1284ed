"""A graph's messages, whole and sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph, _stable_order
from models.messages.passing import Messages, dgl
from models.shapes import ShapeError
from tests.models.reference import incoming


def random_graph(seed: int = 0, n_entities: int = 12, n_relations: int = 3, n_edges: int = 40) -> KnowledgeGraph:
    rng = np.random.default_rng(seed)
    heads, tails = rng.integers(n_entities - 2, size=(2, n_edges))  # the last two have no edge
    relations = rng.integers(n_relations, size=n_edges)
    return KnowledgeGraph(heads, relations, tails, n_entities=n_entities, n_relations=n_relations)


def edges_of(graph: KnowledgeGraph) -> list[tuple[int, int, int]]:
    """The graph's edges read back from its messages, one list entry for both directions."""
    into = graph.into(0, graph.n_entities)
    columns = into.from_nodes.sources, into.from_relations.sources, into.from_nodes.destinations
    messages = zip(*(column.tolist() for column in columns), strict=True)
    return [(source, code, destination) for source, code, destination in messages if code < graph.n_relations]


def messages_into(messages: Messages, names: np.ndarray, n_relations: int) -> dict[int, list[tuple[int, int, int]]]:
    """{destination: sorted (source, relation, sign)}, with sources named by `names`."""
    found: dict[int, list[tuple[int, int, int]]] = {v: [] for v in range(messages.n_destinations)}
    nodes, relations = messages.from_nodes, messages.from_relations
    columns = nodes.destinations, nodes.sources, relations.sources
    for v, source, code in zip(*(column.tolist() for column in columns), strict=True):
        found[v].append((int(names[source]), code % n_relations, 1 if code < n_relations else -1))
    return {v: sorted(entries) for v, entries in found.items()}


def test_every_edge_passes_one_message_each_way() -> None:
    rng = np.random.default_rng(1)
    heads, tails, relations = rng.integers(9, size=30), rng.integers(9, size=30), rng.integers(2, size=30)
    graph = KnowledgeGraph(heads, relations, tails, n_entities=10, n_relations=2)
    edges = list(zip(heads.tolist(), relations.tolist(), tails.tolist(), strict=True))
    found = messages_into(graph.into(0, 10), np.arange(10), 2)
    assert found == {v: sorted(incoming(edges, v)) for v in range(10)}
    assert found[9] == []


def test_chunks_cover_every_node_once_and_bound_nodes_and_messages() -> None:
    graph = random_graph(n_edges=200)
    for max_nodes, max_messages in ((1, 1000), (5, 1000), (100, 60), (100, 1)):
        chunks = list(graph.chunks(max_nodes, max_messages))
        assert [first for first, _ in chunks] == [0, *(last for _, last in chunks[:-1])]
        assert chunks[-1][1] == graph.n_entities
        for first, last in chunks:
            assert last - first <= max_nodes
            assert last - first == 1 or graph.into(first, last).from_nodes.sources.numel() <= max_messages
    whole = graph.into(0, graph.n_entities).from_nodes.sources
    parts = [graph.into(first, last).from_nodes.sources for first, last in graph.chunks(5)]
    assert torch.equal(torch.cat(parts), whole)


def test_into_nodes_leaves_out_sources_that_do_not_pass() -> None:
    graph = random_graph()
    passing = np.random.default_rng(2).random(graph.n_entities) < 0.5
    nodes = np.array([7, 0, 11, 3])
    found = messages_into(graph.into_nodes(nodes, passing), np.arange(graph.n_entities), 3)
    edges = edges_of(graph)
    for row, node in enumerate(nodes):
        assert found[row] == sorted(message for message in incoming(edges, node) if passing[message[0]])


@pytest.mark.parametrize("deterministic", [True, False])
def test_sampling_draws_distinct_messages_of_the_graph_up_to_the_fanout(deterministic: bool) -> None:
    graph = random_graph(n_edges=80)
    edges = edges_of(graph)
    sampler = graph.sampler(3, seed=5, deterministic=deterministic)
    nodes = torch.tensor([0, 2, 5, 11])
    sources, layers = sampler.sample(nodes, n_layers=2)
    assert layers[1].from_nodes.n_sources == layers[0].n_destinations
    assert sources.numel() == layers[0].from_nodes.n_sources
    assert torch.equal(sources[: nodes.numel()], nodes)
    for messages in layers:
        for row, found in messages_into(messages, sources.numpy(), 3).items():
            every = sorted(incoming(edges, int(sources[row])))
            assert len(found) == min(3, len(every))
            for message in found:
                assert found.count(message) <= every.count(message)


def test_sampling_above_the_degree_takes_the_whole_neighbourhood() -> None:
    graph = random_graph()
    sources, (messages,) = graph.sampler(1000, seed=0).sample(torch.arange(graph.n_entities), n_layers=1)
    assert torch.equal(sources, torch.arange(graph.n_entities))
    everything = messages_into(graph.into(0, graph.n_entities), np.arange(graph.n_entities), 3)
    assert messages_into(messages, sources.numpy(), 3) == everything


def test_sampling_is_uniform_over_messages() -> None:
    n = 10  # node 0 has ten neighbours under two relations; two are drawn
    heads, tails = np.zeros(n, dtype=np.int64), np.arange(1, n + 1)
    graph = KnowledgeGraph(heads, np.arange(n) % 2, tails, n_entities=n + 1, n_relations=2)
    sampler, drawn = graph.sampler(2, seed=3, deterministic=True), np.zeros(n + 1)
    for _ in range(500):
        sources, (messages,) = sampler.sample(torch.tensor([0]), 1)
        drawn[sources[messages.from_nodes.sources].numpy()] += 1
    assert drawn[0] == 0 and drawn.sum() == 1000
    np.testing.assert_allclose(drawn[1:], 100, atol=5 * np.sqrt(100 * 0.8))  # five standard deviations


def test_sampling_per_relation_draws_up_to_the_fanout_of_each_code_and_uniformly_within() -> None:
    rng = np.random.default_rng(1)
    heads, relations, tails = rng.integers(4, size=400), rng.integers(3, size=400), 4 + rng.integers(60, size=400)
    heads, relations, tails = np.unique(np.stack([heads, relations, tails]), axis=1)
    graph = KnowledgeGraph(heads, relations, tails, n_entities=64, n_relations=3)
    sampler, nodes = graph.sampler(3, seed=5, deterministic=True, per_relation=True), torch.arange(4)
    degrees = np.stack([np.bincount(relations[heads == node], minlength=3) for node in range(4)])
    drawn = np.zeros((4, 3, 64))
    for _ in range(300):
        sources, (messages,) = sampler.sample(nodes, 1)
        names, codes = sources[messages.from_nodes.sources].numpy(), messages.from_relations.sources.numpy() - 3
        once = np.zeros((4, 3, 64))
        np.add.at(once, (messages.from_nodes.destinations.numpy(), codes, names), 1)
        np.testing.assert_array_equal(once.sum(axis=2), np.minimum(degrees, 3))
        assert once.max() == 1  # without replacement
        drawn += once
    of_edges, chances = drawn[heads, relations, tails], 3 / degrees[heads, relations]
    assert of_edges.sum() == drawn.sum()  # nothing but edges of the graph
    np.testing.assert_array_less(abs(of_edges - 300 * chances), 5 * np.sqrt(300 * chances * (1 - chances)) + 1e-9)


def test_a_restarted_sampler_draws_the_same_again() -> None:
    sampler = random_graph(n_edges=80).sampler(2, seed=0, deterministic=True, per_relation=True)
    nodes = torch.arange(12)
    draws = []
    for seed in ([3, 1], [3, 2], [3, 1]):
        sampler.restart(seed)
        draws.append(sampler.sample(nodes, 1)[1][0].from_nodes.sources)
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])


def test_hidden_edges_pass_no_message_in_either_direction_and_only_in_their_batch() -> None:
    graph = random_graph(n_edges=60)
    edges = edges_of(graph)
    head, relation, tail = edges[0]
    hidden = graph.edges_of(np.array([head]), relation, np.array([tail]))
    assert hidden.size == edges.count(edges[0])
    sampler, everyone = graph.sampler(1000, seed=0), torch.arange(graph.n_entities)
    left = [edge for edge in edges if edge != edges[0]]
    _, (messages,) = sampler.sample(everyone, 1, hidden)
    expected = {v: sorted(incoming(left, v)) for v in range(graph.n_entities)}
    assert messages_into(messages, everyone.numpy(), 3) == expected
    _, (messages,) = sampler.sample(everyone, 1)
    assert messages.from_nodes.sources.numel() == 2 * graph.n_edges
    other = np.setdiff1d(np.arange(graph.n_edges), hidden)[:1]
    _, (messages,) = sampler.sample(everyone, 1, other)
    assert messages.from_nodes.sources.numel() == 2 * (graph.n_edges - 1)


def test_a_sample_starts_from_no_more_nodes_than_it_needs_also_after_others() -> None:
    graph = random_graph(n_edges=80)
    sampler = graph.sampler(2, seed=1)
    for node in (0, 3, 8, 11):
        sources, layers = sampler.sample(torch.tensor([node]), 2)
        drawn = {node}.union(*(sources[messages.from_nodes.sources].tolist() for messages in layers))
        assert sorted(sources.tolist()) == sorted(drawn)


@pytest.mark.parametrize("deterministic", [True, False])
def test_only_deterministic_sampling_is_held_to_one_thread(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, threads, draw = torch.get_num_threads(), [], dgl.sampling.sample_neighbors

    def watched(*given: object) -> object:
        threads.append(torch.get_num_threads())
        return draw(*given)

    monkeypatch.setattr(dgl.sampling, "sample_neighbors", watched)
    torch.set_num_threads(3)
    random_graph().sampler(2, seed=0, deterministic=deterministic).sample(torch.tensor([0]), 1)
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == [1 if deterministic else 3] and after == 3


def test_edges_of_finds_repeated_edges_and_skips_absent_ones() -> None:
    heads, tails = np.array([0, 0, 1, 0]), np.array([2, 2, 2, 2])
    graph = KnowledgeGraph(heads, np.array([0, 0, 0, 1]), tails, n_entities=4, n_relations=2)
    assert sorted(graph.edges_of(np.array([0, 3]), 0, np.array([2, 2]))) == [0, 1]
    assert graph.edges_of(np.array([3]), 1, np.array([0])).size == 0


def test_same_seed_draws_the_same_and_the_number_of_later_entities_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    heads, tails, relations = rng.integers(30, size=300), rng.integers(30, size=300), np.zeros(300, dtype=np.int64)

    def draws(n_entities: int, seed: int) -> list[torch.Tensor]:
        graph = KnowledgeGraph(heads, relations, tails, n_entities=n_entities, n_relations=1)
        sampler = graph.sampler(4, seed, deterministic=True)
        return [sampler.sample(torch.arange(20), 1)[1][0].from_nodes.sources for _ in range(3)]

    for first, again in zip(draws(30, 1), draws(50, 1), strict=True):
        assert torch.equal(first, again)
    assert not all(torch.equal(first, other) for first, other in zip(draws(30, 1), draws(30, 2), strict=True))


def test_a_graph_without_edges_passes_nothing() -> None:
    none = np.empty(0, dtype=np.int64)
    graph = KnowledgeGraph(none, none, none, n_entities=3, n_relations=1)
    sources, (messages,) = graph.sampler(2, seed=0).sample(torch.arange(3), 1)
    assert torch.equal(sources, torch.arange(3)) and messages.degrees.tolist() == [0, 0, 0]


def test_indices_out_of_range_are_refused_with_what_was_found() -> None:
    good, bad = np.array([0, 1]), np.array([0, 5])
    found = "tails has values from 0 to 5; expected dense indices of entities, from 0 to 2"
    with pytest.raises(ShapeError, match=found):
        KnowledgeGraph(good, np.zeros(2, dtype=np.int64), bad, n_entities=3, n_relations=1)
    with pytest.raises(ShapeError, match="relations"):
        KnowledgeGraph(good, good, good, n_entities=3, n_relations=1)
    with pytest.raises(ShapeError, match="int32"):
        KnowledgeGraph(good.astype(np.int32), good, good, n_entities=3, n_relations=2)


@pytest.mark.parametrize("below", [7, 1 << 16, 70_000])
def test_rows_are_sorted_as_they_come_however_many_nodes_there_are(below: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(0).integers(below - 7, below, size=200))
    assert _stable_order(rows, below).tolist() == sorted(range(200), key=rows.tolist().__getitem__)
