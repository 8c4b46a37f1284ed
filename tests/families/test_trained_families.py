"""RAM-GNN and its interaction network, RelGNN, HUGT, and a family that is declared in the tests alone go through the
DAG: two nights of all, alignment, lookalike, profiles, recommendations and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from feature_store import FeatureStore, Manifest, Table
from jobs.configuration.load import load_settings
from jobs.embeddings import (
    finetune_ram_gnn,
    finetune_relgnn,
    pretrain_ram_gnn,
    resolve_predecessor,
    train_hugt,
)
from jobs.graphs import build_graphs
from jobs.profiles import train_profiles
from jobs.program import execute
from jobs.run_nights import DAGS_FOLDER, environment
from jobs.summarise_nights import summary
from tests.dags import small_log
from tests.families import train_toy
from tests.families.two_nights import NIGHTS, configured, run_nights

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from pyspark.sql import SparkSession

MODELS = ("ram_gnn", "ram_gnn_rec", "relgnn", "hugt", "toy")
RECOMMENDED = MODELS[1:4]
FAST = {
    "ram_gnn": {"dimension": 8, "epochs": 20},
    "ram_gnn_rec": {"epochs": 10, "batches": 4},
    "relgnn": {
        "dimension": 8, "heads": 2, "attribute_width": 4, "epochs": 6, "batch_size": 256, "evaluate_every": 1},
    "hugt": {"width": 16, "epochs": 6, "batch_size": 32, "learning_rate": 0.01, "neighbours": 5, "svd_rank": 8,
             "validation_share": 0.3},
    "sequences": {"max_length": 30, "history_days": 60},
    "toy": {"dimension": 12},
}  # fmt: skip


@pytest.fixture(scope="module")
def config(toy: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recommendations = {"models": list(RECOMMENDED), "relations": ["view", "purchase"]}
    profiles = small_log.PROFILES | {"models": ["toy"]}
    return configured(
        tmp_path_factory.mktemp("families"), MODELS, recommendations=recommendations, profiles=profiles, **FAST)


@pytest.fixture(scope="module")
def nights(config: Path, spark: SparkSession) -> Path:
    """Both nights; the data root."""
    trainers = [pretrain_ram_gnn, finetune_ram_gnn, finetune_relgnn, train_hugt, train_toy]
    return run_nights(config, trainers, MODELS, RECOMMENDED, [train_profiles])


@pytest.fixture(scope="module")
def page(nights: Path) -> str:
    """The second night's report."""
    (path,) = Table(str(nights / "reports")).files(str(NIGHTS[1]))
    return Path(path).read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    found = page[page.index(f'<section id="{name}">') :]
    return found[: found.index("</section>")]


def figures(nights: Path, stage: str) -> list[dict[str, Any]]:
    return Table(str(nights / "run_metrics" / f"stage={stage}")).read(str(NIGHTS[1])).to_pylist()


def detail(nights: Path, stage: str, metric: str) -> list[dict[str, Any]]:
    return json.loads(next(row["detail"] for row in figures(nights, stage) if row["metric"] == metric))


@pytest.fixture()
def dag(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    return dag_of(config, tmp_path, monkeypatch)


def dag_of(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    for name, value in environment(tmp_path, config).items():
        monkeypatch.setenv(name, value)
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(DAGS_FOLDER)).dags["nightly_user_embeddings"]


def test_the_dag_trains_ram_gnns_networks_one_after_the_other_on_the_attributes(dag: DAG) -> None:
    found = {name: dag.get_task(f"embeddings.{name}_ram_gnn") for name in ("pretrain", "finetune", "publish")}
    assert found["pretrain"].upstream_task_ids == {"embeddings.resolve_predecessor"}
    assert found["finetune"].upstream_task_ids == {"embeddings.pretrain_ram_gnn"} == found["publish"].upstream_task_ids
    assert dag.get_task("embeddings.publish_ram_gnn_rec").upstream_task_ids == {"embeddings.finetune_ram_gnn"}
    recommend = dag.get_task("recommend_ram_gnn_rec")
    assert recommend.upstream_task_ids == {"embeddings.publish_ram_gnn_rec"}
    assert "write_report" in recommend.downstream_task_ids and "recommend_ram_gnn" not in dag.task_ids
    for name in ("pretrain", "finetune"):
        assert any(word.startswith("--attributes=") for word in found[name].command)
    assert "attributes" in dag.get_task("graphs.build_graphs").outputs
    assert "| `pretrain_ram_gnn` | Skipped: the graph has no attribute." in dag.doc_md


def test_the_dag_trains_hugt_from_the_graph_and_the_sequences(dag: DAG) -> None:
    assert dag.get_task("embeddings.train_hugt").upstream_task_ids == {"embeddings.resolve_predecessor"}
    assert dag.get_task("embeddings.publish_hugt").upstream_task_ids == {"embeddings.train_hugt"}
    assert "embeddings.pretrain_transe" not in dag.task_ids and "| `train_hugt` | Memory" in dag.doc_md


def test_the_dag_trains_relgnn_from_the_graph_alone_or_from_other_vectors(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_transe = tmp_path / "from_transe.yaml"
    from_transe.write_text(config.read_text().replace("relgnn:\n", "relgnn:\n  init: transe\n", 1))
    for path, before in ((config, "resolve_predecessor"), (from_transe, "pretrain_transe")):
        dag = dag_of(path, tmp_path, monkeypatch)
        assert dag.get_task("embeddings.finetune_relgnn").upstream_task_ids == {f"embeddings.{before}"}
        assert ("embeddings.pretrain_transe" in dag.task_ids) == (path == from_transe)
        assert dag.get_task("embeddings.publish_relgnn").upstream_task_ids == {"embeddings.finetune_relgnn"}
        assert "| `finetune_relgnn` | Memory" in dag.doc_md


def test_each_model_goes_on_from_its_own(nights: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(resolve_predecessor.run, ["--date", "2026-01-23", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(MODELS, str(NIGHTS[1]))
    for stage in ("finetune_relgnn", "train_hugt"):
        assert [row["value"] for row in figures(nights, stage) if row["metric"] == "warm"] == [1]


@pytest.mark.parametrize("model", MODELS)
def test_it_is_published_in_one_space_for_all_users(nights: Path, model: str) -> None:
    first, second = manifests(nights, model)
    assert first.fields["space_id"] == second.fields["space_id"] and second.fields["quality"]["coverage"] == 1
    features = FeatureStore(str(nights / "feature_store")).read("user_embeddings", model=model, dt=str(NIGHTS[1]))
    assert set(features.table.column("source").to_pylist()) == {"trained"}
    if model == "relgnn":
        assert second.fields["compared"] == "diagonal"
    if model == "hugt":
        assert features.matrix().shape[1] == FAST["hugt"]["width"] + 1
    if model == "toy":
        assert features.matrix().shape[1] == 12 and second.fields["alignment"]["neighbour_overlap"] > 0.5
        rotation = np.array(second.fields["rotation"])
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(12), atol=1e-6)


def manifests(nights: Path, model: str) -> list[Manifest]:
    store = FeatureStore(str(nights / "feature_store"))
    return [store.read("user_embeddings", model=model, dt=str(date)).manifest for date in NIGHTS]


def test_each_models_scores_of_a_clients_items_are_a_feature_set(nights: Path) -> None:
    sets = {row["feature_set"] for row in detail(nights, "train_lookalike", "pr_auc")}
    assert sets == {"baseline", "strong", *(f"strong+{model}:affinity" for model in MODELS)}
    assert Table(str(nights / "lookalike_scores")).read(str(NIGHTS[1])).num_rows


def test_no_model_but_the_configured_ones_was_trained(nights: Path) -> None:
    assert {folder.name for folder in (nights / "checkpoints").iterdir()} == set(MODELS)
    assert {stage.name for stage in (nights / "run_metrics").iterdir()} >= {
        "stage=train_toy", "stage=publish_users_toy"}  # fmt: skip


def test_profiles_are_predicted_from_the_toys_vectors(nights: Path) -> None:
    manifest = Table(str(nights / "profile_predictions")).existing_manifest(str(NIGHTS[1]))
    assert manifest.fields["models"] == ["toy"]
    assert manifest.fields["labels"]["taste"]["test"]["accuracy"] > 0.7, "tastes are planted in what users touch"


def test_the_report_and_the_summary_tell_of_the_toy(page: str, config: Path) -> None:
    assert "Loss of toy by epoch" in page and "events" in page and "<th scope=\"row\">toy" in page
    told = summary(load_settings(config), NIGHTS)
    assert "vectors: toy" in told and "train_toy" in told


@pytest.mark.parametrize("model", RECOMMENDED)
def test_items_are_recommended_and_the_first_nights_lists_are_held_against_the_second_day(
    nights: Path, model: str
) -> None:
    lists = Table(str(nights / "recommendations" / f"model={model}")).read(str(NIGHTS[1]))
    assert lists.num_rows > 10 * 80 and set(lists.column("rank").to_pylist()) == set(range(1, 21))
    (ten, _) = detail(nights, f"recommend_items_{model}", "backtest")
    assert ten["date"] == str(NIGHTS[0]) and ten["users"] > 3 and ten["hr"] > 0


def test_what_hugt_recommends_is_what_the_model_holds_likeliest(nights: Path) -> None:
    """The lists' scores are those of Eq. 5 by the checkpoint's own state and items."""
    from jobs.arrays import read_checkpoint

    checkpoint = read_checkpoint(Table(str(nights / "checkpoints" / "hugt")), str(NIGHTS[1]))
    kinds = [checkpoint.types[kind] for kind in checkpoint.entity_type]
    users, items = (checkpoint.entities[[kind == name for kind in kinds]] for name in ("user", "item"))
    np.testing.assert_allclose(users[:, -1], 1)
    lists = Table(str(nights / "recommendations" / "model=hugt")).read(str(NIGHTS[1])).to_pylist()
    best = {row["score"] for row in lists if row["rank"] == 1}
    every = users @ items.T
    assert all(np.abs(every - score).min() < 1e-3 for score in best)


def test_relgnns_published_rows_give_back_the_native_scores(nights: Path) -> None:
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


def test_relationships_are_predicted_with_probabilities_from_the_second_night_on(nights: Path) -> None:
    table = Table(str(nights / "predicted_relations" / "model=relgnn"))
    first, second = (table.read(str(date)).to_pylist() for date in NIGHTS)
    for rows in (first, second):
        assert {row["relation"] for row in rows} == {"view", "purchase"}
        assert len({(row["head"], row["relation"], row["rank"]) for row in rows}) == len(rows) > 20 * 80
    assert {row["probability"] for row in first} == {None}
    assert all(0 < row["probability"] < 0.5 for row in second)
    for one in detail(nights, "recommend_items_relgnn", "relations"):
        assert one["learned_from"] > 1000 and one["probability"] == pytest.approx(one["happened"], rel=0.5)


def test_the_report_shows_thresholds_and_training_curves(page: str) -> None:
    assert "Loss of ram_gnn by epoch" in page and "validation ndcg of ram_gnn_rec by epoch" in page
    thresholds = section(page, "thresholds")
    for name in ("item_brand", "item_category", "user_region"):
        assert f"<bdi>{name}</bdi>" in thresholds and f"<title>{name}</title>" in thresholds
    assert "Kept neighbours of items by epoch" in thresholds and "Kept neighbours of users by epoch" in thresholds
    assert '<section id="recommendations">' in page and "A handful of users" in page
    assert "build_attributes" in page, "its seconds stand among the stages"


def test_the_report_shows_the_training_and_how_hard_the_negatives_are(page: str) -> None:
    assert "Loss of relgnn by epoch" in page and "validation mrr of relgnn by epoch" in page
    negatives = section(page, "negatives")
    assert "the sampler <b>asa</b>" in negatives
    assert "Predicted relations" in page and '<th scope="row">view</th>' in page
    for words in ("less the negative&#39;s", "score above their true edge", "are held-out edges"):
        assert f"By epoch: {words}" in negatives or words in negatives


def test_the_report_shows_how_well_next_events_are_foretold_by_length(nights: Path, page: str) -> None:
    assert "Loss of hugt by epoch" in page and "validation ndcg of hugt by epoch" in page
    foretold = section(page, "next_events")
    rows = detail(nights, "train_hugt", "by_length")
    assert sum(row["users"] for row in rows) > 10 and foretold.count("<tr>") == len(rows) + 1
    assert ">5 to 9</th>" in foretold


def test_a_night_without_training_infers_everybody_from_the_predecessors_parameters(
    nights: Path, config: Path
) -> None:
    from jobs.arrays import read_checkpoint

    rare = config.with_name("rare.yaml")
    rare.write_text(config.read_text().replace("seed: 3", "seed: 3\ntraining: {train_every_days: 30}", 1))
    base = ["--config", str(rare), "--date", str(small_log.NIGHTS[2]), "--predecessor", str(NIGHTS[1])]
    assert execute(build_graphs.run, base[:4]) == 0
    for model, job in (("relgnn", finetune_relgnn), ("hugt", train_hugt)):
        assert execute(job.run, base) == 0
        table = Table(str(nights / "checkpoints" / model))
        before, after = (read_checkpoint(table, str(date)) for date in small_log.NIGHTS[1:])
        assert after.facts["trained_at"] == str(NIGHTS[1])
        users = after.entities[after.entity_type == after.types.index("user")]
        assert np.isfinite(after.entities).all()
        if model == "relgnn":
            np.testing.assert_array_equal(before.relations, after.relations)
            assert (np.linalg.norm(after.entities, axis=1) > 0).all()
        else:
            np.testing.assert_array_equal(before.extra["hugt.blocks.0.w1"], after.extra["hugt.blocks.0.w1"])
            assert (np.linalg.norm(users, axis=1) > 1).all()


def test_the_sequences_are_the_logs_events_in_order(nights: Path, config: Path) -> None:
    rows = Table(str(nights / "sequences")).read(str(NIGHTS[1])).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["user"], row["position"]))
    times: dict[int, list[object]] = {}
    for row in rows:
        times.setdefault(row["user"], []).append(row["event_time"])
        assert row["position"] == len(times[row["user"]]) - 1
    assert all(found == sorted(found) for found in times.values())
    log = [line.split(",") for line in (config.parent / "source/events.csv").read_text().splitlines()[1:]]
    before = [line for line in log if line[3] < str(NIGHTS[1])]
    assert len(rows) == len(before) > 1000, "all since the log began, the graph's window being shorter"
