"""Score everybody eligible at D for each client, hand out the best k, and hold the scores of D - L against what
happened since.

Reads: lookalike_models of D; clean_events of the days before D; knowledge_graph, interactions, entity_ids, relations,
user_embeddings, entity_embeddings of D; lookalike_scores of D - L; the suppression lists. Writes: lookalike_scores,
audiences and audience_reasons of D (Parquet, and of the audiences per client a CSV of those to be mailed and one of the
control group, with cells that are safe in a spreadsheet, see feature_store/spreadsheet.py).
Guarantees: who is scored follows the rule of training; the backtest is the only figure called test. The baselines
score as well, so that the backtest can tell what the chosen feature set gains out of time; audiences are the chosen
one's alone. Who is on a suppression list is scored, and in no audience (campaign.py). Skips without clients; and where
there is no model of D, but the backtest is reported all the same.
"""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.layout import rerun_command
from jobs.audiences.audience_reasons import blended, reasons, with_texts
from jobs.audiences.backtest import marks_of, report_backtest
from jobs.audiences.campaign import Campaign, campaign_of, known_among, provenance, read_lists
from jobs.audiences.event_log import read_log
from jobs.audiences.fitted import OF_SETS, Files, Trained, read_models, require_same_attributes
from jobs.audiences.item_sets import item_sets
from jobs.audiences.learn_pool import columns_of, first_of, past_of
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import keys_of
from jobs.audiences.set_columns import behaviors_of
from jobs.audiences.train_lookalike import NO_CLIENT, Config, clients_of, near_models
from jobs.configuration.feature_names import FeatureSet, models_of
from jobs.events.returns import counted
from jobs.program import Input, JobError, Output, Skip, code_version, log, main, metrics
from jobs.tables import TABLES
from models.classifiers.forest import Forest

SCORED_AT_A_TIME = 16_384  # users, by each thread: their columns stay near the core that counts and reads them


@dataclass(frozen=True)
class Scored:
    """Whom a client's model scores: rows, numbers of eligible users with ids `raw`, and columns: numbers → float32
    (n, F). items: of the client, in D's graph; None where no set of items is read."""

    names: list[str]
    columns: Callable[[np.ndarray], np.ndarray]
    rows: np.ndarray
    raw: pa.Array
    date: datetime.date
    items: int | None = None


def score_client(models: list[dict[str, Any]], trained: Trained, of: Scored, config: Config) -> list[pa.Table]:
    """Every eligible user's score by each of one client's models that read these columns, sorted by user id; past
    buyers only where training knew them too."""
    for model in models:
        if of.names != model["columns"]:
            missing = sorted(set(model["columns"]) ^ set(of.names))[:5]
            what = f"The features of {of.date} for {model['client']}"
            raise JobError(f"{what} differ from those of training, e.g. in {missing}. Run train_lookalike again.")
    margins = margins_of_parts(trained.forests(models), of, config.lookalike.trees.threads)
    raw = of.raw.take(pa.array(of.rows)).cast(pa.string())
    return [_scores(model, trained, trained.margin(model, margins), raw) for model in models]


def margins_of_parts(forests: Mapping[Files, Forest], of: Scored, threads: int) -> dict[Files, np.ndarray]:
    """float32 (n,) of each part: what several models share is predicted once, and columns are had once."""
    found = {files: np.empty(len(of.rows), np.float32) for files in forests}

    def fill(start: int) -> None:
        features = of.columns(of.rows[start : start + SCORED_AT_A_TIME])
        for files, forest in forests.items():
            found[files][start : start + SCORED_AT_A_TIME] = forest.mean_margin(features)

    starts = range(0, len(of.rows), SCORED_AT_A_TIME)
    for start in starts[:1]:  # alone: what all users' columns hang on is counted once
        fill(start)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, starts[1:]))
    return found


def _scores(model: dict[str, Any], trained: Trained, margins: np.ndarray, raw: pa.Array) -> pa.Table:
    schema, n = TABLES["lookalike_scores"].arrow_schema(), len(margins)
    found = {
        "client": pa.repeat(model["client"], n), "feature_set": pa.repeat(model["feature_set"], n), "user_id": raw,
        "score": pa.array(trained.calibration(model)(margins)), "chosen": pa.repeat(trained.is_chosen(model), n)}
    return pa.table([found[name] for name in schema.names], names=schema.names).cast(schema)


def best(scores: pa.Table, k: int, campaign: Campaign) -> pa.Table:
    """The k highest scores of those who may be in it as an audience; equal scores by user id."""
    scores = scores.filter(pa.array(campaign.may_be_in(scores.column("user_id"))))
    order = np.lexsort((np.arange(scores.num_rows), -scores.column("score").to_numpy()))[:k]
    top = scores.take(pa.array(order)).select(["client", "user_id", "score"])
    places = pa.array(np.arange(1, len(order) + 1, dtype=np.int32))
    return campaign.grouped(top.add_column(1, "rank", places)).cast(TABLES["audiences"].arrow_schema())


def score_all(
    trained: Trained, scored: list[dict[str, Any]], of_sets: dict[str, Scored], tables: Tables, date: datetime.date,
    config: Config,
) -> list[pa.Table]:  # fmt: skip
    """One table of scores per model. of_sets: the columns of each client that has models by them."""
    alone = [m for m in scored if m["feature_set"] not in OF_SETS]
    of_alone = columns_alone(trained, alone, tables, date, config) if alone else {}
    found: dict[tuple[str, str], pa.Table] = {}
    for client, mine in itertools.groupby(scored, key=lambda m: m["client"]):
        models = list(mine)
        together = [m for m in models if m["feature_set"] in OF_SETS]
        groups = [(together, of_sets.get(client))] if together else []
        groups += [([m], of_alone[client, m["feature_set"]]) for m in models if m not in together]
        for group, of in groups:
            tables_of_scores = score_client(group, trained, of, config)
            found |= {(client, m["feature_set"]): t for m, t in zip(group, tables_of_scores, strict=True)}
    return [found[m["client"], m["feature_set"]] for m in scored]


def columns_alone(
    trained: Trained, scored: list[dict[str, Any]], tables: Tables, date: datetime.date, config: Config
) -> dict[tuple[str, str], Scored]:
    """By client and feature set. Skip when D's vectors are not in the space that was learned in."""
    parsed = {m["feature_set"]: FeatureSet.parse(m["feature_set"], config.publishing.models) for m in scored}
    models, clients = models_of(list(parsed.values())), clients_of(config)
    for model, space in tables.spaces(models, date).items():
        learned_in = trained.index["spaces"][model]
        if space != learned_in:
            raise Skip(
                f"The models of {date} learned in space {learned_in!r} of {model}, whose {date} is in {space!r}. "
                f"Run: {rerun_command(date.isoformat(), date.isoformat())}")
    source = tables.source(date, models, config.graph, config.lookalike, config.seed, trained.vocabulary)
    found = {}
    for model in scored:
        client = source.client(model["client"], clients[model["client"]])
        columns = client.columns(parsed[model["feature_set"]])
        wanted = ~client.bought_before if config.lookalike.exclude_past_buyers else np.ones(len(source.users), bool)
        found[model["client"], model["feature_set"]] = Scored(
            columns.names, columns.values.__getitem__, np.flatnonzero(wanted), source.users.raw, date)
    return found


def columns_of_sets(
    scored: list[dict[str, Any]], tables: Tables, date: datetime.date, config: Config
) -> dict[str, Scored]:
    """By client that has models by them: what users did relative to its items, before D."""
    models = [m for m in scored if m["feature_set"] in OF_SETS]
    if not models:
        return {}
    look, graph = config.lookalike, config.graph
    snapshot = tables.snapshot(date, graph)
    learned = behaviors_of(models[0]["columns"])  # also those that were last seen in an earlier label window
    log = read_log(tables.clean_events, first_of(date, graph, look), date, snapshot.item_raw, learned)
    sets, past = item_sets(snapshot, log, clients_of(config), look.exclude_attributes), past_of(log, date, graph, look)
    keys = keys_of(log.users, config.seed)
    of, named = columns_of([past], tables, sets, near_models(config), graph, look, keys, config.seed)
    everybody, found = np.ones(len(past.eligible), bool), {}
    for name in {m["client"] for m in models}:
        place = sets.place(name)
        of_client = sets.mask(place)
        wanted = past.never_bought(of_client) if look.exclude_past_buyers else everybody
        columns = functools.partial(of, past, place)
        found[name] = Scored(named, columns, np.flatnonzero(wanted), past.raw, date, int(of_client.sum()))
    return found


def run(
    date: datetime.date, clean_events: Input, knowledge_graph: Input, interactions: Input, entity_ids: Input,
    relations: Input, user_embeddings: Input, entity_embeddings: Input, lookalike_models: Input,
    lookalike_scores: Output, audiences: Output, audience_reasons: Output, config: Config,
) -> None:  # fmt: skip
    """Backtest, score, commit."""
    if not config.lookalike.clients:
        raise Skip(f"{NO_CLIENT.capitalize()}: nobody is to be scored. Lists of seeds can be asked for all the same.")
    graph, dt, look = (knowledge_graph, interactions, entity_ids, relations), date.isoformat(), config.lookalike
    lists = read_lists(look, look.clients)  # before the work: without one of them there is no audience
    clean_events = counted(clean_events, date, config.events.returns)
    tables = Tables(clean_events, *graph, user_embeddings, entity_embeddings)
    start = date - datetime.timedelta(days=look.label_window_days)
    report_backtest(tables, lookalike_scores, lookalike_models, start, date, config)
    trained = read_models(lookalike_models, dt)
    if trained is None:
        reason = f"train_lookalike of {date} was skipped, for the reason that it gives"
        raise Skip(f"There is no lookalike model of {date}: {reason}.")
    scored = [m for m in trained.models if m["client"] in look.clients]
    if not scored:
        least = f"lookalike.min_positives is {look.min_positives}"
        raise Skip(f"No client has a lookalike model of {date}: train_lookalike tells the buyers of each, and {least}.")
    if any(m["feature_set"] in OF_SETS for m in scored):
        require_same_attributes(trained.index.get("excluded"), look.exclude_attributes, dt)
    of_sets = columns_of_sets(scored, tables, date, config)
    scores = score_all(trained, scored, of_sets, tables, date, config)
    pairs = [(m, table) for m, table in zip(scored, scores, strict=True) if trained.is_chosen(m)]
    lists = known_among(lists, entity_ids, [table.column("user_id") for _, table in pairs])
    campaigns = {m["client"]: campaign_of(look, m["client"], lists, config.seed) for m in scored}
    tops = [(m, table, best(table, look.top_k, campaigns[m["client"]])) for m, table in pairs]
    why = [reasons_of(m, top, of_sets.get(m["client"]), trained, config) for m, _, top in tops]
    chosen, used = trained.index["chosen"], {m["feature_set"] for m, _ in pairs}
    alone = models_of([FeatureSet.parse(one, config.publishing.models) for one in sorted(used - set(OF_SETS))])
    models = list(dict.fromkeys([*alone, *(near_models(config) if used & set(OF_SETS) else [])]))
    inputs = [lookalike_models.lineage(dt), *tables.lineage([date], models)]
    fields = {"feature_set": chosen, "code_version": code_version(), "inputs": inputs}
    with lookalike_scores.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        commit.write_table(pa.concat_tables(scores), sorted_by=["client", "feature_set", "user_id"])
        commit.fields |= fields | {"clients": marks_of(config)}
    with audience_reasons.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        contract = TABLES["audience_reasons"]
        rows = pa.Table.from_pylist([row for one in why for row in one], schema=contract.arrow_schema())
        commit.write_table(rows, sorted_by=list(contract.sorted_by))
        commit.fields |= fields
    with audiences.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        commit.write_table(pa.concat_tables(top for _, _, top in tops), sorted_by=["client", "rank"])
        told = [with_texts(top, rows) if rows else top for (_, _, top), rows in zip(tops, why, strict=True)]
        files = [
            campaigns[m["client"]].files(commit, top, m["client"]) for (m, _, _), top in zip(tops, told, strict=True)]
        commit.fields |= fields | provenance(campaigns, lists)
    figures = [campaigns[model["client"]].figures(table.column("user_id"), top) for model, table, top in tops]
    warn_of_everybody(figures, look.top_k)
    warn_of_no_items(of_sets)
    metrics.put("rows_in", max(t.num_rows for t in scores))
    metrics.put("rows_out", sum(top.num_rows for _, _, top in tops))
    metrics.put("suppression", detail=[listed.figures for listed in lists])
    metrics.put("audiences", detail=[
        {"feature_set": m["feature_set"], **learned_from(m, of_sets.get(m["client"])), **figure, **named}
        for (m, _, _), figure, named in zip(tops, figures, files, strict=True)])  # fmt: skip


def learned_from(model: dict[str, Any], of: Scored | None) -> dict[str, Any]:
    """How many items the client has, how many buyers of its own its model knows, and what its own model's share is; {}
    of a client learnt alone."""
    return ({} if of is None else {"items": of.items}) | {
        name: model["figures"][name] for name in ("own_buyers", "own_share") if name in model["figures"]}


def reasons_of(
    model: dict[str, Any], audience: pa.Table, of: Scored | None, trained: Trained, config: Config
) -> list[dict[str, Any]]:
    """Of the first of an audience; none by feature sets whose columns are not relative to a set."""
    if model["feature_set"] not in OF_SETS or of is None or not config.lookalike.reasons_for:
        return []
    users = audience.column("user_id").combine_chunks().slice(0, config.lookalike.reasons_for)
    features = of.columns(pc.index_in(users.cast(pa.large_string()), value_set=of.raw).to_numpy().astype(np.int64))
    boosters = trained.boosters([model])
    parts = [(boosters[tuple(part["files"])], part["weight"]) for part in model["parts"]]
    found = blended(parts, features, config.lookalike.trees.threads)
    return reasons(model["client"], users, features, of.names, found, config.graph.purchase)


def warn_of_everybody(figures: list[dict[str, Any]], top_k: int) -> None:
    """Where an audience takes in all who may be in one."""
    for of_client in figures:
        if (n := of_client["eligible"] - of_client["suppressed"]) <= top_k:
            name = of_client["client"]
            log.warning("client %s: lookalike.top_k is %d and %d users are eligible: all of them", name, top_k, n)


def warn_of_no_items(of_sets: Mapping[str, Scored]) -> None:
    """Where a client's predicate fits nothing, as when a value is misspelt: it has an audience all the same."""
    for name, of in sorted(of_sets.items()):
        if of.items == 0:
            log.warning(
                "client %s: no item of the graph of %s is as lookalike.clients.%s says, and its audience is of whoever "
                "buys much at large. Is a value misspelt, or had nobody to do with its items within graph.window_days?",
                name, of.date, name)  # fmt: skip


if __name__ == "__main__":
    main(run)
