"""TransE, KQGC and publishing over planted nights: order of dates, warm starts, one space, inductive and carried users."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from feature_store import FeatureStore, Table
from feature_store.local_disk import LocalDisk
from jobs.arrays import INDUCTIVE, TRAINED, read_checkpoint
from jobs.embeddings import pretrain_transe, publish_users, resolve_predecessor, smooth_kqgc
from jobs.program import execute
from tests.jobs.embeddings.planted import N_USERS, group_of, write_config, write_graph, write_ledgers

DATES = [datetime.date(2026, 1, 5), datetime.date(2026, 1, 6), datetime.date(2026, 1, 7)]
USERS = [f"u{n:03d}" for n in range(N_USERS)]


def night(config: Path, date: datetime.date, predecessor: datetime.date | None = None, models: tuple[str, ...] = ("transe",)) -> None:
    """One night of the embedding stages, started as programs."""
    base = ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]
    assert execute(pretrain_transe.run, base) == 0
    for model in models:
        if model != "transe":
            assert execute(smooth_kqgc.run, [*base, "--model", model]) == 0
        assert execute(publish_users.run, [*base, "--model", model]) == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ledgers(tmp_path / "data", USERS)
    for date in DATES:
        write_graph(tmp_path / "data", date, USERS)
    return tmp_path


def same_group_share(features) -> float:  # noqa: ANN001
    """Share of each user's 5 nearest users with the same planted taste."""
    matrix, ids = features.matrix(), features.user_ids()
    groups = np.array([group_of(u) for u in ids])
    distances = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((groups[np.argsort(distances, axis=1)[:, :5]] == groups[:, None]).mean())


def test_first_night_publishes_sorted_users_who_show_the_planted_tastes(root: Path) -> None:
    night(write_config(root), DATES[0], models=("transe", "kqgc_mean"))
    store = FeatureStore(str(root / "data" / "feature_store"))
    for model in ("transe", "kqgc_mean"):
        found = store.read("user_embeddings", model=model, dt="2026-01-05")
        assert found.user_ids() == USERS
        assert set(found.table.column("source").to_pylist()) == {"trained"}
        assert same_group_share(found) > 0.6  # chance: 0.24


def test_entity_embeddings_hold_every_entity_and_relation_in_the_users_space(root: Path) -> None:
    config = write_config(root)
    night(config, DATES[0])
    night(config, DATES[1], DATES[0])
    dt = str(DATES[1])
    entities = Table(str(root / "data" / "entity_embeddings" / "transe")).read(dt)
    assert set(entities.column("entity_type").to_pylist()) == {"user", "item", "brand", "region", "relation"}
    manifest = Table(str(root / "data/feature_store/user_embeddings/model=transe")).manifest(dt)
    assert manifest.fields["dimension"] == entities.schema.field("embedding").type.list_size
    assert manifest.fields["window"] == {"days": 45, "before": dt}
    users = {r["raw"]: r["embedding"] for r in entities.to_pylist() if r["entity_type"] == "user"}
    published = FeatureStore(str(root / "data" / "feature_store")).read("user_embeddings", model="transe", dt=dt)
    np.testing.assert_allclose(published.matrix(), np.array([users[u] for u in published.user_ids()]))


def test_users_are_published_last_so_that_whoever_sees_them_finds_the_items(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, committed = LocalDisk.put_atomic, []

    def noted(disk: LocalDisk, path: str, content: bytes) -> None:
        put(disk, path, content)
        committed.extend([path] if path.endswith("_manifest.json") and "_embeddings" in path else [])

    monkeypatch.setattr(LocalDisk, "put_atomic", noted)
    night(write_config(root), DATES[0])
    assert ["entity_embeddings" in path for path in committed] == [True, False]


def test_a_warm_night_stays_in_the_space_and_near_the_former_vectors(root: Path) -> None:
    config = write_config(root)
    night(config, DATES[0])
    night(config, DATES[1], DATES[0])
    table = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    first, second = (table.manifest(str(d)) for d in DATES[:2])
    assert first.fields["space_id"] == second.fields["space_id"]
    rotation = np.array(second.fields["rotation"])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(len(rotation)), atol=1e-9)
    assert second.fields["predecessor"] == {"table": "feature_store/user_embeddings/model=transe", "dt": str(DATES[0]), "content_hash": first.content_hash}
    assert second.fields["quality"]["drift"]["since_predecessor"]["median"] < 0.3


def test_a_cold_retraining_is_rotated_back_into_the_former_space(root: Path, tmp_path: Path) -> None:
    """The same graph trained from scratch with another seed lands elsewhere; R brings it home."""
    config = write_config(root)
    night(config, DATES[0])
    other = write_config(root, seed=99)
    base = ["--date", str(DATES[1]), "--config", str(other)]
    assert execute(pretrain_transe.run, [*base, "--predecessor", "none"]) == 0
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", str(DATES[0])]) == 0
    table = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    now, then = (np.array(table.read(str(d)).column("embedding").to_pylist()) for d in (DATES[1], DATES[0]))
    native = read_checkpoint(Table(str(root / "data/checkpoints/transe")), str(DATES[1]))
    cosine = (now * then).sum(1) / np.linalg.norm(now, axis=1) / np.linalg.norm(then, axis=1)
    raw = native.entities[native.entity_type == native.types.index("user")]
    before = (raw * then).sum(1) / np.linalg.norm(raw, axis=1) / np.linalg.norm(then, axis=1)
    assert np.median(cosine) > np.median(before) + 0.3


def test_a_night_without_training_infers_newcomers_and_keeps_the_rest(root: Path) -> None:
    config = write_config(root, training={"train_every_days": 30})
    night(config, DATES[0], models=("transe", "kqgc_mean"))
    newcomer = "u900"
    write_ledgers(root / "data", [*USERS, newcomer])
    write_graph(root / "data", DATES[1], [*USERS, newcomer])
    night(config, DATES[1], DATES[0], models=("transe", "kqgc_mean"))
    for model in ("transe", "kqgc_mean"):
        table = Table(str(root / f"data/feature_store/user_embeddings/model={model}"))
        source = dict(zip(*(table.read(str(DATES[1])).column(c).to_pylist() for c in ("user_id", "source")), strict=True))
        assert source.pop(newcomer) == "inductive" and set(source.values()) == {"trained"}
        assert "not trained" in table.manifest(str(DATES[1])).fields["alignment"]["reason"]
    transe = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    before, after = (dict(zip(t.column("user_id").to_pylist(), t.column("embedding").to_pylist(), strict=True)) for t in (transe.read(str(d)) for d in DATES[:2]))
    assert all(np.allclose(before[u], after[u], atol=1e-6) for u in USERS)


def test_users_with_few_events_are_inferred(root: Path) -> None:
    night(write_config(root, training={"min_train_events": 6}), DATES[0])
    checkpoint = read_checkpoint(Table(str(root / "data/checkpoints/transe")), str(DATES[0]))
    users = checkpoint.source[checkpoint.entity_type == checkpoint.types.index("user")]
    assert set(users.tolist()) == {TRAINED, INDUCTIVE}


def test_absent_users_are_carried_for_a_while_and_then_dropped(root: Path) -> None:
    config = write_config(root, publishing={"models": ["transe"], "carry_days": 1, "min_neighbour_overlap": 0.0})
    write_graph(root / "data", DATES[1], USERS[:50])
    write_graph(root / "data", DATES[2], USERS[:50])
    for number, date in enumerate(DATES):
        night(config, date, DATES[number - 1] if number else None)
    table = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    rows = {r["user_id"]: r for r in table.read(str(DATES[1])).to_pylist()}
    assert {rows[u]["source"] for u in USERS[50:]} == {"carried"}
    assert rows[USERS[55]]["n_events"] == 0 and rows[USERS[55]]["carried_from"].date() == DATES[0]
    assert table.read(str(DATES[1])).column("user_id").to_pylist() == USERS
    assert table.read(str(DATES[2])).column("user_id").to_pylist() == USERS[:50]


def test_a_broken_alignment_is_not_published_unless_a_new_space_is_allowed(root: Path) -> None:
    config = write_config(root)
    night(config, DATES[0])
    strict = write_config(root, publishing={"models": ["transe"], "min_neighbour_overlap": 1.0}, seed=99)
    base = ["--date", str(DATES[1]), "--config", str(strict)]
    assert execute(pretrain_transe.run, [*base, "--predecessor", "none"]) == 0
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", str(DATES[0])]) == 1
    store = FeatureStore(str(root / "data/feature_store"))
    assert store.table("user_embeddings", "transe").values() == [str(DATES[0])]
    write_config(root, publishing={"models": ["transe"], "min_neighbour_overlap": 1.0, "on_space_break": "publish"}, seed=99)
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", str(DATES[0])]) == 0
    ids = {store.table("user_embeddings", "transe").manifest(str(d)).fields["space_id"] for d in DATES[:2]}
    assert len(ids) == 2


def test_deterministic_nights_repeat_and_ignore_what_later_nights_put_into_the_ledger(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    night(write_config(root), DATES[0], models=("transe", "kqgc_mean"))
    other = tmp_path_factory.mktemp("other")
    write_ledgers(other / "data", [f"u{n:03d}" for n in range(30, 500, 7)], order_seed=5)  # another future came first
    write_ledgers(other / "data", USERS, order_seed=6)
    write_graph(other / "data", DATES[0], USERS)
    night(write_config(other), DATES[0], models=("transe", "kqgc_mean"))
    for model in ("transe", "kqgc_mean"):
        hashes = [Table(str(folder / f"data/feature_store/user_embeddings/model={model}")).manifest(str(DATES[0])).content_hash for folder in (root, other)]
        assert hashes[0] == hashes[1]


def test_the_predecessor_is_the_newest_published_of_the_family(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(root)

    def resolve(path: Path, date: str) -> dict[str, str | None] | int:
        status = execute(resolve_predecessor.run, ["--date", date, "--config", str(path)])
        return json.loads(capsys.readouterr().out.splitlines()[-1]) if status == 0 else status

    assert resolve(config, "2026-01-05") == {"transe": None, "kqgc_mean": None}
    night(config, DATES[0])
    assert resolve(config, "2026-01-05") == {"transe": None, "kqgc_mean": None}
    assert resolve(config, "2026-01-20") == {"transe": "2026-01-05", "kqgc_mean": None}
    assert resolve(config, "2026-03-20")["transe"] is None
    assert resolve(write_config(root, training={"space": "other"}), "2026-01-06")["transe"] is None
    assert resolve(write_config(root, training={"on_gap": "fail"}), "2026-01-06")["transe"] == "2026-01-05"
    assert resolve(write_config(root, training={"on_gap": "fail"}), "2026-01-08") == 1
