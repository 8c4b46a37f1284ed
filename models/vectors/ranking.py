"""Filtered ranks of true answers among all candidates, and the figures made of them.

Ties are resolved realistically: the mean of the optimistic and the pessimistic rank (Berrendorf et al. 2020), so that a
model that gives everything the same vector is ranked in the middle, not first.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.kernels.padding import padded
from models.kernels.ranking import count_before
from models.learning.divergence import require_finite
from models.learning.negatives import Pools

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]  # heads, relations, tails, each (E,)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def rank_targets(
    queries: np.ndarray,
    table: np.ndarray,
    targets: np.ndarray,
    norm: str,
    *,
    excluded: tuple[np.ndarray, np.ndarray] | None = None,
    pools: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    threads: int = 0,
) -> np.ndarray:
    """The realistic rank (float64 (Q,), 1 is best) of each query's target by distance to the query.

    queries (Q, d) and table (n, d) are compared in `norm` ("l1" or "l2"); targets (Q,) are rows of the table.
    excluded: (answers ascending within each query, offsets (Q + 1,)) of other right answers, which are not candidates.
    pools: (members, offsets, pool of each query) as in `Pools`; without, every row is a candidate.
    Raises Diverged if a number is not finite: a diverged model has no rank.
    """
    queries, table = padded(queries), padded(table)
    for name, array in (("queries", queries), ("table", table)):
        require_finite(name, array)
    n_queries = len(queries)
    answers, answer_offsets = excluded or (np.zeros(0, np.int64), np.zeros(n_queries + 1, np.int64))
    members, offsets, pool_of = pools or (
        np.arange(len(table), dtype=np.int32), np.array([0, len(table)], np.int64), np.zeros(n_queries, np.int64)
    )  # fmt: skip
    before, ties = np.zeros(n_queries, np.int64), np.zeros(n_queries, np.int64)
    threads = threads or available_cores()
    cuts = np.linspace(0, n_queries, min(8 * threads, max(n_queries, 1)) + 1).astype(np.int64)

    def count(part: int) -> None:
        count_before(
            queries, table, np.asarray(targets, np.int64), cuts[part], cuts[part + 1],
            members, offsets, pool_of, answers, answer_offsets, norm == "l1", before, ties,
        )  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(count, range(len(cuts) - 1)))
    return 1.0 + before + ties / 2.0


def known_answers(anchors: np.ndarray, relations: np.ndarray, known: Edges) -> tuple[np.ndarray, np.ndarray]:
    """All known tails of each query (anchor, relation): (answers ascending per query, offsets (Q + 1,)).

    Swap ends for heads.
    """
    heads, rels, tails = (np.asarray(column, np.int64) for column in known)
    n_relations = int(max(rels.max(initial=0), np.max(relations, initial=0))) + 1
    keys = heads * n_relations + rels
    order = np.lexsort((tails, keys))
    keys, tails = keys[order], tails[order]
    wanted = np.asarray(anchors, np.int64) * n_relations + relations
    low, high = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
    offsets = np.concatenate([[0], np.cumsum(high - low)]).astype(np.int64)
    rows = np.repeat(low - offsets[:-1], high - low) + np.arange(offsets[-1])
    return tails[rows], offsets


def filtered_ranks(
    entities: np.ndarray,
    relations: np.ndarray,
    edges: Edges,
    known: Edges,
    norm: str,
    *,
    pools: Pools | None = None,
    threads: int = 0,
) -> np.ndarray:
    """Filtered realistic ranks (2, Q) of the edges under TransE.

    Row 0 predicts the head from t - r, row 1 the tail from h + r.
    entities (n, d), relations (m, d); known: every true edge, which `edges` should be among; pools: candidates by type.
    """
    heads, rels, tails = (np.asarray(column, np.int64) for column in edges)
    known_heads, known_rels, known_tails = known
    ranks = []
    for side, (anchor, target, sign, true) in enumerate((
        (tails, heads, -1.0, (known_tails, known_rels, known_heads)),
        (heads, tails, 1.0, (known_heads, known_rels, known_tails)),
    )):  # fmt: skip
        queries = entities[anchor] + np.float32(sign) * relations[rels]
        candidates = None if pools is None else (pools.members, pools.offsets, pools.of[side][rels])
        excluded = known_answers(anchor, rels, true)
        ranks.append(
            rank_targets(queries, entities, target, norm, excluded=excluded, pools=candidates, threads=threads)
        )
    return np.stack(ranks)


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Mean of 1 / rank over all entries; NaN without any."""
    return float(np.mean(1.0 / ranks)) if ranks.size else float("nan")


def hits_at(ranks: np.ndarray, k: int) -> float:
    """Share of ranks that are k or better; NaN without any."""
    return float(np.mean(ranks <= k)) if ranks.size else float("nan")
