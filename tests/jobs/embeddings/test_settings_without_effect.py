"""A job says what of its settings changed nothing: in its log, and with the figures of its stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feature_store import Table
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night

BOTH = ("kqgc_mean", "kqgc_attention2")


def warnings_of(root: Path, model: str) -> list[str]:
    rows = Table(str(root / f"data/run_metrics/stage=smooth_kqgc_{model}")).read(str(DATES[0])).to_pylist()
    return next((json.loads(row["detail"]) for row in rows if row["metric"] == "warnings"), [])


@pytest.mark.parametrize("learned", [False, True])
def test_settings_of_training_are_warned_of_where_nothing_is_trained(root: Path, learned: bool) -> None:
    config = write_config(
        root, kqgc={"learned": learned, "epochs": 2, "fanout": 5}, publishing={"models": ["transe", *BOTH]})
    night(config, DATES[0], models=("transe", *BOTH))
    for model in BOTH:
        said = warnings_of(root, model)
        if learned:
            assert said == []
        else:
            assert said[0].startswith("Without effect: kqgc.fanout, kqgc.epochs. ")
            assert said[1].startswith("kqgc_attention2 is equal to kqgc_mean")
