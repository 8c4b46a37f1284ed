"""HUGT goes through the DAG, two nights, lookalike, recommendations and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from feature_store import FeatureStore, Table
from jobs.embeddings import resolve_predecessor, train_hugt
from jobs.graphs import build_graphs
from jobs.program import execute
from jobs.run_nights import DAGS_FOLDER, environment
from tests.dags import small_log
from tests.families.two_nights import NIGHTS, configured, run_nights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FAST = {"width": 16, "epochs": 6, "batch_size": 32, "learning_rate": 0.01, "neighbours": 5, "svd_rank": 8,
        "validation_share": 0.3}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = {"hugt": FAST, "sequences": {"max_length": 30, "history_days": 60}, "recommendations": {
        "models": ["hugt"]}}  # fmt: skip
    return configured(tmp_path_factory.mktemp("hugt"), ("hugt",), **sections)


@pytest.fixture(scope="module")
def nights(config: Path, spark: SparkSession) -> Path:
    """Both nights; the data root."""
    return run_nights(config, [train_hugt], ("hugt",))


def figures(nights: Path, stage: str) -> list[dict[str, object]]:
    return Table(str(nights / "run_metrics" / f"stage={stage}")).read(str(NIGHTS[1])).to_pylist()


def test_the_dag_trains_it_from_the_graph_and_the_sequences(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    for name, value in environment(tmp_path, config).items():
        monkeypatch.setenv(name, value)
    dag = DagBag(dag_folder=str(DAGS_FOLDER)).dags["nightly_user_embeddings"]
    assert dag.get_task("embeddings.train_hugt").upstream_task_ids == {"embeddings.resolve_predecessor"}
    assert dag.get_task("embeddings.publish_hugt").upstream_task_ids == {"embeddings.train_hugt"}
    assert "embeddings.pretrain_transe" not in dag.task_ids and "| `train_hugt` | Memory" in dag.doc_md


def test_it_is_published_in_one_space_for_all_users_and_goes_on_from_its_own(
    nights: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeatureStore(str(nights / "feature_store"))
    first, second = (store.read("user_embeddings", model="hugt", dt=str(date)) for date in NIGHTS)
    assert first.manifest.fields["space_id"] == second.manifest.fields["space_id"]
    assert second.manifest.fields["quality"]["coverage"] == 1 and second.matrix().shape[1] == FAST["width"] + 1
    assert set(second.table.column("source").to_pylist()) == {"trained"}
    (warm,) = (row["value"] for row in figures(nights, "train_hugt") if row["metric"] == "warm")
    assert warm == 1
    assert execute(resolve_predecessor.run, ["--date", "2026-01-23", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == {"hugt": str(NIGHTS[1])}


def test_recommended_is_what_the_model_holds_likeliest(nights: Path) -> None:
    """The lists' scores are those of Eq. 5 by the checkpoint's own state and items."""
    from jobs.arrays import read_checkpoint

    checkpoint = read_checkpoint(Table(str(nights / "checkpoints" / "hugt")), str(NIGHTS[1]))
    kinds = [checkpoint.types[kind] for kind in checkpoint.entity_type]
    users, items = (checkpoint.entities[[kind == name for kind in kinds]] for name in ("user", "item"))
    np.testing.assert_allclose(users[:, -1], 1)
    lists = Table(str(nights / "recommendations" / "model=hugt")).read(str(NIGHTS[1])).to_pylist()
    assert len(lists) > 10 * 80
    best = {row["score"] for row in lists if row["rank"] == 1}
    every = users @ items.T
    assert all(np.abs(every - score).min() < 1e-3 for score in best)
    told = figures(nights, "recommend_items_hugt")
    backtest = json.loads(next(row["detail"] for row in told if row["metric"] == "backtest"))
    assert backtest[0]["date"] == str(NIGHTS[0]) and backtest[0]["hr"] > 0


def test_its_probabilities_of_a_clients_items_are_a_feature_set(nights: Path) -> None:
    rows = figures(nights, "train_lookalike")
    sets = {row["feature_set"] for row in json.loads(next(r["detail"] for r in rows if r["metric"] == "pr_auc"))}
    assert "strong+hugt:affinity" in sets


def test_the_report_shows_how_well_next_events_are_foretold_by_length(nights: Path) -> None:
    (path,) = Table(str(nights / "reports")).files(str(NIGHTS[1]))
    page = Path(path).read_text(encoding="utf-8")
    assert "Loss of hugt by epoch" in page and "validation ndcg of hugt by epoch" in page
    section = page[page.index('<section id="next_events">') :]
    section = section[: section.index("</section>")]
    (detail,) = (row["detail"] for row in figures(nights, "train_hugt") if row["metric"] == "by_length")
    rows = json.loads(detail)
    assert sum(row["users"] for row in rows) > 10 and section.count("<tr>") == len(rows) + 1
    assert ">5 to 9</th>" in section


def test_a_night_without_training_infers_everybody_from_the_predecessors_parameters(
    nights: Path, config: Path
) -> None:
    from jobs.arrays import read_checkpoint

    rare = config.with_name("rare.yaml")
    rare.write_text(config.read_text().replace("seed: 3", "seed: 3\ntraining: {train_every_days: 30}", 1))
    base = ["--config", str(rare), "--date", str(small_log.NIGHTS[2]), "--predecessor", str(NIGHTS[1])]
    assert execute(build_graphs.run, base[:4]) == 0
    assert execute(train_hugt.run, base) == 0
    table = Table(str(nights / "checkpoints" / "hugt"))
    before, after = (read_checkpoint(table, str(date)) for date in small_log.NIGHTS[1:])
    assert after.facts["trained_at"] == str(NIGHTS[1])
    np.testing.assert_array_equal(before.extra["hugt.blocks.0.w1"], after.extra["hugt.blocks.0.w1"])
    users = [after.entity_type == after.types.index("user")]
    assert np.isfinite(after.entities).all() and (np.linalg.norm(after.entities[tuple(users)], axis=1) > 1).all()


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
