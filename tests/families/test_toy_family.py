"""A family that is declared in the tests alone has a section in the configuration and tasks in the DAG, as the others
have; its nights are in test_trained_families.py."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from jobs.configuration.load import load_settings
from jobs.run_nights import DAGS_FOLDER, environment
from models import families
from tests.families import train_toy
from tests.families.two_nights import configured


@pytest.fixture(scope="module")
def config(toy: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return configured(tmp_path_factory.mktemp("toy"), ("toy",), toy={"dimension": 12})


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
