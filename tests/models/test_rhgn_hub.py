"""RHGN and a user with 40,000 neighbours: what such a user hears, and how much memory it takes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.rhgn import RHGN, code_types, infer_rhgn
from models.rhgn_training import train_rhgn

HUB, USERS = 40_000, 100  # neighbours of user 0; users in all
HYPER = RHGNHyperparameters(epochs=1, batch_size=32)


def graph_of(heads: np.ndarray, items: np.ndarray) -> tuple[KnowledgeGraph, np.ndarray]:
    """(users 0 … USERS − 1 with edges to items, types)."""
    graph = KnowledgeGraph(heads, np.zeros(len(heads), np.int64), USERS + items, n_entities=USERS + HUB, n_relations=1)
    return graph, np.repeat([0, 1], [USERS, HUB])


def hub() -> tuple[KnowledgeGraph, np.ndarray]:
    """User 0 has every item, the others one each."""
    others = np.arange(1, USERS)
    return graph_of(np.append(np.zeros(HUB, np.int64), others), np.append(np.arange(HUB), others))


def spread() -> tuple[KnowledgeGraph, np.ndarray]:
    """As many edges, and as many for everybody."""
    return graph_of(np.arange(HUB + USERS - 1) % USERS, np.arange(HUB + USERS - 1) % HUB)


def peak_mib(name: str) -> float:
    """Highest memory of a process that trains and infers over one of the graphs, less what it had before."""
    code = f"from tests.models.test_rhgn_hub import measured; measured({name!r})"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    return float(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


def measured(name: str) -> None:
    """Print what `peak_mib` reads."""
    import resource

    graph, types = {"hub": hub, "spread": spread}[name]()
    features = np.random.default_rng(0).normal(size=(graph.n_entities, 64)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    users, labels = np.arange(USERS), np.arange(USERS)[:, None] % 2
    result = train_rhgn(graph, types, features, users, labels, [2], HYPER, seed=0, deterministic=True)
    given = (graph, types, result.features, result.parameters, HYPER)
    vectors, heard = infer_rhgn(*given, attention_of=users, attention_rows=5)
    finite = np.isfinite(vectors).all() and np.isfinite(result.history[0]["loss"])
    if not (finite and (np.bincount(heard.nodes) <= 5).all()):
        raise ValueError(f"{name}: a number that is not finite, or too many rows of attention")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def test_one_user_with_all_the_edges_takes_the_memory_of_many_with_as_many() -> None:
    """In training a node hears `fanout` of them; in inference no number is kept per edge, head and width at once."""
    with ThreadPoolExecutor(2) as pool:
        of_hub, of_spread = pool.map(peak_mib, ("hub", "spread"))
    assert of_hub < of_spread + 50


@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_100_000_neighbours_who_say_the_same_say_what_one_says(softmax_over: str) -> None:
    graph, types = hub()
    hyper = RHGNHyperparameters(layers=1, softmax_over=softmax_over)
    features = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)[types]
    model = RHGN(64, 2, code_types(graph, types), [2], hyper, seed=3)
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    vectors, heard = infer_rhgn(graph, types, features, parameters, hyper, attention_of=np.array([0]), attention_rows=7)
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)
    assert heard.nodes.tolist() == [0] * 7 and heard.neighbours.tolist() == list(range(USERS, USERS + 7))
    np.testing.assert_allclose(heard.weights, 1 / HUB, rtol=1e-3)
