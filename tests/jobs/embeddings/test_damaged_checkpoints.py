"""A checkpoint that is not what was committed: each job that reads it refuses it, with one message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store import Table
from jobs.embeddings import pretrain_transe, publish_users, smooth_kqgc
from jobs.program import execute
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night

READERS = {
    "its own of the predecessor": (pretrain_transe.run, DATES[1], []),
    "what it starts from": (smooth_kqgc.run, DATES[0], ["--model", "kqgc_mean"]),
    "what is published": (publish_users.run, DATES[0], ["--model", "transe"]),
}


@pytest.fixture
def config(root: Path) -> Path:
    config = write_config(root)
    night(config, DATES[0])
    return config


def _refused(name: str, config: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The message with which the job ends."""
    run, date, model = READERS[name]
    predecessor = DATES[0] if date == DATES[1] else None
    caplog.clear()
    options = ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor), *model]
    assert execute(run, options) == 1
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    return said


@pytest.mark.parametrize("name", READERS)
def test_one_changed_bit_is_refused_by_every_job(
    root: Path, config: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = map(Path, Table(str(root / "data/checkpoints/transe")).files(str(DATES[0])))
    content = path.read_bytes()
    for bit in np.random.default_rng(0).choice(len(content) * 8, 5, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        said = _refused(name, config, caplog)
        assert f"{path} was changed after it was published" in said and "publish it again" in said
