"""What goes into RHGN: a vector of every node, as long as those of the pretrained model that it starts from.

Users and items have pretrained vectors or random ones; attributes' values pretrained ones, those of their content, or
random ones. Random vectors are keyed by entity type and raw id, and the vectors of content are those of the predecessor
where it has some, new values rotated to them: whoever is given a vector gets the same one the next night, so that a
warm start goes on from what its parameters know. FastText reads the items of D's graph, and no other day's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.arrays import NONE, Checkpoint, Night, keys_of
from jobs.graphs.ledgers import ITEM, USER
from models.rhgn import filled_features
from models.vectors.content import are_words, continued, text_vectors, words_of

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
    text."""

    vectors: np.ndarray
    of_content: np.ndarray

    def extra(self) -> dict[str, np.ndarray]:
        """What the next night's values are rotated to, for RHGN's checkpoint."""
        return (
            {"content_rows": self.of_content, "content": self.vectors[self.of_content]} if len(self.of_content) else {}
        )


def node_features(
    nodes: Nodes,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    pretrained: np.ndarray,
    init: str,
    init_attributes: str,
    seed: int,
    former: np.ndarray | None = None,
) -> Inputs:
    """The vector of every node. edges: heads, relations, tails int64 (E,). pretrained: float32 (n, d), NaN where there
    is none; init, init_attributes: as in RHGNHyperparameters. former: float32 (n, d), the vectors of content that the
    predecessor gave tonight's nodes, NaN where none."""
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
    return Inputs(filled_features(vectors, nodes.keys(), seed), of_content)


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


def content_of(former: Checkpoint, night: Night, dimension: int) -> np.ndarray | None:
    """float32 (n, d): the vectors of content that RHGN's predecessor gave tonight's nodes, NaN where none; None where
    it has none of this length."""
    rows, stored = former.extra.get("content_rows"), former.extra.get("content")
    if stored is None or stored.shape[1] != dimension:
        return None
    all_rows = np.full((len(former.entity_id), dimension), np.nan, np.float32)
    all_rows[rows] = stored
    at, known = former.rows_of(night)
    return np.where(known[:, None], all_rows[at], np.float32(np.nan))


def read_inputs(
    night: Night, pretrained: Checkpoint, former: Checkpoint | None, init: str, init_attributes: str, seed: int
) -> Inputs:
    """Of a night. pretrained: the checkpoint of it that RHGN starts from; former: RHGN's of the predecessor."""
    nodes = Nodes(night.entity_type.astype(np.int64), night.types, night.raw.to_numpy(zero_copy_only=False))
    vectors = np.where((pretrained.source == NONE)[:, None], np.float32(np.nan), pretrained.entities)
    before = content_of(former, night, vectors.shape[1]) if former else None
    return node_features(
        nodes, (night.heads, night.relations, night.tails), vectors, init, init_attributes, seed, before
    )
