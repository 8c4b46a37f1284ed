"""Arrays: ids that a ledger does not know are named, and nobody else's name stands for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Segments
from jobs.arrays import raw_of
from jobs.program import JobError


@pytest.mark.parametrize("unknown", [4, 9, 99])
def test_an_id_that_the_ledger_lacks_is_refused(unknown: int, tmp_path: Path) -> None:
    ledger = Segments(str(tmp_path / "user"))
    ledger.append(1, pa.table({"id": pa.array([5, 7, 3]), "raw": pa.array(["e", "g", "c"])}))
    assert raw_of(ledger, np.array([7, 3, 5, 7]), "user").to_pylist() == ["g", "c", "e", "g"]
    with pytest.raises(JobError, match=rf"entity_ids/user does not know id {unknown}, .*Run assign_ids"):
        raw_of(ledger, np.array([3, unknown, 5]), "user")


def test_a_ledger_that_is_not_there_knows_nobody(tmp_path: Path) -> None:
    ledger = Segments(str(tmp_path / "user"))
    assert raw_of(ledger, np.zeros(0, np.int64), "user").to_pylist() == []
    with pytest.raises(JobError, match="does not know id 0"):
        raw_of(ledger, np.array([0]), "user")
