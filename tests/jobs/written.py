"""What stands in the files below a data root, held against the contracts of `jobs/tables.py`."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from feature_store.tree import DataRoot
from jobs.tables import NAME, TABLES


def wrong_columns(data_root: Path) -> dict[str, list[str]]:
    """Contract → what is wrong with its files' columns; a contract that has no file is left out."""
    root, found = DataRoot(str(data_root)), {}
    files = [(name, path) for name, table in root.tables.items() for value in table.values() for path in table.files(value)]
    files += [(name, path) for name, ledger in root.ledgers.items() for path in ledger.files()]
    for folder, path in files:
        (name,) = [name for name, contract in TABLES.items() if re.fullmatch(re.sub("{.*}", NAME.pattern, contract.path), folder)]
        if path.endswith(".parquet"):
            problem = TABLES[name].schema_problem(pq.read_schema(path))
            found.setdefault(name, []).extend([f"{path}: {problem}"] if problem else [])
    return found
