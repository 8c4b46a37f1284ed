"""What RAM-GNN learns from on a night: the two sides, items and users with their attributes, in dense indices; which of
them the predecessor knew; and a vector for those who have no attribute.

A side's entities are the night's of that type, in its order; its relation types are the attributes by name, and a
value is one of an attribute, in the order of (attribute, raw value): nothing depends on ledger ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from jobs.arrays import INDUCTIVE, TRAINED, Checkpoint, Night
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import JobError, log
from models.places import positions
from models.ram_gnn_recent import latest_times
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side
from models.ram_gnn_warm_start import Places

KINDS = (ITEM, USER)
TIMED = [USER, ITEM, "last_time"]  # columns of interactions
_MOST_IDS = 1 << 40  # of a ledger
_PLACES = ("types", "value_types", "value_ids")  # of a side in the checkpoint, as ledger ids


@dataclass(frozen=True)
class NightSide:
    """One side of a night: `side` as the model takes it; relations (T,): the night's index of each type; values (Z,):
    the night's index of each value's entity."""

    side: Side
    relations: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, night: Night, kind: str, attributes: pa.Table) -> NightSide | None:
        """None where nobody of the kind has an attribute. JobError for rows that are not of the night's graph."""
        mine = attributes.filter(pc.equal(attributes.column("entity_type"), kind))
        if not mine.num_rows:
            return None
        names = sorted(mine.column("type").unique().to_pylist())
        relations = np.array([_relation(night, name) for name in names])
        type_of_row = pc.index_in(mine.column("type"), value_set=pa.array(names)).to_numpy()
        entities = _dense(night, kind, mine.column("entity").to_numpy()) - night.of_type(kind)[0]
        ends = np.empty(mine.num_rows, np.int64)
        for number, relation in enumerate(relations):
            rows = type_of_row == number
            value_type = night.types[night.relation_tail_type[relation]]
            ends[rows] = _dense(night, value_type, mine.column("value").to_numpy()[rows])
        pairs, values = np.unique(type_of_row.astype(np.int64) * night.n_entities + ends, return_inverse=True)
        of_type, of_entity = pairs // night.n_entities, pairs % night.n_entities
        rows = AttributeRows.of(entities, values.astype(np.int64), of_type, len(night.of_type(kind)), len(names))
        keys, type_keys = night.entity_keys(), night.relation_keys()[relations]
        side = Side(rows, keys[night.of_type(kind)], type_keys, keys[of_entity] ^ type_keys[of_type], tuple(names))
        return cls(side, relations, of_entity)

    def ids(self, night: Night) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ledger ids of the types (T,), of each value's type (Z,) and of each value (Z,)."""
        of_types = night.relation_id[self.relations]
        return of_types, of_types[self.side.rows.value_types.numpy()], night.entity_id[self.values]

    def extra(self, night: Night, kind: str) -> dict[str, np.ndarray]:
        """What the next night's `places` needs, for the checkpoint."""
        return {f"ram_gnn_places.{kind}.{name}": ids for name, ids in zip(_PLACES, self.ids(night), strict=True)}

    def places(self, night: Night, kind: str, former: Checkpoint) -> Places:
        """Where the predecessor had this side's entities, types and values."""
        before = [former.extra.get(f"ram_gnn_places.{kind}.{name}", np.zeros(0, np.int64)) for name in _PLACES]
        types, value_types, value_ids = before
        own_types, own_value_types, own_value_ids = self.ids(night)
        values = positions(value_types * _MOST_IDS + value_ids, own_value_types * _MOST_IDS + own_value_ids)
        return Places(entity_places(night, kind, former), positions(types, own_types), values)


def entity_places(night: Night, kind: str, former: Checkpoint) -> np.ndarray:
    """int64: the place of each of tonight's entities of a kind among the predecessor's, -1 for new ones."""
    of_kind = former.entity_type == (former.types.index(kind) if kind in former.types else -1)
    return positions(former.entity_id[of_kind], night.entity_id[night.of_type(kind)])


def sides_of(night: Night, attributes: pa.Table) -> dict[str, NightSide]:
    """Each side that has an attribute, by the entity type."""
    found = {kind: NightSide.of(night, kind, attributes) for kind in KINDS}
    for kind, side in found.items():
        if side is None:
            log.warning("no %s has an attribute: all are placed by those whom they have events with", kind)
    return {kind: side for kind, side in found.items() if side is not None}


def vectors_of_night(
    night: Night, sides: Mapping[str, NightSide], vectors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(float32 (n, d) of every user and item, source (n,)): as `placed`, zeros and NONE for everything else."""
    dimension = next(iter(vectors.values())).shape[1]
    entities, source = np.zeros((night.n_entities, dimension), np.float32), np.zeros(night.n_entities, np.uint8)
    own = {kind: np.diff(side.side.rows.offsets.numpy()) > 0 for kind, side in sides.items()}
    for kind, (found, mine) in placed(vectors, own, _touched(night)).items():
        rows = night.of_type(kind)
        entities[rows], source[rows] = found, np.where(mine, TRAINED, INDUCTIVE)
    return entities, source


def placed(
    vectors: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], touched: sparse.csr_array
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind (vectors of length 1 of everybody of it, whether it is his own). touched: (users, items).

    vectors: float32 (side, d), of which those of entities with an attribute count, as `own` says. Who has none takes
    the mean of those like him: who touched the same items, or were touched by the same users; where a whole side has
    none, the mean of those on the other side. Who has no event either takes the mean of the side.
    """
    dimension, placed_of = next(iter(vectors.values())).shape[1], {}
    for kind in KINDS:
        other = ITEM if kind == USER else USER
        links = touched if kind == USER else touched.T.tocsr()
        n = links.shape[0]
        if not n:
            continue
        if kind in vectors:
            mine = _unit(vectors[kind]), own[kind]
            theirs = _means(links.T.tocsr(), *mine)
        else:
            mine = np.zeros((n, dimension), np.float32), np.zeros(n, bool)
            theirs = _unit(vectors[other]), own[other]
        found, reached = _means(links, *theirs)
        everybody = (mine[0][mine[1]] if kind in vectors else theirs[0][theirs[1]]).mean(axis=0)
        found[~reached] = everybody
        placed_of[kind] = _unit(np.where(mine[1][:, None], mine[0], found)), mine[1]
    return placed_of


def _means(links: sparse.csr_array, vectors: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean of the vectors that each row is linked with and that are `there`, whether there was one)."""
    counts = links @ there.astype(np.float32)
    sums = links @ np.where(there[:, None], vectors, np.float32(0))
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts > 0


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row without a direction is given the first axis, or it could not be published."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    fallback = np.zeros(vectors.shape[1], np.float32)
    fallback[0] = 1
    return np.where(lengths > 1e-12, vectors / np.maximum(lengths, 1e-12), fallback).astype(np.float32)


def user_item_pairs(night: Night) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) with an event, counted from the first of their type; a pair may come several times."""
    if USER not in night.types or ITEM not in night.types:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = (night.relation_head_type == night.types.index(USER)) & (night.relation_tail_type == night.types.index(ITEM))
    edges = ends[night.relations]
    return night.heads[edges] - night.of_type(USER)[0], night.tails[edges] - night.of_type(ITEM)[0]


def pair_times(night: Night, pairs: tuple[np.ndarray, np.ndarray], interactions: pa.Table) -> np.ndarray:
    """int64: when the events of each pair were last, in microseconds. interactions: columns TIMED. JobError for a pair
    that it does not have."""
    ids = [night.entity_id[night.of_type(kind)] for kind in (USER, ITEM)]
    ends = [positions(mine, interactions.column(kind).to_numpy()) for mine, kind in zip(ids, (USER, ITEM), strict=True)]
    there, n_items = (ends[0] >= 0) & (ends[1] >= 0), len(ids[1])
    last = interactions.column("last_time").cast(pa.int64()).to_numpy()[there]
    users, items, times = latest_times(*(end[there] for end in ends), last, n_items)
    found = positions(users * n_items + items, pairs[0] * n_items + pairs[1])
    if (found < 0).any():
        raise JobError(
            f"{int((found < 0).sum())} of {len(found)} pairs of the graph are not in the night's interactions: one "
            "of the two was built anew since. Run jobs.graphs.build_interactions and build_knowledge_graph again.")
    return times[found]


def _touched(night: Night) -> sparse.csr_array:
    """(users, items): 1 where there is an event."""
    users, items = user_item_pairs(night)
    shape = (len(night.of_type(USER)), len(night.of_type(ITEM)))
    users, items = np.unique(np.stack([users, items]), axis=1)
    return sparse.csr_array((np.ones(len(users), np.float32), (users, items)), shape=shape)


def _relation(night: Night, name: str) -> int:
    found = night.relation(name)
    if found is None:
        raise JobError(f"attributes names {name!r}, of which the graph has no edge; expected one of "
                       f"{night.relation_names}. Run build_attributes for this date again.")
    return found


def _dense(night: Night, kind: str, ledger_ids: np.ndarray) -> np.ndarray:
    """The night's index of entities given by ledger id. JobError for one that it does not have."""
    rows = night.of_type(kind)
    at = positions(night.entity_id[rows], ledger_ids)
    if (at < 0).any():
        raise JobError(f"attributes names {int((at < 0).sum())} times an entity of type {kind!r} that is not in the "
                       "graph of its date. Run build_attributes for this date again.")
    return rows[at]
