"""Audiences on demand: seeds in, people like them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.audiences import find_audience
from jobs.audiences.feature_sets import Source
from jobs.audiences.features import Columns
from jobs.audiences.population import active_users
from jobs.program import JobError, Output
from tests.jobs.audiences.worlds import BRANDS, DATE, START, config, planted, reads_of_request
from tests.jobs.report.tables_by_hand import Log, table_input


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log, list[str], list[str]]:
    """(root, log, users with a taste for brand 1 who are seeds, those who are not told)."""
    root = tmp_path_factory.mktemp("world")
    log = planted(root, users=800)
    liking = [f"u{u:05d}" for u in np.flatnonzero(np.random.default_rng(0).integers(0, BRANDS, 800) == 1)]
    return root, log, liking[::2], liking[1::2]


def ask(root: Path, **request: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(the audience's rows, its report)."""
    table = table_input(root, "requested_audiences", Output)
    asked = {"k": 50, "model": "transe"} | request
    find_audience.run(date=DATE, **reads_of_request(root), requested_audiences=table, config=config(), **asked)
    name = request.get("name") or request.get("client") or request["seeds"].stem
    files = table.table(name).files(DATE.isoformat())
    report = json.loads(Path(next(f for f in files if f.endswith(".json"))).read_text(encoding="utf-8"))
    assert {f.rpartition(".")[2] for f in files} == {"parquet", "csv", "json", "html"}
    page = Path(next(f for f in files if f.endswith(".html"))).read_text(encoding="utf-8")
    assert page.count('class="chart"') == 3
    assert "in time (cross-validation" in page and f"{report['pr_auc_population']:.3f}" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", ""), "self-contained"
    return table.table(name).read(DATE.isoformat()).to_pylist(), report


def test_people_like_the_seeds_come_first_and_seeds_stay_out(world: tuple, tmp_path: Path) -> None:
    root, _, seeds, alike = world
    path = tmp_path / "seeds.txt"
    path.write_text("\n".join([*seeds, "nobody", "=evil"]), encoding="utf-8")
    rows, report = ask(root, seeds=path)
    found = [row["user_id"] for row in rows]
    assert not set(found) & set(seeds)
    assert np.mean([user in alike for user in found]) > 2.5 * len(alike) / (800 - len(seeds))
    assert (report["seeds_given"], report["seeds_known"], report["seeds_unknown"]) == (len(seeds) + 2, len(seeds), 2)
    assert report["match_rate"] == pytest.approx(len(seeds) / (len(seeds) + 2), abs=1e-6)
    assert report["pr_auc_population"] > 1.3 * report["prevalence"]
    assert "in time" in report["quality"] and "test" not in json.dumps(report)
    assert [row["rank"] for row in rows] == list(range(1, 51))
    manifest = table_input(root, "requested_audiences", Output).table("seeds").existing_manifest(DATE.isoformat())
    (read,) = manifest.fields["sources"]["seeds"]
    assert (read["name"], read["size"]) == ("seeds.txt", path.stat().st_size) and len(read["sha256"]) == 64


def test_no_fold_is_scored_by_references_of_its_own(
    world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seed is left out of the reference users of one fold: the one that scores it."""
    root, _, seeds, _ = world
    seen, honest = [], find_audience.columns_of

    def columns_of(source: Source, model: str, references: np.ndarray) -> Columns:
        seen.append(set(references))
        return honest(source, model, references)

    monkeypatch.setattr(find_audience, "columns_of", columns_of)
    path = tmp_path / "folds.txt"
    path.write_text("\n".join(seeds), encoding="utf-8")
    _, report = ask(root, seeds=path)
    everybody = set.union(*seen)
    assert len(seen) == find_audience.FOLDS and len(everybody) == report["seeds_active"]
    assert {sum(seed not in references for references in seen) for seed in everybody} == {1}


def test_seeds_are_ranked_when_asked_for(world: tuple, tmp_path: Path) -> None:
    root, _, seeds, _ = world
    path = tmp_path / "again.txt"
    path.write_text("\n".join(seeds), encoding="utf-8")
    rows, _ = ask(root, seeds=path, include_seeds=True)
    assert {row["user_id"] for row in rows} & set(seeds)


@pytest.mark.parametrize("draw", [7, 8])
def test_few_seeds_are_enough_for_every_fold(world: tuple, tmp_path: Path, draw: int) -> None:
    """With some thirty seeds a fold has two or three for early stopping; by lot some would have none."""
    root, _, seeds, alike = world
    some = np.random.default_rng(draw).choice(sorted(seeds + alike), 34, replace=False)
    # Draws hang on the file's name: with these two a tenth drawn by lot leaves a fold without.
    path = tmp_path / f"s{draw}.txt"
    path.write_text("\n".join(some), encoding="utf-8")
    rows, _ = ask(root, seeds=path, k=10_000)
    assert 34 < len(rows) < 800, "k larger than the population: everybody but the seeds"


def test_seeds_without_enough_others_are_an_error_that_says_so(world: tuple, tmp_path: Path) -> None:
    root, *_ = world
    path = tmp_path / "nearly_all.txt"
    active = active_users(table_input(root, "clean_events"), DATE, 28).to_pylist()
    path.write_text("\n".join(active[:-1]), encoding="utf-8")
    with pytest.raises(JobError, match="active seeds among .* cannot be told apart"):
        ask(root, seeds=path)


def test_seeds_drawn_by_lot_are_at_prevalence(world: tuple, tmp_path: Path) -> None:
    root, *_ = world
    path = tmp_path / "lot.txt"
    path.write_text("\n".join(f"u{u:05d}" for u in np.random.default_rng(3).permutation(800)[:200]), encoding="utf-8")
    _, report = ask(root, seeds=path)
    assert report["pr_auc_population"] == pytest.approx(report["prevalence"], abs=0.07)


def test_a_client_stands_for_its_buyers(world: tuple) -> None:
    root, log, *_ = world
    rows, report = ask(root, client="brand_1", name="like_brand_1")
    brand = dict(zip(log.items["brand"]["id"], log.items["brand"]["value"], strict=True))
    before = log.events[log.events["event_time"].dt.date < DATE]
    bought = before[(before["behavior"] == "purchase") & (before["item_id"].map(brand) == "b1")]
    buyers = set(bought["user_id"])
    assert report["seeds_known"] == len(buyers)
    assert not {row["user_id"] for row in rows} & buyers
    assert report["prevalence"] < report["pr_auc_population"] < 0.95  # what makes them seeds is not among the features


def test_requests_that_named_no_name_do_not_replace_each_other(world: tuple, tmp_path: Path) -> None:
    """Two people's `seeds.csv`, or one client for two models: told, not silently the last one's."""
    root, _, seeds, alike = world
    files = [tmp_path / "mine" / "twice.txt", tmp_path / "yours" / "twice.txt"]
    for path, ids in zip(files, (seeds, alike), strict=True):
        path.parent.mkdir()
        path.write_text("\n".join(ids), encoding="utf-8")
    first, _ = ask(root, seeds=files[0])
    assert ask(root, seeds=files[0])[0] == first, "the same request again replaces its own"
    told = r"twice/dt=.* holds the audience of another request \((seeds|k)=.*of its own"
    for other in ({"seeds": files[1]}, {"seeds": files[0], "k": 60}):
        with pytest.raises(JobError, match=told):
            ask(root, **other)
    assert table_input(root, "requested_audiences").table("twice").read(DATE.isoformat()).to_pylist() == first
    assert ask(root, seeds=files[1], name="twice")[0] != first, "by that very name it is replaced"


def test_of_two_such_requests_at_a_time_the_second_is_told(
    world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _, seeds, _ = world
    path, honest = tmp_path / "at_once.txt", find_audience.describe
    path.write_text("\n".join(seeds), encoding="utf-8")

    def describe(*given: Any) -> dict[str, Any]:
        monkeypatch.setattr(find_audience, "describe", honest)
        ask(root, seeds=path, k=40)  # ends while this one works
        return honest(*given)

    monkeypatch.setattr(find_audience, "describe", describe)
    with pytest.raises(JobError, match=r"at_once/dt=.* holds the audience of another request \(k=40\)"):
        ask(root, seeds=path)
    assert len(table_input(root, "requested_audiences").table("at_once").read(DATE.isoformat())) == 40


@pytest.mark.parametrize(("request_", "message"), [
    ({"seeds": None, "client": None}, "expected exactly one"),
    ({"client": "nobody"}, "No client 'nobody'.*brand_0"),
    ({"client": "brand_0", "model": "rhgn"}, "Model 'rhgn' is not published.*transe"),
    ({"client": "brand_0", "name": "../x"}, "name is '../x'"),
    ({"client": "brand_0", "k": 0}, "k is 0"),
])  # fmt: skip
def test_a_request_that_cannot_be_served_says_why(world: tuple, request_: dict[str, Any], message: str) -> None:
    root, *_ = world
    with pytest.raises(JobError, match=message):
        ask(root, **({"name": "x"} | request_))


def test_too_few_seeds_give_the_counts(world: tuple, tmp_path: Path) -> None:
    root, _, seeds, _ = world
    path = tmp_path / "few.txt"
    path.write_text("\n".join([*seeds[:10], "x", "y"]), encoding="utf-8")
    with pytest.raises(JobError, match=r"Of 12 seeds 10 are known and \d+ were active.*at least 30"):
        ask(root, seeds=path)
    assert table_input(root, "requested_audiences").table("few").manifest(START.isoformat()) is None
