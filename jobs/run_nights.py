"""Run nights of the DAG one after the other without a scheduler: what `make demo` and `make nightly` do.

Each night is what `airflow dags test nightly_user_embeddings D` does, with an `AIRFLOW_HOME` of its own (SQLite), so it
is the production DAG; one Airflow process plays them all (dags/dagkit/play_nights.py). The terminal shows the jobs' own
lines; everything Airflow says goes to `<folder>/logs/<D>.log`. The first night that fails ends it; so does one that
left a model out without a stage that says why, or left out all.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.configuration.dates import expect_possible, parse_dates
from jobs.configuration.load import load_settings
from jobs.configuration.settings import Settings
from jobs.configuration.tree import ConfigError
from jobs.night_figures import Outcome, outcomes, read_night
from jobs.summarise_nights import summary

# The DAG files are no part of the installed package: they lie beside it in the sources, in images beside its Python.
_PLACES = (Path(__file__).resolve().parents[1] / "dags", Path(sys.prefix) / "dags")
DAGS_FOLDER = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
PLAY_NIGHTS = DAGS_FOLDER / "dagkit" / "play_nights.py"
# One of a job's own lines (jobs/program.py's format) as Airflow logs it; the same text within an exception is none.
JOB_LINE = re.compile(
    r"^\S+ \[\w+\s*\] [\d-]{10} [\d:]{8},\d{3} (?P<stage>\w+) \d{4}-\d\d-\d\d: (?P<text>.*?)\s*"
    r"(\[airflow\.task\S*\]\s*)?(loc=\S+)?\s*$"
)
PREPARE = """
import sys
from airflow.__main__ import main
for words in ("db migrate", "dags reserialize"):
    sys.argv = ["airflow", *words.split()]
    main()
"""
ENDED = f"ended {secrets.token_hex(8)}"  # a word that no job's text can say, before how a night ended
ANSI = re.compile(r"\x1b\[[\d;]*m")
EXCEPTION = re.compile(r"^airflow\.sdk\.exceptions\.Airflow(Fail)?Exception: ")
AIRFLOW_LINE = re.compile(r"^\d{4}-\d\d-\d\dT")


class NightFailed(Exception):
    """A night did not end well: which, and what was said."""


def environment(home: Path, config: Path) -> dict[str, str]:
    """The environment of an Airflow that keeps everything in `home` and talks to nobody outside."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "AIRFLOW__", "_AIRFLOW_"))}
    return kept | {
        "AIRFLOW_HOME": str(home.resolve()),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NOCTURNE_CONFIG": str(config.resolve()),
        "NOCTURNE_PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "GX_ANALYTICS_ENABLED": "false",
        "NO_COLOR": "1",
    }


def airflow(*arguments: str) -> list[str]:
    """The command line of the Airflow that is installed beside this program."""
    return [sys.executable, "-m", "airflow", *arguments]


def prepare(home: Path, config: Path, log: Path) -> None:
    """Airflow's database, and the DAGs in it: both commands in one process, since Airflow's start takes longer."""
    home.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        streams = {"stdout": sink, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        command = [sys.executable, "-P", "-c", PREPARE]
        done = subprocess.run(command, env=environment(home, config), **streams, check=False)
    if done.returncode:
        said = f"`airflow db migrate`, or `airflow dags reserialize` after it, ended with exit status {done.returncode}"
        raise NightFailed(f"{said}:\n{failures(log)}")


@contextlib.contextmanager
def airflow_process(home: Path, config: Path) -> Iterator[subprocess.Popen[str]]:
    """An Airflow that plays one night after the other; it ends with the block."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    text = {"text": True, "encoding": "utf-8", "errors": "backslashreplace"}
    # -P: the program's folder holds no modules for others
    command = [sys.executable, "-P", str(PLAY_NIGHTS), ENDED]
    with subprocess.Popen(command, env=environment(home, config), **streams, **text) as process:
        yield process


def run_night(date: datetime.date, nights: subprocess.Popen[str], log: Path) -> float:
    """One night through the DAG; returns its seconds."""
    started, state, ended = time.perf_counter(), f"{ENDED} {date}: ", None
    with contextlib.suppress(BrokenPipeError):  # it has ended: its last words follow
        os.write(nights.stdin.fileno(), f"{date}\n".encode())  # no buffer, which would fail again when it is closed
    with log.open("w", encoding="utf-8") as sink:
        for line in nights.stdout:
            sink.write(line)
            if line.startswith(state):
                ended = line.removeprefix(state).strip()
                break
            show(job_line(line))
    if ended != "success":
        raise NightFailed(f"The night of {date} failed:\n{failures(log)}\nAll of Airflow's log: {log}")
    return time.perf_counter() - started


def job_line(line: str) -> tuple[str, str] | None:
    """(stage, what it said), where one of Airflow's log lines is a job's; else None."""
    found = JOB_LINE.match(ANSI.sub("", line))
    return (found["stage"], found["text"]) if found else None


def show(said: tuple[str, str] | None) -> None:
    """A line per stage; on a terminal, the running one as well, until it has ended."""
    if said is None or (said[1] == "start" and not sys.stdout.isatty()):
        return
    stage, text = said
    print(f"  {stage:<30} …".ljust(100) + "\r" if text == "start" else f"  {stage:<30} {text}\n", end="", flush=True)


def failures(log: Path) -> str:
    """What the failed tasks said; the log's last lines where none is found."""
    text = log.read_text(encoding="utf-8", errors="backslashreplace")
    lines = [ANSI.sub("", line) for line in text.splitlines()]
    found = []
    for i, line in enumerate(lines):
        if EXCEPTION.match(line):
            rest = itertools.takewhile(lambda x: not AIRFLOW_LINE.match(x), lines[i + 1:])
            found += [m for m in (EXCEPTION.sub("", line), *rest) if m not in found]
    return "\n".join(f"  | {line[:600]}" for line in found or lines[-12:])


def run_nights(config: Path, dates: list[datetime.date], folder: Path) -> None:
    """All nights in order, then the table of what came out."""
    settings = load_settings(config)
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    home, since = folder / "airflow", datetime.datetime.now(datetime.UTC)
    print(f"Preparing Airflow in {home} …", flush=True)
    prepare(home, config, logs / "airflow.log")
    with airflow_process(home, config) as nights:
        for i, date in enumerate(dates, 1):
            log, started = logs / f"{date}.log", datetime.datetime.now(datetime.UTC)
            print(f"\nNight {i} of {len(dates)}: {date}  (all of Airflow's log: {log})", flush=True)
            seconds = run_night(date, nights, log)
            unpublished = require_published(settings, date, started, log)
            print(f"  night of {date} done in {seconds:.0f} s", flush=True)
            for one in unpublished:
                print(f"  {one.model} is not published: {one.reason}", flush=True)
    print("\n" + summary(settings, dates, since))


def require_published(settings: Settings, date: datetime.date, started: datetime.datetime, log: Path) -> list[Outcome]:
    """The models that a night left out for a reason that a stage gave.

    NightFailed: it left one out without such a reason, or has published none at all since it `started`.
    """
    found = outcomes(settings, read_night(settings.data_root, date, started), started)
    left = [one for one in found if one.path is None]
    if left == found or not all(one.skipped for one in left):
        said = "\n".join(f"  | {one.model} has no partition dt={date} of this run: {one.reason}" for one in left)
        raise NightFailed(f"The night of {date} is not done:\n{said}\nAll of Airflow's log: {log}")
    return left


def nights_of(settings: Settings, given: str) -> list[datetime.date]:
    """The dates to run: those given, else the configuration's. ConfigError, also for such as Airflow would not run."""
    dates = parse_dates(given) or settings.dag.dates
    if not dates:
        raise ConfigError("No dates: name them with DATES=2026-01-05,2026-01-12, or as dag.dates in the configuration.")
    first, start = min(dates), settings.dag.start_date
    if first < start:
        raise ConfigError(
            f"The night of {first} lies before dag.start_date, {start}: Airflow would run none of its tasks. Set "
            f"dag.start_date to {first} or earlier, leave it out (its default bars no date), or name other dates.")
    expect_possible(dates, settings, "DATES" if given.strip() else "dag.dates")
    return dates


def check_sources() -> None:
    """NightFailed: there are no DAG files."""
    if not PLAY_NIGHTS.is_file():
        raise NightFailed(f"Found no DAG files at {DAGS_FOLDER}: run this from the project's sources, installed with "
                          "`make install` or `pip install -e '.[all]'`, or in the image `laptop`.")


def check_machine(settings: Settings) -> None:
    """What an installation cannot bring along, and what it takes for granted."""
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise NightFailed(
            "Found no Java on the path; Spark needs Java 17 (Debian: apt install openjdk-17-jre-headless), "
            "or JAVA_HOME.")
    for setting, table in settings.source.event_tables.items():
        check_events(setting, table.path)


def check_events(setting: str, events: str) -> None:
    """Whether there is something at a path; an object store, or a glob, is looked at by the first task."""
    if "://" not in events and not any(c in events for c in "*?[") and not Path(events).exists():
        raise NightFailed(
            f"Found no events at {events}, which {setting}.path names. Import the data set first; the first lines "
            "of a shipped configuration say how, and so does python -m jobs.events.import_dataset --help.")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m jobs.run_nights", description=__doc__.split("\n")[0])
    options.add_argument("--config", type=Path, required=True, metavar="FILE")
    options.add_argument("--dates", default="", metavar="D1,D2,…", help="default: dag.dates of the configuration")
    folder = "Airflow's home and the logs (default: nightly/<configuration's name>)"
    options.add_argument("--folder", type=Path, metavar="DIR", help=folder)
    options.add_argument("--generate", action="store_true", help="generate the demo log first")
    given = options.parse_args()
    try:
        check_sources()
        settings = load_settings(given.config)
        dates = nights_of(settings, given.dates)
        if given.generate:
            generate_demo(settings)
        check_machine(settings)
        run_nights(given.config, dates, given.folder or Path("nightly") / given.config.stem)
    except (ConfigError, NightFailed) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def generate_demo(settings: Settings) -> None:
    """The demo log, where the configuration looks for it."""
    print("Generating the demo log …", flush=True)
    output = str(Path(next(iter(settings.source.event_tables.values())).path).parent)
    command = [sys.executable, "-m", "jobs.events.generate_demo", "--output", output]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
        raise NightFailed(f"The demo log could not be generated: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
