"""The arithmetic of `make bench-scale`: planted costs give back their exponent,
and the log has the sizes that it says."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from tests.benchmarks.bench_scale import (
    CLIENTS,
    EMPTY,
    REPEATS,
    SIZES,
    STAGES,
    Run,
    show,
    slope,
    summarise,
    write_configuration,
)
from tests.benchmarks.paper_sized_log import counts, generate, generate_items


def planted(exponent: float, start_up: float = 7.0) -> dict[str, list[dict[str, Run]]]:
    """Nights whose stages take start_up + 100 · size^exponent seconds;
    memory grows with the square root of the size."""
    def run(size: str) -> Run:
        seconds = start_up + (0 if size == "empty" else 100 * SIZES[size] ** exponent)
        return Run(seconds, seconds, 1000 * SIZES[size] ** 0.5, {"epoch": 2.0, "batches": 1.0, "scaled_up": 0.0})

    return {size: [{stage: run(size) for stage in STAGES} for _ in range(REPEATS[size])] for size in SIZES}


@pytest.mark.parametrize("exponent", [0.9, 1.0, 1.3])
def test_the_exponent_of_planted_costs_is_found(exponent: float) -> None:
    measured = planted(exponent)
    rows = summarise(measured)
    assert all(row["slope"] == pytest.approx(exponent) and row["memory slope"] == pytest.approx(0.5) for row in rows)
    assert show(rows, measured).splitlines()[-1] == f"peak_mib: 1000 exponent: {exponent:.3f}"


def test_a_stage_of_less_than_five_seconds_at_a_quarter_does_not_decide() -> None:
    measured = planted(1.0)
    for size, nights in measured.items():
        for night in nights:
            night["assign_ids"] = Run(7 + (0 if size == "empty" else 20 * SIZES[size] ** 2), 1, 1, {})
    rows = summarise(measured)
    assert next(row for row in rows if row["stage"] == "assign_ids")["slope"] == pytest.approx(2)
    assert show(rows, measured).splitlines()[-1].endswith("exponent: 1.000")


def test_the_slope_of_nothing_is_no_number() -> None:
    assert math.isnan(slope([(0.25, 0.0), (0.5, 1.0)]))
    assert math.isnan(slope([(1.0, 3.0)]))


def test_the_log_has_every_user_and_item_and_repeats_itself(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(tmp_path / name, EMPTY)
    log, (users, items, purchases) = pq.read_table(tmp_path / "a"), counts(EMPTY)
    assert log.num_rows == purchases
    assert (pc.count_distinct(log["user_id"]).as_py(), pc.count_distinct(log["item_id"]).as_py()) == (users, items)
    assert log.equals(pq.read_table(tmp_path / "b"))


def test_every_item_has_a_category_and_every_client_items(tmp_path: Path) -> None:
    generate(tmp_path / "log", 0.01)
    for name in ("a", "b"):
        generate_items(tmp_path / name, tmp_path / "log")
    items, log = pq.read_table(tmp_path / "a"), pq.read_table(tmp_path / "log")
    assert items.equals(pq.read_table(tmp_path / "b"))
    assert set(items["item_id"].to_pylist()) == set(log["item_id"].to_pylist())
    clients = yaml.safe_load(write_configuration(tmp_path).read_text())["lookalike"]["clients"]
    assert {client["category"] for client in clients.values()} <= set(items["category"].to_pylist())
    assert len(clients) == CLIENTS == 20
