"""The predecessor is not looked for while an earlier night is under way: from a shell and under a scheduler."""

from __future__ import annotations

import datetime
import json
import threading
from pathlib import Path

import pytest

from feature_store import Leases, Table
from jobs import nights
from jobs.configuration.load import load_settings
from jobs.embeddings import resolve_predecessor
from jobs.embeddings.family import family
from jobs.program import NOT_YET, PUT_OFF, execute
from tests.jobs.embeddings.planted import write_config

EARLIER, D = "2026-02-01", "2026-02-08"
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(str(tmp_path / "data/nights"))


def resolve(folder: Path, *options: str) -> int:
    return execute(resolve_predecessor.run, ["--date", D, "--config", str(write_config(folder)), *options])


def answered(capsys: pytest.CaptureFixture[str]) -> dict[str, str | None] | None:
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return json.loads(said[-1]) if said else None


def commit(folder: Path, dt: str) -> None:
    """What a night of the first model leaves for the next one."""
    settings = load_settings(write_config(folder))
    model = settings.publishing.models[0]
    for name in (f"feature_store/user_embeddings/model={model}", f"checkpoints/{model}"):
        with Table(str(folder / "data" / name)).replace(dt) as partition:
            partition.write_bytes(".bin", b"x")
            partition.fields["family"] = family(model, settings)


def test_from_a_shell_it_waits_and_then_finds_what_the_earlier_night_published(
    tmp_path: Path, leases: Leases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(nights, "LOOK_SECONDS", 0.02)
    leases.write(EARLIER, HOUR)
    waited = threading.Event()

    def earlier_night() -> None:
        waited.wait(20)
        commit(tmp_path, EARLIER)
        leases.end(EARLIER)

    other = threading.Thread(target=earlier_night)
    other.start()
    monkeypatch.setattr(nights.log, "info", lambda *said: waited.set() if "waits for" in str(said) else None)
    assert resolve(tmp_path) == 0
    other.join(20)
    assert answered(capsys)["transe"] == EARLIER


def test_under_a_scheduler_it_asks_to_come_back_later_and_leaves_nothing(
    tmp_path: Path, leases: Leases, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    leases.write(EARLIER, HOUR)
    with caplog.at_level("INFO", logger="nocturne"):
        assert resolve(tmp_path, "--under-way", "nothing", "--scheduled-run", "r") == NOT_YET
    assert f"waits for dt={EARLIER}" in caplog.text
    assert answered(capsys) is None and not (tmp_path / "data/run_metrics").exists()
    leases.end(EARLIER)
    assert resolve(tmp_path, f"--under-way={EARLIER}=running") == NOT_YET
    assert resolve(tmp_path, "--under-way=nothing") == 0 and answered(capsys)["transe"] is None


def test_a_run_that_has_the_place_of_an_earlier_one_gives_it_up(
    tmp_path: Path, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (f"--under-way={EARLIER}=behind", "--scheduled-run=run of <the 8th>")
    assert resolve(tmp_path, *given) == NOT_YET
    monkeypatch.setattr(nights, "PATIENCE", datetime.timedelta(0))
    assert resolve(tmp_path, *given) == PUT_OFF
    assert leases.get(D).said == {"put_off_for": EARLIER, "run": "run of <the 8th>"}


def test_a_night_beyond_the_gap_is_not_waited_for(tmp_path: Path, leases: Leases) -> None:
    leases.write("2025-12-01", HOUR)
    assert resolve(tmp_path) == 0
