"""A family that is declared in the tests alone goes through the DAG, two nights, alignment, lookalike, profiles and the
report."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from feature_store import FeatureStore, Table
from jobs.configuration.load import load_settings
from jobs.embeddings import resolve_predecessor
from jobs.profiles import train_profiles
from jobs.program import execute
from jobs.run_nights import DAGS_FOLDER, environment
from jobs.summarise_nights import summary
from models import families
from tests.dags import small_log
from tests.families import train_toy
from tests.families.two_nights import NIGHTS, configured, run_nights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def toy() -> Iterator[None]:
    """The record among the others, and its job where its dotted name says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "FAMILIES", (*families.FAMILIES, train_toy.RECORD))
        patch.setitem(sys.modules, f"jobs.{train_toy.RECORD.jobs[0].program}", train_toy)
        yield


@pytest.fixture(scope="module")
def config(toy: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    profiles = small_log.PROFILES | {"models": ["toy"]}
    return configured(tmp_path_factory.mktemp("toy"), ("toy",), toy={"dimension": 12}, profiles=profiles)


@pytest.fixture(scope="module")
def nights(config: Path, spark: SparkSession) -> Path:
    """Both nights; the data root."""
    return run_nights(config, [train_toy], ("toy",), (), [train_profiles])


def test_its_section_is_read_and_a_wrong_key_in_it_is_named(config: Path, tmp_path: Path) -> None:
    settings = load_settings(config)
    assert settings.toy.dimension == 12 and list(settings.families) == [f.name for f in families.FAMILIES]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(config.read_text(encoding="utf-8").replace("dimension: 12", "dimension: 0"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"toy\.dimension is 0"):
        load_settings(wrong)


def test_the_dag_has_its_tasks_and_no_other_familys(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path, config).items():
        monkeypatch.setenv(name, value)
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(dag_folder=str(DAGS_FOLDER)).dags["nightly_user_embeddings"]
    train, publish = dag.get_task("embeddings.train_toy"), dag.get_task("embeddings.publish_toy")
    assert [t for t in dag.task_ids if t.startswith("embeddings.")] == [
        "embeddings.resolve_predecessor", "embeddings.train_toy", "embeddings.publish_toy"]  # fmt: skip
    assert train.command[2] == "jobs.embeddings.train_toy" and train.upstream_task_ids == {
        "embeddings.resolve_predecessor"
    }
    assert publish.upstream_task_ids == {"embeddings.train_toy"}
    assert "| `train_toy` | It is a toy: clear the task. |" in dag.doc_md
    assert importlib.import_module(train.command[2]).run is train_toy.run


def test_its_predecessor_is_the_newest_of_its_own_record(
    nights: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(resolve_predecessor.run, ["--date", "2026-01-23", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == {"toy": str(NIGHTS[1])}


def test_its_nights_are_published_in_one_space(nights: Path) -> None:
    store = FeatureStore(str(nights / "feature_store"))
    first, second = (store.read("user_embeddings", model="toy", dt=str(date)) for date in NIGHTS)
    assert second.matrix().shape[1] == 12 and set(first.table.column("source").to_pylist()) == {"trained"}
    fields = [found.manifest.fields for found in (first, second)]
    assert fields[0]["space_id"] == fields[1]["space_id"] and fields[1]["alignment"]["neighbour_overlap"] > 0.5
    rotation = np.array(fields[1]["rotation"])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(12), atol=1e-6)


def test_its_affinities_are_a_feature_set_of_lookalike(nights: Path) -> None:
    models = Table(str(nights / "lookalike_models")).existing_manifest(str(NIGHTS[1]))
    scores = Table(str(nights / "lookalike_scores")).read(str(NIGHTS[1]))
    assert models.row_count >= 0 and scores.num_rows
    rows = Table(str(nights / "run_metrics" / "stage=train_lookalike")).read(str(NIGHTS[1])).to_pylist()
    sets = {row["feature_set"] for row in json.loads(next(r["detail"] for r in rows if r["metric"] == "pr_auc"))}
    assert sets == {"baseline", "strong", "strong+toy:affinity"}


def test_profiles_are_predicted_from_its_vectors(nights: Path) -> None:
    manifest = Table(str(nights / "profile_predictions")).existing_manifest(str(NIGHTS[1]))
    assert manifest.fields["models"] == ["toy"]
    assert manifest.fields["labels"]["taste"]["test"]["accuracy"] > 0.7, "tastes are planted in what users touch"


def test_the_report_and_the_summary_tell_of_it(nights: Path, config: Path) -> None:
    (path,) = Table(str(nights / "reports")).files(str(NIGHTS[1]))
    page = Path(path).read_text(encoding="utf-8")
    assert "Loss of toy by epoch" in page and "events" in page and "<th scope=\"row\">toy" in page
    told = summary(load_settings(config), NIGHTS)
    assert "vectors: toy" in told and "train_toy" in told


def test_no_model_but_the_configured_ones_was_trained(nights: Path) -> None:
    assert [folder.name for folder in (nights / "checkpoints").iterdir()] == ["toy"]
    assert {stage.name for stage in (nights / "run_metrics").iterdir()} >= {
        "stage=train_toy",
        "stage=publish_users_toy",
    }
