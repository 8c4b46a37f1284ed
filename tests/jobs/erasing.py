"""A data root with a row of every user in every table that names users, and the erasure of one."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import Segments, Table
from feature_store.spreadsheet import to_csv
from jobs import erase_users
from jobs.contracts import Contract
from jobs.program import execute
from jobs.tables import TABLES
from tests.jobs.embeddings.planted import write_config

D, NEXT, LATER = "2026-01-05", "2026-01-06", "2026-01-07"
GONE, STAYS = "=cmd|\"/c, <b>&\r\nx'", "user-2"
USERS = [STAYS, GONE, "user-3"]
NUMBER = {name: number for number, name in enumerate(USERS)}
# without a row that is a user's
NAMELESS = {"checkpoints", "lookalike_models", "reports", "nights", "erasures", "entity_ids", "relations"}
NAMING = sorted(set(TABLES) - NAMELESS)
SOME = ["attributes", "audiences", "clean_events"]
TIME = datetime.datetime(2026, 1, 4, tzinfo=datetime.UTC)
PLAIN = {"int32": 1, "int64": 7, "float32": 0.5, "float64": 0.5, "bool": True, "timestamp": TIME, "vector": [1.0, 0.0],
         "string": "x"}  # fmt: skip


def row_of(contract: Contract, user: str) -> dict[str, Any]:
    """One row of a user, whatever the table."""
    row = {field.name: PLAIN[field.type] for field in contract.fields}
    number = NUMBER[user]
    own = {"user_id": user, "user": number, "entity_type": "user", "entity": number, "raw": user, "head_type": "user",
           "tail_type": "item", "relation": 0, "head": user if "head_type" in row else number}  # fmt: skip
    if row.get("relation") == "x":
        own["relation"] = "purchase"
    if "metric" in row:
        own |= {"metric": "examples", "detail": json.dumps([{"user": user, "had": []}])}
    return row | {name: value for name, value in own.items() if name in row}


def table_of(root: Path, name: str) -> Table:
    contract = TABLES[name]
    return Table(str(root / "data" / contract.path.format(**dict.fromkeys(("model", "name", "stage"), "one"))),
                 contract.key)  # fmt: skip


def commit(root: Path, name: str, value: str, users: list[str], **fields: Any) -> Table:
    """A partition as a job leaves it; of audiences with the CSV beside the rows."""
    table, contract = table_of(root, name), TABLES[name]
    users = sorted(users) if name == "user_embeddings" else users
    rows = pa.Table.from_pylist([row_of(contract, user) for user in users], contract.arrow_schema(2))
    with table.replace(value, schema_version=contract.schema_version) as part:
        part.provenance = list(contract.provenance)
        part.write_table(rows, sorted_by=["user_id"] if name == "user_embeddings" else [])
        if name in ("audiences", "requested_audiences"):
            part.write_bytes(".csv", to_csv(rows), hint="a-control")
        part.fields |= fields
    return table


def fill(root: Path, names: list[str]) -> None:
    """Those tables, each with a replaced version, and the ledgers."""
    for name in names:
        commit(root, name, D, USERS)
        commit(root, name, D, USERS[::-1])
    ledger = Segments(str(root / "data" / "entity_ids" / "user"))
    for number, part in ((1, USERS[:2]), (2, USERS[2:])):
        ids = pa.array([NUMBER[name] for name in part], pa.int64())
        ledger.append(number, pa.table([ids, pa.array(part)], schema=TABLES["entity_ids"].arrow_schema()))
    relations = [{"id": n, "name": name, "head_type": "user", "tail_type": "item"} for n, name in enumerate("ab")]
    Segments(str(root / "data" / "relations")).append(
        1, pa.Table.from_pylist(relations, TABLES["relations"].arrow_schema())
    )


def erase(root: Path, *more: str, users: tuple[str, ...] = (GONE, "of nobody")) -> int:
    pq.write_table(pa.table({"user_id": list(users)}), root / "ids.parquet")
    config = write_config(root)
    base = ["--date", NEXT, "--config", str(config), "--user-ids", str(root / "ids.parquet"), "--reference", "T-1"]
    return execute(erase_users.run, [*base, *more])


def files_of(root: Path) -> dict[str, bytes]:
    """All but its own figures, which every program writes."""
    files = (path for path in sorted((root / "data").rglob("*")) if path.is_file() and path.name != "_lock")
    return {str(path): path.read_bytes() for path in files if "stage=erase_users" not in str(path)}


def names_left(root: Path) -> list[str]:
    """Files that hold him, in cells or bytes."""
    found = []
    for path, content in files_of(root).items():
        if content.startswith(b"PAR1"):
            rows = pq.read_table(pa.BufferReader(content))
            is_named = any(GONE in column.to_pylist() for column in rows.columns)
        else:
            is_named = b"cmd|" in content
        found += [path] if is_named else []
    return found
