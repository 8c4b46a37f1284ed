"""What RelGNN learns from on a night: the graph's edges, the attributes that stand in it, and vectors of other models.

An attribute is an edge of the graph as well; both are hidden together from a batch that learns the edge. Categories are
in the order of their raw values, numbers are the middles of the bins that the graph has of them: nothing depends on
ledger ids. A text is an attribute of several values, its words; each word stands at a place that is a hash of it, which
is the same on every night.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.arrays import NONE, Checkpoint, Night
from jobs.configuration.sections import Attribute as Configured
from jobs.configuration.sections import Graph
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import JobError
from models.graph import ranges
from models.relgnn_attributes import Attribute
from models.relgnn_training import Triples, World
from models.relgnn_warm_start import Shape
from models.vectors.content import words_of

VALUES = "relgnn_values"  # of each attribute in the checkpoint: ledger ids of its categories, places of a text's words
WORD_PLACES = 4096  # of a text attribute: words that share one by chance are one to the model


def configured_attributes(graph: Graph) -> dict[str, Configured]:
    """Relation of each attribute → its declaration, by name."""
    of_kinds = {ITEM: graph.item_attributes, USER: graph.user_attributes}
    found = {f"{kind}_{name}": one for kind, attributes in of_kinds.items() for name, one in attributes.items()}
    return dict(sorted(found.items()))


def attribute_of(night: Night, relation: int, configured: Configured) -> tuple[Attribute, np.ndarray]:
    """(an attribute as the model takes it, the night's index of each of its categories; none of a number)."""
    edges = np.flatnonzero(night.relations == relation)
    name, kind = night.relation_names[relation], int(night.relation_head_type[relation])
    heads, (entities, values) = night.heads[edges], np.unique(night.tails[edges], return_inverse=True)
    if configured.type == "number":
        places = {bin_name: number for number, bin_name in enumerate(configured.bin_names)}
        raw = night.raw.take(pa.array(entities)).to_pylist()
        middles = np.array([(places[text] + 0.5) / len(places) for text in raw])
        numbers = ((2 * middles - 1) * 3**0.5).astype(np.float32)  # of unit spread where bins are as full as each other
        return Attribute.of(name, kind, heads, numbers[values], edges=edges), np.zeros(0, np.int64)
    return Attribute.of(name, kind, heads, values.astype(np.int64), len(entities), edges), entities


def text_of(night: Night, relation: int) -> tuple[Attribute, np.ndarray]:
    """(the words of an attribute's values, the places that there are for words)."""
    edges = np.flatnonzero(night.relations == relation)
    name, kind = night.relation_names[relation], int(night.relation_head_type[relation])
    entities, value_of_edge = np.unique(night.tails[edges], return_inverse=True)
    texts = night.raw.take(pa.array(entities)).to_pylist()
    places = [np.unique([place_of(word) for word in words_of(text)]).astype(np.int64) for text in texts]
    counts = np.array([len(one) for one in places], np.int64)
    ends = np.cumsum(counts)
    rows = ranges((ends - counts)[value_of_edge], ends[value_of_edge])
    edge_of_row = np.repeat(edges, counts[value_of_edge])
    values = np.concatenate([np.zeros(0, np.int64), *places])[rows]
    found = Attribute.of(name, kind, night.heads[edge_of_row], values, WORD_PLACES, edge_of_row)
    return found, np.arange(WORD_PLACES)


def counts_of(night: Night, graph: Graph) -> list[Attribute]:
    """Of each behaviour how often a user shows it, and how often an item meets with it."""
    found = []
    for name in graph.behaviors:
        relation = night.relation(name)
        if relation is not None:
            edges = np.flatnonzero(night.relations == relation)
            for types, ends in ((night.relation_head_type, night.heads), (night.relation_tail_type, night.tails)):
                found.append(Attribute.counting(f"number of {name}", int(types[relation]), ends[edges], edges))
    return found


def place_of(word: str) -> int:
    """Where a word's vector stands."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") % WORD_PLACES


def check_texts(texts: Collection[str], graph: Graph) -> None:
    """JobError for one that is no attribute of the graph, or a number."""
    known = [name for name, one in configured_attributes(graph).items() if one.type != "number"]
    for i, name in enumerate(texts):
        if name not in known:
            expected = f"an attribute of the graph that is no number: {', '.join(known)}"
            raise JobError(f"relgnn.text_attributes[{i}] is {name!r:.300}; expected {expected}")


@dataclass(frozen=True)
class NightWorld:
    """The model's world, and what its rows stand for by ledger id."""

    world: World
    shape: Shape

    @classmethod
    def of(
        cls, night: Night, graph: Graph, sources: Mapping[str, Checkpoint], texts: Collection[str] = (),
        counts: bool = False,
    ) -> NightWorld:  # fmt: skip
        """sources: the checkpoints whose vectors go in; none or one. texts: attributes that are read word by word.
        counts: numbers of edges of each behaviour are attributes too. JobError as of `check_texts`."""
        check_texts(texts, graph)
        attributes, shapes, values = [], [], []
        for name, configured in configured_attributes(graph).items():
            relation = night.relation(name)
            if relation is not None:
                if name in texts:
                    attribute, ids = text_of(night, relation)
                else:
                    attribute, entities = attribute_of(night, relation, configured)
                    ids = night.entity_id[entities]
                attributes.append(attribute)
                # one that became a text is another attribute: its rows stood for something else
                shapes.append((f"words of {name}" if name in texts else name, night.types[attribute.node_type]))
                values.append(ids)
        for attribute in counts_of(night, graph) if counts else ():
            attributes.append(attribute)
            shapes.append((attribute.name, night.types[attribute.node_type]))
            values.append(np.zeros(0, np.int64))
        given = None
        for source in sources.values():
            given = np.where((source.source != NONE)[:, None], source.entities, np.float32(np.nan))
        triples = Triples(
            night.heads, night.relations, night.tails, night.entity_type, night.relation_head_type,
            night.relation_tail_type, night.entity_keys(), night.relation_keys())  # fmt: skip
        width = 0 if given is None else given.shape[1]
        shape = Shape(night.relation_names, night.types, shapes, values, width)
        return cls(World(triples, attributes, given), shape)

    def extra(self) -> dict[str, np.ndarray]:
        """What the next night's `shape_of` needs, beside `facts`."""
        return {f"{VALUES}.{number}": ids for number, ids in enumerate(self.shape.values)}

    def facts(self) -> dict[str, str]:
        shape = self.shape
        said = {"relations": list(shape.relations), "attributes": shape.attributes, "given_width": shape.given_width}
        return {"shape": json.dumps(said)}


def shape_of(former: Checkpoint) -> Shape:
    """What the rows of a former night's arrays stand for. JobError where it does not say."""
    said = json.loads(former.fact("shape"))
    attributes = [tuple(one) for one in said["attributes"]]
    values = [former.extra[f"{VALUES}.{number}"] for number in range(len(attributes))]
    return Shape(said["relations"], former.types, attributes, values, said["given_width"])
