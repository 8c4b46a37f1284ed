"""RAM-GNN and its interaction network go through the DAG, two nights, lookalike and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store import FeatureStore, Table
from jobs.embeddings import finetune_ram_gnn, pretrain_ram_gnn, resolve_predecessor
from jobs.program import execute
from jobs.run_nights import DAGS_FOLDER, environment
from tests.families.two_nights import NIGHTS, configured, run_nights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MODELS = ("ram_gnn", "ram_gnn_rec")
FAST = {"ram_gnn": {"dimension": 8, "epochs": 30}, "ram_gnn_rec": {"epochs": 10, "batches": 4}}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = FAST | {"recommendations": {"models": ["ram_gnn_rec"]}}
    return configured(tmp_path_factory.mktemp("ram"), MODELS, **sections)


@pytest.fixture(scope="module")
def nights(config: Path, spark: SparkSession) -> Path:
    """Both nights; the data root."""
    return run_nights(config, [pretrain_ram_gnn, finetune_ram_gnn], MODELS)


def test_the_dag_trains_one_after_the_other_on_the_attributes(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path, config).items():
        monkeypatch.setenv(name, value)
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(dag_folder=str(DAGS_FOLDER)).dags["nightly_user_embeddings"]
    found = {name: dag.get_task(f"embeddings.{name}_ram_gnn") for name in ("pretrain", "finetune", "publish")}
    assert found["pretrain"].upstream_task_ids == {"embeddings.resolve_predecessor"}
    assert found["finetune"].upstream_task_ids == {"embeddings.pretrain_ram_gnn"} == found["publish"].upstream_task_ids
    assert dag.get_task("embeddings.publish_ram_gnn_rec").upstream_task_ids == {"embeddings.finetune_ram_gnn"}
    recommend = dag.get_task("recommend_ram_gnn_rec")
    assert recommend.upstream_task_ids == {"embeddings.publish_ram_gnn_rec"} and "write_report" in (
        recommend.downstream_task_ids
    )
    assert "recommend_ram_gnn" not in dag.task_ids
    for name in ("pretrain", "finetune"):
        assert any(word.startswith("--attributes=") for word in found[name].command)
    assert "attributes" in dag.get_task("graphs.build_graphs").outputs
    assert "| `pretrain_ram_gnn` | Skipped: the graph has no attribute." in dag.doc_md


def test_each_model_goes_on_from_its_own(nights: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(resolve_predecessor.run, ["--date", "2026-01-23", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(MODELS, str(NIGHTS[1]))


def test_both_are_published_in_one_space_for_all_users(nights: Path) -> None:
    store = FeatureStore(str(nights / "feature_store"))
    for model in MODELS:
        first, second = (store.read("user_embeddings", model=model, dt=str(date)) for date in NIGHTS)
        assert first.manifest.fields["space_id"] == second.manifest.fields["space_id"]
        assert second.manifest.fields["quality"]["coverage"] == 1
        assert set(second.table.column("source").to_pylist()) == {"trained"}


def test_what_the_interaction_network_scores_is_a_feature_set(nights: Path) -> None:
    rows = Table(str(nights / "run_metrics" / "stage=train_lookalike")).read(str(NIGHTS[1])).to_pylist()
    sets = {row["feature_set"] for row in json.loads(next(r["detail"] for r in rows if r["metric"] == "pr_auc"))}
    assert {"strong+ram_gnn:affinity", "strong+ram_gnn_rec:affinity"} <= sets


def test_items_are_recommended_and_the_first_nights_lists_are_held_against_the_second_day(nights: Path) -> None:
    lists = Table(str(nights / "recommendations" / "model=ram_gnn_rec")).read(str(NIGHTS[1]))
    assert lists.num_rows > 20 * 80 and set(lists.column("rank").to_pylist()) == set(range(1, 21))
    rows = Table(str(nights / "run_metrics" / "stage=recommend_items_ram_gnn_rec")).read(str(NIGHTS[1])).to_pylist()
    (ten, _) = json.loads(next(r["detail"] for r in rows if r["metric"] == "backtest"))
    assert ten["date"] == str(NIGHTS[0]) and ten["users"] > 3 and ten["hr"] > 0


def test_the_report_shows_thresholds_and_training_curves(nights: Path) -> None:
    (path,) = Table(str(nights / "reports")).files(str(NIGHTS[1]))
    page = Path(path).read_text(encoding="utf-8")
    assert "Loss of ram_gnn by epoch" in page and "validation ndcg of ram_gnn_rec by epoch" in page
    section = page[page.index('<section id="thresholds">') :]
    section = section[: section.index("</section>")]
    for name in ("item_brand", "item_category", "user_region"):
        assert f"<bdi>{name}</bdi>" in section and f"<title>{name}</title>" in section
    assert "Kept neighbours of items by epoch" in section and "Kept neighbours of users by epoch" in section
    assert '<section id="recommendations">' in page and "A handful of users" in page
    assert "build_attributes" in page, "its seconds stand among the stages"
