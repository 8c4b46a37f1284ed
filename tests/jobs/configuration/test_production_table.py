"""docs/production.md: the defaults in its table are those of the configuration."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.configuration.settings import settings_class
from jobs.program import FAILED, FINAL, NOT_YET, PUT_OFF, SKIPPED

TEXT = (Path(__file__).resolve().parents[3] / "docs/production.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \| (.+) \|$", TEXT, re.MULTILINE)


def default_of(key: str) -> Any:
    """The default of a dotted key."""
    found, kind = dataclasses.MISSING, settings_class()
    for name in key.split("."):
        field = next(f for f in dataclasses.fields(kind) if f.name == name)
        found = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        kind = typing.get_type_hints(kind)[name]
    assert found is not dataclasses.MISSING, f"{key} has no default"
    return found


@pytest.mark.parametrize(("key", "default", "about"), ROWS, ids=[key for key, _, _ in ROWS])
def test_defaults_are_as_the_table_says(key: str, default: str, about: str) -> None:
    assert yaml.safe_load(default) == default_of(key) and about


def test_the_table_holds_what_a_schedule_needs() -> None:
    keys = {key for key, _, _ in ROWS}
    assert len(ROWS) >= 20 and len(keys) == len(ROWS)
    assert {f"dag.{f.name}" for f in dataclasses.fields(default_of("dag"))} - keys == {"dag.start_date", "dag.dates"}


def test_every_exit_status_stands_in_the_other_table() -> None:
    statuses = {int(number) for number in re.findall(r"^\| (\d+)[ ,]", TEXT, re.MULTILINE)}
    assert statuses == {0, 2, FAILED, FINAL, SKIPPED, NOT_YET, PUT_OFF}
