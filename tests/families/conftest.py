"""The family that is declared in the tests alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from models import families
from tests.families import train_toy


@pytest.fixture(scope="module")
def toy() -> Iterator[None]:
    """The record among the others, and its job where its dotted name says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "FAMILIES", (*families.FAMILIES, train_toy.RECORD))
        patch.setitem(sys.modules, f"jobs.{train_toy.RECORD.jobs[0].program}", train_toy)
        yield
