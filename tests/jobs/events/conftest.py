"""A sandbox per test, on the suite's one Spark session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.events.night import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path, spark) -> Sandbox:
    return Sandbox(tmp_path)
