"""Write the night's page: one HTML file that needs no network.

Reads run_metrics (every stage's figures), the days of clean_events, and samples of the night's tables. Every input may be missing: a night whose
lookalike was skipped or whose model failed gets its page all the same, which says what is missing and why. Writes `reports/dt=D`.

Equal nights give equal pages but for the seconds, memory and times of day: they stand in the page's last section alone, which the content
hash leaves out.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph as GraphConfig
from jobs.configuration.sections import Lookalike, Publishing
from jobs.program import Input, Output, code_version, main, metrics
from jobs.report import lookalike, sections
from jobs.report.night import Night, read_night
from jobs.report.page import contents_of, render, shown_of
from jobs.report.people import People, moved_since, read_people

# The model to draw, best first: KQGC's vectors hold what the neighbours bought.
DRAWN_FIRST = ("kqgc_mean", "kqgc_attention1", "kqgc_attention2", "transe")


@dataclass(frozen=True)
class Config:
    """The sections this job reads."""

    graph: GraphConfig
    publishing: Publishing
    lookalike: Lookalike
    seed: int
    profiles: Profiles = Profiles()


def days_before(date: datetime.date, window_days: int, clean_events: Input) -> list[tuple[datetime.date, int]]:
    """(day, clean events) of the committed days in the window before D; from their manifests alone."""
    table = clean_events.table()
    days = [date - datetime.timedelta(days=n) for n in range(window_days, 0, -1)]
    known = set(table.values())
    return [(day, table.existing_manifest(day.isoformat()).row_count) for day in days if day.isoformat() in known]


def reasons_of(dt: str, rejected_events: Input) -> dict[str, int]:
    """Rejected rows by reason."""
    if rejected_events.table().manifest(dt) is None:
        return {}
    return dict(Counter(rejected_events.table().read(dt, ["reason"]).column("reason").to_pylist()))


def expected_buyers(dt: str, audiences: Input) -> tuple[dict[str, float], dict[str, int]]:
    """(client → sum of its prospects' calibrated scores, client → prospects)."""
    if audiences.table().manifest(dt) is None:
        return {}, {}
    sums = audiences.table().read(dt, ["client", "score"]).group_by("client").aggregate([("score", "sum"), ("score", "count")]).sort_by("client")
    rows = sums.to_pylist()
    return {r["client"]: r["score_sum"] for r in rows}, {r["client"]: r["score_count"] for r in rows}


def lineage_of(dt: str, tables: list[tuple[Input, str | None]]) -> Iterator[dict[str, str]]:
    """What the page was built on, of what there is."""
    for table, name in tables:
        if table.table(name).manifest(dt) is not None:
            yield table.lineage(dt, name)


def people_of(
    date: datetime.date, config: Config, user_embeddings: Input, interactions: Input, knowledge_graph: Input, relations: Input, entity_ids: Input,
) -> list[People]:  # fmt: skip
    """The sample by each published model, the one to draw first."""
    models = sorted(config.publishing.models, key=lambda m: (DRAWN_FIRST.index(m) if m in DRAWN_FIRST else len(DRAWN_FIRST), m))
    found: list[People] = []
    for model in models:
        tables = (user_embeddings, interactions, knowledge_graph, relations, entity_ids)
        people = read_people(date, model, config.seed, config.graph.purchase, *tables, like=found[0] if found else None)
        found += [people] if people and people.ids else []
    return found


def moved_of(night: Night, people: list[People], user_embeddings: Input) -> dict[str, np.ndarray]:
    """Per model how far the sampled users moved since the predecessor that the publish named (of the same space)."""
    found = {}
    for one in people:
        before = (night[f"publish_users_{one.model}"].mapping("drift").get("since_predecessor") or {}).get("date")
        if before:
            found[one.model] = moved_since(one, before, user_embeddings)
    return found


def without_times(night: Night, shown: dict) -> bytes:
    """The page but for its last section: what two equal nights have in common."""
    contents = [entry for entry in shown["contents"] if entry[0] != "stages"]
    return render(night, {**shown, "contents": contents, "stages": None}).encode()


def run(
    date: datetime.date, clean_events: Input, rejected_events: Input, knowledge_graph: Input, interactions: Input, entity_ids: Input, relations: Input,
    user_embeddings: Input, entity_embeddings: Input, lookalike_scores: Input, audiences: Input, run_metrics: Input, reports: Output, config: Config,
) -> None:  # fmt: skip
    """Write and commit the page of D."""
    dt, window_days = date.isoformat(), config.graph.window_days
    night = read_night(date, run_metrics, config.publishing.models, bool(config.lookalike.clients), bool(config.profiles.labels))
    arrival = sections.arrival(night, days_before(date, window_days, clean_events), reasons_of(dt, rejected_events))
    people = people_of(date, config, user_embeddings, interactions, knowledge_graph, relations, entity_ids)
    moved = moved_of(night, people, user_embeddings)
    inputs = [(rejected_events, None), (knowledge_graph, None), (interactions, None), (lookalike_scores, None), (audiences, None)]
    inputs += [(table, m) for m in config.publishing.models for table in (user_embeddings, entity_embeddings)]
    lineage = list(lineage_of(dt, inputs))
    label_days = config.lookalike.label_window_days
    shown = shown_of(night, arrival, lookalike.audiences(night, *expected_buyers(dt, audiences)), people, moved, config.seed) | {
        "window_days": window_days, "label_days": label_days, "label_start": date - datetime.timedelta(days=label_days),
        "contents": contents_of(night, bool(people)), "stages": sections.stages(night),
        "total_seconds": sum(s.figure("seconds") or 0 for s in night.stages), "lineage": [f"{x['table']}/dt={x['dt']}" for x in lineage]}
    page = render(night, shown).encode()
    with reports.table().replace(dt) as commit:
        commit.write_bytes(".html", page, hashed=without_times(night, shown))
        commit.fields |= {"inputs": lineage, "code_version": code_version()}
    metrics.put("page_bytes", len(page))
    metrics.put("rows_out", 1)


if __name__ == "__main__":
    main(run)
