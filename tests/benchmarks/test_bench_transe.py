"""How bench-transe comes by its learning rate, and that it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.bench_transe import SETTINGS, chosen_rate, settings_of_choice


def kept(folder: Path, figures: dict[str, float], **changed: object) -> Path:
    path = folder / "transe_rate.json"
    settings = settings_of_choice() | changed
    path.write_text(json.dumps({"pykeen_validation_mrr": figures, "seed": 0, "settings": settings}))
    return path


def test_the_rate_is_the_best_on_the_validation_split(tmp_path: Path) -> None:
    rate, how = chosen_rate(kept(tmp_path, {"0.03": 0.11, "0.1": 0.17, "0.3": 0.19, "1.0": 0.15}))
    assert rate == 0.3 and "learning rate 0.3: chosen for PyKEEN by its validation MRR" in how and "0.1 0.1700" in how
    assert "end of the range" not in how


def test_the_best_at_an_end_of_the_range_says_so(tmp_path: Path) -> None:
    rate, how = chosen_rate(kept(tmp_path, {"0.03": 0.11, "0.1": 0.17}))
    assert rate == 0.1 and "end of the range" in how


@pytest.mark.parametrize("changed", [None, {"margin": 3.0}])
def test_without_a_choice_for_these_settings_the_rate_is_called_unchosen(tmp_path: Path, changed: dict | None) -> None:
    path = tmp_path / "none.json"
    if changed is not None:
        path = kept(tmp_path, {"0.3": 0.2, "1.0": 0.1, "0.1": 0.1}, **changed)
    rate, how = chosen_rate(path)
    assert rate == SETTINGS.learning_rate and "NOT chosen" in how
