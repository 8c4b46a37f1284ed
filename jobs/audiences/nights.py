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
        excluded = lookalike.exclude_attributes
        if vocabulary is None:
            history = lookalike.history_attribute
            vocabulary = choose_vocabulary(snapshot, users, history, graph.purchase, excluded)
        published = (self.user_embeddings, self.entity_embeddings)
        vectors = {model: read_vectors(model, date, *published, ledger, graph.purchase).known() for model in models}
        return Source(snapshot, users, ledger, vocabulary.without(excluded), graph, vectors, seed)

    def spaces(self, models: list[str], date: datetime.date) -> dict[str, str | None]:
        return {model: space_of(self.user_embeddings, model, date) for model in models}

    def lineage(self, dates: list[datetime.date], models: list[str]) -> list[dict[str, str]]:
        """For manifests: every partition there was to read of these dates, but the days of clean_events, which the
        graphs name."""
        days = [d.isoformat() for d in dates]
        plain, of_models = (self.knowledge_graph, self.interactions), (self.user_embeddings, self.entity_embeddings)
        wanted = [(table, day, None) for table in plain for day in days]
        wanted += [(table, day, model) for table in of_models for model in models for day in days]
        there = ((table, day, model) for table, day, model in wanted if table.table(model).manifest(day) is not None)
        return [table.lineage(day, model) for table, day, model in there]


def skip_unless_comparable(tables: Tables, start: datetime.date, date: datetime.date, sets: list[FeatureSet]) -> None:
    """Skip unless `start` was run and its vectors are in the space of `date`'s: a classifier carries what it
    learned from one to the other."""
    models, again = models_of(sets), f"Run: {rerun_command(start.isoformat(), date.isoformat())}"
    wanted = wanted_of(tables, models, start, date)
    for table in (tables.knowledge_graph, tables.interactions):
        if table.table().manifest(start.isoformat()) is None:
            raise Skip(f"{table.name} has no partition dt={start}, where the label window begins. {again}", wanted)
    then, now = tables.spaces(models, start), tables.spaces(models, date)
    for model in models:
        if then[model] is None:
            begins = f"user_embeddings of {model} were not published for {start}, where the label window begins"
            raise Skip(f"{begins}. {again}", wanted)
        if now[model] is None:
            raise Skip(f"user_embeddings of {model} were not published for {date}. {again}", wanted)
        if then[model] != now[model]:
            raise Skip(
                f"{model} of {start} is in space {then[model]!r}, of {date} in {now[model]!r}: what is learned in one "
                f"means nothing in the other. {again}", wanted)


def wanted_of(
    tables: Tables, models: list[str], start: datetime.date, date: datetime.date
) -> list[dict[str, str]]:
    """What there has to be for a classifier of `date`, as `Skip` takes it: all of it, so that it can be tried again as
    soon as nothing is wanting."""
    contract, dt = tables.user_embeddings.contract, start.isoformat()
    plain = [table.contract.folder for table in (tables.knowledge_graph, tables.interactions)]
    named = [contract.location(contract.folder, model) for model in models]
    wanted = [{"table": name, "dt": dt} for name in plain]
    return wanted + [{"table": name, "dt": dt, "same_space_as": date.isoformat()} for name in named]
