"""The dates of `make nightly`: in order, each once, and what is said of one outside the data."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from jobs.configuration.dates import advice, expect_possible, parse_dates
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from tests.jobs.embeddings.planted import write_config

FIRST, LAST = datetime.date(2026, 1, 1), datetime.date(2026, 3, 1)


def test_dates_are_read_in_order() -> None:
    assert parse_dates("2026-01-05, 2026-01-12,") == [datetime.date(2026, 1, 5), datetime.date(2026, 1, 12)]
    assert parse_dates(" ") == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("2026-01-12,2026-01-05", "DATES holds 2026-01-12 before 2026-01-05; expected ascending dates"),
        ("2026-01-05,2026-01-12,2026-01-12", "DATES holds 2026-01-12 twice"),
        ("2026-02-30", "DATES holds '2026-02-30'; expected dates such as"),
        ("2026-01-05;2026-01-12", "DATES holds '2026-01-05;2026-01-12'"),
        ("0001-01-01", "DATES is 0001-01-01 (date); expected dates such as"),
        ("9" * 5000, "DATES holds '999"),
    ],
)
def test_dates_that_cannot_be_run_are_one_line(given: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_dates(given)
    assert said in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 500


def test_a_date_before_every_event_that_counts_is_refused(tmp_path: Path) -> None:
    events = {"behaviors": ["purchase"], "earliest_event_time": FIRST}
    settings = load_settings(write_config(tmp_path, events=events))
    expect_possible([FIRST + datetime.timedelta(days=1), LAST], settings)
    with pytest.raises(ConfigError, match=r"DATES holds 2026-01-01; expected .*earliest_event_time \(2026-01-01\)"):
        expect_possible([FIRST], settings)


def test_the_advice_leads_to_a_date_that_has_events() -> None:
    assert "begins: 2026-01-02 or later" in advice(FIRST, 10, FIRST, LAST)
    far = LAST + datetime.timedelta(days=30)
    assert "2026-03-11 or earlier" in advice(far, 10, FIRST, LAST), "its window begins with the last day"
    assert "after the data begins" not in advice(far, 10, FIRST, LAST)
    assert "gap from 2026-01-22 on" in advice(datetime.date(2026, 2, 1), 10, FIRST, LAST)
