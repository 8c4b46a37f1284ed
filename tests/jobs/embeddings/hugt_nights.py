"""Nights of the planted graph for HUGT: sequences as build_sequences commits them, and the stages as programs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from feature_store import Segments, Table
from jobs.arrays import Checkpoint, read_checkpoint
from jobs.program import midnight
from jobs.tables import TABLES
from tests.jobs.embeddings.planted import N_ITEMS, _commit, group_of, write_config

FAST = {"width": 8, "heads": 2, "sequence_heads": 1, "neighbours": 3, "svd_rank": 8, "epochs": 12, "batch_size": 16,
        "learning_rate": 0.02, "validation_share": 0.2, "patience": 0}  # fmt: skip
LENGTH = 10


def config_of(root: Path, **sections: object) -> Path:
    mine = {"hugt": FAST, "sequences": {"max_length": LENGTH}, "publishing": {
        "models": ["hugt"], "min_neighbour_overlap": 0.0}}  # fmt: skip
    return write_config(root, **mine | sections)


def planted_histories(users: list[str]) -> dict[str, list[str]]:
    """Everybody goes round the items of the own group, from a place of the own on: 2 to 10 events."""
    found = {}
    for number, user in enumerate(sorted(users)):
        own = [f"i{n:03d}" for n in range(N_ITEMS) if n % 4 == group_of(user)]
        found[user] = [own[(number + step) % len(own)] for step in range(2 + number % 9)]
    return found


def write_sequences(root: Path, date: datetime.date, histories: Mapping[str, list[str]]) -> None:
    """A row for each event; an item that the ledger does not know gets an id."""
    ledger = Segments(str(root / "data/entity_ids/item"))
    known = dict(zip(*(ledger.read().column(name).to_pylist() for name in ("raw", "id")), strict=True))
    new = sorted({item for items in histories.values() for item in items} - known.keys())
    if new:
        ids = list(range(len(known), len(known) + len(new)))
        schema = TABLES["entity_ids"].arrow_schema()
        ledger.append(ledger.next_number(), pa.table([ids, new], schema=schema))
        known |= dict(zip(new, ids, strict=True))
    users = Segments(str(root / "data/entity_ids/user")).read()
    of_users = dict(zip(users.column("raw").to_pylist(), users.column("id").to_pylist(), strict=True))
    rows = [
        {"user": of_users[user], "position": n, "item": known[item], "behavior": "purchase",
         "event_time": midnight(date) - datetime.timedelta(hours=len(items) - n)}
        for user, items in histories.items() for n, item in enumerate(items)]  # fmt: skip
    rows.sort(key=lambda row: (row["user"], row["position"]))
    _commit(root / "data", "sequences", date, pa.Table.from_pylist(rows, TABLES["sequences"].arrow_schema()))


def base(config: Path, date: datetime.date, predecessor: datetime.date | None = None) -> list[str]:
    return ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]


def checkpoint_of(root: Path, date: datetime.date) -> Checkpoint:
    return read_checkpoint(Table(str(root / "data/checkpoints/hugt")), str(date))


def rows_of(root: Path, found: Checkpoint, kind: str) -> dict[str, int]:
    """Raw id → row of the checkpoint, of one entity type."""
    ledger = Segments(str(root / f"data/entity_ids/{kind}")).read()
    raw = dict(zip(ledger.column("id").to_pylist(), ledger.column("raw").to_pylist(), strict=True))
    number = found.types.index(kind)
    return {raw[int(found.entity_id[row])]: row for row in range(len(found.entity_id))
            if found.entity_type[row] == number}  # fmt: skip
