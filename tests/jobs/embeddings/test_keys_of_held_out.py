"""Training is told who the entities are: what is held out is chosen by raw ids, and by no place in a night's index."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from jobs.arrays import Night, read_night
from jobs.embeddings import finetune_ram_gnn, pretrain_ram_gnn, smooth_kqgc
from jobs.program import Input
from models.kernels.draws import key_of
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night
from tests.jobs.embeddings.ram_gnn_nights import config_of, ram_gnn_night, write_attributes


def watched(monkeypatch: pytest.MonkeyPatch, job: ModuleType, name: str) -> list[tuple[tuple, dict[str, Any]]]:
    """What the job calls its training with."""
    calls, whole = [], getattr(job, name)
    monkeypatch.setattr(job, name, lambda *args, **more: (calls.append((args, more)), whole(*args, **more))[1])
    return calls


def night_of(root: Path) -> Night:
    names = ("knowledge_graph", "entity_ids", "relations")
    return read_night(str(DATES[0]), *(Input(name, str(root / "data" / name)) for name in names))


def test_ram_gnn_is_told_keys(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_attributes(root, DATES[0])
    pretraining = watched(monkeypatch, pretrain_ram_gnn, "train_ram_gnn")
    network = watched(monkeypatch, finetune_ram_gnn, "train_interactions")
    ram_gnn_night(config_of(root), DATES[0])
    tonight = night_of(root)
    keys = tonight.entity_keys()
    (((sides, *_), _),), (((users, items, *_), _),) = pretraining, network
    for kind, given in (("user", users), ("item", items)):
        np.testing.assert_array_equal(given.keys, keys[tonight.of_type(kind)])
        np.testing.assert_array_equal(sides[kind].entity_keys, given.keys)
        of_rows = sides[kind].row_keys(3)
        assert len(np.unique(of_rows)) == len(of_rows) and (of_rows != sides[kind].row_keys(int(key_of(4)))).all()


def test_kqgc_is_told_keys(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watched(monkeypatch, smooth_kqgc, "train_kqgc")
    night(write_config(root), DATES[0], models=("transe", "kqgc_mean"))
    ((_, more),) = calls
    np.testing.assert_array_equal(more["keys"], night_of(root).entity_keys())
