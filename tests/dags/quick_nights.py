"""Nights of which only the order is real: leases, waiting and the look for the predecessor are the jobs' own, a model's
vectors are a text that tells what they were built on. So contents are equal only where every night started from the
same one.

Run as `<interpreter> -m jobs.<module> --date=…`, in place of the jobs' interpreter (`interpreter` writes it).
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from feature_store import Table
from feature_store.__main__ import main as feature_store_command
from jobs import program
from jobs.configuration.load import load_settings
from jobs.configuration.settings import Settings
from jobs.embeddings.family import family

MODEL, LOCATION = "transe", "feature_store/user_embeddings/model="
WORK_SECONDS = 0.5  # of training, so that nights side by side would be seen


@dataclass(frozen=True)
class Config:
    seed: int


def interpreter(folder: Path) -> Path:
    """What takes the place of the jobs' interpreter, as a file in `folder`."""
    path = folder / "quick_python"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.path.insert(0, os.getcwd())\n"
        "from tests.dags import quick_nights\nquick_nights.start(sys.argv[2], sys.argv[3:])\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def start(module: str, arguments: list[str]) -> None:
    """Do what takes the place of a job."""
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments if "=" in argument)
    name = module.rsplit(".", 1)[-1]
    if name == "build_graphs":
        job = importlib.import_module(module)
        job.programs, job.prepare = lambda config: (), lambda: None
        job.engine.session = lambda *_: contextlib.nullcontext()
        program.main(job.run, arguments)
    elif name == "resolve_predecessor":
        program.main(importlib.import_module(module).run, arguments)
    elif name == "write_report":
        program.main(report, [f"--{option}={given[option]}" for option in ("date", "config")], ends_night=True)
    elif name == "pretrain_transe":
        time.sleep(WORK_SECONDS)
        build(given, "checkpoints")
    elif name == "publish_users":
        build(given, "user_embeddings")
    elif name == "feature_store":
        sys.exit(feature_store_command(arguments))
    elif name == "find_audience" and not Path(given["seeds"]).is_file():
        sys.exit(2)


def report(date: datetime.date, config: Config) -> None:
    """The night's last job; it tells the page's name."""
    program.metrics.told["page"] = "part-00000.html"


def build(given: dict[str, str], table: str) -> None:
    """What a job makes of its command line."""
    settings, before = load_settings(Path(given["config"])), given["predecessor"]
    partitions = program.Output(table, given[table.replace("_", "-")]).table(MODEL)
    night(partitions, given["date"], None if before == "none" else before, settings)


def night(table: Table, dt: str, before: str | None, settings: Settings) -> None:
    """A partition whose content names its date and the content of the one before."""
    former = table.existing_manifest(before) if before else None
    with table.replace(dt) as commit:
        commit.write_bytes(".txt", f"{dt} after {former and former.content_hash}".encode())
        commit.fields |= {
            "family": family(MODEL, settings), "space_id": former.fields["space_id"] if former else dt,
            "max_gap_days": settings.training.max_gap_days,
            "predecessor": {"table": f"{LOCATION}{MODEL}", "dt": before, "content_hash": former.content_hash}
            if former else None}  # fmt: skip
