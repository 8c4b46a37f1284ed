"""Sets of items where attributes make too few: what stands in, and that it has seen no label window."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from jobs.audiences import learn_pool
from jobs.audiences.item_sets import item_sets
from jobs.audiences.learn_pool import lessons_of, log_before
from jobs.audiences.nights import Tables
from jobs.audiences.stand_ins import stand_ins
from jobs.audiences.train_lookalike import clients_of
from tests.jobs.audiences.test_pooled import config, lessons
from tests.jobs.audiences.worlds import DATE, START, planted, reads
from tests.jobs.report.tables_by_hand import Log


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    root = tmp_path_factory.mktemp("stand-ins")
    return root, planted(root, styles=24)


@pytest.mark.parametrize("wanted", [5, 12])
def test_too_few_values_are_joined_by_single_items_and_groups(
    tmp_path: Path, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path)
    monkeypatch.setattr(learn_pool, "LEAST_SETS", wanted)
    found = lessons(tmp_path, config(label_windows=1))
    kinds = {name.split("=")[0].split(" ")[0] for name in found.sets.names}
    more = {"item_id", "group"} if wanted > 9 else set()
    assert {"brand", "category"} <= kinds and kinds & {"item_id", "group"} == more
    assert found.windows[0].usable().sum() >= wanted


def test_single_items_and_groups_of_vectors_stand_in_for_attributes(world: tuple[Path, Log]) -> None:
    root, log = world
    clients = {"one_item": {"item_id": ["i7"]}}
    settings, tables = config(exclude_attributes=["brand", "category", "style"], clients=clients), Tables(**reads(root))
    snapshot, look = tables.snapshot(DATE, settings.graph), settings.lookalike
    before = log_before(tables, DATE, snapshot, settings.graph, look)
    found = stand_ins(before, tables, START, ["transe"], "purchase", seed=0)
    sets = item_sets(snapshot, before, clients_of(settings), look.exclude_attributes).and_also(found)
    singles = [name for name in sets.names if name.startswith("item_id=")]
    assert len(singles) > 40 and "item_id=i7" not in singles, "a client counts once"
    brand = dict(zip(log.items["brand"]["id"], log.items["brand"]["value"], strict=True))
    raw = np.array(before.items.to_pylist())
    kinds = [{brand[item] for item in raw[items]} for name, items in found.items() if name.startswith("group ")]
    assert len(kinds) == 8 and sum(len(kind) == 1 for kind in kinds) >= 6, "items of one brand lie together there"


def test_vectors_that_have_seen_a_label_window_group_no_items(world: tuple[Path, Log]) -> None:
    root, _ = world
    tables, settings = Tables(**reads(root)), config()
    before = log_before(tables, DATE, tables.snapshot(DATE, settings.graph), settings.graph, settings.lookalike)
    none = stand_ins(before, tables, START - datetime.timedelta(days=1), ["transe"], "purchase", seed=0)
    at_start = stand_ins(before, tables, START, ["transe"], "purchase", seed=0)
    assert none and {name.split("=")[0] for name in none} == {"item_id"} and len(at_start) == len(none) + 8


def test_lessons_ask_for_groups_as_of_the_oldest_label_window(
    world: tuple[Path, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = world
    settings, tables, asked = config(label_windows=2), Tables(**reads(root)), []
    monkeypatch.setattr(learn_pool, "LEAST_SETS", 1000)
    monkeypatch.setattr(learn_pool, "stand_ins", lambda log, tables, since, *_: asked.append(since) or {})
    snapshot, look = tables.snapshot(DATE, settings.graph), settings.lookalike
    assert isinstance(lessons_of(tables, DATE, snapshot, {}, ["transe"], settings.graph, look, 0), str)
    assert asked == [DATE - datetime.timedelta(days=14)]
