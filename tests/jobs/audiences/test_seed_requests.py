"""Requests that the night's model of seed lists ranks: from 5 seeds up, and what cannot be served."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.audiences import find_audience, learn_pool, seed_lessons, seed_request, train_lookalike
from jobs.audiences.population import active_users
from jobs.audiences.seed_request import dealt, in_order, own_share
from jobs.audiences.seed_sets import SeedLists
from jobs.configuration.sections import Publishing
from jobs.program import JobError, Output
from tests.jobs.audiences.worlds import BRANDS, DATE, DIMENSION, ITEMS, config, planted, reads, reads_of_request, train
from tests.jobs.report.tables_by_hand import Log, table_input, write_vectors

USERS = 700


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log, list[str]]:
    """(root with a night that has the model, log, active users with a taste for brand 1 by what they bought of it)."""
    root = tmp_path_factory.mktemp("world")
    log = planted(root, users=USERS)
    with pytest.MonkeyPatch.context() as patch:  # the world has nine sets of items
        patch.setattr(learn_pool, "LEAST_SETS", 5)
        patch.setattr(seed_lessons, "LEAST_LISTS", 5)
        assert train(root, config())["seed_lists"]
    liking = {f"u{u:05d}" for u in np.flatnonzero(np.random.default_rng(0).integers(0, BRANDS, USERS) == 1)}
    events = log.events[log.events["event_time"] < pd.Timestamp(DATE, tz="UTC")]
    counts = events[(events["behavior"] == "purchase") & events["user_id"].isin(liking)]["user_id"].value_counts()
    return root, log, counts.index.tolist()


def ask(
    root: Path, tmp_path: Path, seeds: list[str], name: str, header: str = "user_id", **request: Any
) -> tuple[list[str], dict, str]:
    """(the audience's users, best first; its report; its page). seeds: lines of a CSV."""
    path = tmp_path / f"{name}.csv"
    path.write_text("\n".join([header, *seeds]), encoding="utf-8")
    output = table_input(root, "requested_audiences", Output)
    given = reads_of_request(root) | {"k": 60, "model": "transe", "seeds": path, "config": config()} | request
    find_audience.run(date=DATE, **given, requested_audiences=output)
    files = output.table(name).files(DATE.isoformat())
    report = json.loads(Path(next(f for f in files if f.endswith(".json"))).read_text(encoding="utf-8"))
    page = Path(next(f for f in files if f.endswith(".html"))).read_text(encoding="utf-8")
    return [row["user_id"] for row in output.table(name).read(DATE.isoformat()).to_pylist()], report, page


def test_five_seeds_are_a_list(world: tuple, tmp_path: Path) -> None:
    root, _, liking = world
    found, report, page = ask(root, tmp_path, [*liking[:5], "nobody"], "five")
    assert report["weights"] == {"own": 0.0, "learned": 1.0} and report["seeds_active"] == 5
    assert report["learned"]["set_items"] > 0 and report["learned"]["spaces"] == ["transe"]
    assert "night&#39;s model of seed lists" in page or "night's model of seed lists" in page
    assert not set(found) & set(liking[:5]) and len(found) == 60
    assert np.mean([user in liking for user in found]) > 1.4 * len(liking) / USERS
    assert report["quality"].startswith("in time") and report["pr_auc_population"] is not None
    manifest = table_input(root, "requested_audiences").table("five").existing_manifest(DATE.isoformat())
    assert "lookalike_models" in {one["table"] for one in manifest.fields["inputs"]}


def test_the_more_seeds_the_more_counts_their_own_classifier(world: tuple, tmp_path: Path) -> None:
    root, _, liking = world
    assert own_share(5) == own_share(29) == 0 < own_share(30) < own_share(100) < own_share(10_000) < 0.5
    found, report, _ = ask(root, tmp_path, liking[:60], "sixty")
    assert report["weights"]["own"] == pytest.approx(own_share(60), abs=1e-3)
    assert report["weights"]["learned"] == pytest.approx(1 - own_share(60), abs=1e-3)
    rest = set(liking[60:])
    assert np.mean([user in rest for user in found]) > 1.8 * len(rest) / (USERS - 60)
    assert report["pr_auc_1to3"] > 0.4


def test_the_page_names_the_models_whose_vectors_were_read(world: tuple, tmp_path: Path) -> None:
    """With few seeds `model` ranks nothing: the night's model alone does, by the vectors that it learned from."""
    root, _, liking = world
    random, near = np.random.default_rng(5), "kqgc_mean"
    users, items = ({raw: random.normal(size=DIMENSION) for raw in ids} for ids in (
        [f"u{u:05d}" for u in range(USERS)], [f"i{i}" for i in range(ITEMS)]))  # fmt: skip
    write_vectors(root, near, DATE, users, items, np.zeros(DIMENSION))
    settings = dataclasses.replace(config(), publishing=Publishing(models=["transe", near]))
    bare = {"lookalike_models": table_input(tmp_path / "empty", "lookalike_models")}
    for name, seeds, more, wanted in (
        ("little", 6, {}, ["transe"]), ("much", 60, {}, ["transe", near]), ("lone", 60, bare, [near]),
    ):  # fmt: skip
        _, report, page = ask(root, tmp_path, liking[:seeds], name, config=settings, model=near, **more)
        assert report["vectors"] == wanted and report["model"] == near
        assert f"most like the seeds, by their {' and '.join(wanted)} vectors and what was known before" in page


def test_where_the_night_has_no_model_it_is_as_before_and_said(world: tuple, tmp_path: Path, caplog: Any) -> None:
    root, _, liking = world
    bare = {"lookalike_models": table_input(tmp_path / "empty", "lookalike_models")}
    _, report, page = ask(root, tmp_path, liking[:40], "bare", **bare)
    assert report["weights"] == {"own": 1.0, "learned": 0.0} and report["learned"] is None
    assert "The night has no model of seed lists" in page and "has no model of seed lists" in caplog.text
    with pytest.raises(JobError, match=r"at least 30 \(the night of .* with which 5 would do\) active ones are needed"):
        ask(root, tmp_path, liking[:10], "bare_few", **bare)


def test_a_night_without_clients_has_the_model_all_the_same(
    world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _, liking = world
    monkeypatch.setattr(learn_pool, "LEAST_SETS", 5)
    monkeypatch.setattr(seed_lessons, "LEAST_LISTS", 5)
    settings, models = config(clients={}), table_input(tmp_path, "lookalike_models", Output)
    train_lookalike.run(date=DATE, **reads(root), lookalike_models=models, config=settings)
    found, report, _ = ask(root, tmp_path, liking[:5], "nobodys", config=settings, lookalike_models=models)
    assert report["weights"] == {"own": 0.0, "learned": 1.0} and report["learned"]["spaces"] == ["transe"]
    assert np.mean([user in liking for user in found]) > 1.4 * len(liking) / USERS


@pytest.mark.parametrize(("number", "said"), [(1, "1 were active"), (4, "4 were active"), (0, "0 are known")])
def test_too_few_seeds_are_told_with_what_is_needed(world: tuple, tmp_path: Path, number: int, said: str) -> None:
    root, _, liking = world
    with pytest.raises(JobError, match=f"{said}.*at least 5 active ones are needed"):
        ask(root, tmp_path, [*liking[:number], "x", "y", "z", "v", "w"], f"few_{number}")


def test_all_users_as_seeds_leave_nobody_and_all_but_one_leave_one(world: tuple, tmp_path: Path) -> None:
    root, *_ = world
    active = active_users(table_input(root, "clean_events"), DATE, 28).to_pylist()
    with pytest.raises(JobError, match="All .* active users .* are seeds: nobody is left"):
        ask(root, tmp_path, active, "all_of_them")
    found, report, _ = ask(root, tmp_path, active[:-1], "all_but_one")
    assert found == active[-1:] and report["weights"]["own"] == 0, "the list alone has too few others to learn from"


def test_seeds_who_bought_nothing_are_ranked_by_their_vectors(world: tuple, tmp_path: Path, caplog: Any) -> None:
    root, log, _ = world
    buyers = set(log.events[log.events["behavior"] == "purchase"]["user_id"])
    active = active_users(table_input(root, "clean_events"), DATE, 28).to_pylist()
    idle = [user for user in active if user not in buyers]
    assert len(idle) >= 5
    found, report, _ = ask(root, tmp_path, idle[:6], "idle")
    assert len(found) == 60 and report["learned"]["set_items"] == 0
    assert "the seeds bought nothing in the window more than others do" in caplog.text


def test_the_list_of_a_fold_holds_no_seed_of_it(
    world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _, liking = world
    asked, honest = [], SeedLists.columns

    def columns(self: SeedLists, found: Any, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.append((set(seeds.tolist()), set(self.past.eligible[rows].tolist())))
        return honest(self, found, seeds, rows)

    monkeypatch.setattr(SeedLists, "columns", columns)
    ask(root, tmp_path, liking[:20], "folds")
    (seeds, users), *folds = asked
    assert len(folds) == find_audience.FOLDS and len(seeds) == 20 and seeds <= users, "the ranking is by all seeds"
    assert all(not some & held and len(some) == 16 for some, held in folds)
    assert set.union(*(held for _, held in folds)) == users


def test_seeds_with_times_are_known_by_what_came_before_them(
    world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the list stands for, and the columns that quality is told by, hold nothing from each one's day on."""
    root, _, liking = world
    kept, honest, days_before = [], seed_request.asked, 10
    monkeypatch.setattr(seed_request, "asked", lambda *given: kept.append(honest(*given)) or kept[-1])
    lines = [f"{user},{DATE - datetime.timedelta(days=days_before)}" for user in liking[:20]]
    _, report, _ = ask(root, tmp_path, lines, "times", "user_id,event_time")
    assert report["seeds_have_times"] and report["weights"]["own"] == 0
    (request,) = kept
    now, then = request.now.past, request.then.past
    numbers = now.log.numbers(pa.array(liking[:20], pa.large_string()))
    assert (numbers >= 0).all()
    for user in numbers:
        mine, before = (past.log.behaviors["purchase"] for past in (now, then))
        days = mine.day[mine.start[user] : mine.start[user + 1]]
        wanted = days[days < now.today - days_before] + days_before
        assert before.day[before.start[user] : before.start[user + 1]].tolist() == wanted.tolist() != days.tolist()


def test_seeds_are_dealt_out_evenly() -> None:
    positive, order = np.arange(40) < 7, np.random.default_rng(0).random(40)
    parts = dealt(positive, order, 5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert sorted(int(positive[part].sum()) for part in parts) == [1, 1, 1, 2, 2]


def test_columns_are_found_by_name_and_a_missing_one_is_an_error() -> None:
    """Also empty ones stand there under their names: of a model that was not published that night."""
    values = np.array([[1, np.nan, 2], [3, np.nan, 4]], np.float32)
    found = in_order(values, ["a", "kqgc_mean:density_1", "b"], ["b", "kqgc_mean:density_1", "a"])
    assert found[:, [0, 2]].tolist() == [[2, 1], [4, 3]] and np.isnan(found[:, 1]).all()
    assert in_order(values, ["a", "new", "b"], ["b"]).tolist() == [[2], [4]], "what nobody learned from is left out"
    with pytest.raises(JobError, match=r"from 3 columns, of which 1 cannot be had now, e.g. \['c'\].*train_lookalike"):
        in_order(values, ["a", "b", "d"], ["b", "c", "a"])


def test_a_request_under_another_window_than_the_night_learned_by_is_refused(world: tuple, tmp_path: Path) -> None:
    root, _, liking = world
    shorter = dataclasses.replace(config(), graph=dataclasses.replace(config().graph, window_days=25))
    with pytest.raises(JobError, match="cannot be had now, e.g. .*last_30_days.*graph.window_days"):
        ask(root, tmp_path, liking[:6], "other_window", config=shorter)


def test_a_model_that_learned_with_other_attributes_ranks_no_list(world: tuple, tmp_path: Path) -> None:
    root, _, liking = world
    changed = config(exclude_attributes=["category"])
    with pytest.raises(JobError, match=r"exclude_attributes \[\]; found \['category'\] now. Run train_lookalike again"):
        ask(root, tmp_path, liking[:5], "other", config=changed)
