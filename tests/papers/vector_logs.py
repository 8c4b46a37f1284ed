"""The three logs of `make paper-vectors`, one night each: graph, published vectors, and the events before it.

The shops' night is T2 of shops.py, with the L days after it for labels. MovieLens 1M's is the day after its log ends,
over the whole of it, less a fifth of each user's likes, by a hash, which are labels. What is a label somewhere is no
attribute of that graph: MovieLens keeps films' attributes alone (gender and age are none in the shipped configuration
either, occupation is one there).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import FeatureStore
from feature_store.view import as_matrix
from jobs.arrays import Night, read_night
from jobs.audiences.population import days_between
from jobs.configuration.load import config_hash
from jobs.configuration.sections import Spark
from jobs.configuration.settings import Settings
from jobs.embeddings import publish_users
from jobs.events.import_dataset import import_dataset
from jobs.events.returns import counted
from jobs.profiles import read_labels
from jobs.program import Input
from jobs.spark import session
from models.classifiers.folds import folds, uniform
from models.families import family_of, job_of
from tests.papers.lookalike_cache import hash_of
from tests.papers.shops import SHOPS, L, Nights, Shop, program

SALT = "paper-vectors"  # of who chooses and who tests, and of which likes are held out
HELD_OUT = 0.2  # of each user's likes on MovieLens 1M
FILMS = Shop(
    name="ml-1m", config="movielens_1m", format="movielens", end=datetime.date(2003, 3, 1),
    client_attribute="genres", history_attribute="genres")  # fmt: skip
LOGS = [FILMS, *SHOPS]
EVENTS = ["user_id", "item_id", "behavior", "event_time"]


@dataclass(frozen=True)
class Published:
    """A model's vectors as a reader gets them: user ids (n), float32 (n, d), and the seconds of its training."""

    users: np.ndarray
    vectors: np.ndarray
    seconds: float


class LogNight(Nights):
    """One log's tables below `root`: the graph once, each model's vectors once, by the settings that they hang on.
    Models that learn labels are trained where the log has some."""

    def __init__(
        self, shop: Shop, data: Path, root: Path, models: Sequence[str], changed: dict[str, Any] | None = None
    ) -> None:
        super().__init__(shop, data, root, changed or {}, models=models)
        self.is_films = shop is FILMS
        self.dates = [self.date]
        if not self.settings().profiles.labels:
            self.models = [model for model in self.models if not family_of(model).learns_labels]

    @property
    def date(self) -> datetime.date:
        return self.shop.end if self.is_films else self.shop.end - L

    def settings(self, seed: int = 0) -> Settings:
        found = super().settings(seed)
        if not self.is_films:
            return found
        graph = dataclasses.replace(found.graph, window_days=1100, user_attributes={})
        sequences = dataclasses.replace(found.sequences, history_days=None)
        return dataclasses.replace(found, graph=graph, sequences=sequences)

    def table(self, name: str, seed: int | None, kind: type[Input] = Input) -> Input:
        return super().table(name, 0, kind) if name != "user_labels" else kind(name, str(self.root / "user_labels"))

    def import_source(self) -> None:
        """The source's tables; of MovieLens, the likes that are held out lie apart."""
        if not self.is_films:
            return super().import_source()
        source = self.root / "source"
        imported = import_dataset(self.shop.format, self.data / self.shop.name, source)
        held_out = held_out_likes(imported.events)
        pq.write_table(imported.events.filter(pa.array(held_out)), self.root / "held_out.parquet")
        pq.write_table(imported.events.filter(pa.array(~held_out)), source / "events.parquet")

    def prepare(self) -> None:
        """The graph and all vectors, where they are not there yet under these settings."""
        settings = self.settings()
        graph = self._mark("graph", settings.events, settings.graph, settings.sequences, sorted(self._builders()))
        if not graph.exists():
            with session(Spark(driver_memory="1500m", shuffle_partitions=2), "paper-vectors"):
                self.build_graphs()
                if settings.profiles.labels:
                    self._run(read_labels, self.date, None)
            graph.touch()
        for model in self.models:
            self._train(model, settings, graph.name)

    def _builders(self) -> set[str]:
        return {builder for model in self.models for builder in family_of(model).builders}

    def _mark(self, what: str, *parts: object) -> Path:
        hashes = [config_hash(part) if dataclasses.is_dataclass(part) else part for part in parts]
        return self.root / f"done-{what}-{hash_of(hashes, self.date)}"

    def _train(self, model: str, settings: Settings, graph: str) -> None:
        before = [getattr(settings, family_of(one).name) for one in self.models[: self.models.index(model) + 1]]
        mark = self._mark(model, settings.profiles, graph, *before)
        if mark.exists():
            return
        job, started = job_of(model), time.perf_counter()
        told = {"model": model} if job.takes_model else {}
        self._run(program(job.program), self.date, 0, predecessor=None, **told)
        seconds = time.perf_counter() - started
        self._run(publish_users, self.date, 0, model=model, predecessor=None)
        mark.write_text(f"{seconds:.1f}\n")
        print(f"{self.shop.name}: {model} in {seconds:.0f} s", flush=True)

    def published(self, model: str) -> Published:
        """What was trained last."""
        found = FeatureStore(f"{self.root}/seed0/feature_store").read(
            "user_embeddings", model=model, dt=self.date.isoformat(), columns=["user_id", "embedding"])
        marks = sorted(self.root.glob(f"done-{model}-*"), key=lambda mark: mark.stat().st_mtime)
        users = found.table.column("user_id").to_numpy()
        return Published(users.astype(object), as_matrix(found.table.column("embedding")), float(marks[-1].read_text()))

    @functools.cached_property
    def night(self) -> Night:
        tables = (self.table(name, None) for name in ("knowledge_graph", "entity_ids", "relations"))
        return read_night(self.date.isoformat(), *tables)

    def events(self, first: datetime.date, end: datetime.date) -> pd.DataFrame:
        """What the night counts of [first, end): user_id, item_id, behavior, event_time, in the order of time."""
        clean = counted(self.table("clean_events", None, Input), end, self.settings().events.returns)
        table = clean.table()
        days = [table.read(day, columns=EVENTS) for day in days_between(clean, first, end)]
        rows = pa.concat_tables(days).to_pandas()
        return rows.sort_values(["event_time", "user_id", "item_id"], kind="stable", ignore_index=True)

    def before(self) -> pd.DataFrame:
        """The events that the graph was built of."""
        return self.events(self.date - datetime.timedelta(days=self.settings().graph.window_days), self.date)

    def after(self) -> pd.DataFrame:
        """The events that are labels: the L days from the night on, or the likes that were held out."""
        if not self.is_films:
            return self.source_events(self.date, self.date + L)
        return pq.read_table(self.root / "held_out.parquet", columns=EVENTS).to_pandas()

    def source_events(self, first: datetime.date, end: datetime.date) -> pd.DataFrame:
        """As the source has them, without returns: the night of `end` is not there to ask."""
        rows = pq.read_table(self.root / "source" / "events.parquet").to_pandas()
        moments = (pd.Timestamp(day, tz="UTC") for day in (first, end))
        since, until = moments
        kept = (rows["event_time"] >= since) & (rows["event_time"] < until) & (rows["quantity"].fillna(1) > 0)
        return rows.loc[kept, EVENTS]

    def items(self) -> pd.DataFrame:
        return pq.read_table(self.root / "source" / "items.parquet").to_pandas()

    def people(self) -> pd.DataFrame:
        return pq.read_table(self.root / "source" / "users.parquet").to_pandas()


def held_out_likes(events: pa.Table) -> np.ndarray:
    """bool (E,): the likes that the graph does not know, a fifth of them, by a hash of user and film."""
    users, items = (events.column(name).to_pylist() for name in ("user_id", "item_id"))
    keys = (f"{user}\0{item}" for user, item in zip(users, items, strict=True))
    return (uniform(SALT, "likes", keys) < HELD_OUT) & (events.column("behavior").to_numpy() == "liked")


def choosing(users: np.ndarray) -> np.ndarray:
    """bool (n,): the half of the users on whom every choice is made; the others test. By a hash of the id alone, so
    that whatever is tuned, on whatever day, is tuned on the same."""
    return uniform(SALT, "choosing", map(str, users)) < 0.5


def in_fold_a(settings: Settings, users: np.ndarray) -> np.ndarray:
    """bool (n,): whose labels a model may have learned."""
    profiles = settings.profiles
    return folds(profiles.salt, map(str, users), profiles.folds.a, profiles.folds.c) == 0


