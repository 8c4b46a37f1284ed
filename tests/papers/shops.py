"""The two shops of `make paper-kqgc`: their dates, their clients, and their nights through the pipeline's own jobs.

Per shop three dates one label window of L = 45 days apart, the last the day after the log ends: T1 (vectors of training
and validation), T2 (labels of training and validation end; vectors of the test), T3 (labels of the test end).
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from jobs.audiences.nights import Tables
from jobs.configuration.load import load_settings, select
from jobs.configuration.settings import Settings
from jobs.embeddings import publish_users
from jobs.events import validate_events
from jobs.events.import_dataset import import_dataset
from jobs.events.returns import counted
from jobs.graphs import assign_ids, build_interactions, build_knowledge_graph
from jobs.program import Input, Output, metrics
from jobs.tables import TABLES
from models.families import family_of, job_of

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "jobs" / "configs"
L = datetime.timedelta(days=45)
MODELS = ["transe", "kqgc_mean", "kqgc_attention1", "kqgc_attention2"]
GRAPH_TABLES = (
    "clean_events", "rejected_events", "entity_ids", "relations", "knowledge_graph", "interactions", "attributes",
    "sequences")


def program(name: str) -> ModuleType:
    """A job's module, by its name below `jobs`."""
    return importlib.import_module(f"jobs.{name}")


@dataclasses.dataclass(frozen=True)
class Shop:
    """name: as in DESIGN; clients are values of `client_attribute`, an item attribute."""

    name: str
    config: str
    format: str
    end: datetime.date
    client_attribute: str
    history_attribute: str

    @property
    def dates(self) -> tuple[datetime.date, datetime.date, datetime.date]:
        return self.end - 2 * L, self.end - L, self.end

    @property
    def clients_file(self) -> Path:
        return HERE / f"clients_{self.config}.json"

    def clients(self) -> list[str]:
        """As committed before any model was trained (list_clients.py wrote them)."""
        return [row["value"] for row in json.loads(self.clients_file.read_text(encoding="utf-8"))["clients"]]


SHOPS = [
    Shop(
        name="completejourney",
        config="completejourney",
        format="completejourney",
        end=datetime.date(2018, 1, 1),
        client_attribute="manufacturer",
        history_attribute="department",
    ),
    Shop(
        name="online-retail-2009-2010",
        config="online_retail",
        format="online-retail",
        end=datetime.date(2010, 12, 10),
        client_attribute="words",
        history_attribute="words",
    ),
]


class Nights:
    """One shop's tables below `root`: the graphs once, checkpoints and embeddings once per seed.

    dates: the shop's own three, and `earlier` label windows more before them. models: what is trained, in an order in
    which one can start from another.
    """

    def __init__(
        self, shop: Shop, data: Path, root: Path, overrides: dict[str, object], earlier: int = 0,
        models: Sequence[str] = MODELS,
    ) -> None:  # fmt: skip
        self.shop, self.data, self.root = shop, data, root
        self.dates = [shop.dates[0] - k * L for k in range(earlier, 0, -1)] + list(shop.dates)
        self.overrides, self.models = overrides, list(models)
        self.seconds: dict[str, float] = {}

    def settings(self, seed: int = 0) -> Settings:
        """The shop's shipped configuration, with these tables and models."""
        shipped = load_settings(CONFIGS / f"{self.shop.config}.yaml")
        source = self.root / "source"
        moved = {}
        for kind in ("events", "items", "users"):
            if table := getattr(shipped.source, kind):
                moved[kind] = dataclasses.replace(table, path=str(source / f"{kind}.parquet"))
        # whatever the neighbours that two dates share: RAM-GNN's at Online Retail are a fifth, and with some seeds a
        # hair less, which would stop a night, as canaries might: vectors are measured here, whatever they are
        publishing = dataclasses.replace(shipped.publishing, models=self.models, min_neighbour_overlap=0.0, canaries=0)
        lookalike = dataclasses.replace(shipped.lookalike, history_attribute=self.shop.history_attribute)
        changed = dataclasses.replace(
            shipped,
            seed=seed,
            data_root=str(self.root),
            source=dataclasses.replace(shipped.source, **moved),
            publishing=publishing,
            lookalike=lookalike,
        )
        return dataclasses.replace(changed, **self.overrides)

    def table(self, name: str, seed: int | None, kind: type[Input] = Input) -> Input:
        folder = self.root if name in GRAPH_TABLES else self.root / f"seed{seed}"
        return kind(name, f"{folder}/{TABLES[name].folder}")

    def tables(self, seed: int) -> Tables:
        tables = Tables(**{field.name: self.table(field.name, seed) for field in dataclasses.fields(Tables)})
        events = counted(tables.clean_events, self.dates[-1], self.settings().events.returns)
        return dataclasses.replace(tables, clean_events=events)

    def import_source(self) -> None:
        import_dataset(self.shop.format, self.data / self.shop.name, self.root / "source")

    def build_graphs(self) -> None:
        """Source, clean events, ledgers, graphs, interactions and what else the models read, of all dates."""
        self.import_source()
        more = dict.fromkeys(builder for model in self.models for builder in family_of(model).builders)
        jobs = validate_events, assign_ids, build_knowledge_graph, build_interactions, *map(program, more)
        for date in self.dates:
            for job in jobs:
                self._run(job, date, None)

    def train(self, seed: int) -> None:
        """All models' vectors of every date but the last, one space."""
        for date, predecessor in zip(self.dates[:-1], [None, *self.dates], strict=False):
            for model in self.models:
                job = job_of(model)
                told = {"model": model} if job.takes_model else {}
                self._run(program(job.program), date, seed, predecessor=predecessor, **told)
                self._run(publish_users, date, seed, model=model, predecessor=predecessor)

    def _run(self, job, date: datetime.date, seed: int | None, **options: object) -> None:
        import typing

        started = time.perf_counter()
        metrics.rows.clear()
        hints = typing.get_type_hints(job.run)
        tables = {name: self.table(name, seed, kind) for name, kind in hints.items() if kind in (Input, Output)}
        job.run(date=date, config=select(self.settings(seed or 0), job.Config), **tables, **options)
        stage = job.__name__.rpartition(".")[2]
        self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - started
