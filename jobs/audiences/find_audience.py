"""An audience on demand: seed users in, the k active users most like them out (after the paper on Knowledge Query-based
Graph Convolution, section 4.1).

Reads: a seed file, or a client of the configuration, whose buyers in the graph's window are the seeds; the suppression
lists of all clients, of that client and of the request (campaign.py); clean_events of the days before D;
knowledge_graph, interactions, entity_ids, relations, user_embeddings, entity_embeddings, lookalike_models of D. Writes:
requested_audiences/<name> of D: the audience as Parquet and CSV (one of those to be mailed, one of the control group,
see feature_store/spreadsheet.py), a report as JSON and HTML.
Who ranks: the night's model of seed lists (seed_lessons.py), from 5 seeds up; from 30 up its mean with a classifier of
this list alone, which counts the more, the more seeds there are. Where the night has no such model, that classifier by
itself, and the report says so.
Guarantees: the classifier's positives are the active seeds, its negatives active users who are none, 1:3; what is
learned from knows nothing of what made a seed one, where its time is known (lessons.py); everything else is as of D.
The quality is that of a cross-validation and called in time: nothing here looks forward. Seeds stay out of the ranking
unless `include_seeds`.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Table
from jobs.audiences.campaign import Campaign, campaign_of, known_among, provenance, read_lists
from jobs.audiences.evaluation import curve_figures, number, precision_figures
from jobs.audiences.feature_sets import ClientSource, Source
from jobs.audiences.features import Columns, past_buyers
from jobs.audiences.lessons import Days, Lesson, first_days, timed, untimed
from jobs.audiences.nights import Tables
from jobs.audiences.population import JUDGED, held_out_of, one_to, sampled_with, uniform
from jobs.audiences.seed_lessons import SeedModel, read_seed_model
from jobs.audiences.seed_request import LEAST_OWN, LEAST_SEEDS, Learned, learned, own_share
from jobs.audiences.seeds import Match, match, read_days, read_from, read_seeds
from jobs.audiences.train_lookalike import Config
from jobs.configuration.predicates import parse
from jobs.configuration.ranges import CONTROL_SHARE
from jobs.contracts import NAME
from jobs.events.returns import counted
from jobs.program import Input, JobError, Output, code_version, log, main, metrics
from jobs.report.page import render_request
from jobs.tables import TABLES
from models import families
from models.classifiers.lookalike import OneClassError, calibrate, fit, margins_of

FOLDS = 5


@dataclass(frozen=True)
class Least:
    """How many seeds a request needs; and why as many, where the night's model of lists would do with fewer."""

    seeds: int
    reason: str = ""

    @classmethod
    def with_model(cls, is_there: bool, date: datetime.date) -> Least:
        missing = f"the night of {date} has no model of seed lists, with which {LEAST_SEEDS} would do"
        return cls(LEAST_SEEDS) if is_there else cls(LEAST_OWN, f" ({missing})")

    def __str__(self) -> str:
        return f"{self.seeds}{self.reason}"


@dataclass(frozen=True)
class Ranking:
    """Every active user's score (calibrated, from a model that was not trained on him where he was
    sampled), what it is worth, and of what share of it the list's own classifier and the night's model of lists are."""

    scores: np.ndarray
    figures: dict[str, Any]
    curves: dict[str, Any]
    weights: dict[str, float]


def seeds_of_client(tables: Tables, source: Source, client: str, config: Config) -> tuple[pa.Array, Days]:
    """Raw ids of a client's buyers in the window before the date, and the first day of each."""
    if client not in config.lookalike.clients:
        known = ", ".join(sorted(config.lookalike.clients)) or "none"
        raise JobError(f"No client {client!r} under lookalike.clients; there are {known}. Name one, or give seeds.")
    predicate = parse(config.lookalike.clients[client], f"lookalike.clients.{client}", config.graph.item_attributes)
    snapshot, graph, mine = source.snapshot, config.graph, source.snapshot.matching(predicate)
    buyers = source.ledger.raw_of(past_buyers(snapshot, mine, graph.purchase))
    first = snapshot.date - datetime.timedelta(days=graph.window_days)
    items = snapshot.item_raw.filter(pa.array(mine))
    return buyers, first_days(tables.clean_events, first, snapshot.date, graph.purchase, items)


def columns_of(source: Source, model: str, references: np.ndarray) -> Columns:
    """The baseline, and the distances to the reference users; a seed list has no items."""
    nothing = ClientSource(source, "seeds", np.zeros(len(source.snapshot.items), bool))
    near = nothing.affinity(model, references)
    return Columns.side_by_side([source.baseline, near.only(lambda name: "reference" in name)])


@dataclass(frozen=True)
class Margins:
    """float32 (n,) each: `told` of the quality, by the lesson's columns; `now` of the ranking, by those of D."""

    told: np.ndarray
    now: np.ndarray


def margins_alone(lesson: Lesson, model: str, name: str, config: Config) -> Margins:
    """Of a classifier of the list alone, over five folds of users; each fold is scored by a model and reference users
    from the other four."""
    now, then, is_seed, look, seed = lesson.now, lesson.then, lesson.positive, config.lookalike, config.seed
    raw, ratio, threads = now.users.raw, look.negatives_per_positive, look.trees.threads
    order, early = uniform(seed, "negative", name, raw), uniform(seed, "early stopping", name, raw)
    sampled = sampled_with(ratio, is_seed, lesson.allowed, order)
    fold = np.floor(uniform(seed, "fold", name, raw) * FOLDS).astype(np.int64)
    margins, margins_now = np.empty(len(raw), np.float32), np.empty(len(raw), np.float32)
    for held in range(FOLDS):
        train, rest = sampled & (fold != held), fold == held
        references = np.sort(now.users.ids[is_seed & train])
        columns = columns_of(then, model, references)
        fitted = columns.values[train], is_seed[train], held_out_of(is_seed, train, early)[train]
        booster = fit(*fitted, look.trees, seed, columns.monotone)
        margins[rest] = margins_of(booster, columns.values[rest], threads)
        columns = columns if then is now else columns_of(now, model, references)
        margins_now[rest] = margins_of(booster, columns.values[rest], threads)
    return Margins(margins, margins_now)


def rank(lesson: Lesson, model: str, name: str, config: Config, learned: Learned | None = None) -> Ranking:
    """By a classifier of the list alone; with `learned`, of the night's model of seed lists, by a mean of both, or by
    that alone where the seeds are few. OneClassError where neither can be had."""
    share, margins = 1.0 if learned is None else own_share(int(lesson.positive.sum())), None
    try:
        margins = margins_alone(lesson, model, name, config) if share else None
    except OneClassError as error:
        if learned is None:
            raise
        share = 0.0
        log.info("the night's model of seed lists alone ranks: %s", error)
    if learned is not None:
        own = margins or learned
        told, now = ((1 - share) * a + share * b for a, b in ((learned.told, own.told), (learned.now, own.now)))
        margins = Margins(told, now)
    look, seed = config.lookalike, config.seed
    order = uniform(seed, "negative", name, lesson.now.users.raw)
    judged = np.flatnonzero(lesson.allowed)
    labels, told = lesson.positive[judged], margins.told[judged]
    at_ratio = one_to(JUDGED, lesson.positive, lesson.allowed, order)[judged]
    calibration = calibrate(told, labels)
    figures = precision_figures(labels, told, at_ratio, look.bootstrap_draws, seed)
    used = {"own": round(share, 4), "learned": round(1 - share, 4)}
    return Ranking(calibration(margins.now), figures, curve_figures(labels, told, calibration(told)), used)


def audience(source: Source, scores: np.ndarray, allowed: np.ndarray, k: int, campaign: Campaign) -> pa.Table:
    """The k highest scores among the allowed; equal scores by user id."""
    rows = np.flatnonzero(allowed)
    top = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    places, user_id = np.arange(1, len(top) + 1, dtype=np.int32), source.users.raw.take(pa.array(top)).cast(pa.string())
    columns = {"rank": places, "user_id": user_id, "score": scores[top]}
    return campaign.grouped(pa.table(columns)).cast(TABLES["requested_audiences"].arrow_schema())


def describe(
    name: str, model: str, date: datetime.date, found: Match, lesson: Lesson, ranking: Ranking,
    campaign: dict[str, Any], by_night: Learned | None,
) -> dict[str, Any]:  # fmt: skip
    """The report, for JSON. `learned`: of the night's model of seed lists; null where the night has none. `vectors`:
    the models whose vectors were read."""
    known, own = len(found.known), [model] if ranking.weights["own"] else []
    vectors = list(dict.fromkeys([*(by_night.figures["spaces"] if by_night else []), *own]))
    return {
        "audience": name, "date": date.isoformat(), "model": model, "vectors": vectors,
        "seeds_given": found.given, "seeds_known": known,
        "seeds_unknown": found.given - known, "match_rate": number(found.rate), "seeds_active": found.active,
        "seeds_learned_from": int(lesson.positive.sum()), "seeds_have_times": lesson.timed,
        "active_users": len(ranking.scores), "handed_out": campaign["k"], "suppressed": campaign["suppressed"],
        "control": campaign["control"], "control_share": campaign["control_share"],
        "quality": "in time (cross-validation; nothing looks forward)", **ranking.figures, "curves": ranking.curves,
        "weights": ranking.weights, "learned": by_night and by_night.figures}


def check_request(
    seeds: str | None, client: str | None, k: int, model: str, control_share: float | None, name: str | None,
    config: Config,
) -> str:  # fmt: skip
    """The audience's name. JobError for a request that cannot be served."""
    if (seeds is None) == (client is None):
        wanted = "exactly one: a seed file, or a client of the configuration"
        raise JobError(f"Found seeds={seeds} and client={client}; expected {wanted}.")
    if k < 1:
        raise JobError(f"k is {k}; expected at least 1.")
    if control_share is not None and not CONTROL_SHARE.holds(control_share):
        raise JobError(f"control_share is {control_share}; expected {CONTROL_SHARE.wanted}.")
    if model not in config.publishing.models:
        published = ", ".join(config.publishing.models)
        raise JobError(f"Model {model!r} is not published; expected one of publishing.models: {published}.")
    chosen = name or client or re.sub(r"[^a-z0-9]+", "_", PurePosixPath(seeds).stem.lower()).strip("_") or "seeds"
    if not NAME.fullmatch(chosen):
        raise JobError(f"The audience's name is {chosen!r}; expected letters a-z, digits and underscores. Set --name.")
    return chosen


def refuse_taken(table: Table, dt: str, request: dict[str, Any], is_named: bool) -> None:
    """JobError where the audience of another request is there under a name that nobody gave."""
    there = table.manifest(dt)
    other = there.fields.get("request", request) if there else request
    asked = ", ".join(f"{key}={other.get(key)!r}" for key in request if other.get(key) != request[key])
    if is_named or not asked:
        return
    raise JobError(
        f"{table.path(dt)} holds the audience of another request ({asked}). Give this one a name of its own, "
        "or that very name to replace what is there.")


def seeds_among(source: Source, found: Match, date: datetime.date, active_days: int, least: Least) -> np.ndarray:
    """bool per active user: a seed. JobError where there are too few of them, or nobody else."""
    log.info(
        "seeds: %d given, %d known, %d active in the last %d days",
        found.given, len(found.known), found.active, active_days)  # fmt: skip
    if found.active < least.seeds:
        raise JobError(
            f"Of {found.given} seeds {len(found.known)} are known and {found.active} were active in the {active_days} "
            f"days before {date}; at least {least} active ones are needed. Check that the ids are those of the "
            "event log, byte by byte, or give more.")
    is_seed = pc.is_in(source.users.raw, value_set=found.known).to_numpy(zero_copy_only=False)
    if is_seed.all():
        everybody = f"All {len(is_seed)} active users of {date} are seeds"
        raise JobError(f"{everybody}: nobody is left to compare them with. Give fewer.")
    return is_seed


def lesson_for(
    source: Source, found: Match, is_seed: np.ndarray, days: Days | None, clean_events: Input, name: str,
    config: Config, least: Least,
) -> Lesson:  # fmt: skip
    """What to learn from. JobError where what made the seeds seeds is all that is known of too many of them."""
    if days is None:
        return untimed(source, is_seed)
    lesson = timed(source, is_seed, days, clean_events, config.lookalike.active_days, name)
    if (known := int(lesson.positive.sum())) < least.seeds:
        raise JobError(
            f"Of {found.active} active seeds {known} were active in the {config.lookalike.active_days} days before the "
            f"day on which they became seeds; at least {least} are needed to learn who becomes one. Ask for a "
            "later date, give more seeds, or give them without times.")
    return lesson


def models_read(tables: Tables, night: SeedModel | None, date: datetime.date) -> list[str]:
    """The models whose vectors the night's model of seed lists reads and `date` has."""
    if night is None:
        log.warning("%s has no model of seed lists: a classifier of this list alone ranks", date)
        return []
    return [model for model, space in tables.spaces(night.models, date).items() if space is not None]


def learned_of(
    night: SeedModel | None, lesson: Lesson, clean_events: Input, date: datetime.date, name: str, config: Config
) -> Learned | None:
    """What the night's model of seed lists makes of the list; None without one."""
    if night is None:
        return None
    return learned(night, lesson, clean_events, date, FOLDS, config.graph, config.lookalike, config.seed, name)


def run(
    date: datetime.date, clean_events: Input, knowledge_graph: Input, interactions: Input, entity_ids: Input,
    relations: Input, user_embeddings: Input, entity_embeddings: Input, lookalike_models: Input,
    requested_audiences: Output, config: Config,
    seeds: str | None = None, client: str | None = None, k: int = 1000, model: str = families.DEFAULT_MODELS[0],
    include_seeds: bool = False, name: str | None = None, suppress: str | None = None,
    control_share: float | None = None,
) -> None:  # fmt: skip
    """Match the seeds, rank, report, commit."""
    graph = (knowledge_graph, interactions, entity_ids, relations)
    clean_events = counted(clean_events, date, config.events.returns)
    tables = Tables(clean_events, *graph, user_embeddings, entity_embeddings)
    request = {
        "seeds": seeds and str(seeds), "client": client, "k": k, "model": model, "include_seeds": include_seeds,
        "suppress": suppress and str(suppress), "control_share": control_share}
    is_named, dt = name is not None, date.isoformat()
    name = check_request(seeds, client, k, model, control_share, name, config)
    table = requested_audiences.table(name)
    refuse_taken(table, dt, request, is_named)  # before the work
    lists = read_lists(config.lookalike, [client] if client else [], suppress)
    given = None if seeds is None else (read_seeds(seeds), read_days(seeds))
    night = read_seed_model(lookalike_models, dt)
    least = Least.with_model(night is not None, date)
    models = list(dict.fromkeys([model, *models_read(tables, night, date)]))
    source = tables.source(date, models, config.graph, config.lookalike, config.seed)
    given, days = given or seeds_of_client(tables, source, client, config)
    found = match(given, source.ledger.raw, source.users.raw)
    is_seed = seeds_among(source, found, date, config.lookalike.active_days, least)
    lesson = lesson_for(source, found, is_seed, days, clean_events, name, config, least)
    by_night = learned_of(night, lesson, clean_events, date, name, config)
    try:
        ranking = rank(lesson, model, name, config, by_night)
    except OneClassError as error:
        them = f"{found.active} active seeds among {len(is_seed)} active users of {date}"
        raise JobError(f"{them} cannot be told apart in {FOLDS} folds: {error}") from error
    lists = known_among(lists, entity_ids, [source.users.raw])
    campaign = campaign_of(config.lookalike, client, lists, config.seed, name, control_share)
    allowed = campaign.may_be_in(source.users.raw) & (include_seeds | ~is_seed)
    chosen = audience(source, ranking.scores, allowed, k, campaign)
    if chosen.num_rows < k:
        log.warning("k is %d and only %d users can be ranked: all of them are handed out", k, chosen.num_rows)
    figures = campaign.figures(source.users.raw, chosen)
    report = describe(name, model, date, found, lesson, ranking, figures, by_night)
    with table.replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        refuse_taken(table, dt, request, is_named)  # under the lock: of two requests at a time one is the second
        commit.write_table(chosen, sorted_by=["rank"])
        campaign.files(commit, chosen, "audience")
        commit.write_bytes(".json", json.dumps(report, indent=1, ensure_ascii=False).encode(), hint="report")
        commit.write_bytes(".html", render_request(report).encode(), hint="report")
        commit.fields |= {
            "request": request, "model": model, "code_version": code_version(),
            "inputs": tables.lineage([date], models) + ([lookalike_models.lineage(dt)] if night else []),
            **provenance({name: campaign}, lists)}
        commit.fields["sources"] |= {"seeds": read_from(seeds)} if seeds else {}
    metrics.put("rows_in", found.given)
    metrics.put("rows_out", chosen.num_rows)
    metrics.put("request", detail=report)
    log.info("audience %s: %d users in %s", name, chosen.num_rows, table.path(dt))


if __name__ == "__main__":
    main(run)
