"""What stands in the files below a data root, held against the contracts of `jobs/tables.py`."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from feature_store.tree import DataRoot
from jobs.contracts import NAME
from jobs.tables import TABLES


def wrong_columns(data_root: Path) -> dict[str, list[str]]:
    """Contract → what is wrong with its files' columns; a contract that has no file is left out."""
    root, found = DataRoot(str(data_root)), {}
    files = [(name, table.files(value)) for name, table in root.tables.items() for value in table.values()]
    files += [(name, ledger.files()) for name, ledger in root.ledgers.items()]
    paths = {name: re.compile(re.sub("{.*}", NAME.pattern, contract.path)) for name, contract in TABLES.items()}
    for folder, path in ((folder, path) for folder, some in files for path in some):
        (name,) = [name for name, pattern in paths.items() if pattern.fullmatch(folder)]
        if path.endswith(".parquet"):
            problem = TABLES[name].schema_problem(pq.read_schema(path))
            found.setdefault(name, []).extend([f"{path}: {problem}"] if problem else [])
    return found
