"""HUGT over planted nights: what it foretells, warm starts, kills, unusual histories, users outside the window."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from feature_store import FeatureStore, Segments, Table
from jobs.arrays import INDUCTIVE, NONE, TRAINED
from jobs.embeddings import publish_users, scratch, train_hugt
from jobs.embeddings.hugt_histories import NightHistories
from jobs.program import FINAL, Input, execute
from tests.jobs.embeddings.hugt_nights import (
    FAST,
    LENGTH,
    base,
    checkpoint_of,
    config_of,
    planted_histories,
    rows_of,
    write_sequences,
)
from tests.jobs.embeddings.planted import write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS


@pytest.fixture
def night(root: Path) -> Path:
    """The planted root with the first date's sequences."""
    write_sequences(root, DATES[0], planted_histories(USERS))
    return root


def second_night(root: Path, histories: dict[str, list[str]], users: list[str] = USERS) -> None:
    """The second date's graph and sequences."""
    write_ledgers(root / "data", users)
    write_graph(root / "data", DATES[1], users)
    write_sequences(root, DATES[1], histories)


def lengths_told(root: Path) -> list[dict[str, float]]:
    """The first night's figures of held-out events, by how many events the state knew."""
    rows = Table(str(root / "data/run_metrics/stage=train_hugt")).read(str(DATES[0])).to_pylist()
    return json.loads(next(row["detail"] for row in rows if row["metric"] == "by_length"))


def test_the_next_item_is_foretold(night: Path) -> None:
    assert execute(train_hugt.run, base(config_of(night), DATES[0])) == 0
    found, histories = checkpoint_of(night, DATES[0]), planted_histories(USERS)
    users, items = rows_of(night, found, "user"), rows_of(night, found, "item")
    names, hits = list(items), 0
    for user, history in histories.items():
        scores = found.entities[[items[name] for name in names]] @ found.entities[users[user]]
        wanted = f"i{(int(history[-1][1:]) + 4) % 40:03d}"  # the next of the group
        hits += names.index(wanted) in np.argsort(-scores)[:3]
    assert hits > 0.7 * len(histories)
    by_length = lengths_told(night)
    assert sum(row["users"] for row in by_length) > 3
    manifest = Table(str(night / "data/checkpoints/hugt")).manifest(str(DATES[0]))
    assert set(manifest.fields["inputs"]) == {"knowledge_graph", "sequences"}


def test_times_are_those_of_the_events_whatever_the_rows_order(night: Path) -> None:
    table = Table(str(night / "data/sequences")).read(str(DATES[0]))
    rows = table.take(np.random.default_rng(0).permutation(table.num_rows))
    found = NightHistories.of(rows, Input("entity_ids", str(night / "data/entity_ids")))
    assert sorted(found.histories.lengths) == sorted(len(history) for history in planted_histories(USERS).values())
    midnight = int(np.datetime64(DATES[0], "s").astype(np.int64))
    for first, end in itertools.pairwise(found.histories.offsets):
        assert found.times[first:end].tolist() == [midnight - 3600 * n for n in range(end - first, 0, -1)]


def test_with_a_horizon_what_is_foretold_lies_within_so_many_days(night: Path) -> None:
    """Histories have an event an hour: within a day any of those to come is asked for, and which is anybody's guess."""
    loss = {}
    for days in (0, 1):
        assert execute(train_hugt.run, base(config_of(night, hugt=FAST | {"horizon_days": days}), DATES[0])) == 0
        rows = Table(str(night / "data/run_metrics/stage=train_hugt")).read(str(DATES[0])).to_pylist()
        history = json.loads(next(row["detail"] for row in rows if row["metric"] == "history"))
        loss[days] = min(epoch["loss"] for epoch in history)
    assert loss[1] > loss[0] + 0.2


def test_equal_nights_have_equal_bytes_whatever_the_ledgers_order(night: Path) -> None:
    config, table = config_of(night), Table(str(night / "data/checkpoints/hugt"))
    hashes = set()
    for _ in range(2):
        assert execute(train_hugt.run, base(config, DATES[0])) == 0
        hashes.add(table.manifest(str(DATES[0])).content_hash)
    assert len(hashes) == 1
    before, rows = checkpoint_of(night, DATES[0]), rows_of(night, checkpoint_of(night, DATES[0]), "user")
    other = night / "other"
    write_ledgers(other / "data", USERS, order_seed=9)
    write_graph(other / "data", DATES[0], USERS)
    write_sequences(other, DATES[0], planted_histories(USERS))
    assert execute(train_hugt.run, base(config_of(other), DATES[0])) == 0
    after = checkpoint_of(other, DATES[0])
    theirs = rows_of(other, after, "user")
    assert rows.keys() == theirs.keys()
    for user, row in rows.items():
        np.testing.assert_array_equal(before.entities[row], after.entities[theirs[user]])


def test_a_killed_run_goes_on_where_it_was(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, table = config_of(night), Table(str(night / "data/checkpoints/hugt"))
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    whole = table.manifest(str(DATES[0])).content_hash

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_hugt.Tonight, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(train_hugt.run, base(config, DATES[0]))
    state = night / f"data/checkpoints/hugt/_scratch/{DATES[0]}.safetensors"
    assert state.exists()
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    assert table.manifest(str(DATES[0])).content_hash == whole and not state.exists()


def test_no_state_stays_where_the_checkpoints_are_on_another_disk(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = []

    class Watched(scratch._Mirror):
        def put(self) -> None:
            super().put()
            put.append(self._disk.exists(self._place))

    monkeypatch.setattr(scratch, "is_local", lambda disk: False)
    monkeypatch.setattr(scratch, "_Mirror", Watched)
    assert execute(train_hugt.run, base(config_of(night), DATES[0])) == 0
    assert put[-1], "it was put there while it trained"
    assert not (night / f"data/checkpoints/hugt/_scratch/{DATES[0]}.safetensors").exists()


@pytest.mark.parametrize("trains", [True, False])
def test_a_warm_start_places_new_items_by_their_nearest_and_infers_new_users(night: Path, trains: bool) -> None:
    every = {} if trains else {"training": {"train_every_days": 30}}
    config = config_of(night, hugt=FAST | {"epochs": 6 if trains else 12}, **every)
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    assert execute(publish_users.run, [*base(config, DATES[0]), "--model", "hugt"]) == 0
    newcomer, histories = "u060", planted_histories(USERS)
    for user in USERS[:20:4]:  # group 0 has a new item after i000
        histories[user] = ["i036", "i000", "new", "i004"]
    second_night(night, histories | {newcomer: ["i000"]}, [*USERS, newcomer])
    assert execute(train_hugt.run, base(config, DATES[1], DATES[0])) == 0
    found, former = checkpoint_of(night, DATES[1]), checkpoint_of(night, DATES[0])
    users = rows_of(night, found, "user")
    assert found.source[users[newcomer]] == INDUCTIVE, "one event teaches nothing"
    assert {found.source[row] for user, row in users.items() if user != newcomer} == {TRAINED}
    assert found.facts["trained_at"] == str(DATES[trains])
    (new,) = set(found.extra["vocabulary"]) - set(former.extra["vocabulary"])
    at = int(np.flatnonzero(found.extra["vocabulary"] == new)[0])
    weights = found.extra["hugt.items"][at]
    assert np.linalg.norm(weights) < (2 if trains else 1) and np.isfinite(weights).all()
    assert execute(publish_users.run, [*base(config, DATES[1], DATES[0]), "--model", "hugt"]) == 0
    fields = Table(str(night / "data/feature_store/user_embeddings/model=hugt")).manifest(str(DATES[1])).fields
    assert fields["quality"]["coverage"] == 1


def test_unusual_histories_get_vectors(night: Path) -> None:
    """One event; one item again and again; longer than max_length; an item that left the catalogue; k beyond them all;
    a user of the window without any event that histories have."""
    histories = planted_histories(USERS)
    histories |= {"u000": ["i000"], "u001": ["i001"] * 5, "u002": ["i002", "i006"] * 20, "u003": ["gone", "i003"]}
    del histories["u005"]
    write_sequences(night, DATES[0], histories)
    config = config_of(night, hugt=FAST | {"neighbours": 50, "variant": "se"})
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    found = checkpoint_of(night, DATES[0])
    users, items = rows_of(night, found, "user"), rows_of(night, found, "item")
    sources = {user: int(found.source[row]) for user, row in users.items()}
    assert sources.pop("u000") == sources.pop("u005") == INDUCTIVE and set(sources.values()) == {TRAINED}
    assert np.isfinite(found.entities).all() and len(found.extra["hugt.items"]) == len(items) + 1
    np.testing.assert_array_equal(found.entities[users["u005"]], [0.0] * FAST["width"] + [1.0])
    assert "gone" not in items, "nobody is recommended what has left the catalogue"
    assert found.extra["hugt.blocks.0.psi"].shape[1] == LENGTH
    assert execute(publish_users.run, [*base(config, DATES[0]), "--model", "hugt"]) == 0
    published = FeatureStore(str(night / "data/feature_store")).read("user_embeddings", model="hugt", dt=str(DATES[0]))
    assert published.table.num_rows == len(USERS) and min(published.table.column("n_events").to_pylist()) > 0


def test_a_history_without_an_event_in_the_window_is_carried(night: Path) -> None:
    """The first night's vector stays while the space holds; where there is none, readers have none. Both teach."""
    config, quiet, stranger = config_of(night), "u007", "u061"
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    assert execute(publish_users.run, [*base(config, DATES[0]), "--model", "hugt"]) == 0
    others = [user for user in USERS if user != quiet]
    write_ledgers(night / "data", [*USERS, stranger])
    write_graph(night / "data", DATES[1], others)
    write_sequences(night, DATES[1], planted_histories(USERS) | {stranger: ["i001", "i005", "i009"]})
    assert execute(train_hugt.run, base(config, DATES[1], DATES[0])) == 0
    assert execute(publish_users.run, [*base(config, DATES[1], DATES[0]), "--model", "hugt"]) == 0
    store = FeatureStore(str(night / "data/feature_store"))
    rows = {row["user_id"]: row for row in store.read(
        "user_embeddings", model="hugt", dt=str(DATES[1])).table.to_pylist()}  # fmt: skip
    assert (rows[quiet]["source"], rows[quiet]["n_events"]) == ("carried", 0) and stranger not in rows
    assert len(rows) == len(USERS)


def test_a_user_in_the_graph_by_an_attribute_alone_has_no_vector_of_tonight(night: Path) -> None:
    graph, dt = Table(str(night / "data/knowledge_graph")), str(DATES[0])
    rows = graph.read(dt).to_pylist()
    ids = {row["raw"]: row["id"] for row in Segments(str(night / "data/entity_ids/user")).read().to_pylist()}
    kept = [row for row in rows if not (row["relation"] == 0 and row["head"] == ids["u004"])]
    with graph.replace(dt) as commit:
        commit.write_table(type(graph.read(dt)).from_pylist(kept, graph.read(dt).schema))
        commit.fields["window"] = {"days": 45, "before": dt}
    assert execute(train_hugt.run, base(config_of(night), DATES[0])) == 0
    found = checkpoint_of(night, DATES[0])
    rows_of_users = rows_of(night, found, "user")
    assert {user for user, row in rows_of_users.items() if found.source[row] == NONE} == {"u004"}


def test_users_with_few_events_teach_nothing_and_are_inferred(
    night: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(night, training={"min_train_events": 6})
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    found, histories = checkpoint_of(night, DATES[0]), planted_histories(USERS)
    users = rows_of(night, found, "user")
    assert {user for user, row in users.items() if found.source[row] == TRAINED} == {
        user for user, items in histories.items() if len(items) >= 6}  # fmt: skip
    assert min(row["from"] for row in lengths_told(night)) == 5, "nor is anybody of them held out"
    config = config_of(night, training={"min_train_events": 60})
    assert execute(train_hugt.run, base(config, DATES[0])) == 0
    assert "no history has training.min_train_events 60 events: all of two are trained on" in caplog.text


def test_a_predecessor_of_other_hyperparameters_is_named(night: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert execute(train_hugt.run, base(config_of(night), DATES[0])) == 0
    second_night(night, planted_histories(USERS))
    config = config_of(night, hugt=FAST | {"layers": 1})
    assert execute(train_hugt.run, base(config, DATES[1], DATES[0])) == FINAL
    assert "Does not fit together" in caplog.text and "is of no parameter of this one" in caplog.text


def test_users_who_all_moved_do_not_break_the_space(night: Path) -> None:
    """A week later everybody's last events are others; the items are where they were, and the space with them."""
    assert execute(train_hugt.run, base(config_of(night), DATES[0])) == 0
    assert execute(publish_users.run, [*base(config_of(night), DATES[0]), "--model", "hugt"]) == 0
    shifted = dict(zip(sorted(USERS), [*planted_histories(USERS).values()][::-1], strict=True))
    second_night(night, shifted)
    run = base(config_of(night), DATES[1], DATES[0])
    assert execute(train_hugt.run, run) == 0
    assert execute(publish_users.run, [*run, "--model", "hugt"]) == 0
    table = Table(str(night / "data/feature_store/user_embeddings/model=hugt"))
    first, second = (table.manifest(str(date)).fields for date in DATES[:2])
    assert first["space_id"] == second["space_id"]
    assert "canaries" not in second["quality"], "what users were asked a week ago is no question to these states"
    found = second["alignment"]
    assert found["n_common"] == 40 and found["residual"] < 0.8 and found["reason"] == f"fitted to {DATES[0]}"
