"""A run that did nothing is no success: dates that Airflow would not run, and nights after which a model is missing."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import run_nights
from jobs.configuration.load import load_settings
from jobs.configuration.sections import Dag
from tests.dags import small_log
from tests.jobs import nights_by_hand as by_hand
from tests.jobs.nights_by_hand import D

BEFORE = datetime.date(2025, 12, 31)  # small_log's start_date is 2026-01-01
PRETENDER = Path(small_log.__file__).with_name("pretend_python.py")


def test_dates_before_the_start_date_stop_the_run_before_it_begins(tmp_path: Path) -> None:
    config = small_log.write(tmp_path, ("transe",))
    command = [sys.executable, "-m", "jobs.run_nights", "--config", str(config), "--folder", str(tmp_path / "run")]
    command += ["--dates", f"{BEFORE},{D}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "run").exists()
    assert all(part in done.stderr for part in ("night of 2025-12-31", "dag.start_date, 2026-01-01", "other dates"))
    assert "Traceback" not in done.stderr


def test_the_configurations_own_dates_are_held_against_it_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = small_log.configuration(("transe",))["dag"] | {"dates": [BEFORE]}
    config = small_log.write(tmp_path, ("transe",), dag=document)
    monkeypatch.setattr(sys, "argv", ["run_nights", "--config", str(config), "--generate"])
    assert run_nights.main() == 1
    assert "dag.start_date" in capsys.readouterr().err and not (tmp_path / "demo").exists()


@pytest.mark.parametrize("date", ["1900-01-02", "1931-02-08", "1998-02-09", "2010-12-01"])
def test_the_default_start_date_is_in_nobodys_way(tmp_path: Path, date: str) -> None:
    document = small_log.configuration(("transe",))["dag"]
    del document["start_date"]
    events = small_log.configuration(("transe",))["events"] | {"earliest_event_time": datetime.date(1900, 1, 1)}
    settings = by_hand.settings(tmp_path, ("transe",), dag=document, events=events)
    assert run_nights.nights_of(settings, date) == [datetime.date.fromisoformat(date)]


def test_airflow_runs_every_task_of_an_old_night_from_the_default_start_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an interpreter that only pretends to run the jobs, and notes what it was asked for."""
    document = small_log.configuration(("transe",))["dag"] | {"schedule": "@daily"}
    del document["start_date"]
    config = small_log.write(tmp_path, ("transe",), dag=document)
    pretender, notes = tmp_path / "python", tmp_path / "notes"
    pretender.write_text(f"#!{sys.executable}\n{PRETENDER.read_text(encoding='utf-8')}", encoding="utf-8")
    pretender.chmod(0o755)
    of_airflow = run_nights.environment
    ours = {"NOCTURNE_PYTHON": str(pretender), "PRETEND_NOTES": str(notes)}
    monkeypatch.setattr(run_nights, "environment", lambda *given: of_airflow(*given) | ours)
    run_nights.prepare(tmp_path / "airflow", config, tmp_path / "airflow.log")
    with run_nights.airflow_process(tmp_path / "airflow", config) as airflow:
        run_nights.run_night(datetime.date(1931, 2, 8), airflow, tmp_path / "night.log")
    said = notes.read_text(encoding="utf-8")
    assert "publish_users_transe" in said and said.count("--date=1931-02-08") == said.count("\n") == 8


@pytest.mark.parametrize(
    ("airflow", "said"),
    [("raise SystemExit('no database')", "no database"),
     ("date = input(); print(f'night {date}: success'); print('ended ' + '0' * 16 + f' {date}: success')", "success"),
     ("date = input(); print('x'); print(f'{sys.argv[1]} {date}: failed'); input()", "x")],
    ids=["ends at once", "says what is no end", "a failed night"],
)  # fmt: skip
def test_a_night_is_done_when_airflow_says_so_in_its_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, airflow: str, said: str
) -> None:
    settings, played = by_hand.settings(tmp_path, ("transe",)), tmp_path / "airflow.py"
    played.write_text(f"import sys\n{airflow}\n", encoding="utf-8")
    monkeypatch.setattr(run_nights, "prepare", lambda *given: None)
    monkeypatch.setattr(run_nights, "PLAY_NIGHTS", played)
    with pytest.raises(run_nights.NightFailed, match=f"(?s)night of {D} failed.*{said}"):
        run_nights.run_nights(tmp_path / "small.yaml", [D, D], tmp_path / "run")
    assert not Path(settings.data_root).exists()


def test_every_shipped_configuration_runs_its_own_dates_and_earlier_ones() -> None:
    from jobs.configuration.load import load_settings

    shipped = sorted((Path(run_nights.__file__).parent / "configs").glob("*.yaml"))
    assert shipped
    for path in shipped:
        settings = load_settings(path)
        assert run_nights.nights_of(settings, "") == settings.dag.dates
        assert settings.dag.start_date == Dag().start_date, f"{path.name} bars dates without need"


def test_an_airflow_that_runs_no_task_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real one: of a night before the start date it runs nothing, and calls that a success."""
    settings, config = by_hand.settings(tmp_path, ("transe",)), tmp_path / "small.yaml"
    says = "transe has no partition dt=2025-12-31 of this run: no task of the night ran"
    with pytest.raises(run_nights.NightFailed, match=says):
        run_nights.run_nights(config, [BEFORE], tmp_path / "run")
    said = capsys.readouterr().out
    assert "done" not in said and settings.data_root not in said


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Nights played by a function of (data root, date) instead of by Airflow; gives the configuration's path."""

    def play(night: Callable[[str, datetime.date], None]) -> Path:
        root = by_hand.settings(tmp_path).data_root
        monkeypatch.setattr(run_nights, "prepare", lambda *given: None)
        monkeypatch.setattr(run_nights, "airflow_process", lambda *given: contextlib.nullcontext())
        monkeypatch.setattr(run_nights, "run_night", lambda date, *given: night(root, date) or 1.0)
        return tmp_path / "small.yaml"

    return play


def test_a_whole_night_is_done(played: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_nights.run_nights(played(by_hand.whole_night), [D], tmp_path / "run")
    said = capsys.readouterr().out
    assert f"night of {D} done in 1 s" in said and "is not published" not in said


def test_a_skip_with_a_reason_is_said_and_is_no_failure(
    played: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_nights.run_nights(played(by_hand.label_learner_skipped), [D], tmp_path / "run")
    said = capsys.readouterr().out
    assert f"night of {D} done" in said and "model=rhgn" not in said
    assert "rhgn is not published: finetune_rhgn was skipped: No label can be learned from." in said


def nothing_tonight(root: str, date: datetime.date) -> None:
    for name in by_hand.GRAPH:
        by_hand.stage(root, name, date)
    by_hand.stage(root, "pretrain_transe", date, 99, "nothing to do")


def one_is_missing(root: str, date: datetime.date) -> None:
    by_hand.whole_night(root, date, ("transe", "rhgn"))


@pytest.mark.parametrize(("night", "says"), [
    (lambda root, date: None, "transe has no partition dt=2026-01-21 of this run: no task of the night ran"),
    (one_is_missing, "kqgc_mean has no partition dt=2026-01-21 of this run: smooth_kqgc_kqgc_mean did not run"),
    (nothing_tonight, "transe has no partition dt=2026-01-21 of this run: pretrain_transe was skipped: nothing to do"),
])
def test_a_night_without_a_models_vectors_is_not_done(
    night: Callable[[str, datetime.date], None], says: str, played: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = played(night)
    with pytest.raises(run_nights.NightFailed) as failed:
        run_nights.run_nights(config, [D], tmp_path / "run")
    assert says in str(failed.value) and f"The night of {D} is not done" in str(failed.value)
    assert f"{D}.log" in str(failed.value) and "done in" not in capsys.readouterr().out


def test_what_an_earlier_run_published_does_not_count(played: Callable[..., Path], tmp_path: Path) -> None:
    config = played(lambda root, date: None)
    by_hand.whole_night(str(tmp_path / "data"), D)
    with pytest.raises(run_nights.NightFailed, match="no task of the night ran"):
        run_nights.run_nights(config, [D], tmp_path / "run")


def test_where_the_sources_are_not_the_dag_files_lie_beside_python(tmp_path: Path) -> None:
    """As in the image `laptop`: the package is installed, and the DAGs are a folder of its environment."""
    environment, sources = tmp_path / "opt", Path(run_nights.__file__).resolve().parents[1]
    installed = environment / "lib"
    for package in ("feature_store", "jobs", "models"):
        shutil.copytree(sources / package, installed / package, ignore=shutil.ignore_patterns("__pycache__"))
    (environment / "dags" / "dagkit").mkdir(parents=True)
    text = "import sys; sys.path.insert(0, sys.argv[1]); sys.prefix = sys.argv[2]\nfrom jobs import run_nights\n"
    text += "print(run_nights.DAGS_FOLDER, run_nights.__file__.startswith(sys.argv[1]))"
    for dags in (environment / "dags", installed / "dags"):  # those beside the package come first
        dags.mkdir(exist_ok=True)
        command = [sys.executable, "-c", text, str(installed), str(environment)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == f"{dags} True\n"


def test_a_database_that_cannot_be_made_is_one_message_with_what_was_said(tmp_path: Path) -> None:
    config = small_log.write(tmp_path, ("transe",))
    (tmp_path / "airflow" / "airflow.db").mkdir(parents=True)
    with pytest.raises(run_nights.NightFailed, match="(?s)db migrate.* exit status 1:.*unable to open database"):
        run_nights.prepare(tmp_path / "airflow", config, tmp_path / "airflow.log")


def test_of_several_tables_of_events_the_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = small_log.write(tmp_path, ("transe",))
    settings = load_settings(config)
    run_nights.check_machine(settings)
    tables = [settings.source.events, replace(settings.source.events, path=str(tmp_path / "orders.csv"))]
    settings = replace(settings, source=replace(settings.source, events=tables))
    with pytest.raises(run_nights.NightFailed, match=r"orders.csv, which source.events\[1\].path names"):
        run_nights.check_machine(settings)
