"""What a training says when it is over: the figure of what was kept, and how sure it is, in the log and the metrics."""

from __future__ import annotations

import pytest

from jobs.program import metrics
from jobs.progress import report_best

HISTORY = [
    {"epoch": 0.0, "loss": 1.0, "validation_mrr": 0.2, "validation_mrr_error": 0.02},
    {"epoch": 1.0, "loss": 0.9, "validation_mrr": 0.3, "validation_mrr_error": 0.01},
    {"epoch": 2.0, "loss": 0.8},
]


@pytest.fixture(autouse=True)
def _no_figures() -> None:
    metrics.rows.clear()


def test_the_figure_kept_and_its_standard_error_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="nocturne"):
        report_best(HISTORY, 1, "validation_mrr")
    told = {name: value for name, value, _ in metrics.rows}
    assert told == {"best_epoch": 1.0, "validation_mrr": 0.3, "validation_mrr_error": 0.01}
    assert "kept epoch 2 of 3: validation_mrr 0.3000, standard error 0.0100" in caplog.text


def test_without_a_look_or_an_error_nothing_is_made_up() -> None:
    report_best(HISTORY, 2, "validation_mrr")
    report_best([{"epoch": 0.0, "validation_macro_f1": 0.5}], 0, "validation_macro_f1")
    assert [name for name, _, _ in metrics.rows] == ["best_epoch", "best_epoch", "validation_macro_f1"]
