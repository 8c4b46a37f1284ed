"""The RHGN paper's experiment on data that is to be had.

Graphs of users, items and attributes, two labels, and splits of 75 : 12.5 : 12.5.

`alibaba-ecomm`: four behaviours, category, brand and price; gender, and age in four bands. `ml-1m`: films liked,
seen, disliked, with genres, directors, actors and year; gender, and age in GroupLens' seven bands. Demographics are
labels or nothing: no user has an attribute in the graph. Everything of the log is in the graph, as in the paper;
which users train, choose and test is all that a split says.

Shapes: n nodes, users before all others; u users; E edges; J = 2 labels.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from jobs.embeddings.ram_gnn_sides import placed
from jobs.embeddings.rhgn_inputs import Nodes, node_features
from jobs.events.readers import alibaba_ecomm, movielens
from models.graph import KnowledgeGraph
from models.hyperparameters import TransEHyperparameters
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side, train_ram_gnn, vectors_of
from models.rhgn import MISSING, filled_features
from models.transe import Triples
from models.transe_training import train_transe
from tests.conftest import SHARED_DATA

LABELS = ("gender", "age")
PARTS = TRAIN, VALIDATION, TEST = range(3)
DIMENSION = 64
N_SPLITS = {"alibaba-ecomm": 5, "ml-1m": 3}
BATCH = {"alibaba-ecomm": 128, "ml-1m": 512}  # nine steps to an epoch in both


@dataclass(frozen=True)
class Task:
    """heads, relations, tails: int64 (E,). types: int64 (n,), 0 for users, 1 for items. raw: each node's id.

    labels: int64 (u, J), MISSING where unknown.
    behaviors: how many of the relations, the first ones, go from users to items; the others from items to attributes.
    """

    name: str
    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    relation_names: list[str]
    behaviors: int
    types: np.ndarray
    type_names: list[str]
    raw: np.ndarray
    labels: np.ndarray
    classes: list[list[str]]

    @property
    def n_users(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def graph(self) -> KnowledgeGraph:
        sizes = {"n_entities": len(self.types), "n_relations": len(self.relation_names)}
        return KnowledgeGraph(self.heads, self.relations, self.tails, **sizes)

    @functools.cached_property
    def keys(self) -> np.ndarray:
        """uint64 (n,), from type and raw id, for random numbers of each node's own."""
        texts = (f"{self.type_names[kind]}\0{raw}" for kind, raw in zip(self.types, self.raw, strict=True))
        hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
        return np.frombuffer(b"".join(hashes), np.uint64)

    def merged(self, behaviors: bool) -> Task:
        """The same with all behaviours as one relation, or else all of the attributes' relations as one;
        several edges of a pair become one."""
        merged = self.relations < self.behaviors if behaviors else self.relations >= self.behaviors
        relations = np.where(merged, 0 if behaviors else self.behaviors, self.relations)
        kept, relations = np.unique(relations, return_inverse=True)
        edges = np.unique(np.stack([self.heads, relations, self.tails], 1), axis=0)
        names = [self.relation_names[k] for k in kept]
        return dataclasses.replace(
            self,
            heads=edges[:, 0].copy(),
            relations=edges[:, 1].copy(),
            tails=edges[:, 2].copy(),
            relation_names=names,
            behaviors=1 if behaviors else self.behaviors,
        )


def read_task(name: str) -> Task:
    """From `../shared/data`."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        raise SystemExit(f"{name} is not in ../shared/data beside the repository; put the data set there")
    return _alibaba(alibaba_ecomm.read(folder)) if name == "alibaba-ecomm" else of_films(name, movielens.read(folder))


def _alibaba(imported: alibaba_ecomm.Imported) -> Task:
    items, users = imported.items.to_pandas(), imported.users.to_pandas()
    bins = pd.qcut(items["price"], 8, labels=False, duplicates="drop")
    items["price"] = bins.map(lambda number: f"bin_{number:.0f}", na_action="ignore")
    bands = {"bins": [-np.inf, 3, 4, 5, np.inf], "labels": ["up to 3", "4", "5", "above 5"]}
    age = pd.cut(users["age_level"].astype(float), **bands).astype(object)
    users = pd.DataFrame({"user_id": users["user_id"], "gender": users["gender"], "age": age})
    attributes = {name: name for name in ("category", "brand", "price")}
    return assemble("alibaba-ecomm", imported.events, items, attributes, users, list(alibaba_ecomm.BEHAVIORS.values()))


def of_films(name: str, imported: movielens.Imported) -> Task:
    """ml-1m, or ml-100k, which knows no directors and actors."""
    items = imported.items.to_pandas()
    items["year"] = items["year"].map(lambda year: f"{year:.0f}", na_action="ignore")
    users = imported.users.to_pandas().rename(columns={"age_band": "age"})
    attributes = {"genres": "genre", "directors": "director", "actors": "actor", "year": "year"}
    attributes = {column: kind for column, kind in attributes.items() if column in items}
    return assemble(name, imported.events, items, attributes, users, ["liked", "seen", "disliked"])


def assemble(
    name: str,
    events: pa.Table,
    items: pd.DataFrame,
    attributes: dict[str, str],
    users: pd.DataFrame,
    behaviors: list[str],
) -> Task:
    """items: `item_id` and a column for each attribute (column → type of its values); users: `user_id` and the labels.

    Users and items without event stay out.
    """
    pairs = events.select(["user_id", "item_id", "behavior"]).to_pandas().drop_duplicates()
    user_ids, item_ids = np.unique(pairs["user_id"]), np.unique(pairs["item_id"])
    raw, types = [user_ids, item_ids], [np.zeros(len(user_ids), np.int64), np.ones(len(item_ids), np.int64)]
    heads = np.searchsorted(user_ids, pairs["user_id"])
    tails = len(user_ids) + np.searchsorted(item_ids, pairs["item_id"])
    edges = [np.stack([heads, pairs["behavior"].map(behaviors.index), tails], 1)]
    first, known = len(user_ids) + len(item_ids), items[items["item_id"].isin(item_ids)]
    for number, column in enumerate(attributes):
        values = known[["item_id", column]].explode(column).dropna().drop_duplicates()
        names, places = np.unique(values[column].astype(str), return_inverse=True)
        heads = len(user_ids) + np.searchsorted(item_ids, values["item_id"])
        edges.append(np.stack([heads, np.full(len(heads), len(behaviors) + number), first + places], 1))
        raw.append(names)
        types.append(np.full(len(names), 2 + number))
        first += len(names)
    columns = np.unique(np.concatenate(edges).astype(np.int64), axis=0).T
    people = users.set_index("user_id").reindex(user_ids)
    coded = [pd.Categorical(people[label]) for label in LABELS]
    labels = np.stack([np.where(one.codes < 0, MISSING, one.codes) for one in coded], 1).astype(np.int64)
    return Task(
        name,
        *(column.copy() for column in columns),
        relation_names=[*behaviors, *(f"item_{kind}" for kind in attributes.values())],
        behaviors=len(behaviors),
        types=np.concatenate(types),
        type_names=["user", "item", *attributes.values()],
        raw=np.concatenate(raw),
        labels=labels,
        classes=[[str(c) for c in one.categories] for one in coded],
    )


def split_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """int64 (u,): TRAIN, VALIDATION or TEST.

    Of each combination of labels six of eight users, one, and one (to within one).
    """
    random = np.random.default_rng([seed, 75])
    cell = labels[:, 0] * (labels.max() + 2) + labels[:, 1]
    order = np.lexsort((random.random(len(labels)), cell))
    part = np.empty(len(labels), np.int64)
    of_eight = np.array([TRAIN, TRAIN, TRAIN, VALIDATION, TRAIN, TRAIN, TRAIN, TEST])
    part[order] = of_eight[(np.arange(len(labels)) + random.integers(8)) % 8]
    return part


def transe_vectors(task: Task, seed: int) -> np.ndarray:
    """float32 (n, DIMENSION): TransE of the task's graph, which holds no label."""
    hyper = TransEHyperparameters(dimension=DIMENSION, epochs=20, threads=1)
    return train_transe(triples_of(task), hyper, seed=seed, deterministic=True).state.entities


def triples_of(task: Task) -> Triples:
    """What TransE trains on."""
    m, edges = len(task.relation_names), (task.heads, task.relations, task.tails)
    tail_types = np.array([task.types[task.tails[task.relations == r][0]] for r in range(m)])
    head_types = (np.arange(m) >= task.behaviors).astype(np.int64)
    return Triples(*edges, task.types, head_types, tail_types, task.keys, np.arange(m, dtype=np.uint64))


def random_vectors(task: Task, seed: int) -> np.ndarray:
    """float32 (n, DIMENSION) of length 1 on average."""
    return filled_features(np.full((len(task.types), DIMENSION), np.nan, np.float32), task.keys, seed)


def ram_gnn_vectors(task: Task) -> np.ndarray:
    """float32 (users and items, DIMENSION): RAM-GNN's for items, by their attributes, and for users, who have none, by
    their items, as `rhgn: {init: ram_gnn}` takes them."""
    first = np.searchsorted(task.types, 2)  # of the attributes' nodes
    mine = np.flatnonzero(task.relations >= task.behaviors)
    of_type = task.relations[mine] - task.behaviors
    n_items, n_types = int(first) - task.n_users, len(task.relation_names) - task.behaviors
    found, values = np.unique(of_type * len(task.types) + task.tails[mine], return_inverse=True)
    ends = task.heads[mine] - task.n_users, values.astype(np.int64), found // len(task.types)
    side = Side(
        AttributeRows.of(*ends, n_items, n_types), task.keys[task.n_users : first], np.arange(n_types, dtype=np.uint64),
        task.keys[found % len(task.types)], tuple(task.relation_names[task.behaviors :]))
    hyper = RAMGNNHyperparameters(dimension=DIMENSION)
    vectors = vectors_of({"item": side}, train_ram_gnn({"item": side}, hyper, seed=0).arrays, hyper)
    events = task.relations < task.behaviors
    pairs = np.unique(np.stack([task.heads[events], task.tails[events] - task.n_users]), axis=1)
    touched = sparse.csr_array((np.ones(pairs.shape[1], np.float32), tuple(pairs)), shape=(task.n_users, n_items))
    own = {"item": np.diff(side.rows.offsets.numpy()) > 0}
    of_kinds = placed(vectors, own, touched)
    return np.concatenate([of_kinds["user"][0], of_kinds["item"][0]])


def content_vectors(task: Task, transe: np.ndarray, seed: int) -> np.ndarray:
    """float32 (n, DIMENSION): TransE's for users and items, FastText's for attributes that have words,
    random ones for codes."""
    nodes = Nodes(task.types, task.type_names, task.raw)
    return node_features(nodes, (task.heads, task.relations, task.tails), transe, "transe", "content", seed).vectors
