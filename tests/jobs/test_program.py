"""The one shape of a job: command line, exit status, figures."""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from feature_store import Leases, Table
from feature_store.errors import (
    BadName,
    CannotWrite,
    DataDamaged,
    DiskFull,
    LockHeld,
    ManifestBroken,
    PartitionMissing,
    StoreError,
    explain_os_errors,
)
from jobs.configuration.load import load_settings
from jobs.events.places import SourceError
from jobs.program import (
    FINAL,
    NOT_YET,
    PUT_OFF,
    SKIPPED,
    Input,
    JobError,
    MayPass,
    NotYet,
    Output,
    PutOff,
    Skip,
    execute,
    is_final,
    metrics,
    midnight,
    parser,
    run_stage,
)
from tests.jobs.embeddings.planted import write_config


@dataclass(frozen=True)
class Config:
    seed: int


SEEN: dict[str, object] = {}


def run(
    date: datetime.date,
    clean_events: Input,
    checkpoints: Output,
    k: int,
    config: Config,
    predecessor: datetime.date | None = None,
    end: str = "well",
    careful: bool = False,
) -> None:
    """A job that notes what it got and ends as told."""
    SEEN.update(locals())
    metrics.put("rows_out", 5, {"<b>": "ü"})
    if end == "skip":
        raise Skip("nothing to do")
    if end == "want":
        raise Skip("no x", wanted=[{"table": "x", "dt": "2026-01-31"}])
    if end == "fail":
        raise JobError("found x")
    if end == "pass":
        raise MayPass("busy")
    if end == "not yet":
        raise NotYet("later")
    if end == "put off":
        raise PutOff("much later")
    if end == "tell":
        metrics.told["page"] = "part-1.html"
    if end == "bug":
        raise KeyError("a bug is no message")


def call(folder: Path, *options: str) -> int:
    return execute(run, ["--date", "2026-02-01", "--config", str(write_config(folder)), "--k", "3", *options])


def figures(folder: Path) -> dict[str, tuple[float | None, str | None]]:
    table = Table(str(folder / "data/run_metrics/stage=test_program")).read("2026-02-01")
    return {row["metric"]: (row["value"], row["detail"]) for row in table.to_pylist()}


def test_tables_default_to_the_data_root_and_can_be_named(tmp_path: Path) -> None:
    assert call(tmp_path) == 0
    assert SEEN["clean_events"] == Input("clean_events", str(tmp_path / "data" / "clean_events"))
    assert SEEN["checkpoints"].location("transe") == str(tmp_path / "data/checkpoints/transe")
    assert (SEEN["k"], SEEN["predecessor"], SEEN["config"]) == (3, None, Config(seed=3))
    assert call(tmp_path, "--clean-events", "file:///elsewhere/events", "--predecessor", "2026-01-31") == 0
    assert SEEN["clean_events"].uri == "/elsewhere/events" and SEEN["predecessor"] == datetime.date(2026, 1, 31)
    assert call(tmp_path, "--predecessor", "none") == 0 and SEEN["predecessor"] is None


@pytest.mark.parametrize(
    ("end", "status", "figure", "said"),
    [("well", 0, 0, None), ("skip", SKIPPED, 99, "nothing to do"), ("fail", FINAL, 1, "found x"),
     ("pass", 1, 1, "busy"), ("put off", PUT_OFF, PUT_OFF, "much later")],
)
def test_exit_status_and_figures_say_how_it_ended(
    tmp_path: Path, end: str, status: int, figure: int, said: str | None
) -> None:
    assert call(tmp_path, "--end", end) == status
    found = figures(tmp_path)
    assert found["status"] == (float(figure), said and json.dumps(said))
    assert json.loads(found["rows_out"][1]) == {"<b>": "ü"}
    assert found["seconds"][0] >= 0 and found["peak_memory_mib"][0] > 10


def refused(number: int) -> StoreError:
    """What the store says when the operating system refuses."""
    with pytest.raises(StoreError) as found, explain_os_errors("writing", "here"):
        raise OSError(number, "x")
    return found.value


@pytest.mark.parametrize(
    ("error", "final"),
    [(JobError("x"), True), (SourceError("x"), True), (DataDamaged("x"), True), (PartitionMissing("x"), True),
     (ManifestBroken("x"), True), (BadName("x"), True), (MayPass("x"), False), (LockHeld("x"), False),
     (DiskFull("x"), False), (CannotWrite("x"), False), (OSError(5, "x"), False),
     (FileNotFoundError(2, "x"), False), (PermissionError(13, "x"), True), (refused(30), True), (refused(28), False)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_another_try_would_end_the_same(error: JobError | StoreError | OSError, final: bool) -> None:
    assert is_final(error) is final


@pytest.mark.parametrize(("end", "kind"), [("fail", JobError), ("pass", MayPass)])
def test_a_stage_within_a_job_fails_as_it_would_alone(end: str, kind: type[Exception], tmp_path: Path) -> None:
    given = {"date": datetime.date(2026, 2, 1), "k": 3, "end": end}
    with pytest.raises(JobError, match="test_program failed: ") as error:
        run_stage(run, given, load_settings(write_config(tmp_path)))
    assert type(error.value) is kind


def request(date: datetime.date, clean_events: Input, model: str, config: Config, name: str | None, k: int = 5) -> None:
    metrics.put("rows_out", k)
    if name == "taken":
        raise JobError("it is")


def test_requests_of_one_model_and_date_keep_their_figures(tmp_path: Path) -> None:
    """Also beside one that is refused; one that is made again takes its own place."""
    common = ["--date", "2026-02-01", "--config", str(write_config(tmp_path)), "--model", "a"]
    for asked in (["--k", "3"], ["--k", "4"], ["--k", "4"], ["--k", "3", "--name", "taken"]):
        execute(request, [*common, *asked])
    found = [Table(str(stage)).read("2026-02-01").to_pylist() for stage in (tmp_path / "data/run_metrics").iterdir()]
    told = [{row["metric"]: row["value"] for row in rows} for rows in found]
    assert sorted((one["rows_out"], one["status"]) for one in told) == [(3, 0), (3, 1), (4, 0)]
    assert all(path.name.startswith("stage=test_program_a_") for path in (tmp_path / "data/run_metrics").iterdir())


def test_a_skip_leaves_what_was_wanting_and_the_next_run_does_not(tmp_path: Path) -> None:
    table = Table(str(tmp_path / "data/run_metrics/stage=test_program"))
    for end, wanted in (("want", [{"table": "x", "dt": "2026-01-31"}]), ("skip", None), ("want", ...), ("well", None)):
        call(tmp_path, "--end", end)
        assert wanted is ... or table.manifest("2026-02-01").fields.get("wanted") == wanted


def test_a_job_that_comes_too_early_leaves_no_figures(tmp_path: Path) -> None:
    """Those of the night's last time stay."""
    assert call(tmp_path) == 0
    before = figures(tmp_path)
    assert call(tmp_path, "--end", "not yet") == NOT_YET and figures(tmp_path) == before


def test_a_lease_that_cannot_be_ended_fails_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Leases, value: str) -> None:
        raise CannotWrite("the disk refuses")

    monkeypatch.setattr(Leases, "end", refuse)
    given = ["--date", "2026-02-01", "--config", str(write_config(tmp_path)), "--k", "3"]
    assert execute(run, given, ends_night=True) == 0 and "could not be ended: the disk refuses" in caplog.text


@pytest.mark.parametrize("end", ["well", "skip", "fail", "bug"])
def test_the_last_job_ends_the_nights_lease_however_it_ends(
    tmp_path: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    leases, hour = Leases(str(tmp_path / "data/nights")), datetime.timedelta(hours=1)
    leases.write("2026-02-01", datetime.timedelta(seconds=9))
    leases.write("2026-02-08", hour, put_off_for="2026-02-01", run="run <8>")
    leases.write("2026-02-09", hour, put_off_for="2026-02-08", run="run 9")
    assert call(tmp_path) == 0
    assert leases.get("2026-02-01").until > leases.clock() + hour / 5, "any job renews it"
    given = ["--date", "2026-02-01", "--config", str(write_config(tmp_path)), "--k", "3", "--end", end]
    capsys.readouterr()
    with contextlib.suppress(KeyError):
        execute(run, given, ends_night=True)
    assert leases.get("2026-02-01") is None and json.loads(capsys.readouterr().out) == {"resume": ["run <8>"]}
    assert execute(run, given[:-1] + ["well"], ends_night=True) == 0, "again: there is none to end"


def test_what_a_job_tells_the_scheduler_is_its_last_line_of_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Leases(str(tmp_path / "data/nights")).write(
        "2026-02-08", datetime.timedelta(hours=1), put_off_for="2026-02-01", run="run 8")  # fmt: skip
    given = ["--date", "2026-02-01", "--config", str(write_config(tmp_path)), "--k", "3", "--end", "tell"]
    assert execute(run, given, ends_night=True) == 0
    assert json.loads(capsys.readouterr().out) == {"page": "part-1.html", "resume": ["run 8"]}
    assert execute(run, given) == 0 and json.loads(capsys.readouterr().out) == {"page": "part-1.html"}
    assert execute(run, [*given[:-1], "well"]) == 0 and capsys.readouterr().out == "", "nothing of the run before"


def test_a_bug_is_not_dressed_up_as_a_message(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        call(tmp_path, "--end", "bug")
    # the report learns of it, without the rows in it
    assert figures(tmp_path)["status"] == (1.0, json.dumps("KeyError: see the task's log"))


def test_a_wrong_configuration_ends_with_status_2_before_anything_is_written(tmp_path: Path) -> None:
    config = write_config(tmp_path, sed=1)
    assert execute(run, ["--date", "2026-02-01", "--config", str(config), "--k", "3"]) == 2
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "wrong", ["seed: 3", "dag: {start_date: 2026-02-30}", "x: &x [*x]", "x: [" + "9" * 5000 + "]", "x: " + "[" * 9999]
)
def test_a_hostile_configuration_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    config = write_config(tmp_path)
    config.write_text(config.read_text(encoding="utf-8") + wrong, encoding="utf-8")
    assert execute(run, ["--date", "2026-02-01", "--config", str(config), "--k", "3"]) == 2
    (said,) = caplog.messages
    assert said.startswith("test_program: ") and "expected" in said and said.isprintable() and len(said) < 800
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("wrong", [["--date", "yesterday"], ["--date", "none"], ["--k", "many"], ["--careful", "yes"]])
def test_a_wrong_command_line_names_the_option(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parser(run).parse_args(["--date", "2026-02-01", "--config", "x", "--k", "1", *wrong])
    assert stopped.value.code == 2 and f"argument {wrong[0]}: invalid " in capsys.readouterr().err


def test_none_is_what_a_template_passes_for_nothing() -> None:
    given = ["--date", "2026-02-01", "--config", "x", "--k", "1", "--end", "none", "--predecessor", "none"]
    found = parser(run).parse_args([*given, "--careful", "None"])
    assert (found.end, found.predecessor, found.careful) == ("well", None, False)
    assert parser(run).parse_args([*given, "--careful", "TRUE"]).careful is True


def test_an_object_store_that_refuses_at_the_start_is_one_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    config = write_config(tmp_path, data_root="s3://bucket/data", storage={"profile": "nosuch"})
    assert execute(run, ["--date", "2026-02-01", "--config", str(config), "--k", "3"]) == FINAL
    (said,) = caplog.messages
    assert said.startswith("test_program: ") and "nosuch" in said


def test_a_data_root_that_cannot_be_written_fails_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert call(tmp_path) == 1
    assert "could not be written" in caplog.text


def test_a_date_begins_at_midnight_utc() -> None:
    assert midnight(datetime.date(2026, 3, 29)).isoformat() == "2026-03-29T00:00:00+00:00"


PROGRAM_WITH_A_CHILD = """
import subprocess, sys
from jobs.memory import peak_memory_mib

before = peak_memory_mib()
hungry = "x = bytearray(200 * 2**20); x[::4096] = b'1' * len(x[::4096]); print('up', flush=True); input()"
with subprocess.Popen([sys.executable, "-c", hungry], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    during = peak_memory_mib()
    child.communicate(b"\\n")
print(during - before, peak_memory_mib() - before)
"""


def test_peak_memory_counts_the_programs_that_a_job_started() -> None:
    """In a program of its own: this one has children (Spark's) that come and go meanwhile."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM_WITH_A_CHILD], capture_output=True, text=True, check=True
    ).stdout
    during, after = map(float, said.split())
    assert during > 150
    assert after < 150
