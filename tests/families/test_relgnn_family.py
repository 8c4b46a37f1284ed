"""RelGNN goes through the DAG, two nights, lookalike, recommendations and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from feature_store import FeatureStore, Table
from jobs.embeddings import finetune_relgnn, resolve_predecessor
from jobs.graphs import build_graphs
from jobs.program import execute
from jobs.run_nights import DAGS_FOLDER, environment
from tests.dags import small_log
from tests.families.two_nights import NIGHTS, configured, run_nights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FAST = {"dimension": 8, "heads": 2, "attribute_width": 4, "epochs": 6, "batch_size": 256, "evaluate_every": 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = {"relgnn": FAST, "recommendations": {"models": ["relgnn"], "relations": ["view", "purchase"]}}
    return configured(tmp_path_factory.mktemp("relgnn"), ("relgnn",), **sections)


@pytest.fixture(scope="module")
def nights(config: Path, spark: SparkSession) -> Path:
    """Both nights; the data root."""
    return run_nights(config, [finetune_relgnn], ("relgnn",))


def test_the_dag_trains_it_from_the_graph_alone_or_from_other_vectors(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    from_transe = tmp_path / "from_transe.yaml"
    from_transe.write_text(config.read_text().replace("relgnn:\n", "relgnn:\n  init: transe\n", 1))
    for path, before in ((config, "resolve_predecessor"), (from_transe, "pretrain_transe")):
        for name, value in environment(tmp_path, path).items():
            monkeypatch.setenv(name, value)
        dag = DagBag(dag_folder=str(DAGS_FOLDER)).dags["nightly_user_embeddings"]
        assert dag.get_task("embeddings.finetune_relgnn").upstream_task_ids == {f"embeddings.{before}"}
        assert ("embeddings.pretrain_transe" in dag.task_ids) == (path == from_transe)
        assert dag.get_task("embeddings.publish_relgnn").upstream_task_ids == {"embeddings.finetune_relgnn"}
        assert "| `finetune_relgnn` | Memory" in dag.doc_md


def test_it_goes_on_from_its_own(nights: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(resolve_predecessor.run, ["--date", "2026-01-23", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == {"relgnn": str(NIGHTS[1])}
    (warm,) = (r["value"] for r in figures(nights, "finetune_relgnn") if r["metric"] == "warm")
    assert warm == 1


def figures(nights: Path, stage: str) -> list[dict[str, object]]:
    return Table(str(nights / "run_metrics" / f"stage={stage}")).read(str(NIGHTS[1])).to_pylist()


def test_it_is_published_in_one_space_for_all_users(nights: Path) -> None:
    store = FeatureStore(str(nights / "feature_store"))
    first, second = (store.read("user_embeddings", model="relgnn", dt=str(date)) for date in NIGHTS)
    assert first.manifest.fields["space_id"] == second.manifest.fields["space_id"]
    assert second.manifest.fields["quality"]["coverage"] == 1 and second.manifest.fields["compared"] == "diagonal"
    assert set(second.table.column("source").to_pylist()) == {"trained"}


def test_the_published_rows_give_back_the_native_scores(nights: Path) -> None:
    """A diagonal does not survive R: users, items and relations are published under one R, which is undone first."""
    from jobs.arrays import read_checkpoint

    store = FeatureStore(str(nights / "feature_store"))
    checkpoint = read_checkpoint(Table(str(nights / "checkpoints" / "relgnn")), str(NIGHTS[1]))
    fields = store.read("user_embeddings", model="relgnn", dt=str(NIGHTS[1])).manifest.fields
    rotation = np.array(fields["rotation"])
    assert np.abs(rotation - np.eye(len(rotation))).max() > 1e-4, "the second night's is turned into the first's space"
    rows = Table(str(nights / "entity_embeddings" / "relgnn")).read(str(NIGHTS[1])).to_pylist()
    published = {(r["entity_type"], r["raw"]): np.array(r["embedding"]) @ rotation.T for r in rows}
    bought = published["relation", "purchase"]
    np.testing.assert_allclose(
        np.sort([x for (kind, _), row in published.items() if kind == "relation" for x in row]),
        np.sort(checkpoint.relations.ravel()), atol=1e-5)
    native = {checkpoint.types[kind]: checkpoint.entities[checkpoint.entity_type == kind] for kind in range(5)
              if kind < len(checkpoint.types)}  # fmt: skip
    found = sorted(float((published["user", "u1"] * bought) @ row) for (k, _), row in published.items() if k == "item")
    user = native["user"][np.linalg.norm(native["user"] - published["user", "u1"], axis=1).argmin()]
    relation = checkpoint.relations[np.linalg.norm(checkpoint.relations - bought, axis=1).argmin()]
    np.testing.assert_allclose(found, np.sort(native["item"] @ (user * relation)), atol=1e-4)


def test_its_scores_of_a_clients_items_are_a_feature_set(nights: Path) -> None:
    rows = figures(nights, "train_lookalike")
    sets = {row["feature_set"] for row in json.loads(next(r["detail"] for r in rows if r["metric"] == "pr_auc"))}
    assert "strong+relgnn:affinity" in sets


def test_items_are_recommended_by_its_scores(nights: Path) -> None:
    lists = Table(str(nights / "recommendations" / "model=relgnn")).read(str(NIGHTS[1]))
    assert lists.num_rows > 10 * 80
    rows = figures(nights, "recommend_items_relgnn")
    backtest = json.loads(next(r["detail"] for r in rows if r["metric"] == "backtest"))
    assert backtest[0]["date"] == str(NIGHTS[0]) and backtest[0]["hr"] > 0


def test_relationships_are_predicted_with_probabilities_from_the_second_night_on(nights: Path) -> None:
    table = Table(str(nights / "predicted_relations" / "model=relgnn"))
    first, second = (table.read(str(date)).to_pylist() for date in NIGHTS)
    for rows in (first, second):
        assert {row["relation"] for row in rows} == {"view", "purchase"}
        assert len({(row["head"], row["relation"], row["rank"]) for row in rows}) == len(rows) > 20 * 80
    assert {row["probability"] for row in first} == {None}
    assert all(0 < row["probability"] < 0.5 for row in second)
    rows = figures(nights, "recommend_items_relgnn")
    for one in json.loads(next(r["detail"] for r in rows if r["metric"] == "relations")):
        assert one["learned_from"] > 1000 and one["probability"] == pytest.approx(one["happened"], rel=0.5)


def test_the_report_shows_the_training_and_how_hard_the_negatives_are(nights: Path) -> None:
    (path,) = Table(str(nights / "reports")).files(str(NIGHTS[1]))
    page = Path(path).read_text(encoding="utf-8")
    assert "Loss of relgnn by epoch" in page and "validation mrr of relgnn by epoch" in page
    section = page[page.index('<section id="negatives">') :]
    section = section[: section.index("</section>")]
    assert "the sampler <b>asa</b>" in section
    assert "Predicted relations" in page and '<th scope="row">view</th>' in page
    for words in ("less the negative&#39;s", "score above their true edge", "are held-out edges"):
        assert f"By epoch: {words}" in section or words in section


def test_a_night_without_training_infers_newcomers_from_the_predecessors_parameters(
    nights: Path, config: Path, tmp_path: Path
) -> None:
    from jobs.arrays import read_checkpoint

    rare = config.with_name("rare.yaml")
    rare.write_text(config.read_text().replace("seed: 3", "seed: 3\ntraining: {train_every_days: 30}", 1))
    base = ["--config", str(rare), "--date", str(small_log.NIGHTS[2]), "--predecessor", str(NIGHTS[1])]
    assert execute(build_graphs.run, base[:4]) == 0
    assert execute(finetune_relgnn.run, base) == 0
    table = Table(str(nights / "checkpoints" / "relgnn"))
    before, after = (read_checkpoint(table, str(date)) for date in small_log.NIGHTS[1:])
    assert after.facts["trained_at"] == str(NIGHTS[1])
    np.testing.assert_array_equal(before.relations, after.relations)
    assert np.isfinite(after.entities).all() and (np.linalg.norm(after.entities, axis=1) > 0).all()
