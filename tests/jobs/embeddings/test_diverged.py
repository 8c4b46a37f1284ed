"""A training that diverges: the log names the setting to lower, and blames no checkpoint that was read."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from jobs.embeddings import finetune_relgnn, pretrain_ram_gnn, pretrain_transe, smooth_kqgc
from jobs.program import FINAL, execute
from models.transe import TransE
from tests.jobs.embeddings import ram_gnn_nights, test_relgnn_nights
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES


def base(config: Path, date: datetime.date, predecessor: datetime.date | None = None) -> list[str]:
    return ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]


def said(caplog: pytest.LogCaptureFixture) -> str:
    assert "Traceback" not in caplog.text
    return next(record.getMessage() for record in caplog.records if record.levelname == "ERROR")


@pytest.mark.parametrize("warm", [False, True])
def test_the_learning_rate_is_named_on_cold_nights_and_on_warm_ones(
    warm: bool, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if warm:
        assert execute(finetune_relgnn.run, base(test_relgnn_nights.config_of(root), DATES[0])) == 0
    config = test_relgnn_nights.config_of(root, relgnn=test_relgnn_nights.FAST | {"learning_rate": 1e9})
    assert execute(finetune_relgnn.run, base(config, DATES[1], DATES[0] if warm else None)) == FINAL
    assert said(caplog).endswith(
        "relgnn: the loss of epoch 1 is nan; the model has diverged, lower its learning rate. Set "
        "relgnn.learning_rate, which is 1000000000.0, to less; the training then begins anew.")
    state = root / f"data/checkpoints/relgnn/_scratch/{DATES[1]}.safetensors"
    assert not state.exists(), "nothing of it is gone on from"


def test_a_look_at_a_diverged_model_is_told_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TransE's ranks refuse what is not finite, whatever the loss says."""
    config, state = write_config(root), TransE.state
    assert execute(pretrain_transe.run, base(config, DATES[0])) == 0

    def spoiled(model: TransE) -> object:
        found = state.fget(model)
        found.entities[:] = float("nan")
        return found

    monkeypatch.setattr(TransE, "state", property(spoiled))
    assert execute(pretrain_transe.run, base(config, DATES[1], DATES[0])) == FINAL
    assert "are not finite; the model has diverged" in said(caplog)
    assert "Set transe.learning_rate, which is 0.1, to less" in said(caplog)


def test_what_is_fitted_around_another_models_vectors_has_transes_rate(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = ram_gnn_nights.config_of(root, kqgc={"init": "ram_gnn"}, publishing={
        "models": ["kqgc_mean"], "min_neighbour_overlap": 0.0})  # fmt: skip
    ram_gnn_nights.write_attributes(root, DATES[0])
    assert execute(pretrain_ram_gnn.run, base(config, DATES[0])) == 0
    epoch = {"epoch": 0, "loss": float("nan"), "edges": 1, "seconds": 0.0}
    monkeypatch.setattr(TransE, "train_epoch", lambda *_: epoch)
    assert execute(smooth_kqgc.run, [*base(config, DATES[0]), "--model", "kqgc_mean"]) == FINAL
    assert "transe: the loss of epoch 1 is nan" in said(caplog) and "transe.learning_rate" in said(caplog)
