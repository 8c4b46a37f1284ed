"""The night's page on tables written by hand: complete, with gaps, with hostile ids."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from feature_store import Table
from jobs.program import execute
from jobs.report import write_report
from jobs.report.lookalike import mean_gains
from tests.jobs.report import night
from tests.jobs.report.night import DATE

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "\u202etfel-ot-thgir",
    "'; DROP TABLE users; --",
    "=cmd|' /C calc'!A0",
    "../../etc/passwd",
    "https://evil.example/x.js",
    "line\nbreak\x07",
    "{{ config }}",
    "</style></title><b>",
    "x" * 1000,
]


class Page(HTMLParser):
    """What a browser makes of a page: elements, attributes, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    night.write_night(root)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(whole / "data", tmp_path / "data")
    night.write_config(tmp_path)
    return tmp_path


def report(root: Path, date: datetime.date = DATE) -> str:
    """Runs the job as the flow does; the page."""
    assert execute(write_report.run, ["--date", date.isoformat(), "--config", str(root / "night.yaml")]) == 0
    (file,) = Table(str(root / "data" / "reports")).files(date.isoformat())
    return Path(file).read_text(encoding="utf-8")


def test_the_scheduler_is_told_where_the_page_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = report(root)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (root / "data" / "reports" / f"dt={DATE}" / told["page"]).read_text(encoding="utf-8") == page


def manifest(root: Path):
    return Table(str(root / "data" / "reports")).existing_manifest(DATE.isoformat())


def test_the_page_shows_the_night(whole: Path) -> None:
    page = Page(report(whole))
    for expected in (
        "Monday, 2 March 2026",
        "100,312",
        "0.42 % rejected",
        "unknown behavior",
        "2 of 2 passed",
        "age_band",
        "68,800",
        "item_cats has 7,245 values among 10,000 entities",
        "Returns among them",
        "1,717",
        "filtered MRR 0.338",
        "+16.7 %",
        "strong+kqgc_mean:affinity",
        "3.5×",
        "Every stage done",
        "test, out of time",
        "+25.0 % over baseline and +7.4 % over strong",  # the backtest's gain, each client's ratio first
        "kqgc_mean-7d2c91",
        "bicycles",
        "user-000",
        "expected buyers",
        "rare (31 buyers among 1,615 eligible)",
        "2026-02-23",
    ):
        assert expected in page.text, expected
    # Moon, training, three per client, backtest, drift per model, map.
    assert page.elements.count("svg") >= 1 + 4 + 9 + 3 + 2 + 1


def test_nothing_is_fetched_and_nothing_runs(whole: Path) -> None:
    html = report(whole)
    page = Page(html)
    assert "script" not in page.elements
    fetching = {"link", "img", "iframe", "object", "embed", "video", "audio", "base", "form", "input"}
    assert not fetching & set(page.elements)
    assert "://" not in html
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    for _, name, value in page.attributes:
        assert name not in ("src", "srcset", "action", "xlink:href", "data", "poster") and not name.startswith("on")
        assert name != "href" or value.startswith("#")
    policy = [v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_figures_and_tables_speak_to_screen_readers(whole: Path) -> None:
    html = report(whole)
    for opening in re.findall(r"<svg[^>]*>", html):
        assert 'aria-hidden="true"' in opening or re.search(r'role="img" aria-label="[^"]{10,}"', opening), opening
    assert all("scope=" in opening for opening in re.findall(r"<th[ >][^>]*>?", html))
    assert '<html lang="en">' in html and "width=device-width" in html


def test_links_lead_to_sections(whole: Path) -> None:
    page = Page(report(whole))
    targets = {value for _, name, value in page.attributes if name == "id"}
    links = [value.removeprefix("#") for _, name, value in page.attributes if name == "href"]
    assert len(links) == 11 and set(links) <= targets


def test_hostile_ids_are_shown_and_do_nothing(tmp_path: Path) -> None:
    night.write_figures(tmp_path)
    night.write_people(tmp_path, 40, 24, users=HOSTILE + ["ü" * 30], items=[f"{h}-item" for h in HOSTILE])
    night.put(tmp_path, "validate_events", rows_in=10, rows_rejected=1, rejected_by_reason={HOSTILE[0]: 1})
    night.put(tmp_path, "score_lookalike", 1, f"cannot read {HOSTILE[1]} {HOSTILE[2]}")
    night.write_config(tmp_path)
    html = report(tmp_path)
    page = Page(html)
    tags = Page(report_of_plain(tmp_path)).elements
    assert set(page.elements) <= set(tags)  # no element that a page of plain ids has not
    assert "script" not in page.elements and "img" not in page.elements
    assert HOSTILE[0] in page.text and "onerror=alert(2)" in page.text  # shown as text
    assert "\u202e" not in html and "\\u202e" in page.text
    assert "\x07" not in html
    assert "x" * 100 not in html


def report_of_plain(folder: Path) -> str:
    plain = folder / "plain"
    plain.mkdir()
    night.write_night(plain, 40)
    night.put(plain, "score_lookalike", 1, "cannot read")
    return report(plain)


READ = [
    "clean_events", "knowledge_graph", "interactions", "entity_ids", "relations", "feature_store",
    "audiences"]  # fmt: skip


@pytest.mark.parametrize("missing", READ)
def test_any_input_may_be_missing(root: Path, missing: str) -> None:
    shutil.rmtree(root / "data" / missing)
    page = Page(report(root))
    assert "Every stage done" in page.text
    assert "The users on a map" in page.text


def test_a_night_of_which_nothing_is_known_gets_a_page(tmp_path: Path) -> None:
    night.write_config(tmp_path)
    page = Page(report(tmp_path))
    assert "0 of 12 stages done" in page.text and "Not everything ran" in page.text
    assert page.text.count("did not run") >= 11
    assert "No map: no model published vectors tonight." in page.text


def test_a_skip_and_a_failure_are_told_with_reason_and_cure(root: Path) -> None:
    night.put(root, "train_lookalike", 99, "dt=2026-02-23 is missing; rerun 2026-02-23")
    night.put(root, "publish_users_kqgc_mean", 1, "the alignment is broken: residual 0.95")
    shutil.rmtree(root / "data" / "run_metrics" / "stage=score_lookalike")
    shutil.rmtree(root / "data" / "feature_store" / "user_embeddings" / "model=kqgc_mean" / f"dt={DATE}")
    page = Page(report(root))
    assert "Something failed" in page.text and "9 of 12 stages done" in page.text
    clear = "airflow tasks clear nightly_user_embeddings -s 2026-03-02 -e 2026-03-02"
    assert f"{clear} -t 'publish_kqgc_mean$' --downstream -y" in page.text
    twice = "in the status, and where the figures would be"
    assert page.text.count("dt=2026-02-23 is missing; rerun 2026-02-23") == 2, twice
    assert page.text.count("the alignment is broken: residual 0.95") == 2
    assert "Backtest: not there tonight. score_lookalike did not run" in page.text
    assert "by their transe vectors" in page.text  # the map takes the model that there is


def test_a_night_without_clients_has_no_gap_where_audiences_would_be(root: Path) -> None:
    for stage in ("train_lookalike", "score_lookalike"):
        night.put(root, stage, 99, "No client is configured")
    config = root / "night.yaml"
    config.write_text(config.read_text(encoding="utf-8").partition("lookalike:")[0], encoding="utf-8")
    page = Page(report(root))
    assert "Every stage done" in page.text and "10 of 10 stages done" in page.text
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert "No client is configured" not in page.text and not {"quality", "backtest", "audiences"} & anchors
    links = {value for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert links <= {f"#{value}" for value in anchors}


def test_a_night_that_learned_from_lists_alone_tells_of_no_audience(root: Path) -> None:
    """Without clients `train_lookalike` may have its model of seed lists, and is done."""
    nobodys = {"clients": [], "pr_auc": [], "curves": [], "chosen": {}, "pool": {"reason": "no client"}}
    night.put(root, "train_lookalike", rows_out=1, seed_lists={"lists": 60}, **nobodys)
    night.put(root, "score_lookalike", 99, "No client is configured")
    config = root / "night.yaml"
    config.write_text(config.read_text(encoding="utf-8").partition("lookalike:")[0], encoding="utf-8")
    page = Page(report(root))
    assert "Every stage done" in page.text and "11 of 11 stages done" in page.text
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert not {"quality", "backtest", "audiences"} & anchors
    assert "PR-AUC gain" not in page.text and "not there tonight" not in page.text and "learnt alone" not in page.text


def test_figures_of_another_night_are_not_taken(root: Path) -> None:
    shutil.rmtree(root / "data" / "run_metrics" / "stage=validate_events")
    night.put(root, "validate_events", rows_in=777_777, date=DATE - datetime.timedelta(days=7))
    assert "777,777" not in report(root)


def test_days_from_the_date_on_are_not_counted(root: Path) -> None:
    html = report(root)
    assert "2026-03-01: " in html and "2026-03-02: " not in html


def test_equal_nights_have_equal_content_whatever_they_took(root: Path, whole: Path) -> None:
    report(root)
    first = manifest(root)
    night.put(root, "assign_ids", rows_out=3120, seconds=999.0)
    slower = report(root)
    assert "16 min 39 s" in slower
    assert Table(str(root / "data" / "reports")).verify(DATE.isoformat()) == []
    assert manifest(root).content_hash == first.content_hash
    night.write_lookalike_figures(root, DATE, "-of-another-run")
    assert "of-another-run" in report(root) and manifest(root).content_hash == first.content_hash
    night.put(root, "validate_events", rows_in=100_313)
    report(root)
    assert manifest(root).content_hash != first.content_hash


def test_mean_gain_is_the_mean_of_the_clients_ratios() -> None:
    known = (
        ("a", "baseline", 0.5), ("a", "strong", 0.6), ("b", "baseline", 0.2), ("b", "strong", 0.2),
        ("c", "strong", 0.9))  # fmt: skip
    rows = [{"client": c, "feature_set": s, "pr_auc_1to3": v} for c, s, v in known]
    assert mean_gains(rows, ["baseline", "strong"], "baseline") == {"strong": pytest.approx((0.6 / 0.5 + 1) / 2 - 1)}
