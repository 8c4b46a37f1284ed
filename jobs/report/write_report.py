"""Write the night's page: one HTML file that needs no network.

Reads run_metrics (every stage's figures), the days of clean_events, samples of the night's tables, and the audiences of
the newest earlier night at most `training.max_gap_days` back. Every input may be missing: a night whose lookalike was
skipped or whose model failed gets its page all the same, which says what is missing and why. Writes `reports/dt=D`.

Equal nights give equal pages but for the seconds, memory and times of day: they stand in the page's last section
alone, which the content hash leaves out.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.configuration.profiles import Profiles
from jobs.configuration.recommendations import Recommendations
from jobs.configuration.sections import Graph as GraphConfig
from jobs.configuration.sections import Lookalike, Publishing, Training
from jobs.configuration.settings import Families
from jobs.program import Input, Output, code_version, main, metrics
from jobs.report import lookalike, sections
from jobs.report.changes import changes
from jobs.report.flow import GRAPHS, Flow
from jobs.report.likeness import moved_since
from jobs.report.night import Night, read_night
from jobs.report.page import contents_of, render, shown_of
from jobs.report.people import People, read_people
from models import families


@dataclass(frozen=True)
class Config:
    """The sections this job reads."""

    graph: GraphConfig
    families: Families
    publishing: Publishing
    lookalike: Lookalike
    seed: int
    profiles: Profiles = Profiles()
    training: Training = Training()
    recommendations: Recommendations = Recommendations()

    @property
    def flow(self) -> Flow:
        """What a night does by them."""
        clients, labels = bool(self.lookalike.clients), bool(self.profiles.labels)
        return Flow.of(self.publishing.models, self.families, clients, labels, self.recommendations.models)


@dataclass(frozen=True)
class Tables:
    """What the page is made of beside run_metrics."""

    clean_events: Input
    rejected_events: Input
    knowledge_graph: Input
    interactions: Input
    entity_ids: Input
    relations: Input
    user_embeddings: Input
    entity_embeddings: Input
    lookalike_scores: Input
    audiences: Input
    audience_reasons: Input

    def lineage(self, dt: str, models: Sequence[str]) -> Iterator[dict[str, str]]:
        """Of D's partitions those that there are."""
        plain = (
            self.rejected_events, self.knowledge_graph, self.interactions, self.lookalike_scores, self.audiences,
            self.audience_reasons)  # fmt: skip
        of_models = [(table, model) for model in models for table in (self.user_embeddings, self.entity_embeddings)]
        for table, model in [*((table, None) for table in plain), *of_models]:
            if table.table(model).manifest(dt) is not None:
                yield table.lineage(dt, model)


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
    prospects = audiences.table().read(dt, ["client", "score"])
    rows = prospects.group_by("client").aggregate([("score", "sum"), ("score", "count")]).sort_by("client").to_pylist()
    return {r["client"]: r["score_sum"] for r in rows}, {r["client"]: r["score_count"] for r in rows}


def drawn_first(published: Sequence[str]) -> list[str]:
    """The models, the one to draw first in front: who starts from others' vectors holds what they know and more, so the
    last of the records come first; whoever learned labels is drawn after those who learned from events alone."""
    order = sorted(reversed(families.FAMILIES), key=lambda family: family.learns_labels)
    return [model for family in order for model in family.models if model in published]


def people_of(date: datetime.date, config: Config, tables: Tables) -> list[People]:
    """The sample by each published model, the one to draw first."""
    known = (tables.user_embeddings, tables.interactions, tables.knowledge_graph, tables.relations, tables.entity_ids)
    found: list[People] = []
    for model in drawn_first(config.publishing.models):
        like = found[0] if found else None
        people = read_people(date, model, config.seed, config.graph.purchase, *known, like=like)
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


def without_times(night: Night, shown: dict[str, Any]) -> bytes:
    """The page but for its last section and the files' names, which are unique: what equal nights have in common."""
    contents = [entry for entry in shown["contents"] if entry[0] != "stages"]
    audiences = [{**row, "file": None, "control_file": None} for row in shown["audiences"]]
    return render(night, {**shown, "contents": contents, "stages": None, "audiences": audiences}).encode()


def shown_on(date: datetime.date, night: Night, tables: Tables, config: Config) -> dict[str, Any]:
    """What the page's templates read, but for its lineage and what changed."""
    dt, window_days, label_days = date.isoformat(), config.graph.window_days, config.lookalike.label_window_days
    came = days_before(date, window_days, tables.clean_events), reasons_of(dt, tables.rejected_events)
    people = people_of(date, config, tables)
    moved = moved_of(night, people, tables.user_embeddings)
    audiences = lookalike.audiences(night, *expected_buyers(dt, tables.audiences))
    return shown_of(night, sections.arrival(night, *came), audiences, people, moved, config.seed) | {
        "window_days": window_days, "label_days": label_days, "label_start": date - datetime.timedelta(days=label_days),
        "why": lookalike.why(dt, tables.audience_reasons), "contents": contents_of(night, bool(people)),
        "stages": sections.stages(night),
        "whole": GRAPHS if night[GRAPHS].ran else None}


def run(
    date: datetime.date, clean_events: Input, rejected_events: Input, knowledge_graph: Input, interactions: Input,
    entity_ids: Input, relations: Input, user_embeddings: Input, entity_embeddings: Input, lookalike_scores: Input,
    audiences: Input, audience_reasons: Input, run_metrics: Input, reports: Output, config: Config,
) -> None:  # fmt: skip
    """Write and commit the page of D; tell the scheduler its name."""
    dt = date.isoformat()
    tables = Tables(
        clean_events, rejected_events, knowledge_graph, interactions, entity_ids, relations, user_embeddings,
        entity_embeddings, lookalike_scores, audiences, audience_reasons)  # fmt: skip
    night = read_night(date, run_metrics, config.flow)
    changed = changes(date, config.training.max_gap_days, audiences)
    lineage = list(tables.lineage(dt, config.publishing.models))
    shown = shown_on(date, night, tables, config) | {
        "changes": changed, "lineage": [f"{one['table']}/dt={one['dt']}" for one in lineage]}
    page = render(night, shown).encode()
    with reports.table().replace(dt) as commit:
        commit.write_bytes(".html", page, hashed=without_times(night, shown))
        commit.fields |= {"inputs": lineage, "code_version": code_version()}
        if changed and not changed["problem"]:  # no input: `verify` would have the night run again for one table of it
            commit.fields["compared_with"] = audiences.lineage(changed["before"])
    metrics.told["page"] = commit.files[0].name  # for the link, where Airflow cannot look
    metrics.put("page_bytes", len(page))
    metrics.put("rows_out", 1)


if __name__ == "__main__":
    main(run, ends_night=True)
