"""What `bench_ram_gnn` says of its measurements, and that it makes none of them twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import bench_ram_gnn
from tests.benchmarks.bench_ram_gnn import UPDATES, Kept, interactions, large, paper_sized, ratio, side_of, some_updates

FIGURES = {"seconds": [2.0, 4.0, 3.0], "processor_seconds": [4.0, 4.0, 4.0], "mib": 50.0}


def test_a_ratio_is_over_the_fastest_form_of_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    slow = FIGURES | {"seconds": [9.0]}
    ours = {"seconds": [1.0, 1.5, 9.0], "processor_seconds": [2.0], "mib": 25.0}
    assert ratio("ours", {"slow": slow, "fast": FIGURES, "ours": ours}) == pytest.approx(2)
    assert "ours: 2.0 times as fast (2.0 by the processor), 0.50 of the memory" in capsys.readouterr().out


def test_what_was_measured_is_kept_till_the_code_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ram_gnn, "RESULTS", tmp_path / "kept.json")
    made = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"n": len(made)}

    assert Kept(2).of("one", make) == {"n": 1} == Kept(2).of("one", make)
    assert Kept(1).of("one", make) == {"n": 2}, "of other threads"
    monkeypatch.setattr(bench_ram_gnn, "code_hash", lambda parts: "other")
    assert Kept(1).of("one", make) == {"n": 3}


def test_some_updates_are_as_large_as_all_and_scaled_to_them() -> None:
    rng = np.random.default_rng(0)
    sides = {"user": side_of(300, [2, 10]), "item": side_of(400, [5, 20])}
    pairs = np.unique(np.stack([rng.integers(300, size=70_000), rng.integers(400, size=70_000)]), axis=1)
    trainer = interactions(sides, (pairs[0], pairs[1]))
    n, seen, whole = trainer.users.numel(), [], trainer.loss
    trainer.loss = lambda users, *rest: seen.append(len(users)) or whole(users, *rest)
    of_epoch = n // trainer.hyper.least_batch
    assert some_updates(trainer) == of_epoch / UPDATES > 1
    trainer.epoch(0)
    assert len(seen) == UPDATES and sum(seen) == n * UPDATES // of_epoch


def test_the_paper_sized_log_is_told_with_its_exponents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_ram_gnn, "RESULTS", tmp_path / "kept.json")

    def mine(what: str, threads: int, share: float) -> dict[str, float]:
        found = {"edges": 1000 * share, "users": 1, "items": 2}
        for name in ("pretraining", "interactions"):
            found |= {name: share, f"{name}_processor": 4 * share, f"{name}_peak_mib": 100 * share**0.5}
        return found

    monkeypatch.setattr(bench_ram_gnn, "mine", mine)
    paper_sized(Kept(2), 2, 0.25)
    said = capsys.readouterr().out
    assert said.count("of at most 8192") == 2 and "peak 50 MiB" in said
    assert "exponent of pretraining_processor: 1.00" in said and "exponent of interactions_peak_mib: 0.50" in said


def test_a_small_part_of_the_papers_size_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ram_gnn, "counts", lambda share: (600, 60_000, 70_000))
    found = large(0.001)
    assert found["edges"] == 70_000 and found["pretraining"] > 0 and found["interactions_peak_mib"] > 50
