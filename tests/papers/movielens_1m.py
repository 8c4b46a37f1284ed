"""MovieLens 1M for RAM-GNN: each user's last item is the test, the one before it validation (a training item).

Items have genres, directors, actors and years (in threes), users the age bands of the data set, genders and
occupations. Ids are dense, users and items in the order of the publisher's numbers.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator

import numpy as np

from tests.conftest import SHARED_DATA
from tests.papers.rcf import ITEM_TYPES, USER_TYPES, Pairs, Split, Triple, side_of

FOLDER = SHARED_DATA / "ml-1m"
LISTS = {"genres": "genre", "director": "director", "actors": "actor"}  # column → type


def read_split() -> Split:
    """FileNotFoundError where the data is not there."""
    if not FOLDER.exists():
        raise FileNotFoundError("ml-1m is not in ../shared/data beside the repository; put the data set there")
    log = FOLDER / "interactions.tsv.gz"
    raw = np.loadtxt(log, delimiter="\t", skiprows=1, usecols=(0, 1, 3), dtype=np.int64)
    users, of_users = np.unique(raw[:, 0], return_inverse=True)
    items, of_items = np.unique(raw[:, 1], return_inverse=True)
    order = np.lexsort((raw[:, 2], of_users))
    ends = np.cumsum(np.bincount(of_users)) - 1  # of each user's last in that order
    learned = np.ones(len(order), bool)
    learned[ends] = False

    def pairs(rows: np.ndarray) -> Pairs:
        return of_users[rows], of_items[rows]

    sides = {"item": side_of(items, ITEM_TYPES, item_values()), "user": side_of(users, USER_TYPES, user_values())}
    parts = (pairs(order[learned]), pairs(order[ends - 1]), pairs(order[ends]))
    return Split(len(users), len(items), *parts, raw[order[learned], 2], sides)


def item_values() -> Iterator[Triple]:
    with gzip.open(FOLDER / "movie_credits.tsv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            item = int(row["movie_id"])
            for column, kind in LISTS.items():
                values = (row[column] or "").split(", ")
                yield from ((item, kind, value) for value in values if value not in ("", "N/A"))
            if row["year"][:4].isdigit():
                yield item, "year", str(int(row["year"][:4]) // 3)


def user_values() -> Iterator[Triple]:
    for line in (FOLDER / "users.dat").read_text(encoding="latin-1").splitlines():
        user, gender, age, occupation, _ = line.split("::")
        yield from ((int(user), kind, value) for kind, value in (
            ("age", age), ("gender", gender), ("occupation", occupation)))  # fmt: skip
