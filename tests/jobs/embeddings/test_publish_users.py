"""Publishing over planted nights: order of dates, one space, carried users, what is never published."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_store import FeatureStore, Segments, Table
from feature_store.local_disk import LocalDisk
from jobs import erase_users
from jobs.arrays import read_checkpoint
from jobs.embeddings import pretrain_transe, publish_users, resolve_predecessor
from jobs.program import FINAL, execute, midnight
from tests.jobs.embeddings.planted import DIMENSION, write_config, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS, night, same_group_share


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
    assert manifest.fields["max_gap_days"] == 30, "verify asks whether a predecessor was near enough"
    users = {r["raw"]: r["embedding"] for r in entities.to_pylist() if r["entity_type"] == "user"}
    published = FeatureStore(str(root / "data" / "feature_store")).read("user_embeddings", model="transe", dt=dt)
    np.testing.assert_allclose(published.matrix(), np.array([users[u] for u in published.user_ids()]))


def test_users_are_published_last_so_that_whoever_sees_them_finds_the_items(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert second.fields["predecessor"] == {
        "table": "feature_store/user_embeddings/model=transe",
        "dt": str(DATES[0]),
        "content_hash": first.content_hash,
    }
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


def test_an_erased_user_is_not_published_again_from_a_checkpoint_that_still_has_his_number(root: Path) -> None:
    config = write_config(root)
    night(config, DATES[0])
    (root / "ids.txt").write_text("u003")
    given = ["--config", str(config), "--date", str(DATES[0])]
    assert execute(erase_users.run, [*given, "--user-ids", str(root / "ids.txt")]) == 0
    assert execute(publish_users.run, [*given, "--model", "transe"]) == 0
    rest = [user for user in USERS if user != "u003"]
    store = FeatureStore(str(root / "data" / "feature_store"))
    assert store.read("user_embeddings", model="transe", dt="2026-01-05").user_ids() == rest
    entities = Table(str(root / "data/entity_embeddings/transe")).read(str(DATES[0]))
    users = entities.filter(pc.equal(entities.column("entity_type"), "user"))
    assert users.column("raw").to_pylist() == rest


def test_users_whose_events_are_not_in_the_graph_are_not_missed(root: Path) -> None:
    """Known behaviours that are no relation, and events before a relation's own window: interactions hold them, the
    graph does not."""
    write_ledgers(root / "data", [*USERS, *(f"w{n}" for n in range(40))])
    ledger = Segments(str(root / "data/entity_ids/user")).read()
    ids = dict(zip(ledger.column("raw").to_pylist(), ledger.column("id").to_pylist(), strict=True))
    table = Table(str(root / "data/interactions"))
    seen, evening = table.read(str(DATES[0])), midnight(DATES[0]) - datetime.timedelta(hours=5)
    others = [
        (ids[f"w{n}"], "view", evening) if n < 20 else (ids[f"w{n}"], "purchase", evening - datetime.timedelta(days=15))
        for n in range(40)
    ]
    others.append((ids["u000"], "view", evening))
    rows = [
        {"user": u, "item": 0, "behavior": b, "count": 7, "value_sum": 0.0, "last_time": when} for u, b, when in others
    ]
    with table.replace(str(DATES[0])) as commit:
        commit.write_table(pa.concat_tables([seen, pa.Table.from_pylist(rows, seen.schema)]))
    graph = {
        "behaviors": {"purchase": {"window_days": 15}},
        "item_attributes": {"brand": {}},
        "user_attributes": {"region": {}},
    }
    night(write_config(root, events={"behaviors": ["view", "purchase"]}, graph=graph), DATES[0])
    published = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    assert published.manifest(str(DATES[0])).fields["quality"]["coverage"] == 1.0
    first = published.read(str(DATES[0])).to_pylist()[0]
    assert first["user_id"] == "u000" and first["n_events"] <= 6


def test_n_events_counts_each_behaviour_in_its_own_window(root: Path) -> None:
    """Interactions count over graph.window_days: of a pair with an event in `purchase`'s own window all the others too.
    The graph counts those within."""
    interactions, graph = (Table(str(root / "data" / name)) for name in ("interactions", "knowledge_graph"))
    for table, name, count in ((interactions, "behavior", 9), (graph, "relation", 2)):
        seen = table.read(str(DATES[0]))
        purchases = pc.is_in(seen.column(name), value_set=pa.array(["purchase"] if name == "behavior" else [0]))
        counts = pc.if_else(purchases, count, 1).cast(pa.int64())
        with table.replace(str(DATES[0])) as commit:
            commit.write_table(seen.set_column(seen.column_names.index("count"), seen.schema.field("count"), counts))
    behaviors = {"purchase": {"window_days": 15}}
    attributes = {"item_attributes": {"brand": {}}, "user_attributes": {"region": {}}}
    night(write_config(root, graph={"behaviors": behaviors} | attributes), DATES[0])
    published = Table(str(root / "data/feature_store/user_embeddings/model=transe")).read(str(DATES[0]))
    n_items = interactions.read(str(DATES[0])).group_by("user").aggregate([([], "count_all")])
    assert sorted(published.column("n_events").to_pylist()) == sorted(2 * n for n in n_items["count_all"].to_pylist())


def test_items_and_relations_are_committed_before_the_users_that_need_them(root: Path) -> None:
    night(write_config(root), DATES[0])
    entities, users = (
        root / f"data/{t}/dt={DATES[0]}/_manifest.json"
        for t in ("entity_embeddings/transe", "feature_store/user_embeddings/model=transe")
    )
    assert entities.stat().st_mtime_ns < users.stat().st_mtime_ns


def test_with_few_common_users_r_is_the_predecessors_and_the_manifest_says_so(root: Path) -> None:
    night(write_config(root), DATES[0])
    other = write_config(root, seed=99)  # trained from scratch: an R that is not the identity
    base = ["--date", str(DATES[1]), "--config", str(other)]
    assert execute(pretrain_transe.run, [*base, "--predecessor", "none"]) == 0
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", str(DATES[0])]) == 0
    write_graph(root / "data", DATES[2], USERS[: 2 * DIMENSION - 1])
    night(other, DATES[2], DATES[1])
    second, third = (
        Table(str(root / "data/feature_store/user_embeddings/model=transe")).manifest(str(d)).fields for d in DATES[1:]
    )
    assert (
        third["rotation"] == second["rotation"] != np.eye(DIMENSION).tolist()
        and third["space_id"] == second["space_id"]
    )
    assert (
        f"{2 * DIMENSION - 1} users are trained in both" in third["alignment"]["reason"]
        and str(DATES[1]) in third["alignment"]["reason"]
    )


def test_drift_is_measured_from_the_label_windows_start_itself_and_not_of_carried_users(root: Path) -> None:
    config = write_config(
        root, lookalike={"label_window_days": 2}, publishing={"models": ["transe"], "min_neighbour_overlap": 0.0}
    )
    for date in DATES[1:]:
        write_graph(root / "data", date, USERS[:40], seed=date.day)
    for number, date in enumerate(DATES):
        night(config, date, DATES[number - 1] if number else None)
    table = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    found = table.manifest(str(DATES[2])).fields["quality"]["drift"]
    vectors = [
        {r["user_id"]: np.array(r["embedding"]) for r in table.read(str(d)).to_pylist() if r["source"] != "carried"}
        for d in DATES
    ]
    for name, then in (("since_label_start", 0), ("since_predecessor", 1)):
        moved = [
            1 - vectors[2][u] @ vectors[then][u] / np.linalg.norm(vectors[2][u]) / np.linalg.norm(vectors[then][u])
            for u in USERS[:40]
        ]
        assert found[name]["date"] == str(DATES[then]) and found[name]["n_users"] == 40
        assert found[name]["median"] == pytest.approx(np.median(moved), abs=1e-6)


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
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", str(DATES[0])]) == FINAL
    store = FeatureStore(str(root / "data/feature_store"))
    assert store.table("user_embeddings", "transe").values() == [str(DATES[0])]
    write_config(
        root, publishing={"models": ["transe"], "min_neighbour_overlap": 1.0, "on_space_break": "publish"}, seed=99
    )
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", str(DATES[0])]) == 0
    ids = {store.table("user_embeddings", "transe").manifest(str(d)).fields["space_id"] for d in DATES[:2]}
    assert len(ids) == 2


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
    assert resolve(write_config(root, training={"on_gap": "fail"}), "2026-01-08") == FINAL
