"""What goes into RHGN: a vector of every node, as long as those of the pretrained model that it starts from.

Users and items have pretrained vectors or random ones; attributes' values pretrained ones, those of their content, or
random ones. Random ones are where learning starts, as in the paper: they are trained with the model, and the next night
goes on from them. Random vectors are keyed by entity type and raw id, and the vectors of
content are those of the predecessor where it has some, new values rotated to them: whoever is given a vector gets the
same one the next night, so that a warm start goes on from what its parameters know. FastText reads the items of D's
graph, and no other day's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jobs.arrays import NONE, Checkpoint, Night, keys_of
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import JobError
from models.hyperparameters import RHGNHyperparameters
from models.rhgn import filled_features
from models.rhgn_training import LEARNED_ROWS
from models.vectors.content import are_words, continued, text_vectors, words_of

LEARNED = "learned"  # arrays of a checkpoint
CONTENT, RANDOM = "content", "random"  # of init and init_attributes; any other value names what RHGN starts from
MOST_ITEMS = 200_000  # that FastText learns from, those with the lowest keys


@dataclass(frozen=True)
class Nodes:
    """The nodes of any heterogeneous graph, users being of type `user` and items of type `item`; every other type is
    one of attributes' values.

    kinds: int64 (n,) index into `types`; raw: n strings.
    """

    kinds: np.ndarray
    types: Sequence[str]
    raw: Sequence[str] | np.ndarray

    def keys(self) -> np.ndarray:
        """uint64 (n,): a hash of type and raw id."""
        return keys_of(self.kinds, self.types, np.asarray(self.raw, object))

    def are_attributes(self) -> np.ndarray:
        """bool (n,): neither users nor items."""
        return ~np.isin(self.kinds, [number for number, name in enumerate(self.types) if name in (USER, ITEM)])

    def with_text(self) -> np.ndarray:
        """bool (n,): the values that are read, being words in a type that counts as text, see `are_words`."""
        found = np.zeros(len(self.kinds), bool)
        for number in np.unique(self.kinds[self.are_attributes()]):
            rows = np.flatnonzero(self.kinds == number)
            values = [self.raw[row] for row in rows]
            found[rows] = are_words(values) and [bool(words_of(value)) for value in values]
        return found


@dataclass(frozen=True)
class Sentences:
    """The words of each item's values, item by item; can be gone through many times. offsets (items + 1,) into members
    (edges,) into words (n,)."""

    offsets: np.ndarray
    members: np.ndarray
    words: dict[int, list[str]]

    @classmethod
    def of(cls, nodes: Nodes, text: np.ndarray, edges: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Sentences:
        """text: bool (n,), the values that are read. edges: heads, relations, tails (E,): an item's values are read in
        the order of relations."""
        heads, relations, tails = edges
        items = np.isin(nodes.kinds, [number for number, name in enumerate(nodes.types) if name == ITEM])
        mine = np.flatnonzero(items[heads] & text[tails])
        chosen = np.unique(heads[mine])
        if len(chosen) > MOST_ITEMS:
            keys = nodes.keys()[chosen]
            mine = mine[np.isin(heads[mine], chosen[np.argpartition(keys, MOST_ITEMS)[:MOST_ITEMS]])]
        mine = mine[np.lexsort((tails[mine], relations[mine], heads[mine]))]
        offsets = np.append(np.unique(heads[mine], return_index=True)[1], len(mine))
        return cls(
            offsets, tails[mine], {value: words_of(nodes.raw[value]) for value in np.unique(tails[mine]).tolist()}
        )

    def __iter__(self) -> Iterator[list[str]]:
        for first, last in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield [word for value in self.members[first:last].tolist() for word in self.words[value]]


@dataclass(frozen=True)
class Inputs:
    """vectors: float32 (n, d), all finite; of_content: int64 (k,), ascending, the nodes whose vector comes from their
    text; learned: bool (n,), the nodes whose vector is trained with the model."""

    vectors: np.ndarray
    of_content: np.ndarray
    learned: np.ndarray

    def extra(self) -> dict[str, np.ndarray]:
        """What the next night's values are rotated to, for RHGN's checkpoint."""
        return self._rows("content", self.of_content)

    def where_learning_ended(self) -> dict[str, np.ndarray]:
        """Where the next night's learned vectors start, for RHGN's checkpoint."""
        return self._rows(LEARNED, np.flatnonzero(self.learned))

    def _rows(self, name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{name}_rows": rows, name: self.vectors[rows]} if len(rows) else {}


def node_features(
    nodes: Nodes,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    pretrained: np.ndarray,
    init: str,
    init_attributes: str,
    seed: int,
    former: np.ndarray | None = None,
    former_learned: np.ndarray | None = None,
) -> Inputs:
    """The vector of every node. edges: heads, relations, tails int64 (E,). pretrained: float32 (n, d), NaN where there
    is none; init, init_attributes: as in RHGNHyperparameters. former, former_learned: float32 (n, d), the vectors of
    content, and those it learned, that the predecessor has of tonight's nodes, NaN where none."""
    attributes = nodes.are_attributes()
    given = np.where(attributes, init_attributes not in (CONTENT, RANDOM), init != RANDOM)
    vectors = np.where(given[:, None], pretrained, np.float32(np.nan))
    if init_attributes == CONTENT:
        vectors[attributes] = _of_content(nodes, edges, pretrained.shape[1], seed, former)[attributes]
    of_content = (
        np.flatnonzero(attributes & np.isfinite(vectors).all(axis=1))
        if init_attributes == CONTENT
        else np.zeros(0, np.int64)
    )
    without_text = (init_attributes == CONTENT) & np.isnan(vectors).any(axis=1)
    learned = np.where(attributes, (init_attributes == RANDOM) | without_text, init == RANDOM)
    if former_learned is not None:
        vectors[learned] = former_learned[learned]
    return Inputs(filled_features(vectors, nodes.keys(), seed), of_content, learned)


def _of_content(
    nodes: Nodes, edges: tuple[np.ndarray, np.ndarray, np.ndarray], dimension: int, seed: int, former: np.ndarray | None
) -> np.ndarray:
    """float32 (n, d), NaN where a node has no text."""
    vectors, text = np.full((len(nodes.kinds), dimension), np.nan, np.float32), nodes.with_text()
    former = vectors if former is None else former
    if np.isfinite(former[text]).all():  # nothing new, or nothing at all
        return former
    rows = np.flatnonzero(text)
    vectors[rows] = text_vectors([nodes.raw[row] for row in rows], Sentences.of(nodes, text, edges), dimension, seed)
    return continued(vectors, former)


def stored(former: Checkpoint, night: Night, rows_name: str, name: str, dimension: int) -> np.ndarray | None:
    """float32 (n, d): what RHGN's predecessor stored for some of its nodes, of tonight's nodes, NaN where none; None
    where it stored nothing of this length. rows_name, name: of the arrays with the nodes (k,) and their rows (k, d)."""
    rows, values = former.extra.get(rows_name), former.extra.get(name)
    if rows is None or values is None or values.shape != (len(rows), dimension):
        return None
    all_rows = np.full((len(former.entity_id), dimension), np.nan, np.float32)
    all_rows[rows] = values
    at, known = former.rows_of(night)
    return np.where(known[:, None], all_rows[at], np.float32(np.nan))


def moments_of_learned(
    former: Checkpoint, night: Night, learned: np.ndarray, parameters: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the predecessor's optimiser remembers of learned vectors, in the order of tonight's: 0 of newcomers.

    learned: bool (n,). parameters: the predecessor's, in which it stands in the order of its own.
    """
    found, prefix = {}, f"optimiser.{LEARNED_ROWS}."
    for name in (name for name in parameters if name.startswith(prefix)):
        if parameters[name].ndim != 2:  # the number of steps
            found[name] = parameters[name]
            continue
        mine = stored(former, night, f"{LEARNED}_rows", f"rhgn.{name}", parameters[name].shape[1])
        if mine is None:
            return {}
        found[name] = np.nan_to_num(mine[learned])
    return found


def given_vectors(night: Night, sources: Mapping[str, Checkpoint], hyper: RHGNHyperparameters) -> Checkpoint:
    """The checkpoint that RHGN starts from: users and items of the one that `init` names, values of the one that
    `init_attributes` names. JobError where the two have vectors of different lengths."""
    first = next(iter(sources.values()))
    of_entities, of_values = (sources.get(name, first) for name in (hyper.init, hyper.init_attributes))
    if of_entities is of_values:
        return first
    lengths = [found.entities.shape[1] for found in (of_entities, of_values)]
    if lengths[0] != lengths[1]:
        raise JobError(f"vectors of rhgn.init {hyper.init!r} have {lengths[0]} numbers, those of rhgn.init_attributes "
                       f"{hyper.init_attributes!r} {lengths[1]}; expected equally many. Give both the same dimension.")
    values = ~np.isin(night.entity_type, [night.types.index(name) for name in (USER, ITEM) if name in night.types])
    entities = np.where(values[:, None], of_values.entities, of_entities.entities)
    source = np.where(values, of_values.source, of_entities.source)
    return replace(of_entities, entities=entities, source=source)


def read_inputs(
    night: Night, pretrained: Checkpoint, former: Checkpoint | None, init: str, init_attributes: str, seed: int
) -> Inputs:
    """Of a night. pretrained: the checkpoint of it that RHGN starts from; former: RHGN's of the predecessor."""
    nodes = Nodes(night.entity_type.astype(np.int64), night.types, night.raw.to_numpy(zero_copy_only=False))
    vectors = np.where((pretrained.source == NONE)[:, None], np.float32(np.nan), pretrained.entities)
    dimension, edges = vectors.shape[1], (night.heads, night.relations, night.tails)
    before = [former and stored(former, night, f"{name}_rows", name, dimension) for name in ("content", LEARNED)]
    return node_features(nodes, edges, vectors, init, init_attributes, seed, *before)
