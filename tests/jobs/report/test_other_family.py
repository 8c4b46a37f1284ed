"""A family that is declared here alone has its card, its section and its head on the page."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

from jobs.report.flow import task_of
from jobs.report.page import AFTER_FAMILIES, BEFORE_FAMILIES
from jobs.report.write_report import drawn_first
from models import families
from models.family import Family, Job
from tests.jobs.report import night
from tests.jobs.report.test_profiles import LABELS, facts
from tests.jobs.report.test_write_report import HOSTILE, Page, report

TOY = Family(
    name="toy", title="Toy", hyperparameters="models.hyperparameters.TransEHyperparameters",
    jobs=(Job(program="embeddings.train_toy", models=("toy_large", "toy_small"), doc="", starts_from=("transe",)),),
    compared="dot", dimension="toy.dimension", norm="l2", learns_from="marbles", measure="validation_joy",
    measured="joy {:.2f}", triage=("", ""), builders=("graphs.build_marbles",),
    section="tests.jobs.report.toy_section")  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A night that published one of the toy's two models."""
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, TOY))
    night.write_night(tmp_path, 40)
    text = night.CONFIG.replace("models: [transe, kqgc_mean]", "models: [transe, kqgc_mean, toy_small]")
    (tmp_path / "night.yaml").write_text(text.format(root=tmp_path / "data"), encoding="utf-8")
    history = [{"epoch": n, "loss": 1 / (n + 1), "validation_joy": n / 4} for n in range(4)]
    learned = {"rows_in": 1234, "validation_joy": 0.75, "best_epoch": 3, "history": history}
    night.put(tmp_path, "train_toy_toy_small", **learned)
    night.put(tmp_path, "publish_users_toy_small", users_trained=40, rows_out=40)
    night.put(tmp_path, "build_marbles", rows_out=8)
    return tmp_path


def test_its_card_and_its_stages_are_those_of_its_record(root: Path) -> None:
    page = Page(report(root))
    learned = "4 epochs · joy 0.75 · 1,234 marbles · best after epoch 4"
    for expected in ("toy_small", learned, "Every stage done", "15 of 15"):
        assert expected in page.text, expected
    drawn = [value for _, name, value in page.attributes if name == "aria-label"]
    assert {"Loss of toy_small by epoch", "validation joy of toy_small by epoch"} <= set(drawn)
    assert "toy_large" not in page.text
    tasks = {
        "train_toy_toy_small": "train_toy_small", "build_marbles": "build_graphs",
        "publish_users_toy_small": "publish_toy_small"}  # fmt: skip
    assert {stage: task_of(stage) for stage in tasks} == tasks


def test_the_card_of_a_model_that_trained_nothing_says_that_alone(root: Path) -> None:
    night.put(root, "train_toy_toy_small", rows_in=1234, warm=1, history=[])
    page = Page(report(root))
    assert "Nothing of its own was trained tonight" in page.text and "1,234 marbles" in page.text
    assert "0 epochs" not in page.text and "warm start" not in page.text.split("1,234 marbles")[0][-60:]


def test_its_section_stands_before_the_drift_and_shows_foreign_names_as_text(root: Path) -> None:
    night.put(root, "train_toy", names=[{"name": name} for name in HOSTILE])
    html = report(root)
    page = Page(html)
    order = [value for tag, name, value in page.attributes if tag == "section" and name == "id"]
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert order.index("audiences") + 1 == order.index("toys") == order.index("space") - 1
    assert links.index("#toys") == links.index("#space") - 1
    assert HOSTILE[0] in page.text and "script" not in page.elements and "\u202e" not in html


def test_its_section_says_why_it_is_empty_and_is_absent_where_the_family_is_not_published(root: Path) -> None:
    assert "The toys: not there tonight. train_toy did not run." in Page(report(root)).text
    night.write_config(root)
    page = Page(report(root))
    assert ("section", "id", "toys") not in page.attributes and ("a", "href", "#toys") not in page.attributes


def test_its_head_is_named_by_its_title(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_head = dataclasses.replace(TOY, head="tests.jobs.profiles.toy_head")
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES[:-1], with_head))
    config, labels = root / "night.yaml", LABELS.replace("{{", "{").replace("}}", "}")
    text = config.read_text(encoding="utf-8").replace("source: {events: {path: none}, items: {path: none}}", labels)
    config.write_text(text, encoding="utf-8")
    found = facts(["female", "male"])
    figures = found[0]["test"] | {"classes": ["female", "male"]}
    found[0]["heads"] = [{"model": "rhgn", "title": "RHGN"} | figures, {"model": "toy_small", "title": "Toy"} | figures]
    night.put(root, "train_profiles", profiles=found)
    page = Page(report(root))
    assert "common classes; Toy's own head, where it learned with class weights" in page.text
    assert page.text.index("RHGN's own head") < page.text.rindex("Toy's own head")


def test_a_family_that_learns_labels_is_drawn_after_all_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = ["toy_small", "rhgn", "transe"]
    assert drawn_first(published) == ["toy_small", "transe", "rhgn"]
    learns = dataclasses.replace(TOY, learns_labels=True)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES[:-1], learns))
    assert drawn_first(published) == ["transe", "toy_small", "rhgn"]


def test_no_two_sections_of_a_page_have_one_name() -> None:
    modules = [importlib.import_module(family.section) for family in families.FAMILIES if family.section]
    assert modules
    of_all = [*BEFORE_FAMILIES, *((module.ANCHOR, module.NAME) for module in modules), *AFTER_FAMILIES]
    for names in zip(*of_all, strict=True):
        assert len(set(names)) == len(names)
