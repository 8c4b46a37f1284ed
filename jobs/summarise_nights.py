"""The text that ends a run of nights: what came in and out, how good it is, what was left out and why, what it took.

All of it is read from `run_metrics`; of places only those are named that are there.
"""

from __future__ import annotations

import datetime
import shutil
import statistics
import textwrap
from collections.abc import Iterator
from typing import Any

from feature_store import Table
from jobs.configuration.settings import Settings
from jobs.night_figures import Night, Outcome, is_written, outcomes, place, publishes, read_night
from jobs.reasons import Reason, told_once

ROWS = (  # label, stage, metric
    ("events read", "validate_events", "rows_in"),
    ("events rejected", "validate_events", "rows_rejected"),
    ("events in the window", "build_interactions", "rows_in"),
    ("edges", "build_knowledge_graph", "rows_out"),
    ("user–item–behaviour", "build_interactions", "rows_out"),
)
COLUMNS = 100  # where no terminal says how wide it is
WRAPPED: dict[str, Any] = {
    "initial_indent": "  ", "subsequent_indent": "      ", "break_long_words": False, "break_on_hyphens": False}
EVENTS, PROFILES = "validate_events", "train_profiles"
NO_EVENT, MOST_DAYS = "no event", 3
ENDING = "prune_partitions"  # that nothing was to be deleted is no news


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Columns side by side: the first flush left, the others flush right."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = [[r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])] for r in [head, *rows]]
    return "\n".join("  " + "   ".join(line).rstrip() for line in [lines[0], ["─" * w for w in widths], *lines[1:]])


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def summary(settings: Settings, dates: list[datetime.date], since: datetime.datetime | None = None) -> str:
    """The whole text; where `since` is given, of what was written after it. Figures of as many nights as fit."""
    nights = [read_night(settings.data_root, d, since) for d in dates]
    columns = shutil.get_terminal_size((COLUMNS, 0)).columns
    shown, figures = _fitting(nights, columns)
    left = [textwrap.fill(line, columns, **WRAPPED) for line in left_out(settings, nights, since)]
    rest = f"The last {len(shown)} of {len(nights)} nights; figures of all are in {settings.data_root}/run_metrics"
    blocks = [
        rest if len(shown) < len(nights) else "",
        *figures[:-1],
        "\n".join(["Left out, and why", *left]) if left else "",
        figures[-1],
        places(settings, nights[-1], since),
    ]
    return "\n\n".join(block for block in blocks if block)


def _fitting(nights: list[Night], columns: int) -> tuple[list[Night], list[str]]:
    """As many of the last nights as stand side by side in so many columns, at least one, and their tables."""
    for count in range(len(nights), 0, -1):
        shown = nights[-count:]
        figures = tables(shown)
        if count == 1 or max(len(line) for table in figures for line in table.splitlines()) <= columns:
            return shown, figures
    return [], tables([])


def tables(nights: list[Night]) -> list[str]:
    """The figures of these nights side by side; the seconds last."""
    head = ["", *(night.date.isoformat() for night in nights)]
    return [
        grid(head, sizes(nights)),
        "PR-AUC at 1:3, mean of the clients\n" + grid(head, qualities(nights)),
        *(["Profiles, users of fold C\n" + grid(head, found)] if (found := profiles(nights)) else []),
        "Seconds by stage\n" + grid(head, seconds(nights)),
    ]


def sizes(nights: list[Night]) -> list[list[str]]:
    """What came in, and how large the graph and the published tables are."""
    rows = [[label, *(number(n.value(stage, metric)) for n in nights)] for label, stage, metric in ROWS]
    entities = [n.detail("build_knowledge_graph", "entities") or {} for n in nights]
    kinds = dict.fromkeys(kind for found in entities for kind in found)
    rows += [[f"entities: {kind}", *(number(found.get(kind)) for found in entities)] for kind in kinds]
    published = sorted({stage for n in nights for stage in n.values if stage.startswith(publishes(""))}, key=place)
    names = {stage: f"vectors: {stage.removeprefix(publishes(''))}" for stage in published}
    return rows + [[name, *(number(n.value(stage, "rows_out")) for n in nights)] for stage, name in names.items()]


def qualities(nights: list[Night]) -> list[list[str]]:
    """Validation by feature set, then the test: the scores of D − L held against what happened since, by all users and
    by those on whom no trees learned."""
    validation = [_mean_by_set(n.detail("train_lookalike", "pr_auc")) for n in nights]
    test = [n.detail("score_lookalike", "backtest") for n in nights]
    of_all, of_untrained = ([_mean_by_set(rows, of) for rows in test] for of in ("", "untrained_"))
    rows = []
    for label, figures in (("validation", validation), ("test (backtest)", of_all), ("test, untrained", of_untrained)):
        names = dict.fromkeys(name for found in figures for name in found)
        rows += [[f"{label}: {name}", *(number(found.get(name), 3) for found in figures)] for name in names]
    return rows or [["no figures yet", *("–" for _ in nights)]]


def profiles(nights: list[Night]) -> list[list[str]]:
    """Accuracy and macro-F1 of each label, beside those of always naming the majority class."""
    measures = {
        "accuracy": "accuracy", "macro-F1": "macro_f1",
        "accuracy of the majority class": "majority_accuracy", "its macro-F1": "majority_macro_f1"}
    all_facts = [n.detail("train_profiles", "profiles") or [] for n in nights]
    tests = [{facts["label"]: facts["test"] for facts in found if facts.get("test")} for found in all_facts]
    labels = dict.fromkeys(label for found in tests for label in found)
    return [
        [f"{label}: {name}", *(number(found.get(label, {}).get(key), 3) for found in tests)]
        for label in labels for name, key in measures.items()]


def _mean_by_set(rows: list[dict[str, Any]] | None, of: str = "") -> dict[str, float]:
    """PR-AUC at 1:3 by feature set, mean of the clients; `of`: what the figure's name begins with."""
    name_of_figure = f"{of}pr_auc_1to3"
    figures: dict[str, list[float]] = {}
    for row in rows or []:
        if row.get(name_of_figure) is not None:
            figures.setdefault(row["feature_set"], []).append(row[name_of_figure])
    return {name: statistics.fmean(values) for name, values in figures.items()}


def left_out(settings: Settings, nights: list[Night], since: datetime.datetime | None = None) -> list[str]:
    """What the stages did not do, each reason once, with its nights; in the order of the night."""
    reasons = [one for night in nights for one in reasons_of(settings, night, since)]
    return told_once(sorted(reasons, key=lambda one: place(one.stage)))


def reasons_of(settings: Settings, night: Night, since: datetime.datetime | None = None) -> Iterator[Reason]:
    """What was left out on one night, by stage."""
    yield from (Reason(EVENTS, night.date, EVENTS, text) for text in _events_left_out(settings, night))
    for stage in night.values:
        skip = night.message(stage) if night.was_skipped(stage) else ""
        warnings = night.detail(stage, "warnings") or []
        for text in (text.removeprefix(f"{stage} {night.date}: ") for text in warnings):
            if not text.startswith(NO_EVENT) and not _is_said(text, skip):
                yield Reason(stage, night.date, stage, text)
        if skip and stage != ENDING:
            yield Reason(stage, night.date, f"{stage} was skipped", skip)
    for one in outcomes(settings, night, since):
        if one.path is None:
            why = one.reason.partition(": ")[0]  # the rest stands with the stage that gave it
            yield Reason(publishes(one.model), night.date, f"{one.model} was not published", why)
    if settings.profiles.labels and PROFILES not in night.values:
        yield Reason(PROFILES, night.date, f"{PROFILES} did not run", "the models that it reads were not published")


def _events_left_out(settings: Settings, night: Night) -> Iterator[str]:
    """Events that did not get into a graph, and days without any: also where nothing was to be done anew."""
    read, most = night.value(EVENTS, "rows_in") or 0, settings.events.max_rejected_share
    for reason, count in (night.detail(EVENTS, "rejected_by_reason") or {}).items():
        yield f"{count:,.0f} of {read:,.0f} events rejected: {reason} (events.max_rejected_share lets {most:g} pass)"
    if repeated := night.value(EVENTS, "rows_repeated"):
        yield f"{repeated:,.0f} of {read:,.0f} events left out that repeat another (events.deduplicate)"
    days = night.detail(EVENTS, "rows_by_day") or {}
    if empty := [day for day in sorted(days) if not days[day]]:
        yield f"{NO_EVENT} on {len(empty)} of the window's {len(days)} days: {', '.join(empty[:MOST_DAYS])}" + (
            ", …" if len(empty) > MOST_DAYS else "")


def _is_said(warning: str, reason: str) -> bool:
    """Whether the reason of a skip holds what a warning says after its beginning (`label x: no model tonight: …`)."""
    parts = warning.split(": ")
    return any(": ".join(parts[i:]) in reason for i in range(min(3, len(parts))))


def seconds(nights: list[Night]) -> list[list[str]]:
    """Per stage in the night's order, and the sum."""
    present = {stage for n in nights for stage in n.values}
    rows = [[stage, *(number(n.value(stage, "seconds"), 1) for n in nights)] for stage in sorted(present, key=place)]
    totals = [sum(values.get("seconds", 0.0) for values in n.values.values()) for n in nights]
    peaks = [max((values.get("peak_memory_mib", 0.0) for values in n.values.values()), default=None) for n in nights]
    return [
        *rows, ["all stages", *(number(total, 1) for total in totals)],
        ["peak memory of a stage, MiB", *(number(peak) for peak in peaks)]]


def places(settings: Settings, night: Night, since: datetime.datetime | None = None) -> str:
    """Where the last night's tables are."""
    root, last = settings.data_root, night.date.isoformat()
    published = [one for one in outcomes(settings, night, since) if one.path]
    lines = _embeddings(published, last)
    tables = [("Audiences", "audiences"), *[("Profiles", "profile_predictions")] * bool(settings.profiles.labels)]
    tables += [("Lists", f"recommendations/model={model}") for model in settings.recommendations.models]
    for name, table in [*tables, ("Report", "reports")]:
        lines.append(f"{name:<11} {_files(f'{root}/{table}', night.date, since)}")
    if published:
        model = published[-1].model
        lines.append(f"Read them   python -m feature_store read --root {root} --model {model} --dt {last}")
    return "\n".join(lines)


def _embeddings(published: list[Outcome], last: str) -> list[str]:
    """A line for each published model."""
    paths = [one.path for one in published] or [f"none of {last}"]
    return [f"{'Embeddings' if i == 0 else '':<11} {path}" for i, path in enumerate(paths)]


def _files(folder: str, date: datetime.date, since: datetime.datetime | None) -> str:
    table, last = Table(folder), date.isoformat()
    if not is_written(table, date, since):
        return f"none of {last}"
    files = table.files(last)
    return files[0] if len(files) == 1 else f"{table.path(last)}/  ({len(files)} files)"
