"""Suppression, control groups and attributes without a column, in the night and on demand."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_store import Table
from jobs.audiences import find_audience, score_lookalike
from jobs.audiences.campaign import Campaign as CampaignOfOne
from jobs.audiences.score_lookalike import read_models
from jobs.configuration.sections import Campaign
from jobs.program import JobError, Output
from tests.jobs.audiences.worlds import DATE, config, planted, reads, reads_of_request, score, train
from tests.jobs.report.tables_by_hand import table_input
from tests.jobs.written import wrong_columns

DT = DATE.isoformat()
CLIENTS = {"brand_0": {"brand": "b0"}, "brand_1": {"brand": "b1"}}


def settings(**changes: Any) -> Any:
    return config(**({"clients": CLIENTS, "feature_sets": ["baseline"], "top_k": 100} | changes))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    planted(root, users=500)
    train(root, settings())
    return root


def handed_out(root: Path, name: str = "audiences", which: str | None = None) -> tuple[pd.DataFrame, Table]:
    table = table_input(root, name).table(which)
    return table.read(DT).to_pandas(), table


def lines_of(table: Table, file: str) -> list[str]:
    """The ids of a CSV."""
    text = (Path(table.path(DT)) / file).read_text(encoding="utf-8")
    return [row["user_id"] for row in csv.DictReader(io.StringIO(text))]


def test_a_campaign_changes_audiences_and_no_score(world: Path, tmp_path: Path, caplog: Any) -> None:
    plain_figures = score(world, settings())
    plain, _ = handed_out(world)
    hashed = table_input(world, "lookalike_scores").table().manifest(DT).content_hash
    mine = plain.query("client == 'brand_0'")["user_id"].tolist()
    (tmp_path / "all.txt").write_text("\n".join([*mine[:3], "nobody"]), encoding="utf-8")
    (tmp_path / "own.csv").write_text("user_id\n" + "\n".join(mine[5:50]), encoding="utf-8")
    campaigns = {"brand_0": Campaign(suppress=str(tmp_path / "own.csv"), control_share=0.3)}
    with caplog.at_level(logging.INFO, "nocturne"):
        figures = score(world, settings(suppress=str(tmp_path / "all.txt"), campaigns=campaigns))
    found, table = handed_out(world)
    assert table_input(world, "lookalike_scores").table().manifest(DT).content_hash == hashed
    assert wrong_columns(world)["audiences"] == []
    out = {"brand_0": {*mine[:3], *mine[5:50]}, "brand_1": set(mine[:3])}
    by_client = {row["client"]: row for row in figures["audiences"]}
    for client, suppressed in out.items():
        audience, row = found[found["client"] == client], by_client[client]
        assert not set(audience["user_id"]) & suppressed and len(audience) == 100 == row["k"]
        before = plain.query("client == @client")["user_id"]
        assert audience["user_id"].tolist()[: len(before) - 48] == before[~before.isin(suppressed)].tolist()[:52]
        assert row["suppressed"] == len(suppressed)
        assert f"{client}: {len(suppressed)} of {row['eligible']} eligible users are suppressed" in caplog.text
    control = found.query("client == 'brand_0' and group == 'control'")["user_id"].tolist()
    row = by_client["brand_0"]
    assert 15 <= len(control) == row["control"] <= 45 and row["control_share"] == 0.3
    mailed = found.query("client == 'brand_0' and group == 'mailing'")["user_id"].tolist()
    assert lines_of(table, row["control_file"]) == control and lines_of(table, row["file"]) == mailed
    assert set(found.query("client == 'brand_1'")["group"]) == {"mailing"} and by_client["brand_1"]["control"] == 0
    assert by_client["brand_1"]["control_file"] is None is plain_figures["audiences"][0]["control_file"]
    fields = table.manifest(DT).fields
    assert fields["control_share"] == {"brand_0": 0.3} and figures["suppression"][0]["known"] == 3
    assert {key: (one["name"], len(one["sha256"])) for key, (one,) in fields["sources"].items()} == {
        "lookalike.suppress": ("all.txt", 64), "lookalike.campaigns.brand_0.suppress": ("own.csv", 64)}  # fmt: skip


def test_without_its_list_no_audience_is_made(world: Path, tmp_path: Path) -> None:
    score(world, settings())
    before = table_input(world, "audiences").table().manifest(DT)
    for changes in (
        {"suppress": str(tmp_path / "none.csv")}, {"campaigns": {"brand_1": Campaign(suppress=str(tmp_path))}}
    ):
        with pytest.raises(JobError, match=r"The suppression list that lookalike\.(campaigns\.brand_1\.)?suppress"):
            score(world, settings(**changes))
    assert table_input(world, "audiences").table().manifest(DT) == before


def broken(*_: Any) -> None:
    raise OSError("killed")


def test_a_run_that_breaks_leaves_an_audience_whole_and_another_mends_it(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All work is done before the first of three commits; audiences come last, for who waits for them."""
    names = ("lookalike_scores", "audience_reasons", "audiences")

    def versions() -> list[str]:
        return [table_input(world, name).table().manifest(DT).created_timestamp for name in names]

    score(world, settings(top_k=20))
    before, rows = versions(), handed_out(world)[0]
    with monkeypatch.context() as patch:
        patch.setattr(score_lookalike, "reasons_of", broken)
        with pytest.raises(OSError, match="killed"):
            score(world, settings(top_k=30))
    assert versions() == before
    with monkeypatch.context() as patch:
        patch.setattr(CampaignOfOne, "files", broken)
        with pytest.raises(OSError, match="killed"):
            score(world, settings(top_k=30))
    assert [now == then for now, then in zip(versions(), before, strict=True)] == [False, False, True]
    assert handed_out(world)[0].equals(rows)
    score(world, settings(top_k=30))
    assert versions()[2] > before[2] and len(handed_out(world)[0]) == 60


def ask(root: Path, look: Any, **request: Any) -> tuple[pd.DataFrame, dict[str, Any], Table]:
    """(the audience, its report, its table)."""
    output = table_input(root, "requested_audiences", Output)
    given = reads_of_request(root) | {"k": 60, "model": "transe"} | request
    find_audience.run(date=DATE, **given, requested_audiences=output, config=look)
    rows, table = handed_out(root, "requested_audiences", request["name"])
    files = table.files(DT)
    report = json.loads(Path(next(f for f in files if f.endswith(".json"))).read_text(encoding="utf-8"))
    page = Path(next(f for f in files if f.endswith(".html"))).read_text(encoding="utf-8")
    assert ("on a suppression list and kept out" in page) == bool(report["suppressed"])
    assert ("Control group" in page) == bool(report["control_share"])
    return rows, report, table


def test_a_seed_on_a_list_is_in_no_audience_although_seeds_are_ranked(world: Path, tmp_path: Path) -> None:
    seeds = [f"u{number:05d}" for number in range(0, 300, 2)]
    (tmp_path / "seeds.txt").write_text("\n".join(seeds), encoding="utf-8")
    asked = {"seeds": tmp_path / "seeds.txt", "include_seeds": True, "k": 500, "name": "ranked"}
    plain, report, _ = ask(world, settings(), **asked)
    assert set(seeds) & set(plain["user_id"]) and report["suppressed"] == report["control"] == 0
    (tmp_path / "all.txt").write_text("\n".join(seeds[:50]), encoding="utf-8")
    (tmp_path / "more.csv").write_text("user_id\n" + "\n".join(seeds[40:60]), encoding="utf-8")
    look = settings(suppress=str(tmp_path / "all.txt"), control_share=0.2)
    found, report, table = ask(world, look, **asked, suppress=tmp_path / "more.csv")
    out = set(seeds[:60])
    assert set(plain["user_id"]) - set(found["user_id"]) == out & set(plain["user_id"])
    assert report["suppressed"] == len(out & set(plain["user_id"])) and report["handed_out"] == len(found)
    scores = [dict(zip(rows["user_id"], rows["score"], strict=True)) for rows in (plain, found)]
    assert all(scores[0][user] == score for user, score in scores[1].items()), "a list changes no score"
    assert 0.1 < (found["group"] == "control").mean() < 0.3 and report["control_share"] == 0.2
    control = next(Path(f).name for f in table.files(DT) if "audience-control" in f)
    assert lines_of(table, control) == found.query("group == 'control'")["user_id"].tolist()
    assert set(table.manifest(DT).fields["sources"]) == {"lookalike.suppress", "the parameter suppress", "seeds"}


def test_a_clients_control_group_is_the_same_on_demand_as_in_the_night(world: Path) -> None:
    look = settings(campaigns={"brand_0": Campaign(control_share=0.4)}, control_share=0.1)
    score(world, look)
    rows, _ = handed_out(world)
    night = rows.query("client == 'brand_0'").set_index("user_id")["group"]
    asked = {"client": "brand_0", "include_seeds": True, "k": 500}
    whole, report, _ = ask(world, look, name="spring", **asked)
    both = whole.set_index("user_id")["group"].loc[night.index]
    assert (both == night).all() and set(night) == {"mailing", "control"} and report["control_share"] == 0.4
    none, report, _ = ask(world, look, name="no_control", **asked, control_share=0.0)
    assert set(none["group"]) == {"mailing"} and report["control_share"] == 0


@pytest.mark.parametrize("share", [-0.1, 0.95, 1.0, 10.0, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(world: Path, share: float) -> None:
    with pytest.raises(JobError, match=r"control_share is .*at least 0 and at most 0\.9"):
        ask(world, settings(), client="brand_0", name="x", control_share=share)


def test_other_campaigns_are_other_requests_and_older_ones_are_not(world: Path) -> None:
    """What was asked before there were campaigns names neither key; the same again replaces it."""
    asked = {"client": "brand_0", "k": 60, "model": "transe"}
    output = table_input(world, "requested_audiences", Output)

    def run(**more: Any) -> None:
        given = reads_of_request(world) | asked | more
        find_audience.run(date=DATE, **given, requested_audiences=output, config=settings())

    run()
    table = output.table("brand_0")
    rows, fields = table.read(DT), table.manifest(DT).fields
    older = {key: value for key, value in fields["request"].items() if key not in ("suppress", "control_share")}
    with table.replace(DT) as commit:
        commit.write_table(rows)
        commit.fields |= fields | {"request": older}
    run()
    with pytest.raises(JobError, match=r"another request \(control_share=None\)"):
        run(control_share=0.5)


def test_excluded_attributes_stand_in_no_column(world: Path) -> None:
    lookalike_models = table_input(world, "lookalike_models")

    def columns() -> set[str]:
        (model, *_) = read_models(lookalike_models, DT).models
        return {name.partition("=")[0] for name in model["columns"]}

    assert {"age", "bought:category"} <= columns()
    excluded = settings(exclude_attributes=["age", "category"])
    train(world, excluded)
    assert not {name for name in columns() if "age" in name or "bought" in name}, "brands are too few to tell tastes by"
    score(world, excluded)
    train(world, settings(exclude_attributes=["age", "category"], history_attribute="brand"))
    assert {name for name in columns() if "bought" in name} == {"bought:brand"} and "age" not in columns()
    train(world, settings())
    with pytest.raises(JobError, match="differ from those of training, e.g. in .*age=.*Run train_lookalike again"):
        score(world, settings(exclude_attributes=["age"]))
    named = settings(exclude_attributes=["age"], history_attribute="category")
    source = find_audience.Tables(**reads(world)).source(DATE, [], named.graph, named.lookalike, named.seed)
    found = source.baseline.names
    assert any("bought:category" in name for name in found) and not any("age" in name for name in found)
