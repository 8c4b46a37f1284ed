"""A setting that vectors follow from is changed between two trainings: the night trains, and is held against the one
before."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feature_store import Table
from jobs.arrays import Checkpoint, read_checkpoint
from jobs.embeddings import finetune_ram_gnn, finetune_relgnn, pretrain_ram_gnn, publish_users, smooth_kqgc
from jobs.program import execute
from models.families import FAMILIES, Family
from tests.jobs.embeddings import ram_gnn_nights, test_relgnn_nights
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night

RARE = {"train_every_days": 30}
RELGNN, PRETRAINING, RECOMMENDING = test_relgnn_nights.FAST, ram_gnn_nights.PRETRAINING, ram_gnn_nights.INTERACTIONS
KQGC = {"learned": True, "epochs": 3, "layers": 2}


def nights(root: Path, model: str, jobs: list[Callable], settings: list[dict[str, Any]]) -> list[str]:
    """When the model of each night was trained; settings: those of its section, night by night."""
    family, before, found = "kqgc" if model.startswith("kqgc") else model, None, []
    named = ["--model", model] if family != model else []
    for date, section in zip(DATES, settings, strict=False):
        publishing = {"models": ["transe", model], "min_neighbour_overlap": 0.0, "on_space_break": "publish"}
        config = write_config(root, **{"ram_gnn": PRETRAINING, family: section}, training=RARE, publishing=publishing)
        base = ["--date", str(date), "--config", str(config), "--predecessor", str(before)]
        if family == "kqgc":
            night(config, date, before)
        if jobs and jobs[0] in (pretrain_ram_gnn, finetune_ram_gnn):
            ram_gnn_nights.write_attributes(root, date)
        for job in jobs:
            assert execute(job.run, [*base, *named]) == 0
        assert execute(publish_users.run, [*base, "--model", model]) == 0
        found.append(checkpoint_of(root, model, date).facts["trained_at"])
        before = date
    return found


def checkpoint_of(root: Path, model: str, date: object) -> Checkpoint:
    return read_checkpoint(Table(str(root / f"data/checkpoints/{model}")), str(date))


def reasons(root: Path, model: str, n_nights: int) -> list[str]:
    table = Table(str(root / f"data/feature_store/user_embeddings/model={model}"))
    return [table.manifest(str(date)).fields["alignment"]["reason"] for date in DATES[:n_nights]]


@pytest.mark.parametrize(("model", "jobs", "before", "after", "told"), [
    ("relgnn", [finetune_relgnn], RELGNN, {"layers": 3}, "relgnn.layers is 3 and was 2 on 2026-01-05"),
    ("relgnn", [finetune_relgnn], RELGNN, {"attends": False, "combines": False},
     "relgnn.attends is False and was True, relgnn.combines is False and was True on"),
    ("relgnn", [finetune_relgnn], RELGNN | {"counts": True}, {"counts": False}, "relgnn.counts is False and was True"),
    ("ram_gnn", [pretrain_ram_gnn], PRETRAINING, {"layers": 3}, "ram_gnn.layers is 3 and was 2"),
    ("ram_gnn", [pretrain_ram_gnn], PRETRAINING, {"attends": False}, "ram_gnn.attends is False and was True"),
    ("ram_gnn_rec", [pretrain_ram_gnn, finetune_ram_gnn], RECOMMENDING, {"readout": "last"},
     "ram_gnn_rec.readout is 'last' and was 'mean'"),
    ("kqgc_mean", [smooth_kqgc], KQGC, {"layers": 1}, "kqgc.layers is 1 and was 2"),
    ("kqgc_mean", [smooth_kqgc], {}, {"layers": 2}, "kqgc.layers is 2 and was 1"),
])  # fmt: skip
def test_the_night_trains_and_says_why(
    root: Path, model: str, jobs: list[Callable], before: dict[str, Any], after: dict[str, Any], told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert nights(root, model, jobs, [before, before | after]) == [str(date) for date in DATES[:2]]
    assert f"{model} of {DATES[1]} is trained, whatever train_every_days says: {told}" in caplog.text
    assert reasons(root, model, 2)[1].startswith((f"fitted to {DATES[0]}", f"alignment with {DATES[0]} is broken"))


def test_settings_of_training_alone_make_no_night_train(root: Path) -> None:
    changed = [RELGNN, RELGNN | {"epochs": 5, "learning_rate": 0.1}, RELGNN | {"patience": 1}]
    assert nights(root, "relgnn", [finetune_relgnn], changed) == [str(DATES[0])] * 3
    assert all("not trained tonight" in reason for reason in reasons(root, "relgnn", 3)[1:])


def test_a_checkpoint_that_does_not_say_its_settings_makes_no_night_train(root: Path) -> None:
    assert nights(root, "relgnn", [finetune_relgnn], [RELGNN]) == [str(DATES[0])]
    former = checkpoint_of(root, "relgnn", DATES[0])
    assert json.loads(former.facts.pop("shaped_by"))["layers"] == 2
    with Table(str(root / "data/checkpoints/relgnn")).replace(str(DATES[0])) as commit:
        former.write(commit)
    base = test_relgnn_nights.base(root / "config.yaml", DATES[1], DATES[0])
    assert execute(finetune_relgnn.run, base) == 0
    assert checkpoint_of(root, "relgnn", DATES[1]).facts["trained_at"] == str(DATES[0])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_shapes_a_model_is_a_setting_of_its_section(family: Family) -> None:
    module, _, name = family.hyperparameters.rpartition(".")
    known = {field.name for field in dataclasses.fields(getattr(importlib.import_module(module), name))}
    assert set(family.shaped_by) <= known
