"""Turns the configured event source into clean events, one partition per UTC day, and tells which rows could not be
used.

Reads the source; of each row that the night of `--date` has to know (its graph's window, none from the date on). Writes
`rejected_events` (dt: reason by row) and the days of `clean_events` that the window covers. A day is committed only if
its rows changed; where source, settings and days are as this date left them, nothing is done. The rejected rows are
committed also when there are more of them than `events.max_rejected_share`; then no clean day is, and the job fails.
"""

from __future__ import annotations

import datetime
import functools
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from feature_store import Commit, Manifest
from jobs.configuration.dates import advice
from jobs.configuration.messages import one_line
from jobs.events import judge, read_events, staging
from jobs.events.fingerprint import require_unchanged
from jobs.events.lake_tables import VERSIONS
from jobs.events.night import Config, EventTable, Night, former_records, fresh_days, is_done, open_night
from jobs.events.read_source import column_names
from jobs.events.returns import returns_of
from jobs.program import Input, JobError, Output, log, main, metrics, midnight
from jobs.quality import check, suites
from jobs.side_by_side import each
from jobs.spark import session, write_as_it_lies
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MANY_REPEATS = 0.01  # of the rows read
ORDER = list(dict.fromkeys([*TABLES["clean_events"].sorted_by, *TABLES["clean_events"].columns]))


def read_all(spark: SparkSession, tables: list[EventTable]) -> DataFrame:
    """The rows of all tables of events, as `read_events` has them."""
    from pyspark.sql import functions as F

    frames = [read_events.read_events(spark, one.source, one.files, one.setting) for one in tables]
    named = [frame.withColumn("source_file", F.concat(F.lit(one.prefix), "source_file")) if one.prefix else frame
             for one, frame in zip(tables, frames, strict=True)]  # fmt: skip
    return functools.reduce(lambda above, below: above.unionByName(below), named)


def judged_rows(rows: DataFrame, night: Night) -> DataFrame:
    """All rows that the night has to know, with day and reason."""
    events = night.config.events
    earliest = midnight(events.earliest_event_time)
    return judge.judge(rows, events.behaviors, earliest, midnight(night.first), midnight(night.date))


def write_rejected(judged: DataFrame, commit: Commit, tables: list[EventTable]) -> dict[str, Any]:
    """Write the rejected rows; counts over all rows, and over those of each of several tables, are taken in the same
    pass."""
    from pyspark.sql import Observation

    contract, figures = TABLES["rejected_events"], judge.figures(one.prefix for one in tables if one.prefix)
    observation = Observation("rows")
    rows = judge.rejected(judged.observe(observation, *figures)).selectExpr(*contract.spark_select())
    commit.provenance = list(contract.provenance)
    in_order = rows.repartition(1).sortWithinPartitions(*contract.sorted_by, *contract.provenance)
    write_as_it_lies(in_order, commit, contract)
    # Spark drops what it has found to be empty, and the observation with it
    if not sum(file.row_count for file in commit.files):
        return judged.agg(*figures).first().asDict()
    return dict(observation.get)


def reasons(commit: Commit, prefix: str = "") -> dict[str, int]:
    """Rejected rows by reason, most frequent first; of the files whose name begins with the prefix."""
    rows = commit.read(["reason", "source_file"])
    rows = rows.filter(pc.starts_with(rows.column("source_file"), prefix))
    found = rows.column("reason").value_counts().to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in found}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def require_events(rows: DataFrame, figures: dict[str, Any], night: Night) -> None:
    """JobError when the window holds none: the date lies outside the data, or the source is the wrong one.

    Where no row at all has a usable time and more rows are rejected than may be, nothing is raised here: they are to be
    looked at.
    """
    from pyspark.sql import functions as F

    if figures["in_window"]:
        return
    config = night.config
    first, last = rows.agg(F.min("event_time"), F.max("event_time")).first()
    if first is None and rejected_share(figures) > config.events.max_rejected_share:
        return
    has = f"its events run from {first:%Y-%m-%d} to {last:%Y-%m-%d}" if first else "it has no event with a usable time"
    paths = ", ".join(table.source.path for table in night.tables)
    where = f"No event in the window {night.first} ≤ time < {night.date} of {paths}"
    if first:
        cure = f"{advice(night.date, config.graph.window_days, first.date(), last.date())}, or mend source.events"
    else:
        cure = f"Mend the source{unread_form(rows)}"
    raise JobError(f"{where}: {has}. {cure}.")


def unread_form(rows: DataFrame, setting: str = "source.events") -> str:
    """What most times that cannot be read look like, and the setting that would do; nothing where there are none."""
    from pyspark.sql import functions as F

    given = rows.where(F.col("event_time_given") & F.col("event_time").isNull())
    found = given.groupBy("event_time_form").count().orderBy(F.desc("count"), "event_time_form").first()
    if found is None:
        return ""
    how = f"{setting}.time_format, in strptime's letters, or of numbers {setting}.time_unit"
    one = f"one looks like {found.event_time_form!r} (9 for a digit, a for a letter)"
    return f", or say how its times are written: {one}; {how}"


def rejected_share(figures: dict[str, Any], of: str = "") -> float:
    return figures[f"rows_rejected{of}"] / max(1, figures[f"rows_in{of}"])


def too_many_rejected(figures: dict[str, Any], night: Night, commit: Commit, uri: str, rows: DataFrame) -> str | None:
    """Why the night fails; None where no more rows are rejected than may be, of all and of each of several tables: one
    that cannot be read may be a small part of all."""
    from pyspark.sql import functions as F

    limit = night.config.events.max_rejected_share
    several = {f" {one.prefix}": one for one in night.tables if one.prefix}
    of = next((of for of in (*several, "") if rejected_share(figures, of) > limit), None)
    if of is None:
        return None
    setting = several[of].setting if of else "source.events"
    prefix, where = of.strip(), f" of {setting}" if of else ""
    counts, rows = reasons(commit, prefix), rows.where(F.startswith("source_file", F.lit(prefix)))
    found = ", ".join(f"{reason}: {count}" for reason, count in list(counts.items())[:5])
    many = f"{figures[f'rows_rejected{of}']} of {figures[f'rows_in{of}']} rows{where} "
    many += f"({rejected_share(figures, of):.1%}) cannot be used"
    cure = unread_form(rows, setting) if judge.UNPARSEABLE in counts else ""
    if any(reason.endswith(judge.NOT_UTF8) for reason in counts):
        cure += f", or say how its texts are encoded: {setting}.encoding, of a CSV"
    return (
        f"{many}, more than events.max_rejected_share ({limit:.1%}) allows: {found}. "
        f"No clean day was committed; the rows are in {uri}. Mend the source{cure}, or raise the limit."
    )


def write_days(
    judged: DataFrame, stale: list[str], clean_events: Output, night: Night
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Write, check and commit the stale days; returns what became of each, and the checks' results."""
    from pyspark.sql import functions as F

    config = night.config
    rows = judge.accepted(judged, config.graph.purchase).filter(F.col("day").isin(stale))
    with_ids, several = "event_id" in rows.columns and any(map(has_event_ids, night.tables)), len(night.tables) > 1
    rows = judge.without_repeats(rows, config.events.deduplicate == "exact", with_ids, several)
    holders = file_days(judged, night)
    rows = rows.selectExpr("day", *TABLES["clean_events"].spark_select())
    with staging.staged(clean_events, night.date) as days:
        in_order = rows.repartition("day").sortWithinPartitions("day", *ORDER)
        days.write(in_order, clean_events.contract)
        suite = suites.clean_events(
            config.events.behaviors, max(night.first, config.events.earliest_event_time), night.date
        )
        results = staging.check_staged(judged.sparkSession, days, suite, config.quality.page(night.date, suite.table))
        check.require(results)
        require_unchanged(night.stamps)
        fields = night.record | {"dt": night.date.isoformat()}

        def commit(day: str) -> str:
            return staging.commit_day(clean_events, days, day, fields | {"sources": holders.get(day, [])})

        return dict(zip(stale, each(days.disk, commit, stale), strict=True)), results


def has_event_ids(table: EventTable) -> bool:
    source = table.source
    named = {*source.constants, *source.columns}
    return "event_id" in named or source.file_format == "jsonl" or "event_id" in column_names(source, table.files)


def file_days(judged: DataFrame, night: Night) -> dict[str, list[dict[str, Any]]]:
    """Day → fingerprints of the files that hold rows of it."""
    known = {file["name"]: {k: v for k, v in file.items() if k != "modified_ns"} for file in night.fingerprints}
    if len(known) == 1:
        return {day: list(known.values()) for day in night.days}
    pairs = judged.filter("day is not null").select("day", "source_file").distinct().collect()
    found: dict[str, list[dict[str, Any]]] = {}
    for pair in sorted(pairs, key=lambda pair: (pair.day, pair.source_file)):
        found.setdefault(pair.day, []).append(known[pair.source_file])
    return found


def run(date: datetime.date, clean_events: Output, rejected_events: Output, config: Config) -> None:
    former = former_records(rejected_events, date)
    night = open_night(date, config, former)
    fresh = fresh_days(night, clean_events, former)
    if is_done(night, fresh, former):
        log.info("validate_events %s: source and days are as this date left them; nothing to do", date)
        return put_figures(former[0]["figures"])
    check.prepare()
    with session(config.spark, "validate-events") as spark:
        try:
            failure = validate(spark, night, sorted(set(night.days) - fresh), clean_events, rejected_events)
        finally:  # of text files: else a session that goes on holds them, and takes them for those of a later night
            spark.catalog.clearCache()
    if failure:
        raise JobError(failure)


def validate(
    spark: SparkSession, night: Night, stale: list[str], clean_events: Output, rejected_events: Output
) -> str | None:
    """Everything but the decision whether there is anything to do; returns why the night fails after the rejected rows
    are committed."""
    with rejected_events.table().replace(night.date.isoformat()) as commit:
        rows = read_all(spark, night.tables)
        judged = judged_rows(rows, night)
        figures = write_rejected(judged, commit, night.tables)
        require_events(rows, figures, night)
        require_unchanged(night.stamps)
        counts = reasons(commit)
        failure = too_many_rejected(figures, night, commit, rejected_events.uri, rows)
        for one in night.tables:
            if not figures.get(f"in_window {one.prefix}", 1):
                log.warning("validate_events %s: %s has no event in the window: %s", night.date, one.setting,
                            one_line(one.source.path))  # fmt: skip
        changes, results = ({}, []) if failure or not stale else write_days(judged, stale, clean_events, night)
        summary = summarise(figures, counts, changes, results, night, clean_events, failure)
        if summary["rows_repeated"] > MANY_REPEATS * summary["rows_in"] and any(map(has_event_ids, night.tables)):
            warn_of_shared_ids(judged, night)
        days = {} if failure else {day: one.content_hash for day, one in manifests_of(clean_events, night).items()}
        window = [night.first.isoformat(), night.date.isoformat()]
        commit.fields |= night.record | {
            "files": night.fingerprints,
            VERSIONS: night.versions,
            "window": window,
            "days": days,
            "figures": summary,
        }
        put_figures(summary)
    return failure


def warn_of_shared_ids(judged: DataFrame, night: Night) -> None:
    """Where repeats are many, other events may have been taken for them."""
    if count := judge.sharing_ids(judged, len(night.tables) > 1):
        log.warning("validate_events %s: event_id: %s", night.date, judge.share_ids(count))


def summarise(
    figures: dict[str, Any],
    counts: dict[str, int],
    changes: dict[str, str],
    results: list[dict[str, Any]],
    night: Night,
    clean_events: Input,
    failure: str | None,
) -> dict[str, Any]:
    """The night's figures as JSON, for metrics and for later runs that have nothing to do."""
    rows = {} if failure else {day: one.row_count for day, one in manifests_of(clean_events, night).items()}
    table, empty = clean_events.table(), [day for day, count in rows.items() if not count]
    if empty:
        shown = ", ".join(empty[:10]) + (", …" if len(empty) > 10 else "")
        log.warning("validate_events %s: no event on %d of %d days: %s", night.date, len(empty), len(rows), shown)
    total, written = sum(rows.values()), sum(change == "written" for change in changes.values())
    return {
        "rows_in": figures["rows_in"],
        "rows_rejected": figures["rows_rejected"],
        "rows_late": figures["late"],
        "rows_repeated": 0 if failure else figures["rows_in"] - figures["rows_rejected"] - total,
        "rows_out": total,
        "rows_returned": 0 if failure else sum(each(table.disk, lambda day: returns_of(table, day), night.days)),
        "rejected_by_reason": counts,
        "rows_by_day": rows,
        "days_written": written,
        "days_unchanged": len(rows) - written,
        "days_empty": len(empty),
        "checks": results,
    }


def manifests_of(clean_events: Input, night: Night) -> dict[str, Manifest]:
    """Day → what is committed of it."""
    table = clean_events.table()
    return dict(zip(night.days, each(table.disk, table.existing_manifest, night.days), strict=True))


def put_figures(figures: dict[str, Any]) -> None:
    """Numbers as values, the rest as detail."""
    for name, figure in figures.items():
        if isinstance(figure, (int, float)):
            metrics.put(name, figure)
        else:
            metrics.put(name, detail=figure)


if __name__ == "__main__":
    main(run)
