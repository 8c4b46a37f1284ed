"""The one shape of a job, made a program by `main(run)`.

It is `run(date, <inputs>: Input, <outputs>: Output, config: Config)`. The command line is read off that signature:
`--date`, `--config`, one `--<name> URI` per table (by default where the configuration's data root has it), and one
option per further parameter (str, int, float, bool, date or Path, `| None` allowed).
Exit status: 0 committed; 99 skipped, with the reason in the log and in run_metrics; 1 failed, with one message, by
something that may pass (MayPass, a disk that refuses, a lock, a bug); 2 wrong command line or configuration; 3 failed,
with one message, and another try would end the same; 75 not yet, to be started again later; 76 put off, as
jobs/nights.py has it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import gc
import hashlib
import inspect
import json
import logging
import os
import sys
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store import Leases, Segments, Table
from feature_store.errors import StoreError, may_pass
from jobs.configuration import load as configuration
from jobs.contracts import Contract
from jobs.late_imports import postpone_statistics
from jobs.memory import peak_memory_mib
from jobs.night_lease import end_night, renewed
from jobs.tables import TABLES
from jobs.warned import warnings_kept

log = logging.getLogger("nocturne")
# Tasks share a machine: threads that wait must not spin (before torch and XGBoost load OpenMP).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# imports make objects that stay: looking for garbage among them takes a sixth of their time
gc.set_threshold(50_000, 20, 20)
postpone_statistics()
FAILED, FINAL, SKIPPED, NOT_YET, PUT_OFF = 1, 3, 99, 75, 76


class JobError(Exception):
    """The job cannot go on: what was found, where, what was expected, what to do. Another try would end the same."""


class MayPass(JobError):
    """The same, of something that may be over at the next try."""


class NotYet(Exception):
    """Something has to be waited for, which a scheduler does better than a program; nothing was done."""


class PutOff(JobError):
    """It cannot be waited for in this run; the scheduler is told when to start it again."""


class Skip(Exception):
    """There is nothing to do tonight, for the reason given; the flow goes on.

    wanted: the partitions for want of which it is so, as feature_store/lineage.py reads them: `verify` tells when they
    have come.
    """

    def __init__(self, reason: str, wanted: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(reason)
        self.wanted = [dict(one) for one in wanted]


@dataclasses.dataclass(frozen=True)
class Input:
    """A table that a job reads: its contract, and the folder above the table's own path."""

    name: str
    uri: str  # folder of the table; for a contract with braces, the part before them

    @property
    def contract(self) -> Contract:
        return TABLES[self.name]

    def location(self, name: str | None = None) -> str:
        """Folder of the table; `name` fills the braces of its contract's path."""
        return self.contract.location(self.uri, name)

    def table(self, name: str | None = None) -> Table:
        return Table(self.location(name), key=self.contract.key, schema_problem=self.contract.schema_problem)

    def segments(self, name: str | None = None) -> Segments:
        return Segments(self.location(name), schema_problem=self.contract.schema_problem)

    def lineage(self, value: str, name: str | None = None) -> dict[str, str]:
        """What a manifest records of this input: table, partition and content hash."""
        contract, manifest = self.contract, self.table(name).existing_manifest(value)
        table = contract.location(contract.folder, name)
        return {"table": table, contract.key: value, "content_hash": manifest.content_hash}


class Output(Input):
    """A table that a job writes."""


class Metrics:
    """Figures of the running job; committed to `run_metrics/stage=<stage>` when it ends, also when it fails."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float | None, str | None]] = []
        self.fields: dict[str, Any] = {}  # of the manifest
        self.told: dict[str, Any] = {}  # to the scheduler, as the program's last line that is JSON

    def put(self, metric: str, value: float | None = None, detail: Any = None) -> None:
        """One figure; `detail` is anything JSON can hold (a table as a list of dicts, a curve as lists)."""
        number = None if value is None else float(value)
        text = None if detail is None else json.dumps(detail, ensure_ascii=False, sort_keys=True)
        self.rows.append((metric, number, text))

    def commit(self, root: str, stage: str, date: datetime.date) -> None:
        output = Output("run_metrics", f"{root}/{TABLES['run_metrics'].folder}")
        schema = output.contract.arrow_schema()
        columns = zip(*self.rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        with output.table(stage).replace(date.isoformat()) as commit:
            commit.write_table(pa.Table.from_arrays(arrays, schema=schema))
            commit.fields |= self.fields


metrics = Metrics()


def main(run: Callable[..., None], argv: list[str] | None = None, ends_night: bool = False) -> None:
    """Run the job as a program and end the process. `ends_night`: it is the night's last one, however it ends.

    At once: taking down torch, Spark's gateway and Great Expectations object by object takes up to a second, and what
    a job leaves is committed by now. A bug's traceback ends the process as ever.
    """
    status = execute(run, argv, ends_night)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def execute(run: Callable[..., None], argv: list[str] | None = None, ends_night: bool = False) -> int:
    """Run the job with this command line and return its exit status.

    What the job told the scheduler is printed as one line of JSON, with what ends the night also the runs that waited
    for that, `"resume": ["<run>"]`.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)  # ours alone: engines say a lot
    stage = stage_of(run)
    arguments = parser(run).parse_args(argv)
    try:
        settings = configuration.load_settings(arguments.config)
        call = _bind(run, vars(arguments), settings)
        leases = Leases(f"{settings.data_root}/{TABLES['nights'].folder}")
    except (ValueError, StoreError) as error:  # ConfigError, what a parameter refuses; an object store that refuses
        log.error("%s: %s", stage, error)
        return status_of(error) if isinstance(error, StoreError) else 2
    length = datetime.timedelta(minutes=settings.training.lease_minutes)
    try:
        with renewed(leases, arguments.date, length) if arguments.date else contextlib.nullcontext():
            status, _ = _execute(run, call, stage + _variant(call), arguments.date, settings.data_root)
    finally:
        if ends_night and (waiting := end_night(leases, arguments.date)):
            metrics.told["resume"] = waiting
        if metrics.told:
            print(json.dumps(metrics.told), flush=True)
    return status


def run_stage(run: Callable[..., None], given: Mapping[str, Any], settings: configuration.Settings) -> int:
    """Run another job within the running one, as a stage of its own: 0 committed, 99 skipped. JobError where it failed.

    given: `date`, URIs of tables and values of further parameters by name; the rest is as on a command line without
    them. The running job's own figures are kept apart.
    """
    own, fields, call = metrics.rows[:], metrics.fields, _bind(run, given, settings)
    stage = stage_of(run) + _variant(call)
    try:
        status, said = _execute(run, call, stage, given["date"], settings.data_root)
    finally:
        metrics.rows[:], metrics.fields = own, fields
    if status not in (0, SKIPPED):
        raise (JobError if status == FINAL else MayPass)(f"{stage} failed: {said}")
    return status


def status_of(error: JobError | StoreError | OSError) -> int:
    """The exit status of a job that an error ended."""
    if isinstance(error, PutOff):
        return PUT_OFF
    return FINAL if is_final(error) else FAILED


def is_final(error: JobError | StoreError | OSError) -> bool:
    """Whether another try would end the same: what a person has to mend, and time does not. docs/production.md has it
    as a table."""
    return not (isinstance(error, MayPass) or may_pass(error))


def stage_of(run: Callable[..., None]) -> str:
    """A job's name: its module's last word."""
    name = run.__module__.rsplit(".", 1)[-1]
    return Path(sys.argv[0]).stem if name == "__main__" else name


def parser(run: Callable[..., None]) -> argparse.ArgumentParser:
    """The command line of a job, read off its signature."""
    module = sys.modules[run.__module__]
    about = (module.__doc__ or "").split("\n")[0]
    result = argparse.ArgumentParser(prog=f"python -m jobs…{stage_of(run)}", description=about)
    for name, (kind, default, required) in _parameters(run).items():
        option = "--" + name.replace("_", "-")
        if name == "config":
            result.add_argument(option, required=True, type=Path, metavar="FILE", help="the night's YAML")
        elif kind in (Input, Output):
            said = f"{kind.__name__.lower()} table (default: below the data root)"
            result.add_argument(option, metavar="URI", help=said)
        else:
            parse, shown = _value_of(kind, default, required), kind.__name__.upper()
            result.add_argument(option, type=parse, required=required, default=default, metavar=shown)
    return result


def _parameters(run: Callable[..., None]) -> dict[str, tuple[type, Any, bool]]:
    """Name → (type, default, required) of each parameter of a job."""
    hints = typing.get_type_hints(run)
    found = {}
    for parameter in inspect.signature(run).parameters.values():
        kind, optional = hints[parameter.name], False
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            kind, optional = next(a for a in typing.get_args(kind) if a is not type(None)), True
        given = parameter.default is not inspect.Parameter.empty
        found[parameter.name] = (kind, parameter.default if given else None, not given and not optional)
    return found


def _value_of(kind: type, default: Any, required: bool) -> Callable[[str], Any]:
    """A parser of option values; the word `none` stands for no value, since a scheduler's template always passes
    something. ValueError."""

    def parse(text: str) -> Any:
        if text.lower() in ("none", "") and not required:
            return default
        if kind is bool:
            return bool(("false", "true").index(text.lower()))
        return datetime.date.fromisoformat(text) if kind is datetime.date else kind(text)

    parse.__name__ = kind.__name__
    return parse


def _bind(run: Callable[..., None], given: Mapping[str, Any], settings: configuration.Settings) -> dict[str, Any]:
    call: dict[str, Any] = {}
    for name, (kind, default, _) in _parameters(run).items():
        value = given.get(name, default)
        if name == "config":
            call[name] = configuration.select(settings, kind)
        elif kind in (Input, Output):
            call[name] = kind(name, (value or f"{settings.data_root}/{TABLES[name].folder}").removeprefix("file://"))
        else:
            call[name] = value
    return call


def _execute(
    run: Callable[..., None], call: dict[str, Any], stage: str, date: datetime.date, root: str
) -> tuple[int, str]:
    """(exit status, why it was skipped or failed)."""
    metrics.rows.clear()
    metrics.fields, metrics.told = {}, {}
    started = time.perf_counter()
    log.info("%s %s: start", stage, date)
    status, message = 0, ""
    try:
        with warnings_kept(log, metrics):
            run(**call)
    except NotYet as reason:
        log.info("%s %s: not yet: %s", stage, date, reason)
        return NOT_YET, str(reason)
    except Skip as reason:
        status, message = SKIPPED, str(reason)
        metrics.fields = {"wanted": reason.wanted} if reason.wanted else {}
        log.warning("%s %s: skipped: %s", stage, date, reason)
    except (JobError, StoreError, OSError) as error:
        status, message = status_of(error), str(error)
        log.error("%s %s: %s: %s", stage, date, type(error).__name__, error)
        log.debug("where", exc_info=True)
    except Exception as bug:
        # Not dressed up as a message: its traceback goes to the log; the report still learns that the stage failed.
        _finish(stage, date, root, started, FAILED, f"{type(bug).__name__}: see the task's log")
        raise
    return _finish(stage, date, root, started, status, message)


def _finish(
    stage: str, date: datetime.date, root: str, started: float, status: int, message: str
) -> tuple[int, str]:
    """Commit the stage's figures and say how it ended; returns exit status and message."""
    seconds, peak = time.perf_counter() - started, peak_memory_mib()
    metrics.put("status", FAILED if status == FINAL else status, message or None)  # to readers a failure is a failure
    metrics.put("seconds", seconds)
    metrics.put("peak_memory_mib", peak)
    try:
        metrics.commit(root, stage, date)
    except (StoreError, OSError) as error:
        log.error("%s %s: the stage's figures could not be written: %s", stage, date, error)
        status, message = status or FAILED, message or f"its figures could not be written: {error}"
    figures = ", ".join(f"{m} {v:,.0f}" for m, v, _ in metrics.rows if m.startswith("rows_") and v is not None)
    said = ("failed, " if status not in (0, SKIPPED) else "") + (f"{figures}, " if figures else "")
    log.info("%s %s: %s%.1f s, %.0f MiB", stage, date, said, seconds, peak)
    return status, message


def _variant(call: dict[str, Any]) -> str:
    """Jobs that run once per model have one stage per model; requests, which can be named, one for all that they ask:
    another's figures, of the same model and date, do not take the place of theirs."""
    model = call.get("model")
    of_model = f"_{model}" if isinstance(model, str) else ""
    if "name" not in call:
        return of_model
    asked = {name: str(value) for name, value in call.items() if not isinstance(value, Input) and name != "config"}
    return f"{of_model}_{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]}"


def code_version() -> str:
    """What code ran: set by images and CI, else the installed version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return os.environ.get("NOCTURNE_CODE_VERSION") or version("nocturne")
    except PackageNotFoundError:
        return "unknown"


def midnight(date: datetime.date) -> datetime.datetime:
    """00:00 UTC of a date."""
    return datetime.datetime.combine(date, datetime.time(), datetime.UTC)
