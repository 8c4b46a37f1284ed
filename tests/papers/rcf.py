"""MovieLens 100K in the split of RCF (Xin et al. 2019), as the RAM-GNN paper's table III has it: one test item a
user, among the 1,674 items that the split knows.

A user's validation item is the last of the training items by the time of its rating, as the test item is the last of
all. Items have genres, directors, actors and years (in threes), users ages (in fives), genders and occupations.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side
from tests.conftest import SHARED_DATA

FOLDER = SHARED_DATA / "ml-100k"
ITEM_TYPES, USER_TYPES = ("actor", "director", "genre", "year"), ("age", "gender", "occupation")
Pairs = tuple[np.ndarray, np.ndarray]
Triple = tuple[int, str, str]  # entity, type, value


@dataclass(frozen=True)
class Split:
    """Dense pairs (users, items): training with the validation pairs among it, validation and test one for each user.

    times: int64, when each pair of training was. sides: the attributes of items and users.
    """

    n_users: int
    n_items: int
    training: Pairs
    validation: Pairs
    test: Pairs
    times: np.ndarray
    sides: dict[str, Side]


def read_split() -> Split:
    """FileNotFoundError where the data is not there."""
    if not FOLDER.exists():
        raise FileNotFoundError("ml-100k is not in ../shared/data beside the repository; put the data set there")
    with gzip.open(FOLDER / "rcf-train.txt.gz", "rt") as file:
        train = np.loadtxt(file, dtype=np.int64, usecols=(0, 1))
    test = np.loadtxt(FOLDER / "rcf-test.txt", dtype=np.int64, usecols=(0, 1))
    users, items = (np.unique(np.concatenate([train[:, side], test[:, side]])) for side in (0, 1))
    training, tested = (
        (np.searchsorted(users, part[:, 0]), np.searchsorted(items, part[:, 1])) for part in (train, test))
    times = rating_times()
    moments = np.array([times.get((int(u), int(i)), 0.0) for u, i in train])
    order = np.lexsort((training[1], moments, training[0]))
    last = order[np.append(np.flatnonzero(np.diff(training[0][order])), len(order) - 1)]
    validation = training[0][last], training[1][last]
    sides = {"item": side_of(items, ITEM_TYPES, item_values()), "user": side_of(users, USER_TYPES, user_values())}
    return Split(len(users), len(items), training, validation, tested, moments.astype(np.int64), sides)


def rating_times() -> dict[tuple[int, int], float]:
    with gzip.open(FOLDER / "ml-100k.inter.gz", "rt") as file:
        rows = (line.split("\t") for line in list(file)[1:])
        return {(int(user), int(item)): float(moment) for user, item, _, moment in rows}


def item_values() -> Iterator[Triple]:
    for line in (FOLDER / "rcf-auxiliary-mapping.txt").read_text().splitlines():
        item, *columns = line.split("|")
        for kind, column in zip(("genre", "director", "actor"), columns, strict=True):
            yield from ((int(item), kind, value) for value in column.split(",") if value)
    for line in (FOLDER / "ml-100k.item").read_text().splitlines()[1:]:
        item, _, year, _ = line.split("\t")
        if year.strip().isdigit():
            yield int(item), "year", str(int(year) // 3)


def user_values() -> Iterator[Triple]:
    for line in (FOLDER / "ml-100k.user").read_text().splitlines()[1:]:
        user, age, gender, occupation, _ = line.split("\t")
        yield from ((int(user), kind, value) for kind, value in (
            ("age", str(int(age) // 5)), ("gender", gender), ("occupation", occupation)))  # fmt: skip


def side_of(ids: np.ndarray, types: tuple[str, ...], values: Iterator[Triple]) -> Side:
    """Keys are drawn in the order of entities, types and values."""
    place = {int(entity): number for number, entity in enumerate(ids)}
    known = [(place[entity], (types.index(kind), value)) for entity, kind, value in values if entity in place]
    named = sorted({value for _, value in known})
    numbers = {value: number for number, value in enumerate(named)}
    entities = np.array([entity for entity, _ in known], np.int64)
    of_rows = np.array([numbers[value] for _, value in known], np.int64)
    rows = AttributeRows.of(entities, of_rows, np.array([kind for kind, _ in named]), len(ids), len(types))
    keys = (np.random.default_rng([n, 17]).integers(1 << 63, size=n).astype(np.uint64)
            for n in (len(ids), len(types), len(named)))  # fmt: skip
    return Side(rows, *keys, types)

