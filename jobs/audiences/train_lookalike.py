"""Train the classifiers of target prospecting: who buys from a client in the next L days
(after the paper on Knowledge Query-based Graph Convolution, sections 3.3 and 4).

One pooled classifier learns from every set of items with buyers, in several past label windows (learn_pool.py), and two
baselines are fitted beside it for comparison. Where fewer than 20 sets have buyers enough, or with
`lookalike.pooled: false`, each client is learnt alone (one_client.py). The same lessons teach the model of lists of
seeds (seed_lessons.py), which is all there is to learn without clients.

Reads: clean_events of the days before D; knowledge_graph, interactions, entity_ids, relations of D; for the baselines
and for affinities also the tables of D - L, and of earlier label windows' starts where a night was run: user_embeddings
and entity_embeddings of these dates. Writes: lookalike_models of D.
Guarantees: the columns of a label window know nothing from its start on, labels are of the window, buyers and others
are drawn from the same eligible users, and a user's rows are never on both sides of a split.
Learnt alone it skips, with what to rerun, where D - L was not run or is in another space; with each client's count,
where no client has buyers enough; and without clients, where no model of lists can be learned.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.audiences.audience_reasons import group_of, share_of_gain
from jobs.audiences.evaluation import number
from jobs.audiences.fitted import BASELINES, BLEND, OF_SETS, Fitted, repeatable, to_json, write
from jobs.audiences.learn_pool import Pool, fit_clients, lessons_of
from jobs.audiences.nights import Tables, skip_unless_comparable
from jobs.audiences.one_client import Task, fit_all, make_task
from jobs.audiences.pooled import Lessons
from jobs.audiences.population import purchases_between
from jobs.audiences.seed_lessons import ENTRY, SeedModel, fit_seed_lists, repeatable_entry
from jobs.audiences.snapshot import Snapshot
from jobs.configuration.feature_names import FeatureSet, default_names, models_of
from jobs.configuration.load import config_hash
from jobs.configuration.predicates import Predicate, parse
from jobs.configuration.sections import Events, Graph, Lookalike, Publishing
from jobs.events.returns import counted
from jobs.program import Input, Output, Skip, code_version, log, main, metrics
from models.classifiers.lookalike import OneClassError

SAID_CLIENTS = 5  # of those without a model, in the reason of a skip
NO_CLIENT = "no client is configured under lookalike.clients"


@dataclass(frozen=True)
class Config:
    seed: int
    graph: Graph
    publishing: Publishing
    lookalike: Lookalike
    events: Events = Events(behaviors=[])


@dataclass(frozen=True)
class Alone:
    """Each client learnt alone. spaces: of the models whose vectors that took; vocabulary: of the columns."""

    tasks: list[Task] = field(default_factory=list)
    fitted: list[Fitted] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    spaces: dict[str, str | None] = field(default_factory=dict)
    vocabulary: dict[str, Any] | None = None


@dataclass(frozen=True)
class Together:
    """All clients learnt by the pooled classifier."""

    lessons: Lessons
    pool: Pool
    fitted: list[Fitted]
    gain: dict[str, float]  # group of columns → its share of the trees' gain

    @property
    def figures(self) -> dict[str, Any]:
        return {**self.pool.figures, "gain": {group: number(share) for group, share in self.gain.items()}}


def feature_sets_of(config: Config, beside_pool: bool) -> list[FeatureSet]:
    """What a night fits of each client alone, in the order of the configuration."""
    models, look = config.publishing.models, config.lookalike
    names = look.feature_sets or (list(BASELINES) if beside_pool else default_names(near_models(config)))
    if look.score_with and look.score_with not in (*names, *OF_SETS):
        names = [*names, look.score_with]
    return [FeatureSet.parse(name, models) for name in names]


def near_models(config: Config) -> list[str]:
    """Models whose affinities are columns: those that `lookalike.affinities` names, or all that are published."""
    named = config.lookalike.affinities
    return config.publishing.models if named is None else named


def clients_of(config: Config) -> dict[str, Predicate]:
    """The configured clients' predicates by name."""
    known = config.graph.item_attributes
    return {name: parse(tree, f"lookalike.clients.{name}", known) for name, tree in config.lookalike.clients.items()}


def lessons_tonight(
    tables: Tables, date: datetime.date, snapshot: Snapshot, clients: dict[str, Predicate], config: Config
) -> Lessons | str:
    """What the pooled classifier and the model of seed lists learn from; or why there is too little."""
    look = config.lookalike
    if not look.pooled:
        return "lookalike.pooled is false"
    return lessons_of(tables, date, snapshot, clients, near_models(config), config.graph, look, config.seed)


def learn_together(lessons: Lessons | str, clients: dict[str, Predicate], config: Config) -> Together | str:
    """By the pooled classifier; or why there is none."""
    if isinstance(lessons, str):
        return lessons
    if not clients:
        return NO_CLIENT
    try:
        fitted, pool = fit_clients(lessons, list(clients), config.lookalike, config.seed)
    except OneClassError as error:
        return str(error)
    group = functools.partial(group_of, purchase=config.graph.purchase)
    return Together(lessons, pool, fitted, share_of_gain(pool.boosters, lessons.names, group))


def learn_alone(
    tables: Tables, start: datetime.date, date: datetime.date, snapshot: Snapshot, clients: dict[str, Predicate],
    sets: list[FeatureSet], beside_pool: bool, config: Config,
) -> Alone:  # fmt: skip
    """Every client by every feature set. Skip where D - L cannot be compared with D."""
    skip_unless_comparable(tables, start, date, sets)
    look, seed, models = config.lookalike, config.seed, models_of(sets)
    source = tables.source(start, models, config.graph, look, seed)
    purchases = purchases_between(tables.clean_events, start, date, config.graph.purchase)
    tasks = [make_task(*client, source, snapshot, purchases, look, seed) for client in clients.items()]
    fitted, left_out = fit_all(tasks, sets, look, seed, beside_pool)
    vocabulary = dataclasses.asdict(source.vocabulary)
    return Alone(tasks, fitted, left_out, tables.spaces(models, start), vocabulary)


def learn_each(
    tables: Tables, start: datetime.date, date: datetime.date, snapshot: Snapshot, clients: dict[str, Predicate],
    together: Together | str, config: Config,
) -> Alone:  # fmt: skip
    """What is learned of each client alone: baselines beside the pooled classifier, none where D - L cannot be compared
    with D; or all there is, and then Skip there."""
    if not clients:
        return Alone()
    is_pooled = not isinstance(together, str)
    if not is_pooled:
        log.info("each client is learnt alone: %s", together)
    sets = feature_sets_of(config, is_pooled)
    try:
        return learn_alone(tables, start, date, snapshot, clients, sets, is_pooled, config)
    except Skip as skip:
        if not is_pooled:
            raise Skip(f"{skip} Each client is learnt alone, which takes that date: {together}.", skip.wanted) from None
        log.info("no baselines beside the pooled classifier, as on the first night of a log: %s", skip)
        return Alone()


def skip_without_models(fitted: list[Fitted], left_out: list[str], label_window_days: int) -> None:
    """Skip where no client has a model: a stage that made nothing is not done."""
    if fitted:
        return
    more = f"; and {len(left_out) - SAID_CLIENTS} more" if len(left_out) > SAID_CLIENTS else ""
    advice = "Let a client's predicate take in more items, lower lookalike.min_positives, or lengthen"
    raise Skip(
        f"None of {len(left_out)} clients has buyers enough to learn from: {'; '.join(left_out[:SAID_CLIENTS])}{more}. "
        f"{advice} lookalike.label_window_days ({label_window_days}).")


def choose(fitted: list[Fitted], together: bool, score_with: str | None) -> str:
    """The feature set that scores: the configured one; else the mean of pooled and own model; learnt alone the best
    mean PR-AUC at 1:3 on validation, the first of equals."""
    names = list(dict.fromkeys(one.feature_set for one in fitted))
    if score_with in names:
        return str(score_with)
    if together:
        return BLEND

    def mean(name: str) -> float:
        found = [f.figures["pr_auc_1to3"] for f in fitted if f.feature_set == name]
        known = [figure for figure in found if figure is not None]
        return float(np.mean(known)) if known else 0.0

    return max(names, key=mean)


def chosen_of(fitted: list[Fitted], chosen: str, score_with: str | None) -> dict[str, str]:
    """What scores each client: the feature set that is asked for, else the chosen one; of a client that has no model of
    it the mean of pooled and own model, or where each client is learnt alone the chosen one."""
    sets: dict[str, set[str]] = {}
    for one in fitted:
        sets.setdefault(one.client, set()).add(one.feature_set)
    wanted = score_with or chosen
    rest = {client: BLEND if BLEND in names else chosen for client, names in sets.items()}
    found = {client: wanted if wanted in names else rest[client] for client, names in sets.items()}
    if others := sorted(client for client, name in found.items() if name != wanted):
        more = f" and {len(others) - SAID_CLIENTS} more" if len(others) > SAID_CLIENTS else ""
        log.warning(
            "lookalike.score_with is %s, of which there is no model tonight for %s%s: scored by %s",
            wanted, ", ".join(others[:SAID_CLIENTS]), more, " or ".join(sorted({rest[one] for one in others})))
    return found


def report(
    alone: Alone, together: Together | str, lessons: Lessons | str, lists: SeedModel | str, chosen: dict[str, str]
) -> None:
    """The night's figures of this stage. `rows_in`: users to learn from; `rows_out`: models; `pr_auc`, `curves`: one
    row per client and feature set; `clients`: one per client; `pool`: what the pooled classifier learned from, or why
    there is none; `seed_lists`: the same of the model of seed lists, null without one."""
    pooled = None if isinstance(together, str) else together
    fitted = [*alone.fitted, *(pooled.fitted if pooled else [])]
    of_lists = None if isinstance(lists, str) else lists
    of_tasks = max((len(task.sample.labels) for task in alone.tasks), default=0)  # the same users for each client
    metrics.put("rows_in", of_tasks if isinstance(lessons, str) else len(lessons.windows[0].past.eligible))
    metrics.put("rows_out", len(fitted) + (of_lists is not None))
    metrics.put("spaces", detail=alone.spaces)
    metrics.put("clients", detail=_of_pool(pooled) if pooled else _of_tasks(alone))
    metrics.put("pool", detail=pooled.figures if pooled else {"reason": together})
    metrics.put("pr_auc", detail=[f.figures for f in fitted])
    metrics.put("curves", detail=[f.curves for f in fitted])
    metrics.put("chosen", detail=chosen)
    metrics.put("seed_lists", detail=of_lists and of_lists.figures)


def _of_tasks(alone: Alone) -> list[dict[str, Any]]:
    modelled = {one.client for one in alone.fitted}
    return [
        {"client": t.client.name, "eligible": t.eligible, "positives": t.sample.positives,
         "not_eligible_buyers": t.not_eligible_buyers, "items": int(t.client.items.sum()),
         "prevalence": number(t.sample.positives / max(1, t.eligible)), "modelled": t.client.name in modelled}
        for t in alone.tasks]  # fmt: skip


def _of_pool(together: Together) -> list[dict[str, Any]]:
    sets, counted = together.lessons.sets, ("eligible", "positives", "not_eligible_buyers", "own_buyers", "own_share")
    return [
        {name: one.figures[name] for name in ("client", *counted)} | {
            "items": int(sets.mask(sets.place(one.client)).sum()),
            "prevalence": number(one.figures["positives"] / max(1, one.figures["eligible"])), "modelled": True}
        for one in together.fitted if one.feature_set == BLEND]  # fmt: skip


def run(
    date: datetime.date, clean_events: Input, knowledge_graph: Input, interactions: Input, entity_ids: Input,
    relations: Input, user_embeddings: Input, entity_embeddings: Input, lookalike_models: Output, config: Config,
) -> None:  # fmt: skip
    """Label, fit, choose, commit."""
    graph, dt, look = (knowledge_graph, interactions, entity_ids, relations), date.isoformat(), config.lookalike
    clean_events = counted(clean_events, date, config.events.returns)
    tables = Tables(clean_events, *graph, user_embeddings, entity_embeddings)
    start = date - datetime.timedelta(days=look.label_window_days)
    clients, snapshot = clients_of(config), tables.snapshot(date, config.graph)
    lessons = lessons_tonight(tables, date, snapshot, clients, config)
    together = learn_together(lessons, clients, config)
    is_taught, is_pooled = not isinstance(lessons, str), not isinstance(together, str)
    alone = learn_each(tables, start, date, snapshot, clients, together, config)
    fitted = [*alone.fitted, *(together.fitted if is_pooled else [])]
    lists = fit_seed_lists(lessons, near_models(config), look, config.seed) if is_taught else lessons
    if isinstance(lists, str):
        log.info("no model of seed lists: %s", lists)
    chosen = choose(fitted, is_pooled, look.score_with) if fitted else None
    by_client = chosen_of(fitted, chosen, look.score_with) if chosen else {}
    report(alone, together, lessons, lists, by_client)
    starts = [window.past.date for window in lessons.windows] if is_taught else [start] if clients else []
    index = {
        "label_start": start.isoformat(), "chosen": chosen, "chosen_of": by_client, "vocabulary": alone.vocabulary,
        "spaces": alone.spaces, "excluded": sorted(look.exclude_attributes),
        "label_windows": [one.isoformat() for one in starts]}  # fmt: skip
    with lookalike_models.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        index |= {"models": write(fitted, commit), ENTRY: None if isinstance(lists, str) else lists.write(commit)}
        commit.write_bytes(".json", to_json(index), hint="index", hashed=to_json(repeatable_entry(repeatable(index))))
        models = list(dict.fromkeys([*(near_models(config) if is_taught else []), *alone.spaces]))
        commit.fields |= {
            "label_window": [start.isoformat(), dt], "spaces": alone.spaces, "chosen": chosen,
            "config_hash": config_hash(config), "code_version": code_version(),
            "inputs": [*tables.lineage(starts, models), knowledge_graph.lineage(dt)]}  # fmt: skip
    # after the commit: nobody is to score, or to rank a list, by the models of an earlier run
    if clients:
        skip_without_models(fitted, alone.left_out, look.label_window_days)
    elif isinstance(lists, str):
        raise Skip(f"{NO_CLIENT.capitalize()}, and no model of seed lists can be learned: {lists}.")


if __name__ == "__main__":
    main(run)
