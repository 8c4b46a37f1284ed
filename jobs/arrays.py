"""Parquet ↔ numpy: a night's graph in dense indices, and checkpoints joined to it.

The dense index of a night runs over the entity types by name and, within a type, over the raw ids by their bytes; edges
are ordered by (relation name, head, tail) in that index. Nothing here depends on ledger ids or on the size of a ledger,
so that a backfill trains the same whatever later nights have added to the ledgers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Commit, Segments, Table
from feature_store.view import as_matrix
from jobs.checkpoint_form import problem_of
from jobs.program import Input, JobError
from models.learning.training import CheckpointError, from_bytes, to_bytes
from models.places import positions

if TYPE_CHECKING:
    from models.graph import KnowledgeGraph

_AGAIN = "Run the job that writes it for that date again, or roll that date back."
NONE, TRAINED, INDUCTIVE = 0, 1, 2  # how an entity of a checkpoint came by its vector
SOURCES = {TRAINED: "trained", INDUCTIVE: "inductive"}


@dataclass(frozen=True)
class Night:
    """The graph of one date: n entities, m relations, E edges.

    entity_type (n,) index into `types`; entity_id (n,) ledger ids; raw: n strings; relation_id (m,) ledger ids;
    relation_names m. heads, relations, tails (E,) dense; counts (E,) events behind the edge.
    """

    types: list[str]
    entity_type: np.ndarray
    entity_id: np.ndarray
    raw: pa.ChunkedArray
    relation_id: np.ndarray
    relation_names: list[str]
    relation_head_type: np.ndarray
    relation_tail_type: np.ndarray
    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    counts: np.ndarray

    @property
    def n_entities(self) -> int:
        return len(self.entity_type)

    def of_type(self, name: str) -> np.ndarray:
        """Dense indices (ascending) of one entity type; empty when the night has none."""
        if name not in self.types:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.entity_type == self.types.index(name))

    def relation(self, name: str) -> int | None:
        """Dense index of a relation, None when it has no edge this night."""
        return self.relation_names.index(name) if name in self.relation_names else None

    def graph(self, repeats: bool = False) -> KnowledgeGraph:
        """What passes messages: every edge, in both directions. repeats: one more for each time that its events
        doubled, by the nearest number; an edge of 1, 2, 4, 8 events passes 1, 2, 3, 4."""
        from models.graph import KnowledgeGraph  # torch and dgl: seconds that jobs without training save

        sizes = {"n_entities": self.n_entities, "n_relations": len(self.relation_names)}
        edges = self.heads, self.relations, self.tails
        if repeats:
            times = np.rint(1 + np.log2(self.counts)).astype(np.int64)
            edges = tuple(np.repeat(column, times) for column in edges)
        return KnowledgeGraph(*edges, **sizes)

    def entity_keys(self) -> np.ndarray:
        """uint64 (n,): a hash of (entity type, raw id)."""
        return keys_of(self.entity_type, self.types, self.raw.to_numpy(zero_copy_only=False))

    def relation_keys(self) -> np.ndarray:
        """uint64 (m,): a hash of the relation's name."""
        names = np.array(self.relation_names, dtype=object)
        return pd.util.hash_array(names, hash_key=_hash_key("relation"), categorize=False)

    def user_events(self, behaviours: list[str]) -> np.ndarray:
        """int64 (n,): events behind each user's edges of the given behaviours; 0 for entities that are no users."""
        chosen = np.isin(self.relations, [r for r, name in enumerate(self.relation_names) if name in behaviours])
        return np.bincount(self.heads[chosen], weights=self.counts[chosen], minlength=self.n_entities).astype(np.int64)


def keys_of(entity_type: np.ndarray, types: Sequence[str], raw: np.ndarray) -> np.ndarray:
    """uint64 (n,): a hash of (entity type, raw id). entity_type: (n,) index into `types`; raw: n strings."""
    keys = np.empty(len(entity_type), np.uint64)
    for number, name in enumerate(types):
        rows = entity_type == number
        keys[rows] = pd.util.hash_array(raw[rows], hash_key=_hash_key(name), categorize=False)
    return keys


def _hash_key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def read_night(date: str, knowledge_graph: Input, entity_ids: Input, relations: Input) -> Night:
    """The graph of `date` in dense indices. JobError when it has no edge."""
    edges = knowledge_graph.table().read(date)
    if not edges.num_rows:
        raise JobError(
            f"The knowledge graph of {date} has no edge: nothing to train on. "
            f"Look at the report of validate_events for {date}."
        )
    heads, relation, tails, counts = (edges.column(name).to_numpy() for name in ("head", "relation", "tail", "count"))
    ledger = relations.segments().read().sort_by("name")
    present = np.isin(ledger.column("id").to_numpy(), relation)
    ledger = ledger.filter(pa.array(present))
    relation_id = ledger.column("id").to_numpy()
    head_types, tail_types = ledger.column("head_type").to_pylist(), ledger.column("tail_type").to_pylist()
    types = sorted({*head_types, *tail_types})
    dense_relation = positions(relation_id, relation)
    head_type, tail_type = (np.array([types.index(t) for t in names], np.int64) for names in (head_types, tail_types))
    sides = ((head_type[dense_relation], heads), (tail_type[dense_relation], tails))
    ids, raw, sizes = [], [], []
    for number, name in enumerate(types):
        mine = np.unique(np.concatenate([column[kind == number] for kind, column in sides]))
        texts = raw_of(entity_ids.segments(name), mine, name)
        order = pc.sort_indices(texts).to_numpy()
        ids.append(mine[order])
        raw.append(texts.take(pa.array(order)))
        sizes.append(len(mine))
    entity_type, entity_id = np.repeat(np.arange(len(types)), sizes), np.concatenate(ids)
    dense = [_dense(kind, column, ids, sizes) for kind, column in sides]
    order = np.lexsort((dense[1], dense[0], dense_relation))
    return Night(
        types=types,
        entity_type=entity_type,
        entity_id=entity_id,
        raw=pa.chunked_array([chunk for texts in raw for chunk in texts.chunks], pa.large_string()),
        relation_id=relation_id,
        relation_names=ledger.column("name").to_pylist(),
        relation_head_type=head_type,
        relation_tail_type=tail_type,
        heads=dense[0][order],
        relations=dense_relation[order],
        tails=dense[1][order],
        counts=counts[order],
    )


def _dense(kind: np.ndarray, ledger_ids: np.ndarray, ids: list[np.ndarray], sizes: list[int]) -> np.ndarray:
    out = np.empty(len(ledger_ids), np.int64)
    start = 0
    for number, (mine, size) in enumerate(zip(ids, sizes, strict=True)):
        rows = kind == number
        out[rows] = start + positions(mine, ledger_ids[rows])
        start += size
    return out


def raw_of(ledger: Segments, ids: np.ndarray, name: str) -> pa.ChunkedArray:
    """The raw ids of ledger ids, as large strings, in the order of `ids`."""
    if not len(ids):
        return pa.chunked_array([], pa.large_string())
    table = ledger.read()
    at = positions(np.zeros(0, np.int64) if table is None else table.column("id").to_numpy(), ids)
    if (unknown := ids[at < 0]).size:
        raise JobError(
            f"Ledger entity_ids/{name} does not know id {unknown.max()}, which the graph uses. "
            "Run assign_ids for this date again."
        )
    return table.column("raw").cast(pa.large_string()).take(pa.array(at))


def as_extra(model: str, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model's parameters and its optimiser's state, under names of `Checkpoint.extra`."""
    return {f"{model}.{name}": array for name, array in parameters.items()}


@dataclass(frozen=True)
class Checkpoint:
    """A model of one date: native vectors of the date's entities and relations, and everything a warm start needs.

    entities (n, d), relations (m, d) float32; source uint8 (n,): NONE, TRAINED or INDUCTIVE;
    entity_type, entity_id, relation_id as in `Night`; extra: further arrays by name (accumulators,
    parameters, optimiser); facts: what the metadata says.
    """

    types: list[str]
    entity_type: np.ndarray
    entity_id: np.ndarray
    relation_id: np.ndarray
    entities: np.ndarray
    relations: np.ndarray
    source: np.ndarray
    extra: dict[str, np.ndarray]
    facts: dict[str, str]
    path: str = ""  # where it was read, for messages

    @classmethod
    def of_night(
        cls, night: Night, entities: np.ndarray, relations: np.ndarray, source: np.ndarray,
        extra: dict[str, np.ndarray], facts: dict[str, str],
    ) -> Checkpoint:  # fmt: skip
        of_night = (night.types, night.entity_type, night.entity_id, night.relation_id)
        return cls(*of_night, entities, relations, source, extra, facts)

    def parameters(self, model: str) -> dict[str, np.ndarray]:
        """The arrays of `as_extra`, by the model's own names."""
        own = f"{model}."
        return {name.removeprefix(own): array for name, array in self.extra.items() if name.startswith(own)}

    def rows_of(self, night: Night) -> tuple[np.ndarray, np.ndarray]:
        """For each entity of the night: its row here (0 where unknown), and whether it is known here with a vector."""
        rows, known = np.zeros(night.n_entities, np.int64), np.zeros(night.n_entities, bool)
        for number, name in enumerate(night.types):
            if name not in self.types:
                continue
            mine = np.flatnonzero((self.entity_type == self.types.index(name)) & (self.source != NONE))
            theirs = np.flatnonzero(night.entity_type == number)
            if not len(mine):
                continue
            rows[theirs], known[theirs] = _match(self.entity_id[mine], night.entity_id[theirs], mine)
        return rows, known

    def of_rows(self, name: str, matrix: np.ndarray) -> np.ndarray:
        """An array of `extra` with one number for each row of `matrix`. JobError."""
        found = self.extra.get(name)
        if found is None or found.shape != (len(matrix),):
            shape = "missing" if found is None else f"of shape {found.shape}"
            raise JobError(f"{self.path}: array 'extra.{name}' is {shape}; expected ({len(matrix)},). {_AGAIN}")
        return found

    def fact(self, name: str) -> str:
        """JobError where the metadata lacks it."""
        if name not in self.facts:
            raise JobError(f"{self.path}: fact {name!r} is missing; it has {sorted(self.facts)}. {_AGAIN}")
        return self.facts[name]

    def require_of(self, night: Night) -> None:
        """JobError unless its rows are the entities and relations of the night, in their order."""
        same = self.types == night.types and np.array_equal(self.entity_type, night.entity_type)
        same = same and np.array_equal(self.entity_id, night.entity_id)
        if not (same and np.array_equal(self.relation_id, night.relation_id)):
            found = f"{len(self.entity_id)} entities and {len(self.relation_id)} relations"
            raise JobError(
                f"{self.path} is of another graph: {found}; expected the {night.n_entities} entities and "
                f"{len(night.relation_id)} relations of this date's. {_AGAIN}"
            )

    def trained_in(self, night: Night) -> np.ndarray:
        """bool (n,): the entities of the night whose vector here was trained."""
        rows, known = self.rows_of(night)
        return known & (self.source[rows] == TRAINED)

    def relation_rows_of(self, night: Night) -> tuple[np.ndarray, np.ndarray]:
        """For each relation of the night: its row here (0 where unknown), and whether it is known here."""
        return _match(self.relation_id, night.relation_id, np.arange(len(self.relation_id)))

    def write(self, commit: Commit) -> None:
        """One safetensors file. JobError where no job could go on with it."""
        arrays = {
            "entities": self.entities,
            "relations": self.relations,
            "source": self.source.astype(np.uint8),
            "entity_type": self.entity_type.astype(np.int32),
            "entity_id": self.entity_id,
            "relation_id": self.relation_id,
        }
        arrays |= {f"extra.{name}": array for name, array in self.extra.items()}
        facts = {**self.facts, "types": json.dumps(self.types)}
        if problem := problem_of(arrays, facts):
            raise JobError(f"Not committed; what was published before is unchanged. In the new checkpoint {problem}.")
        commit.write_bytes(".safetensors", to_bytes(arrays, facts))


def _match(here: np.ndarray, there: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = positions(here, there)
    return np.append(rows, 0)[at], at >= 0  # 0 for those that are not here


def read_checkpoint(table: Table, date: str) -> Checkpoint:
    """The checkpoint of one date, byte for byte as it was committed, of one shape and finite.

    PartitionMissing when there is none; DataDamaged; JobError for one that no job can go on with.
    """
    blobs = table.blobs(date)
    if len(blobs) != 1:
        found = f"{table.path(date)} holds {len(blobs)} files that are no tables {sorted(blobs)}"
        raise JobError(f"{found}; expected one checkpoint. {_AGAIN}")
    ((name, content),) = blobs.items()
    path = f"{table.path(date)}/{name}"
    try:
        arrays, facts = from_bytes(content)
    except CheckpointError as error:
        raise JobError(f"{path}: {error}. {_AGAIN}") from error
    if problem := problem_of(arrays, facts):
        raise JobError(f"{path} is no checkpoint that a job can go on with: {problem}. {_AGAIN}")
    extra = {name.removeprefix("extra."): array for name, array in arrays.items() if name.startswith("extra.")}
    own = ("entity_type", "entity_id", "relation_id", "entities", "relations", "source")
    return Checkpoint(json.loads(facts.pop("types")), *(arrays[name] for name in own), extra, facts, path)


def finite_matrix(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """Published vectors as float32 (n, d). JobError, naming `where` they were read, when they are not all finite."""
    matrix = as_matrix(column)
    if wrong := int((~np.isfinite(matrix)).any(axis=1).sum()):
        raise JobError(
            f"{wrong} of the {len(matrix)} vectors in {where} are not finite; expected all finite. "
            "Roll that date back, or publish it again."
        )
    return matrix


def vectors(matrix: np.ndarray) -> pa.FixedSizeListArray:
    """float32 (n, d) as Arrow's fixed-size list, without nulls and without a copy."""
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    element = pa.field("element", pa.float32(), nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(element, matrix.shape[1]))
