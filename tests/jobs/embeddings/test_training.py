"""Training jobs over planted nights: schedules, warm starts, who is inferred, resumed runs, deterministic nights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from feature_store import FeatureStore, Table
from jobs.arrays import INDUCTIVE, TRAINED, read_checkpoint
from jobs.embeddings import pretrain_transe, publish_users, smooth_kqgc
from jobs.program import FINAL, execute
from tests.jobs.embeddings.planted import N_USERS, write_config, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS, night, same_group_share


class Killed(Exception):
    pass


def test_a_night_without_training_infers_newcomers_and_keeps_the_rest(root: Path) -> None:
    config = write_config(root, training={"train_every_days": 30})
    night(config, DATES[0], models=("transe", "kqgc_mean"))
    newcomer = "a900"  # before all others in tonight's index: vectors are joined by ledger id
    write_ledgers(root / "data", [*USERS, newcomer])
    write_graph(root / "data", DATES[1], [*USERS, newcomer])
    night(config, DATES[1], DATES[0], models=("transe", "kqgc_mean"))
    for model in ("transe", "kqgc_mean"):
        table = Table(str(root / f"data/feature_store/user_embeddings/model={model}"))
        source = dict(
            zip(*(table.read(str(DATES[1])).column(c).to_pylist() for c in ("user_id", "source")), strict=True)
        )
        assert source.pop(newcomer) == "inductive" and set(source.values()) == {"trained"}
        assert "not trained" in table.manifest(str(DATES[1])).fields["alignment"]["reason"]
    transe = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    before, after = (
        dict(zip(t.column("user_id").to_pylist(), t.column("embedding").to_pylist(), strict=True))
        for t in (transe.read(str(d)) for d in DATES[:2])
    )
    assert all(np.allclose(before[u], after[u], atol=1e-6) for u in USERS)
    first, second = (read_checkpoint(Table(str(root / "data/checkpoints/transe")), str(d)) for d in DATES[:2])
    # of users, whose edges are others; relations are all there
    for name in ("entity_accumulators", "relation_accumulators"):
        kept = [
            dict(
                zip(
                    c.entity_id[c.entity_type == c.types.index("user")],
                    c.extra[name][c.entity_type == c.types.index("user")],
                    strict=True,
                )
            )
            if name.startswith("entity")
            else dict(zip(c.relation_id, c.extra[name], strict=True))
            for c in (first, second)
        ]
        assert all(kept[1][key] == value > 0 for key, value in kept[0].items())


def test_users_with_few_events_are_inferred_from_what_they_bought(root: Path) -> None:
    night(write_config(root, training={"min_train_events": 6}), DATES[0])
    checkpoint = read_checkpoint(Table(str(root / "data/checkpoints/transe")), str(DATES[0]))
    graph = Table(str(root / "data/knowledge_graph")).read(str(DATES[0])).to_pylist()
    at = {
        (checkpoint.types[t], int(i)): row
        for row, (t, i) in enumerate(zip(checkpoint.entity_type, checkpoint.entity_id, strict=True))
    }
    inductive = 0
    for (kind, ledger_id), row in at.items():
        if kind != "user":
            continue
        own = [e for e in graph if e["relation"] in (0, 2) and e["head"] == ledger_id]
        few = sum(e["relation"] == 0 for e in own) < 6
        assert checkpoint.source[row] == (INDUCTIVE if few else TRAINED)
        if few:
            inductive += 1
            tails = [at[("item", "region")[e["relation"] // 2], e["tail"]] for e in own]
            known = [(e["relation"], t) for e, t in zip(own, tails, strict=True) if checkpoint.source[t] == TRAINED]
            mean = np.mean(
                [
                    checkpoint.entities[t] - checkpoint.relations[list(checkpoint.relation_id).index(r)]
                    for r, t in known
                ],
                axis=0,
            )
            np.testing.assert_allclose(checkpoint.entities[row], mean / np.linalg.norm(mean), atol=1e-5)
    assert 0 < inductive < N_USERS
    found = FeatureStore(str(root / "data" / "feature_store")).read("user_embeddings", model="transe", dt=str(DATES[0]))
    # among trained users; chance: 0.24
    assert same_group_share(found, np.array(found.table.column("source").to_pylist()) == "inductive") > 0.6


def test_where_every_user_has_few_events_all_are_trained(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    night(write_config(root, training={"min_train_events": 50}), DATES[0])
    table = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    assert set(table.read(str(DATES[0])).column("source").to_pylist()) == {"trained"}
    assert "min_train_events 50" in caplog.text


def test_a_model_added_between_two_trainings_is_trained_with_transe(root: Path) -> None:
    """Its parameters belong to the vectors they were trained on: under TransE's new ones, R of the former night would
    not hold."""
    config = write_config(root, training={"train_every_days": 2})
    night(config, DATES[0])
    night(config, DATES[1], DATES[0])
    kqgc = ["--config", str(config), "--model", "kqgc_mean"]
    assert (
        execute(smooth_kqgc.run, [*kqgc, "--date", str(DATES[1])])
        == execute(publish_users.run, [*kqgc, "--date", str(DATES[1])])
        == 0
    )
    assert (
        execute(pretrain_transe.run, ["--config", str(config), "--date", str(DATES[2]), "--predecessor", str(DATES[1])])
        == 0
    )
    later = [*kqgc, "--date", str(DATES[2]), "--predecessor", str(DATES[1])]
    assert execute(smooth_kqgc.run, later) == execute(publish_users.run, later) == 0
    trained = {
        m: [Table(str(root / f"data/checkpoints/{m}")).manifest(str(d)).fields["trained_at"] for d in DATES[1:]]
        for m in ("transe", "kqgc_mean")
    }
    assert trained == {"transe": [str(DATES[0]), str(DATES[2])], "kqgc_mean": [str(DATES[1]), str(DATES[2])]}
    assert (
        "fitted"
        in Table(str(root / "data/feature_store/user_embeddings/model=kqgc_mean"))
        .manifest(str(DATES[2]))
        .fields["alignment"]["reason"]
    )


def test_the_first_night_of_a_relation_trains(root: Path) -> None:
    graph = Table(str(root / "data/knowledge_graph"))
    edges = graph.read(str(DATES[0]))
    with graph.replace(str(DATES[0])) as commit:
        commit.write_table(edges.filter(pc.not_equal(edges.column("relation"), 2)))
    config = write_config(root, training={"train_every_days": 30})
    for number, date in enumerate(DATES):
        night(config, date, DATES[number - 1] if number else None)
    table = Table(str(root / "data/checkpoints/transe"))
    assert [table.manifest(str(d)).fields["trained_at"] for d in DATES] == [str(DATES[0]), str(DATES[1]), str(DATES[1])]


def test_every_parameter_of_kqgc_and_its_optimiser_start_from_the_predecessor(root: Path) -> None:
    config = write_config(root)
    night(config, DATES[0], models=("transe", "kqgc_mean"))
    night(config, DATES[1], DATES[0], models=("transe", "kqgc_mean"))
    first, second = (read_checkpoint(Table(str(root / "data/checkpoints/kqgc_mean")), str(d)).extra for d in DATES[:2])
    assert (
        first.keys()
        == second.keys()
        == {
            f"kqgc.{p}"
            for n in ("weights.0", "biases.0")
            for p in (n, *(f"optimiser.{n}.{k}" for k in ("step", "exp_avg", "exp_avg_sq")))
        }
    )
    assert second["kqgc.optimiser.weights.0.step"] > first["kqgc.optimiser.weights.0.step"]
    random = np.abs(first["kqgc.weights.0"] - second["kqgc.weights.0"]).max()
    assert 0 < random < 0.2  # 3 epochs of small steps from where the predecessor was


def test_without_a_learned_map_every_night_smooths_anew_and_asks_for_no_purchase(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default: nothing is trained, not on a night on which nothing of its source is trained either."""
    monkeypatch.setattr(smooth_kqgc, "train", None)
    config = write_config(root, kqgc={}, training={"train_every_days": 30})
    for date, before in zip(DATES[:2], (None, DATES[0]), strict=True):
        night(config, date, before, models=("transe", "kqgc_mean"))
        table = Table(str(root / "data/checkpoints/kqgc_mean"))
        found, start = (
            read_checkpoint(Table(str(root / f"data/checkpoints/{m}")), str(date)) for m in ("kqgc_mean", "transe")
        )
        assert table.manifest(str(date)).fields["trained_at"] == str(DATES[0]) and not found.extra
        np.testing.assert_array_equal(found.relations, start.relations)
        lengths = np.linalg.norm(found.entities[found.source == TRAINED], axis=1)
        assert lengths.std() > 0.1, "active users are longer"
    features = FeatureStore(str(root / "data/feature_store")).read(
        "user_embeddings", model="kqgc_mean", dt=str(DATES[1])
    )
    assert same_group_share(features) > 0.9


def test_a_checkpoint_of_another_shape_is_refused_with_a_message_on_a_night_without_training(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    night(write_config(root, training={"train_every_days": 30}), DATES[0], models=("transe", "kqgc_mean"))
    other = write_config(root, training={"train_every_days": 30}, kqgc={"learned": True, "epochs": 3, "layers": 2})
    night(other, DATES[1], DATES[0])
    assert (
        execute(
            smooth_kqgc.run,
            ["--date", str(DATES[1]), "--config", str(other), "--predecessor", str(DATES[0]), "--model", "kqgc_mean"],
        )
        == FINAL
    )
    assert "weights.1" in caplog.text and "training.space" in caplog.text


def test_a_killed_training_goes_on_where_it_was_and_ends_the_same(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = write_config(root), []

    class Watched(pretrain_transe.Progress):
        dies = True

        def __call__(self, record: dict[str, float]) -> None:
            seen.append(int(record["epoch"]))
            if self.dies and record["epoch"] == 12:
                raise Killed

    monkeypatch.setattr(pretrain_transe, "Progress", Watched)
    base = ["--date", str(DATES[0]), "--config", str(config)]
    with pytest.raises(Killed):
        execute(pretrain_transe.run, base)
    monkeypatch.setattr(Watched, "dies", False)
    seen.clear()
    assert execute(pretrain_transe.run, base) == 0
    assert seen[0] == 10  # after the last look at the held-out edges
    assert not list((root / "data/checkpoints/transe/_scratch").iterdir())
    other = tmp_path_factory.mktemp("whole")
    write_ledgers(other / "data", USERS)
    write_graph(other / "data", DATES[0], USERS)
    assert execute(pretrain_transe.run, ["--date", str(DATES[0]), "--config", str(write_config(other))]) == 0
    resumed, whole = (
        read_checkpoint(Table(str(folder / "data/checkpoints/transe")), str(DATES[0])) for folder in (root, other)
    )
    np.testing.assert_array_equal(resumed.entities, whole.entities)
    for name, array in whole.extra.items():
        np.testing.assert_array_equal(resumed.extra[name], array)


def test_deterministic_nights_repeat_and_ignore_what_later_nights_put_into_the_ledger(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    night(write_config(root), DATES[0], models=("transe", "kqgc_mean"))
    other = tmp_path_factory.mktemp("other")
    write_ledgers(other / "data", [f"u{n:03d}" for n in range(30, 500, 7)], order_seed=5)  # another future came first
    write_ledgers(other / "data", USERS, order_seed=6)
    write_graph(other / "data", DATES[0], USERS)
    night(write_config(other), DATES[0], models=("transe", "kqgc_mean"))
    for model in ("transe", "kqgc_mean"):
        hashes = [
            Table(str(folder / f"data/feature_store/user_embeddings/model={model}"))
            .manifest(str(DATES[0]))
            .content_hash
            for folder in (root, other)
        ]
        assert hashes[0] == hashes[1]


def test_a_gpu_that_is_not_there_is_one_message_and_no_other_try(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = write_config(root, transe={"dimension": 8, "engine": "torch", "device": "cuda:99"})
    assert execute(pretrain_transe.run, ["--date", str(DATES[0]), "--config", str(config)]) == FINAL
    assert "transe.device is cuda:99, and PyTorch finds" in caplog.text and "Traceback" not in caplog.text
