"""The tables of lookalike as one bundle, whether a date has what lookalike needs, and the features of one date."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from feature_store.layout import rerun_command
from jobs.audiences.feature_sets import Source
from jobs.audiences.features import Eligible, Vocabulary, choose_vocabulary
from jobs.audiences.population import active_users
from jobs.audiences.snapshot import Ledger, Snapshot, read_snapshot
from jobs.audiences.vectors import read_vectors, space_of
from jobs.configuration.feature_names import FeatureSet, models_of
from jobs.configuration.sections import Graph, Lookalike
from jobs.program import Input, Skip


@dataclass(frozen=True)
class Tables:
    """What lookalike reads."""

    clean_events: Input
    knowledge_graph: Input
    interactions: Input
    entity_ids: Input
    relations: Input
    user_embeddings: Input
    entity_embeddings: Input

    def snapshot(self, date: datetime.date, graph: Graph) -> Snapshot:
        return read_snapshot(date, self.knowledge_graph, self.interactions, self.entity_ids, self.relations, graph)

    def source(
        self, date: datetime.date, models: list[str], graph: Graph, lookalike: Lookalike, seed: int,
        vocabulary: Vocabulary | None = None,
    ) -> Source:  # fmt: skip
        """Features of everybody eligible at `date`, from what was known then. Without a vocabulary one is
        chosen from the same snapshot."""
        snapshot, ledger = self.snapshot(date, graph), Ledger.read(self.entity_ids.segments("user"))
        raw = active_users(self.clean_events, date, lookalike.active_days)
        users = Eligible(raw, ledger.ids_of(raw))
        vocabulary = vocabulary or choose_vocabulary(snapshot, users, lookalike.history_attribute, graph.purchase)
        published = (self.user_embeddings, self.entity_embeddings)
        vectors = {model: read_vectors(model, date, *published, ledger, graph.purchase) for model in models}
        return Source(snapshot, users, ledger, vocabulary, graph, vectors, seed)

    def spaces(self, models: list[str], date: datetime.date) -> dict[str, str | None]:
        return {model: space_of(self.user_embeddings, model, date) for model in models}

    def lineage(self, dates: list[datetime.date], models: list[str]) -> list[dict[str, str]]:
        """For manifests: every partition that was read, but the days of clean_events, which the graphs name."""
        days = [d.isoformat() for d in dates]
        plain, of_models = (self.knowledge_graph, self.interactions), (self.user_embeddings, self.entity_embeddings)
        found = [table.lineage(day) for table in plain for day in days]
        return found + [table.lineage(day, model) for table in of_models for model in models for day in days]


def skip_unless_comparable(tables: Tables, start: datetime.date, date: datetime.date, sets: list[FeatureSet]) -> None:
    """Skip unless `start` was run and its vectors are in the space of `date`'s: a classifier carries what it
    learned from one to the other."""
    rerun = rerun_command(start.isoformat(), start.isoformat())
    backfill = f"airflow backfill create --dag-id nightly_user_embeddings --from-date {start} --to-date {start}"
    first = f"where the label window begins. Run that night first: {backfill}; then rerun {date}."
    for table in (tables.knowledge_graph, tables.interactions):
        if table.table().manifest(start.isoformat()) is None:
            raise Skip(f"{table.name} has no partition dt={start}, {first}")
    models = models_of(sets)
    then, now = tables.spaces(models, start), tables.spaces(models, date)
    for model in models:
        if then[model] is None:
            raise Skip(f"user_embeddings of {model} were not published for {start}, {first}")
        if now[model] is None:
            again = f"Run publish_users for {date}, then lookalike again"
            raise Skip(f"user_embeddings of {model} were not published for {date}. {again}.")
        if then[model] != now[model]:
            raise Skip(
                f"{model} of {start} is in space {then[model]!r}, of {date} in {now[model]!r}: what is learned in one "
                f"means nothing in the other. Rerun the nights from {start} to {date} in order. "
                f"To have lookalike at {date}, run: {rerun}, then the same from {date} on.")
