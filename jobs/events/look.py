"""Look at sources before the first night: what is there, how it is understood, what would be rejected, and why.

    python -m jobs.events.look --config my.yaml
    python -m jobs.events.look --source FILE FOLDER …     # nothing described yet: a configuration to start from

Reads a sample and the schemas, in seconds and without Spark. Shows of no value more than what it looks like, digits as
9 and letters as a; names of columns and behaviours are shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from feature_store.errors import StoreError
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError, cut, one_line, printable
from jobs.configuration.sections import Events, SourceTable
from jobs.configuration.settings import Settings
from jobs.events import epochs, judge
from jobs.events.looking.column_kinds import Look, examples, look_at
from jobs.events.looking.names import is_called_like
from jobs.events.looking.plain_judge import Judged, judged, no_numbers
from jobs.events.looking.probe import tables
from jobs.events.looking.proposal import Described, best, configuration, purchase_of, source_of
from jobs.events.looking.sample import Sample, take
from jobs.events.places import SourceError
from jobs.events.readers import published
from jobs.program import JobError

UNTIMELY = {judge.UNPARSEABLE, "event_time is null"}
MOST_COLUMNS, MOST_SHOWN = 60, 12
CATALOGUE_ROWS = 20_000
EVENTS_AFTER_ALL = "if they are events, list the table under source.events, and name user, item and time in its columns"


def of_configuration(settings: Settings) -> Iterator[str]:
    """Lines on every source of a configuration. SourceError."""
    source = settings.source
    for number, (setting, table) in enumerate(source.event_tables.items()):
        sample = take(table, setting)
        yield from [*[""] * (number > 0), *heading(setting, sample), *columns(sample, looks_of(sample))]
        found = judged(sample, settings.events, settings.graph.purchase, setting)
        yield from understood(found, sample, settings.events, setting)
    attributes = {"items": settings.graph.item_attributes, "users": settings.graph.user_attributes}
    for role, wanted in attributes.items():
        table = getattr(source, role)
        if table is None:
            continue
        sample = take(table, f"source.{role}", CATALOGUE_ROWS)
        looks = looks_of(sample)
        yield from ["", *heading(f"source.{role}", sample), *columns(sample, looks)]
        yield from catalogue(role, sample, looks, {name: one.type for name, one in wanted.items()})


def of_files(paths: list[str]) -> Iterator[str]:
    """Lines on files that nothing is known of, and a configuration to start from. SourceError."""
    described = []
    for table in tables(paths):
        if table.problem:
            yield f"{table.source.path}: {table.problem}"
            yield ""
            continue
        sample = take(table.source, "--source")
        looks = looks_of(sample)
        one = Described.of(sample, looks)
        yield from [*heading(table.source.path, sample), *columns(sample, looks)]
        if table.note:
            yield f"  {table.note}"
        yield f"  taken for: {one.role or 'neither events, items nor users'}{_lacks(one)}"
        yield ""
        described.append(one)
    for path in paths:
        if format := published.format_of(path):
            yield (f"{path} is a data set that has an importer: python -m jobs.events.import_dataset --format {format} "
                   f"--source {path} --output DIR, and jobs/configs/ has its configuration")
    yield from start(described)


def _lacks(one: Described) -> str:
    if one.role:
        by = f", by {', '.join(f'{ours} = {theirs!r}' for ours, theirs in one.columns.items())}"
        return by if one.role == "events" or one.rank[0] else f"{by}; several rows have one id: {EVENTS_AFTER_ALL}"
    return f"; for events, no column is called like {' or '.join(one.missing)}" if one.missing else ""


def start(described: list[Described]) -> Iterator[str]:
    """The events as they would be read, and the configuration."""
    events = [one for one in described if one.role == "events"]
    if not events:
        yield ("No events among them: expected a table with a user, an item and a time in each row. Name its file, or "
               "describe it: README, \"Your own events\".")
        return
    used = [*events, best(described, "items"), best(described, "users")]
    for one in described:
        if one not in used:
            yield f"{one.sample.source.path} is in no part of what follows. Its rows: {EVENTS_AFTER_ALL}"
    if len(events) > 1:
        yield (f"Events are in {len(events)} tables, and a night reads all that source.events lists: leave out what "
               "says again what another says.")
    behaviors: Counter[str] = Counter()
    firsts = []
    for number, one in enumerate(events):
        setting = f"source.events[{number}]" if len(events) > 1 else "source.events"
        sample = dataclasses.replace(one.sample, source=source_of(one))
        if len(events) > 1:
            yield f"{sample.source.path}, {setting}:"
        try:
            found = judged(sample, None, "purchase", setting)
            yield from understood(found, sample, None, setting)
        except SourceError as error:
            yield f"  cannot be read so: {error}"
            found = Judged({})
        behaviors += found.behaviors or Counter([sample.source.constants.get("behavior", "view")])
        firsts.append(_earliest(found, sample))
    names = [name for name, _ in behaviors.most_common(20)]
    if len(names) > 1 and not purchase_of(names):
        yield (f"No behaviour is called like a purchase: graph.purchase below is the most frequent one, {names[0]!r}. "
               "Name the one that clients' buyers are of")
    yield from ["", "# A configuration to start from: check every line. jobs/configuration/sections.py has all keys.",
                *configuration(described, names, min(firsts)).split("\n")]


def _earliest(found: Judged, sample: Sample) -> datetime.date:
    """The day of the first event; of rows that were not all looked at the year before, since others may be earlier."""
    if found.first is None:
        return Events.earliest_event_time
    first = found.first.date()
    return first if sample.is_whole else datetime.date(max(first.year - 1, 1), 1, 1)


def looks_of(sample: Sample) -> dict[str, Look]:
    return {name: look_at(sample.values(name), is_called_like(name, "event_time")) for name in sample.types}


def heading(name: str, sample: Sample) -> Iterator[str]:
    files = f"{len(sample.files):,} file{'s' if len(sample.files) > 1 else ''}"
    total = len(sample.rows) if sample.is_whole else sample.total
    rows = f"{total:,} rows" if total is not None else "rows not counted"
    of = f" of {len(sample.looked_at)} of the files" if len(sample.looked_at) < len(sample.files) else ""
    seen = "all" if sample.is_whole else f"{len(sample.rows):,} rows{of}"
    yield f"{name}: {sample.source.format}, {files}, {sample.size / 1e6:,.1f} MB, {rows}; looked at {seen}"
    shown = [Path(file).name for file in sample.files[:3]]
    yield f"  {', '.join(map(one_line, shown))}{', …' if len(sample.files) > 3 else ''}"


def columns(sample: Sample, looks: dict[str, Look]) -> Iterator[str]:
    """A line for each column: type, how many rows have it, three examples, what they look like."""
    for name, look in list(looks.items())[:MOST_COLUMNS]:
        values = sample.values(name)
        share = len(values) / max(1, len(sample.rows))
        shown = "  ".join(map(repr, examples(values)))
        yield f"  {cut(one_line(name), 40):24} {cut(sample.types[name], 24):24} {share:4.0%}  {shown}  {look.words}"
    if len(looks) > MOST_COLUMNS:
        yield f"  … and {len(looks) - MOST_COLUMNS} more columns"
    for name in sample.twice:
        yield (f"  {one_line(name)!r} stands more than once among the names: shown is the last such column, and no "
               "night reads any of them; write the file with a name for each")


def understood(found: Judged, sample: Sample, events: Events | None, setting: str) -> Iterator[str]:
    """How the events of `setting` are read, and what of them would not be."""
    source = sample.source
    there = {ours: theirs for ours, theirs in found.columns.items() if theirs in sample.types or sample.values(theirs)}
    mapped = ", ".join(f"{ours} = {theirs!r}" for ours, theirs in there.items())
    constants = "".join(f", {ours} = {value!r} in every row" for ours, value in source.constants.items())
    renamed = list(source.behaviors.items())[:MOST_SHOWN]
    words = "".join(f", behavior {theirs!r} as {ours!r}" for theirs, ours in renamed)
    yield f"  understood: {mapped}{constants}{words}"
    yield f"  times: {_times(found, source)}"
    if (clock := _one_clock(found)) and not source.day_only:
        yield (f"  every time is at {clock} UTC: where that is midnight, and no more is known than the day, set "
               f"{setting}.day_only: true and its timezone; else each counts before its day")
    known = {name for name in found.behaviors if events is None or name in events.behaviors}
    said = [f"{cut(one_line(name), 40)} {count:,}{'' if name in known else ' (not in events.behaviors)'}"
            for name, count in found.behaviors.most_common(MOST_SHOWN)]
    yield f"  behaviours: {', '.join(said) or 'none'}{', …' if len(found.behaviors) > MOST_SHOWN else ''}"
    if found.returns:
        what = f"events.returns: {events.returns}" if events else "events.returns says what they mean"
        yield f"  returns: {found.returns:,} rows of negative quantity or value; {what}"
    if found.shared:
        yield f"  event_id: {judge.share_ids(found.shared)}"
    yield from _rejected(found, events, setting)
    if found.days:
        days = len(found.days)
        users, items = (sum(map(len, one.values())) / days for one in (found.users, found.items))
        yield (f"  of these rows: {found.distinct(found.users):,} users, {found.distinct(found.items):,} items, "
               f"{days:,} days with events; a day has {users:,.0f} users, {items:,.0f} items, "
               f"{sum(found.days.values()) / days:,.0f} events on average")


def _times(found: Judged, source: SourceTable) -> str:
    if found.first is None:
        return "none that can be read" if found.reasons.keys() <= UNTIMELY else "of no row that can be used"
    unit = found.readings["event_time"].unit
    zone = f"; those without a zone are of {source.timezone}" + (", known to the day" if source.day_only else "")
    how = f"{epochs.WORDS[unit]} since 1970" if unit else zone[2:]
    return f"{found.first:%Y-%m-%d %H:%M} to {found.last:%Y-%m-%d %H:%M} UTC; {how}"


def _one_clock(found: Judged) -> str:
    """The time of day of all events, of which summer time may make two; nothing where they differ, are of one day, or
    are stamped at the end of days as it is."""
    clocks = sorted({(clock.hour + clock.minute / 60, clock.isoformat("minutes")) for clock in found.clocks})
    is_one = len(clocks) == 1 or (len(clocks) == 2 and clocks[1][0] - clocks[0][0] in (1, 23))
    whole = all(clock.second == clock.microsecond == 0 for clock in found.clocks)
    return " or ".join(text for _, text in clocks) if is_one and whole and len(found.days) > 2 else ""


def _rejected(found: Judged, events: Events | None, setting: str) -> Iterator[str]:
    if not found.rejected:
        yield "  rejected: none"
        return
    share = found.rejected / found.rows
    limit = "" if events is None else f" (events.max_rejected_share: {events.max_rejected_share:.1%})"
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in found.reasons.most_common(MOST_SHOWN))
    yield f"  rejected: {found.rejected:,} of {found.rows:,} rows, {share:.1%}{limit}: {reasons}"
    if found.forms:
        forms = ", ".join(repr(form) for form, _ in Counter(found.forms).most_common(3))
        yield f"  times that cannot be read look like {forms}: {setting}.time_format or time_unit"
    if found.number_forms:
        forms = ", ".join(repr(form) for form, _ in found.number_forms.most_common(3))
        yield (f"  numbers that cannot be read look like {forms}: they are read as 1234.5, or as 1234,5 with "
               f"{setting}.decimal: ','; write them so, or leave that column out")
    if any(reason.endswith("is not valid UTF-8") for reason in found.reasons):
        yield f"  texts that are not UTF-8: {setting}.encoding, of a CSV"


def catalogue(role: str, sample: Sample, looks: dict[str, Look], wanted: dict[str, str]) -> Iterator[str]:
    """Which attributes look like something else than they are configured as."""
    table = sample.source
    for name, kind in wanted.items():
        look = looks.get(table.theirs(name))
        if look is None:
            yield f"  {name}: no column {table.theirs(name)!r}"
        elif look.separator and name not in table.separators and kind == "category":
            yield f"  {name}: looks like {look.words}; columns: {{{name}: {{column: {table.theirs(name)}, separator: " \
                  f"{look.separator!r}}}}} under source.{role}"
        elif look.kind in ("id", "text") and kind == "category":
            yield f"  {name}: {look.words}: tells little of others"
        elif look.kind == "number" and kind == "category":
            yield f"  {name}: {look.words}; type: number puts them into bins"
        elif kind == "number" and (wrong := no_numbers(sample.values(table.theirs(name)), table.decimal)):
            yield (f"  {name}: is configured as a number, and {len(wrong):,} of {len(sample.rows):,} rows have a text "
                   f"that is none, like {examples(wrong, 1)[0]!r}: a night stops at it")
        elif kind == "number" and look.kind not in ("number", "code", "id"):
            yield f"  {name}: is configured as a number; {look.words}"


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0, 1 where a source cannot be read, 2 for a wrong configuration or command line."""
    purpose = (__doc__ or "").split("\n")[0]
    options = argparse.ArgumentParser(prog="python -m jobs.events.look", description=purpose)
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="a configuration: its sources")
    what.add_argument("--source", nargs="+", metavar="PATH", help="files, folders or globs, described nowhere yet")
    given = options.parse_args(argv)
    try:
        lines = of_configuration(load_settings(given.config)) if given.config else of_files(given.source)
        for line in lines:
            print(printable(line))
    except (ConfigError, JobError, StoreError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
