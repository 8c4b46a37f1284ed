"""Which night a request on demand is of."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import PartitionMissing
from jobs.audiences import resolve_request
from jobs.configuration.sections import Publishing
from jobs.program import Input, JobError
from tests.jobs.report.tables_by_hand import table_input, write_vectors

CONFIG = resolve_request.Config(Publishing(models=["transe", "kqgc_mean"]))


@pytest.fixture
def users(tmp_path: Path) -> Input:
    vector = np.ones(4)
    for day in (16, 23):
        write_vectors(tmp_path, "transe", datetime.date(2026, 2, day), {"u1": vector}, {"i1": vector}, vector)
    return table_input(tmp_path, "user_embeddings")


def resolved(users: Input, date: str, capsys: pytest.CaptureFixture[str], **given: object) -> dict[str, str]:
    resolve_request.run(datetime.date.fromisoformat(date), users, CONFIG, **{"model": "transe"} | given)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("asked", "night"), [
    ("2026-11-28", "2026-02-23"), ("2026-02-23", "2026-02-23"), ("2026-02-22", "2026-02-16"),
])  # fmt: skip
def test_the_newest_published_night_up_to_the_day(
    users: Input, asked: str, night: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resolved(users, asked, capsys) == {"date": night}


def test_an_exact_date_is_that_night_or_none(users: Input, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolved(users, "2026-02-16", capsys, exact=True) == {"date": "2026-02-16"}
    with pytest.raises(PartitionMissing, match="dt=2026-02-17.*There are 2, from 2026-02-16 to 2026-02-23"):
        resolved(users, "2026-02-17", capsys, exact=True)


def test_no_night_and_no_such_model_are_said(users: Input, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JobError, match="model=transe has no night up to 2026-02-15"):
        resolved(users, "2026-02-15", capsys)
    with pytest.raises(JobError, match="'rhgn' is not published.*transe, kqgc_mean"):
        resolved(users, "2026-02-23", capsys, model="rhgn")
