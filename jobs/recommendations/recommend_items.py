"""Recommend items to every user by one model's vectors, and hold the lists of D - L against what happened since.

Reads: knowledge_graph, interactions, entity_ids, relations, user_embeddings, entity_embeddings of D; recommendations of
D - L, the graph, the interactions and both kinds of vectors of D - L, and clean_events of [D - L, D). Writes:
recommendations of D, and predicted_relations where `recommendations.relations` names some. Guarantees: exact over all
items that have a vector and that `recommendations.items` allows; everybody with a vector has a list, shorter where
fewer items are left; equal scores are in an order of each user's own; a rerun gives the same lists. How much an item's
popularity counts beside the model's score is learned from what was bought in [D - L, D) by the vectors of D - L:
nothing from D on is known. Where they are in another space, or not there, the score stands alone. The backtest counts
the users who had a list and did something in the window, with items that `recommendations.items` allowed at D - L;
where only unseen items are recommended, only what was new to them counts. Beside the lists stand those of what was most
popular at D - L, by the same rules.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.audiences.evaluation import number
from jobs.audiences.nights import Tables
from jobs.audiences.snapshot import Ledger, Snapshot
from jobs.configuration.load import config_hash
from jobs.configuration.recommendations import Recommendations, relations_of
from jobs.configuration.sections import Events, Graph, Lookalike, Publishing
from jobs.events.returns import counted
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import Input, Output, code_version, log, main, metrics
from jobs.recommendations.catalogue import Catalogue, Ledgers
from jobs.recommendations.offers import Offers, bought_between, known_then, of_one_space
from jobs.recommendations.predicted_relations import Predicting
from jobs.tables import TABLES
from models.vectors.choices import Weights
from models.vectors.recommendation import Lists, list_figures, novelty

PLACES = (10, 20)  # at which lists are judged; shorter ones at their length
SHOWN_USERS, SHOWN_ITEMS = 5, 5  # in the report


@dataclass(frozen=True)
class Config:
    graph: Graph
    lookalike: Lookalike
    publishing: Publishing
    recommendations: Recommendations
    events: Events = Events(behaviors=[])
    seed: int = 0


@dataclass(frozen=True)
class Offered:
    """What lists of D - L could hold, by ledger id: the items that `recommendations.items` allowed and that had a
    vector, and the lists of those best known."""

    items: np.ndarray
    popular: Lists


def as_table(lists: Lists, catalogue: Catalogue) -> pa.Table:
    """The rows of the table, by user id."""
    schema = TABLES["recommendations"].arrow_schema()
    columns = (
        catalogue.users.take(pa.array(lists.users)), catalogue.items.take(pa.array(lists.items)),
        pa.array(lists.ranks), pa.array(lists.scores))  # fmt: skip
    cast = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(cast, schema=schema)
    return table.sort_by([("user_id", "ascending"), ("rank", "ascending")])


def mark_of(section: Recommendations) -> str:
    """What tells whether the same items are allowed."""
    return hashlib.sha256(json.dumps(section.items, sort_keys=True, default=str).encode()).hexdigest()[:16]


def backtest(
    model: str, date: datetime.date, tables: Tables, recommendations: Input, ledgers: Ledgers, offered: Offered | None,
    config: Config,
) -> list[dict[str, object]]:  # fmt: skip
    """The figures of the lists of D - L, a row per number of places; none where there are no such lists, or where what
    tells which purchases they could hold is not there any more. offered: None where nothing is known of then."""
    start = date - datetime.timedelta(days=config.lookalike.label_window_days)
    before, dt = recommendations.table(model), start.isoformat()
    needed = [before, *[tables.interactions.table()] * config.recommendations.unseen_only]
    if any(table.manifest(dt) is None for table in needed):
        log.info("no lists or interactions of %s, the label window's start: nothing to hold against what happened", dt)
        return []
    manifest, allowed = before.existing_manifest(dt), mark_of(config.recommendations)
    if manifest.fields.get("allowed", allowed) != allowed:
        log.warning("no backtest: the lists of %s were made by another recommendations.items", dt)
        return []
    if offered is None and config.recommendations.items:
        log.info("which items recommendations.items allowed on %s is not known any more: no backtest", dt)
        return []
    users, items, rows = ledgers.users, ledgers.items, before.read(dt)
    lists = Lists(*(ledger.ids_of(rows.column(c)) for ledger, c in ((users, "user_id"), (items, "item_id"))),
                  rows.column("score").to_numpy(), rows.column("rank").to_numpy())  # fmt: skip
    pairs = asked_for(tables, start, date, ledgers, offered, config)
    n_items = int(manifest.fields["items"])
    top_k = config.recommendations.top_k
    figures = []
    for at in [n for n in PLACES if n <= top_k] or [top_k]:
        row = {"at": at, "date": dt} | list_figures(lists, pairs, n_items, at)
        if offered is not None:
            of_popular = list_figures(offered.popular, pairs, n_items, at)
            row |= {f"popular_{name}": of_popular[name] for name in ("hr", "ndcg")}
        figures.append({k: number(v) if isinstance(v, float) else v for k, v in row.items()})
    return figures


def asked_for(
    tables: Tables, start: datetime.date, date: datetime.date, ledgers: Ledgers, offered: Offered | None, config: Config
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Users and items by ledger id, each pair once, of what was bought in the window: of items that
    `recommendations.items` allowed at its start, new to the user where only such are recommended. An item that came
    later counts as one that no list held, unless there is such a predicate."""
    pairs = np.unique(np.stack(bought_between(tables, start, date, ledgers, config.graph.purchase)), axis=1)
    if offered is not None and config.recommendations.items:
        pairs = pairs[:, np.isin(pairs[1], offered.items)]
    if config.recommendations.unseen_only:
        seen = tables.interactions.table().read(start.isoformat(), columns=["user", "item"])
        width = int(max(ledgers.items.ids.max(initial=0), 0)) + 1
        known = seen.column("user").to_numpy() * width + seen.column("item").to_numpy()
        pairs = pairs[:, ~np.isin(pairs[0] * width + pairs[1], known)]
    return tuple(pairs)


def looking_back(
    predicting: Predicting, before: Snapshot | None, teaches: bool, date: datetime.date, config: Config
) -> tuple[Weights, Offered | None]:
    """(what was bought since teaches of score and popularity, what lists of then could hold). before: what was known at
    D - L; teaches: whether its vectors are in tonight's space."""
    then, section = predicting.offers_if_any(before), config.recommendations
    if then is None:
        return Weights(), None
    offered = Offered(then.catalogue.item_ids[then.catalogue.allowed], then.best_known(section))
    if not teaches or not section.popularity:
        return Weights(), offered
    bought = bought_between(predicting.tables, before.date, date, predicting.ledgers, config.graph.purchase)
    return then.weights(then.catalogue.pairs(*bought), section, config.seed), offered


def describe(lists: Lists, offers: Offers) -> None:
    """The night's figures of the lists, and what a handful of users had and are recommended."""
    catalogue, touched = offers.catalogue, offers.seen
    n_listed, n_allowed = len(np.unique(lists.items)), int(catalogue.allowed.sum())
    metrics.put("coverage", n_listed / n_allowed if n_allowed else None)
    metrics.put("novelty", number(novelty(lists.items, offers.n_users_of, len(catalogue.users))))
    metrics.put("users", len(np.unique(lists.users)))
    metrics.put("items", n_allowed)
    names = catalogue.items.to_pylist() if len(lists.users) else []
    shown = []
    for user in np.unique(lists.users)[:: max(1, len(np.unique(lists.users)) // SHOWN_USERS)][:SHOWN_USERS]:
        had = touched[1][touched[0] == user][:SHOWN_ITEMS]
        given = lists.items[lists.users == user][:SHOWN_ITEMS]
        shown.append({"user": catalogue.users[int(user)].as_py(), "had": [names[i] for i in had],
                      "recommended": [names[i] for i in given]})  # fmt: skip
    metrics.put("examples", detail=shown)


def commit_rows(
    rows: pa.Table, output: Output, model: str, dt: str, fields: dict[str, object], config: Config
) -> None:
    """The partition of D."""
    with output.table(model).replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        commit.write_table(rows, sorted_by=list(output.contract.sorted_by))
        commit.fields |= fields


def run(
    date: datetime.date, model: str, clean_events: Input, knowledge_graph: Input, interactions: Input,
    entity_ids: Input, relations: Input, user_embeddings: Input, entity_embeddings: Input, recommendations: Output,
    predicted_relations: Output, config: Config,
) -> None:  # fmt: skip
    """Commit the lists of D, and the predicted relations."""
    graph, dt = (knowledge_graph, interactions, entity_ids, relations), date.isoformat()
    clean_events = counted(clean_events, date, config.events.returns)
    tables = Tables(clean_events, *graph, user_embeddings, entity_embeddings)
    ledgers = Ledgers(*(Ledger.read(entity_ids.segments(kind)) for kind in (USER, ITEM)))
    start = date - datetime.timedelta(days=config.lookalike.label_window_days)
    told = relations_of(model, config.recommendations, config.graph.purchase)
    predicting = Predicting(
        tables, ledgers, model, config.graph, dataclasses.replace(config.recommendations, relations=told), config.seed)
    snapshot, before = tables.snapshot(date, config.graph), known_then(tables, model, start, config.graph)
    teaches = before is not None and of_one_space(tables, model, start, date)
    weights, offered = looking_back(predicting, before, teaches, date, config)
    offers = predicting.offers(snapshot)
    lists = offers.lists(config.recommendations, weights)
    fields = {
        "model": model, "allowed": mark_of(config.recommendations), "items": int(offers.catalogue.allowed.sum()),
        "space_id": offers.vectors.space_id,
        "weights": dataclasses.asdict(weights), "inputs": tables.lineage([start, date], [model]),
        "config_hash": config_hash(config), "code_version": code_version()}  # fmt: skip
    commit_rows(as_table(lists, offers.catalogue), recommendations, model, dt, fields, config)
    if told:
        rows, figures = predicting.predict(before if teaches else None, snapshot)
        fields |= {"weights": {row["relation"]: row["weights"] for row in figures}}
        commit_rows(rows, predicted_relations, model, dt, fields, config)
        metrics.put("relations", detail=figures)
    metrics.put("rows_in", len(offers.catalogue.users))
    metrics.put("rows_out", len(lists.users))
    if config.recommendations.popularity:
        metrics.put("weights", detail=dataclasses.asdict(weights))
    describe(lists, offers)
    metrics.put("backtest", detail=backtest(model, date, tables, recommendations, ledgers, offered, config))


if __name__ == "__main__":
    main(run)
