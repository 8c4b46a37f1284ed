"""The planted graph of every date."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.embeddings.planted import write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ledgers(tmp_path / "data", USERS)
    for date in DATES:
        write_graph(tmp_path / "data", date, USERS)
    return tmp_path
