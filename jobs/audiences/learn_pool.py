"""From a night's tables to the pooled classifier and, for each client, to its own model and the mean of both.

All columns are counted from clean_events, so that no earlier night is needed: the first one has audiences where the log
reaches back. Shapes: u eligible users of the newest window.
"""

from __future__ import annotations

import collections
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.audiences.event_log import EventLog, day_number, read_log
from jobs.audiences.fitted import BLEND, OWN, POOLED, Fitted, Part
from jobs.audiences.item_sets import ItemSets, item_sets
from jobs.audiences.nights import Tables
from jobs.audiences.pooled import (
    Columns,  # fmt: skip
    Lessons,
    VectorsAt,
    chosen_sets,
    fit_rows,
    rows_of_client,
    rows_of_pool,
    unseen_margin,
)
from jobs.audiences.pooled_rows import folds, keys_of, odds_of_draw, window_of
from jobs.audiences.population import Sample, draw_sample
from jobs.audiences.set_affinities import Near, Published, affinity_names, near_of, published_at
from jobs.audiences.set_columns import Past, SetColumns, names
from jobs.audiences.snapshot import Snapshot
from jobs.audiences.stand_ins import stand_ins
from jobs.audiences.validation import Validated
from jobs.configuration.predicates import Predicate
from jobs.configuration.sections import Graph, Lookalike
from jobs.program import log as logger
from models.classifiers.lookalike import Calibration, OneClassError, calibrate
from models.classifiers.precision_recall import average_precision

if TYPE_CHECKING:
    import xgboost

LEAST_SETS = 20  # in the newest window: with fewer, one model for all is a model of a few clients
LEAST_OWN_BUYERS = 30  # in all windows: a client with fewer has no model of its own
OWN_SHARES = (0.0, 0.25, 0.5, 0.75)  # of a client with very many buyers; which one, validation tells
HALF_OF_OWN = 100  # buyers at which a client's own model has half of that share
CHUNK = 100_000  # users whose columns are held at a time
KEPT_SETS = 4  # of which what hangs on the set alone is kept, while chunk after chunk of users is asked for


@dataclass(frozen=True)
class Judged:
    """One client in the newest window, all (u,): who bought, who counts, and margins of boosters that never saw the
    user; own is None where the client has too few buyers. odds: of the draws that the trees learned from."""

    labels: np.ndarray
    allowed: np.ndarray
    pooled: np.ndarray
    own: np.ndarray | None
    own_boosters: list[xgboost.Booster]
    buyers: int
    odds: float

    def blended(self, own_share: float) -> np.ndarray:
        """float32 (u,)."""
        return self.pooled if self.own is None else (1 - own_share) * self.pooled + own_share * self.own


def past_of(log: EventLog, date: datetime.date, graph: Graph, lookalike: Lookalike) -> Past:
    """What is known on `date` of the users who are eligible then. What comes in the label window after it counts as it
    does at that window's end."""
    today = day_number(date)
    log = log.as_of(today, lookalike.label_window_days)
    eligible = log.active(today - lookalike.active_days, today)
    return Past(log, today, graph.window_days, lookalike.label_window_days, graph.purchase, eligible)


def vectors_of(tables: Tables, models: list[str], graph: Graph, lookalike: Lookalike, seed: int) -> VectorsAt:
    """What was published for a past's day, read once."""
    known: dict[int, Published | None] = {}

    def of(past: Past) -> Published | None:
        if past.today not in known:
            known[past.today] = published_at(tables, past, models, graph, lookalike, seed)
        return known[past.today]

    return of


def columns_of(
    pasts: list[Past], tables: Tables, sets: ItemSets, models: list[str], graph: Graph, lookalike: Lookalike,
    keys: np.ndarray, seed: int, vectors: VectorsAt | None = None,
) -> tuple[Columns, list[str]]:  # fmt: skip
    """What the columns of these pasts are, and their names."""
    published = vectors or vectors_of(tables, models, graph, lookalike, seed)
    kept: collections.deque[tuple[Past, int, SetColumns, Near]] = collections.deque(maxlen=KEPT_SETS)

    def of_set(past: Past, place: int) -> tuple[SetColumns, Near]:
        for known, its_place, *found in list(kept):
            if known is past and its_place == place:
                return tuple(found)
        found = SetColumns.of(past, sets, place), near_of(published(past), models, past, sets, place, keys)
        kept.append((past, place, *found))
        return found

    def of(past: Past, place: int, rows: np.ndarray) -> np.ndarray:
        counted, near = of_set(past, place)
        return np.concatenate([counted(rows), near(rows)], axis=1)

    return of, [*names(pasts[0]), *affinity_names(models)]


def lessons_of(
    tables: Tables, date: datetime.date, snapshot: Snapshot, clients: Mapping[str, Predicate], models: list[str],
    graph: Graph, lookalike: Lookalike, seed: int,
) -> Lessons | str:  # fmt: skip
    """What the pooled classifier of `date` learns from; or why there is too little."""
    log = log_before(tables, date, snapshot, graph, lookalike)
    sets = item_sets(snapshot, log, clients, lookalike.exclude_attributes)
    found = lessons_from(log, sets, tables, date, models, graph, lookalike, seed)
    if isinstance(found, str) and (starts := starts_of(log, date, lookalike)):
        sets = sets.and_also(stand_ins(log, tables, starts[-1], models, graph.purchase, seed))
        found = lessons_from(log, sets, tables, date, models, graph, lookalike, seed)
    return found


def starts_of(log: EventLog, date: datetime.date, lookalike: Lookalike) -> list[datetime.date]:
    """Of the label windows, the newest first, as far as the log reaches: a whole one before the start."""
    days = lookalike.label_window_days
    starts = [date - datetime.timedelta(days=k * days) for k in range(1, lookalike.label_windows + 1)]
    return [start for start in starts if day_number(start) - log.first >= days]


def log_before(
    tables: Tables, date: datetime.date, snapshot: Snapshot, graph: Graph, lookalike: Lookalike
) -> EventLog:
    """All events that the lessons of `date` take: those of its label windows, and of the history before each."""
    windows = datetime.timedelta(days=lookalike.label_windows * lookalike.label_window_days)
    first = first_of(date, graph, lookalike) - windows
    return read_log(tables.clean_events, first, date, snapshot.item_raw, since=date - windows)


def first_of(date: datetime.date, graph: Graph, lookalike: Lookalike) -> datetime.date:
    """The first day that what is known on `date`, and of whom, hangs on."""
    return date - datetime.timedelta(days=max(graph.window_days, lookalike.active_days))


def lessons_from(
    log: EventLog, sets: ItemSets, tables: Tables, date: datetime.date, models: list[str], graph: Graph,
    lookalike: Lookalike, seed: int,
) -> Lessons | str:  # fmt: skip
    """As `lessons_of`, from a log and sets at hand."""
    days = lookalike.label_window_days
    if not (starts := starts_of(log, date, lookalike)):
        return (
            f"the log begins less than two label windows before {date}: of {days} days each "
            "(lookalike.label_window_days), one to know users by and one to see who buys")
    windows = [window_of(past_of(log, start, graph, lookalike), sets, days) for start in starts]
    if (there := int(windows[0].usable().sum())) < LEAST_SETS:
        return f"{there} sets of items have buyers enough between {starts[0]} and {date}; {LEAST_SETS} are needed"
    keys, pasts = keys_of(log.users, seed), [w.past for w in windows]
    vectors = vectors_of(tables, models, graph, lookalike, seed)
    of, named = columns_of(pasts, tables, sets, models, graph, lookalike, keys, seed, vectors)
    fold = folds(log, lookalike.pooled_trees.boosters, seed)
    return Lessons(sets, windows, fold, keys, of, named, vectors)


@dataclass(frozen=True)
class Pool:
    """The boosters, and what turns their margins, less a set's odds of draw, into probabilities in general."""

    boosters: list[xgboost.Booster]
    calibration: Calibration
    figures: dict[str, int]


def fit_pool(lessons: Lessons, lookalike: Lookalike, seed: int) -> Pool:
    """OneClassError where all sets together cannot teach."""
    hyper = lookalike.pooled_trees
    rows = rows_of_pool(lessons, lookalike.exclude_past_buyers)
    boosters = fit_rows(rows, hyper.boosters, hyper, seed)
    margins = unseen_margin(boosters, rows.features, rows.fold, hyper.threads) - rows.odds
    stands_for = np.where(rows.labels, 1.0, np.exp(rows.odds))
    figures = {
        "rows": len(rows.labels), "columns": rows.features.shape[1], "windows": len(lessons.windows),
        "sets": sum(len(chosen_sets(window, lessons.sets)) for window in lessons.windows),
        "trees": sum(booster.num_boosted_rounds() for booster in boosters)}  # fmt: skip
    return Pool(boosters, calibrate(margins, rows.labels, stands_for), figures)


@dataclass(frozen=True)
class Own:
    """A client's own boosters, none where it has too few buyers; the buyers in all windows that they learned from."""

    boosters: list[xgboost.Booster]
    buyers: int


def fit_own(client: str, lessons: Lessons, lookalike: Lookalike, seed: int) -> Own:
    """A client's own model."""
    rows = rows_of_client(lessons, lessons.sets.place(client), lookalike.exclude_past_buyers)
    if (buyers := int(rows.labels.sum())) < LEAST_OWN_BUYERS:
        logger.info("client %s: %d buyers; the pooled model alone scores", client, buyers)
        return Own([], buyers)
    try:
        return Own(fit_rows(rows, lookalike.pooled_trees.boosters, lookalike.trees, seed), buyers)
    except OneClassError as error:
        logger.info("client %s: the pooled model alone scores: %s", client, error)
        return Own([], buyers)


def judge(client: str, own: Own, lessons: Lessons, pool: Pool, lookalike: Lookalike) -> Judged:
    """Have a client's newest window judged by the pooled model and its own."""
    place, window, prospects = lessons.sets.place(client), lessons.windows[0], lookalike.exclude_past_buyers
    labels, allowed = window.labels(place), lessons.allowed(window, place, prospects)
    fold, threads = lessons.fold[window.past.eligible], lookalike.pooled_trees.threads
    both = pool.boosters, own.boosters
    margins = [np.empty(len(labels), np.float32) for _ in both]
    for start in range(0, len(labels), CHUNK):
        chunk = np.arange(start, min(start + CHUNK, len(labels)))
        features = lessons.columns(window.past, place, chunk)
        for boosters, out in zip(both, margins, strict=True):
            out[chunk] = unseen_margin(boosters, features, fold[chunk], threads) if boosters else np.nan
    of_own, odds = margins[1] if own.boosters else None, odds_of_draw(labels, allowed)
    return Judged(labels, allowed, margins[0], of_own, own.boosters, own.buyers, odds)


def own_share(judged: Judged, most: float) -> float:
    """How much of a client's margin is its own model's: the more buyers, the nearer to `most`."""
    return 0.0 if judged.own is None else most * judged.buyers / (judged.buyers + HALF_OF_OWN)


def choose_share(clients: list[Judged], rows: list[np.ndarray]) -> float:
    """The share in OWN_SHARES with the best mean average precision of these users of each client; the least of
    equals."""

    def mean(most: float) -> float:
        found = [
            average_precision(j.labels[r], j.blended(own_share(j, most))[r])
            for j, r in zip(clients, rows, strict=True) if j.own is not None and j.labels[r].any()]  # fmt: skip
        return round(float(np.mean(found)), 6) if found else 0.0

    return max(OWN_SHARES, key=lambda most: (mean(most), -most))


def client_calibration(judged: Judged, margins: np.ndarray, pool: Pool, among: np.ndarray) -> Calibration:
    """Of these users (u,) of the newest window, drawn to the pool's where buyers are few."""
    found = calibrate(margins[among] - judged.odds, judged.labels[among], towards=pool.calibration)
    return Calibration(found.slope, found.intercept - found.slope * judged.odds)


def fit_clients(lessons: Lessons, clients: list[str], look: Lookalike, seed: int) -> tuple[list[Fitted], Pool]:
    """Every client, by the pooled model, by its own where it has one, and by the mean of both. OneClassError where the
    sets cannot teach."""
    pool = fit_pool(lessons, look, seed)
    judged = [judge(client, fit_own(client, lessons, look, seed), lessons, pool, look) for client in clients]
    raw = lessons.windows[0].past.raw
    samples = [
        draw_sample(raw, j.labels, j.allowed, look.negatives_per_positive, seed, client)
        for client, j in zip(clients, judged, strict=True)]  # fmt: skip
    most = choose_share(judged, [np.flatnonzero(sample.validation_sampled) for sample in samples])
    found = [
        one for client, j, sample in zip(clients, judged, samples, strict=True)
        for one in _fitted(client, j, sample, pool, most, lessons, look, seed)]  # fmt: skip
    return found, pool


def _fitted(
    client: str, judged: Judged, sample: Sample, pool: Pool, most: float, lessons: Lessons, look: Lookalike, seed: int
) -> list[Fitted]:
    share = own_share(judged, most)
    shares = {POOLED: 0.0, BLEND: share} | ({} if judged.own is None else {OWN: 1.0})
    place = lessons.sets.place(client)
    more = {
        "eligible": int(judged.allowed.sum()), "own_share": round(share, 4), "own_buyers": judged.buyers,
        "not_eligible_buyers": int(lessons.windows[0].not_eligible[place])}  # fmt: skip
    out = []
    for name, own in shares.items():
        margins = judged.blended(own)
        unseen = client_calibration(judged, margins, pool, judged.allowed & ~sample.validation)
        parts = [Part(1 - own, pool.boosters)] * (own < 1) + [Part(own, judged.own_boosters)] * (own > 0)
        trees = sum(booster.num_boosted_rounds() for part in parts for booster in part.boosters)
        seen = Validated(client, name, lessons.windows[0].past.raw, sample, margins)
        out.append(seen.fitted(
            lessons.names, parts, client_calibration(judged, margins, pool, judged.allowed), unseen(margins),
            more | {"trees": trees}, look, seed))  # fmt: skip
    return out
