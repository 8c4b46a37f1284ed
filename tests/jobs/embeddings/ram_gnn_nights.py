"""Nights of the planted graph for RAM-GNN: attributes as build_attributes commits them, and the stages as programs."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from feature_store import Table
from jobs.arrays import Checkpoint, read_checkpoint
from jobs.embeddings import finetune_ram_gnn, pretrain_ram_gnn, publish_users
from jobs.program import execute
from jobs.tables import TABLES
from tests.jobs.embeddings.planted import RELATIONS, _commit, write_config

MODELS = ("ram_gnn", "ram_gnn_rec")
PRETRAINING = {"dimension": 8, "mlp_width": 4, "epochs": 30, "validation_share": 0.1, "composition": "add"}
INTERACTIONS = {
    "layers": 2, "epochs": 12, "batches": 4, "least_batch": 1, "learning_rate": 0.02, "validation_share": 0.2}


def config_of(root: Path, **sections: object) -> Path:
    """A configuration that publishes both models."""
    mine = {"ram_gnn": PRETRAINING, "ram_gnn_rec": INTERACTIONS, "publishing": {
        "models": list(MODELS), "min_neighbour_overlap": 0.0}}  # fmt: skip
    return write_config(root, **mine | sections)


def write_attributes(root: Path, date: datetime.date, left_out: Collection[str] = ()) -> None:
    """Of every attribute of the graph but some; an entity of ledger id 0 has none of them."""
    graph = Table(str(root / "data/knowledge_graph")).read(str(date)).to_pylist()
    rows = [
        {"entity_type": RELATIONS[edge["relation"]][1], "entity": edge["head"], "type": RELATIONS[edge["relation"]][0],
         "value": edge["tail"]}
        for edge in graph if edge["relation"] and edge["head"] and RELATIONS[edge["relation"]][0] not in left_out
    ]  # fmt: skip
    rows.sort(key=lambda row: (row["type"], row["value"], row["entity"]))
    table = pa.Table.from_pylist(rows, TABLES["attributes"].arrow_schema())
    _commit(root / "data", "attributes", date, table)


def ram_gnn_night(
    config: Path, date: datetime.date, predecessor: datetime.date | None = None, models: tuple[str, ...] = MODELS
) -> None:
    """One night of both models, started as programs."""
    base = ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]
    jobs = {"ram_gnn": pretrain_ram_gnn, "ram_gnn_rec": finetune_ram_gnn}
    for model in models:
        assert execute(jobs[model].run, base) == 0
        assert execute(publish_users.run, [*base, "--model", model]) == 0


def checkpoint_of(root: Path, model: str, date: datetime.date) -> Checkpoint:
    return read_checkpoint(Table(str(root / f"data/checkpoints/{model}")), str(date))
