"""Which night a model goes on from where the model that it starts from begins anew, or was never published."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_store import Table
from jobs.configuration.load import load
from jobs.embeddings import pretrain_transe, publish_users, resolve_predecessor, smooth_kqgc
from jobs.embeddings.family import family
from jobs.embeddings.predecessors import one_lineage
from jobs.program import FINAL, execute
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES
from tests.jobs.embeddings.rhgn_night import PROFILES

DAYS = [datetime.date(2026, 1, 1) + datetime.timedelta(days=n) for n in range(9)]
KQGC, BOTH = ("kqgc_mean",), ("transe", "kqgc_mean")


def config_of(folder: Path, models: tuple[str, ...] = BOTH, **sections: Any) -> Path:
    publishing = {"models": list(models), "min_neighbour_overlap": 0.0}
    return write_config(folder, publishing=publishing, profiles=PROFILES, **sections)


def resolved(config: Path, date: datetime.date, capsys: pytest.CaptureFixture[str]) -> dict[str, str | None]:
    assert execute(resolve_predecessor.run, ["--date", str(date), "--config", str(config)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def leave(
    config: Path, model: str, day: datetime.date, before: datetime.date | None = None, published: bool = True,
    without: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """What a night leaves of a model: manifests alone. without: what its family does not say."""
    root, settings = config.parent / "data", load(config, publish_users.Config)
    said = {name: value for name, value in family(model, settings).items() if name not in without}
    tables = [root / "checkpoints" / model]
    tables += [root / f"feature_store/user_embeddings/model={model}"] if published else []
    for folder in tables:
        with Table(str(folder)).replace(str(day)) as commit:
            commit.write_table(pa.table({"nothing": [1]}))
            commit.fields["family"] = said
            commit.fields["predecessor"] = {"dt": str(before)} if before else None


def whole_night(
    config: Path, date: datetime.date, capsys: pytest.CaptureFixture[str], models: tuple[str, ...]
) -> dict[str, str | None]:
    """As the DAG has it: who goes on from where, training, publishing."""
    found = resolved(config, date, capsys)
    base = ["--date", str(date), "--config", str(config), "--predecessor"]
    assert execute(pretrain_transe.run, [*base, str(found["transe"])]) == 0
    assert execute(smooth_kqgc.run, [*base, str(found["kqgc_mean"]), "--model", "kqgc_mean"]) == 0
    for model in models:
        assert execute(publish_users.run, [*base, str(found[model]), "--model", model]) == 0
    return found


def space(root: Path, model: str, date: datetime.date) -> dict[str, Any]:
    return Table(str(root / f"data/feature_store/user_embeddings/model={model}")).manifest(str(date)).fields


def test_a_source_that_is_published_later_goes_on_from_its_checkpoint(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So the model that starts from it stays in its space, and the night goes through."""
    for date in DATES[:2]:
        whole_night(config_of(root, KQGC), date, capsys, KQGC)
    found = whole_night(config_of(root), DATES[2], capsys, BOTH)
    assert found == {"transe": str(DATES[1]), "kqgc_mean": str(DATES[1])}
    spaces = [space(root, "kqgc_mean", date)["space_id"] for date in DATES]
    assert len(set(spaces)) == 1 and "fitted" in space(root, "kqgc_mean", DATES[2])["alignment"]["reason"]
    first = space(root, "transe", DATES[2])
    assert first["predecessor"] is None and "first publication" in first["alignment"]["reason"]
    checkpoint = Table(str(root / "data/checkpoints/transe")).manifest(str(DATES[2]))
    assert checkpoint.fields["predecessor"]["dt"] == str(DATES[1])


def test_another_norm_of_the_source_begins_both_anew(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole_night(config_of(root), DATES[0], capsys, BOTH)
    transe = {"dimension": 8, "epochs": 10, "negatives": 8, "negatives_shared_by": 4, "threads": 1, "norm": "l1"}
    found = whole_night(config_of(root, transe=transe), DATES[1], capsys, BOTH)
    assert found == {"transe": None, "kqgc_mean": None}
    for model in BOTH:
        assert space(root, model, DATES[0])["space_id"] != space(root, model, DATES[1])["space_id"]
    assert space(root, "kqgc_mean", DATES[1])["family"]["transe"] == "l1"


def test_vectors_of_a_learned_map_are_no_predecessor_of_those_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie elsewhere: no rotation takes one to the other, nor messages by one share of the degree, or of one
    count, to another's."""
    settings = ({}, {"learned": True}, {"degree_share": 0.0}, {"repeats": False})
    for k, given in enumerate(settings):
        leave(config_of(tmp_path, kqgc=given), "transe", DAYS[k], before=DAYS[k - 1] if k else None)
        leave(config_of(tmp_path, kqgc=given), "kqgc_mean", DAYS[k])
    found = [resolved(config_of(tmp_path, kqgc=given), DAYS[4], capsys)["kqgc_mean"] for given in settings]
    assert found == [str(day) for day in DAYS[:4]]


def test_vectors_of_before_the_family_knew_of_a_learned_map_are_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.1 always learned it: those without are not turned into their space, nor taken for theirs on a night without
    training, which compares nothing."""
    learned, default = {"kqgc": {"learned": True}}, {"kqgc": {}}
    leave(config_of(tmp_path, **learned), "transe", DAYS[0])
    leave(config_of(tmp_path, **learned), "kqgc_mean", DAYS[0], without=("learned", "degree_share", "repeats"))
    found = [resolved(config_of(tmp_path, **given), DAYS[1], capsys) for given in (learned, default)]
    assert found == [{"transe": str(DAYS[0]), "kqgc_mean": before} for before in (str(DAYS[0]), None)]


def test_vectors_of_before_edges_passed_more_messages_are_of_one_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, default = {"kqgc": {"repeats": False}}, {"kqgc": {}}
    leave(config_of(tmp_path, **once), "transe", DAYS[0])
    leave(config_of(tmp_path, **once), "kqgc_mean", DAYS[0], without=("repeats",))
    found = [resolved(config_of(tmp_path, **given), DAYS[1], capsys)["kqgc_mean"] for given in (once, default)]
    assert found == [str(DAYS[0]), None]


def test_users_with_what_they_had_last_are_no_successors_of_those_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor by another weight; without, the other two settings are of no account. Nights of before `recent` had none."""
    models, recent = ("ram_gnn", "ram_gnn_rec"), ({"recent_weight": 2.0}, {}, {"recent": 0})
    for k, given in enumerate(recent):
        config = config_of(tmp_path, models, ram_gnn_rec=given)
        leave(config, "ram_gnn", DAYS[k], before=DAYS[k - 1] if k else None)
        leave(config, "ram_gnn_rec", DAYS[k], without=("recent",) if k == 2 else ())
    asked = (*recent, {"recent": 0, "recent_weight": 2.0})
    found = [resolved(config_of(tmp_path, models, ram_gnn_rec=given), DAYS[4], capsys) for given in asked]
    assert [one["ram_gnn_rec"] for one in found] == [str(DAYS[k]) for k in (0, 1, 2, 2)]


@pytest.mark.parametrize("model", ["kqgc_attention2", "rhgn"])
def test_a_model_begins_anew_with_its_source(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The source's night is gone on which the model's last one was built, and the one before is too old."""
    config = config_of(tmp_path, ("transe", model), training={"max_gap_days": 3})
    leave(config, "transe", DAYS[0])
    leave(config, model, DAYS[0])
    leave(config, model, DAYS[4])
    assert resolved(config, DAYS[5], capsys) == {"transe": None, model: None}


def test_a_model_that_was_away_does_not_go_on_over_a_new_beginning_of_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path)
    leave(config, "transe", DAYS[0])
    leave(config, "kqgc_mean", DAYS[0])
    leave(config, "transe", DAYS[1], before=DAYS[0])
    leave(config, "transe", DAYS[2], before=DAYS[1])
    assert resolved(config, DAYS[3], capsys) == {"transe": str(DAYS[2]), "kqgc_mean": str(DAYS[0])}
    leave(config, "transe", DAYS[1])  # cold
    assert resolved(config, DAYS[3], capsys) == {"transe": str(DAYS[2]), "kqgc_mean": None}


def test_a_source_whose_publish_failed_goes_on_from_the_night_before_and_the_model_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path)
    for day, before, published in ((DAYS[0], None, True), (DAYS[1], DAYS[0], False)):
        leave(config, "transe", day, before, published)
        leave(config, "kqgc_mean", day, before)
    assert resolved(config, DAYS[2], capsys) == {"transe": str(DAYS[0]), "kqgc_mean": str(DAYS[1])}


def test_a_checkpoint_of_another_family_is_no_start_for_a_source_that_is_published_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    former = config_of(tmp_path, KQGC, transe={"dimension": 8, "norm": "l1"})
    leave(former, "transe", DAYS[0], published=False)
    leave(former, "kqgc_mean", DAYS[0], without=("transe",))
    config = config_of(tmp_path, transe={"dimension": 8, "norm": "l2"})
    assert resolved(config, DAYS[1], capsys) == {"transe": None, "kqgc_mean": None}


def test_a_partition_of_before_the_family_knew_the_norm_is_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path)
    leave(config, "transe", DAYS[0])
    leave(config, "kqgc_mean", DAYS[0], without=("transe",))
    assert resolved(config, DAYS[1], capsys) == {"transe": str(DAYS[0]), "kqgc_mean": str(DAYS[0])}


def test_a_predecessor_that_was_published_and_is_gone_is_no_first_publication(
    root: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole_night(config_of(root), DATES[0], capsys, BOTH)
    whole_night(config_of(root), DATES[1], capsys, BOTH)
    base = ["--config", str(config_of(root)), "--date", str(DATES[1]), "--predecessor", "2026-01-04"]
    assert execute(publish_users.run, [*base, "--model", "transe"]) == FINAL
    assert "2026-01-04" in caplog.text


def test_lineages_are_followed_to_a_night_in_common(tmp_path: Path) -> None:
    """0 <- 1 <- 3, 1 <- 2, and 4 begins anew; 5 went on from a night that is gone."""
    config, table = config_of(tmp_path), Table(str(tmp_path / "data/checkpoints/transe"))
    for day, before in ((0, None), (1, 0), (2, 1), (3, 1), (4, None), (6, 5)):
        leave(config, "transe", DAYS[day], None if before is None else DAYS[before])
    same = {(a, b): one_lineage(table, DAYS[a], DAYS[b]) for a, b in ((3, 2), (2, 3), (0, 3), (4, 3), (6, 4), (6, 5))}
    assert same == {(3, 2): True, (2, 3): True, (0, 3): True, (4, 3): False, (6, 4): False, (6, 5): True}
    assert not one_lineage(table, None, DAYS[0]) and not one_lineage(table, None, None)
