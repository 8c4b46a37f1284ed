"""Models that are published and whose affinities audiences do without (`lookalike.affinities`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from jobs.audiences.fitted import read_models
from jobs.audiences.seed_lessons import read_seed_model
from jobs.audiences.set_affinities import affinity_names
from jobs.audiences.train_lookalike import Config, feature_sets_of
from jobs.configuration.sections import Publishing
from tests.jobs.audiences.worlds import DATE, STYLED, config, planted, score, table_input, train

BOTH = ["transe", "kqgc_mean"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("affinities")
    planted(folder, styles=24)
    return folder


def settings_of(affinities: list[str] | None, **changes: object) -> Config:
    found = config(affinities=affinities, feature_sets=None, label_windows=2, **changes)
    return dataclasses.replace(found, graph=STYLED, publishing=Publishing(models=["transe"]))


@pytest.mark.parametrize(("affinities", "read"), [(None, ["transe"]), (["transe"], ["transe"]), ([], [])])
def test_columns_lists_and_lineage_are_of_those_models_alone(
    root: Path, affinities: list[str] | None, read: list[str]
) -> None:
    settings, models = settings_of(affinities), table_input(root, "lookalike_models")
    train(root, settings)
    columns = {column for one in read_models(models, DATE.isoformat()).models for column in one["columns"]}
    assert {column for column in columns if column.startswith("transe:")} == set(affinity_names(read))
    assert read_seed_model(models, DATE.isoformat()).models == read
    assert {row["feature_set"] for row in score(root, settings)["audiences"]} == {"blend"}
    for name in ("lookalike_models", "audiences"):
        inputs = table_input(root, name).table().existing_manifest(DATE.isoformat()).fields["inputs"]
        assert any("transe" in one["table"] for one in inputs) == bool(read)


def test_learnt_alone_a_client_has_the_sets_of_those_models() -> None:
    def names(affinities: list[str] | None, **changes: object) -> list[str]:
        settings = dataclasses.replace(settings_of(affinities, **changes), publishing=Publishing(models=BOTH))
        return [one.name for one in feature_sets_of(settings, beside_pool=False)]

    assert names([]) == ["baseline", "strong"] and names(["kqgc_mean"]) == [*names([]), "strong+kqgc_mean:affinity"]
    assert names(None) == [*names([]), *(f"strong+{model}:affinity" for model in BOTH)]
    assert names([], score_with="strong+transe:affinity") == [*names([]), "strong+transe:affinity"], "asked for by name"
