"""What KQGC hears of how often an edge came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Table
from jobs.arrays import Checkpoint, Night, read_checkpoint
from models.hyperparameters import DEGREE_SHARE
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night
from tests.jobs.embeddings.test_relgnn_world import NIGHT

MODELS = ("transe", "kqgc_mean")
TIMES = {1: 1, 2: 2, 3: 3, 4: 3, 5: 3, 6: 4, 8: 4, 1000: 11}  # an edge's events: its messages


def with_counts(counts: list[int]) -> Night:
    return Night(**{name: getattr(NIGHT, name) for name in Night.__dataclass_fields__} | {"counts": np.array(counts)})


def test_an_edge_of_more_events_passes_more_messages_and_without_repeats_one() -> None:
    found = with_counts(list(TIMES))
    edges = list(zip(NIGHT.heads.tolist(), NIGHT.relations.tolist(), NIGHT.tails.tolist(), strict=True))
    graph = found.graph(repeats=True)
    assert graph.n_edges == sum(TIMES.values())
    for edge, times in zip(edges, TIMES.values(), strict=True):
        assert len(graph.edges_of(*(np.array([end]) if k != 1 else end for k, end in enumerate(edge)))) == times
    assert found.graph().n_edges == with_counts([1] * 8).graph(repeats=True).n_edges == 8


@pytest.mark.parametrize("kqgc", [{}, {"repeats": False}])
def test_a_users_vector_leans_to_what_was_bought_again(root: Path, kqgc: dict[str, bool]) -> None:
    """Every purchase of an item with an even number came eight times: four messages, where repeats are on."""
    table = Table(str(root / "data/knowledge_graph"))
    edges = table.read(str(DATES[0]))
    head, relation, tail = (edges.column(name).to_numpy() for name in ("head", "relation", "tail"))
    counts = np.where((relation == 0) & (tail % 2 == 0), 8, 1)
    with table.replace(str(DATES[0])) as commit:
        commit.write_table(edges.set_column(3, "count", pa.array(counts)), sorted_by=["relation", "head", "tail"])
        commit.fields["window"] = {"days": 45, "before": str(DATES[0])}
    night(write_config(root, kqgc=kqgc), DATES[0], models=("transe", "kqgc_mean"))
    start, found = (read_checkpoint(Table(str(root / f"data/checkpoints/{m}")), str(DATES[0])) for m in MODELS)
    weights = np.where(counts == 8, 4, 1) if kqgc.get("repeats", True) else np.ones(len(counts))
    for user in range(5):
        mine = (head == user) & np.isin(relation, (0, 2))
        kinds = np.where(relation[mine] == 0, "item", "region")
        queries = [
            vector(start, kind, tail) - start.relations[start.relation_id == number][0]
            for kind, tail, number in zip(kinds, tail[mine], relation[mine], strict=True)]  # fmt: skip
        share = weights[mine].sum() ** DEGREE_SHARE
        expected = vector(start, "user", user) + share * np.average(queries, axis=0, weights=weights[mine])
        np.testing.assert_allclose(vector(found, "user", user), expected, rtol=1e-4, atol=1e-5)


def vector(checkpoint: Checkpoint, kind: str, number: int) -> np.ndarray:
    """Of an entity, by its ledger id."""
    mine = (checkpoint.entity_type == checkpoint.types.index(kind)) & (checkpoint.entity_id == number)
    return checkpoint.entities[mine][0]
