"""Which models a night published, and why not the others."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from jobs.night_figures import outcomes, place, read_night
from models import families
from tests.jobs import nights_by_hand as by_hand
from tests.jobs.nights_by_hand import MODELS, D


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def test_every_model_of_a_whole_night_has_its_folder(tmp_path: Path) -> None:
    settings, since = by_hand.settings(tmp_path), now()
    by_hand.whole_night(settings.data_root, D)
    found = outcomes(settings, read_night(settings.data_root, D, since), since)
    assert [one.model for one in found] == list(MODELS) and not any(one.reason for one in found)
    assert all(Path(one.path).is_dir() and one.path.endswith(f"model={one.model}/dt={D}/") for one in found)


def test_a_learner_of_labels_that_was_skipped_is_no_failure_and_its_readers_neither(tmp_path: Path) -> None:
    settings, since = by_hand.settings(tmp_path), now()
    by_hand.label_learner_skipped(settings.data_root, D)
    found = {one.model: one for one in outcomes(settings, read_night(settings.data_root, D, since), since)}
    assert found["transe"].path and found["kqgc_mean"].path
    assert found["rhgn"].path is None and found["rhgn"].skipped
    assert found["rhgn"].reason == "finetune_rhgn was skipped: No label can be learned from."


@pytest.mark.parametrize(("name", "status", "message", "says"), [
    ("validate_events", 1, "no event", "validate_events failed: no event"),
    ("pretrain_transe", 1, "no memory", "pretrain_transe failed: no memory"),
    ("publish_users_kqgc_mean", 1, "norms", "publish_users_kqgc_mean failed: norms"),
])
def test_the_first_stage_that_went_wrong_is_named(
    name: str, status: int, message: str, says: str, tmp_path: Path
) -> None:
    settings, since = by_hand.settings(tmp_path, ("kqgc_mean",)), now()
    by_hand.whole_night(settings.data_root, D)
    by_hand.stage(settings.data_root, name, D, status, message)
    (found,) = outcomes(settings, read_night(settings.data_root, D, since), since)
    assert (found.path, found.skipped, found.reason) == (None, False, says)


def test_a_skip_of_the_label_reader_excuses_the_learner_of_labels_alone(tmp_path: Path) -> None:
    settings, since = by_hand.settings(tmp_path), now()
    by_hand.stage(settings.data_root, "validate_events", D)
    by_hand.stage(settings.data_root, "read_labels", D, 99, "no labels")
    found = outcomes(settings, read_night(settings.data_root, D, since), since)
    assert [(one.skipped, one.reason) for one in found] == [
        (False, "pretrain_transe did not run"), (False, "pretrain_transe did not run"),
        (True, "read_labels was skipped: no labels")]


def test_what_an_earlier_run_left_is_not_this_runs(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path)
    by_hand.whole_night(settings.data_root, D)
    since = now()
    found = outcomes(settings, read_night(settings.data_root, D, since), since)
    assert {(one.path, one.reason) for one in found} == {(None, "no task of the night ran")}
    by_hand.stage(settings.data_root, "validate_events", D)
    by_hand.publish(settings.data_root, "transe", D)
    found = {one.model: one for one in outcomes(settings, read_night(settings.data_root, D, since), since)}
    assert found["transe"].path and found["kqgc_mean"].reason == "smooth_kqgc_kqgc_mean did not run"


def test_a_stage_that_says_it_is_done_is_not_believed(tmp_path: Path) -> None:
    settings, since = by_hand.settings(tmp_path, ("transe",)), now()
    for name in ("pretrain_transe", "publish_users_transe"):
        by_hand.stage(settings.data_root, name, D)
    (found,) = outcomes(settings, read_night(settings.data_root, D, since), since)
    assert found.path is None and not found.skipped and "left no partition dt=2026-01-21" in found.reason


def test_stages_stand_in_the_order_of_the_night() -> None:
    order = [
        "validate_events", "build_interactions", "read_labels", "resolve_predecessor", "pretrain_transe",
        "smooth_kqgc_kqgc_mean", "finetune_rhgn", "publish_users_transe", "publish_users_rhgn", "train_lookalike",
        "write_report", "zebra"]
    assert sorted(sorted(order), key=place) == order


def test_a_new_familys_stages_take_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    job = families.Job("embeddings.average_toy", ("toy",), "Averages.")
    toy = families.Family(
        "toy", "Toy", "models.hyperparameters.TransEHyperparameters", (job,), "cosine", "toy.width", "l2", "edges", "m",
        "{}", ("", ""), builders=("graphs.build_toys",))
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, toy))
    order = ["build_interactions", "build_toys", "read_labels", "finetune_rhgn", "average_toy", "publish_users_rhgn",
             "publish_users_toy", "train_lookalike"]
    assert sorted(reversed(order), key=place) == order
