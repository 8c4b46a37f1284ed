"""The attention picture on the night's page: a heat map for each of two groups, each relation's whole say,
hostile names, nights without RHGN."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.embeddings.rhgn_picture import picture
from jobs.report.flow import Flow
from jobs.report.night import Night, Stage
from jobs.report.rhgn_attention import cell, scale, shown
from tests.jobs.embeddings.test_rhgn_picture import world_of_messages
from tests.jobs.report import night
from tests.jobs.report.test_write_report import HOSTILE, Page, report

RELATIONS = ("click", "cart", "buy")


def figure(share: float, messages: float, lift: float | None) -> dict[str, Any]:
    return {"share": share, "messages": messages, "lift": lift}


def drawn(categories: list[str], classes: list[str], others: float = 400.0) -> list[dict[str, Any]]:
    """A picture in which women listen most to what they buy; the last category has few messages,
    and what is bought of it none."""
    rows = []
    for r, relation in enumerate(RELATIONS):
        groups = []
        for g in range(2):
            lifts = [0.6 + 0.4 * r + 0.1 * ((c + g) % 3) for c in range(len(categories) - 1)]
            cells = [figure(0.02 + 0.01 * c, 300.0 - 40 * r, lift) for c, lift in enumerate(lifts)]
            few = figure(0.0, 0.0, None) if relation == "buy" else figure(0.001, 7.0, 6.0)
            cells += [few, figure(0.1, others, 0.97)]
            groups.append(figure(0.3 - 0.05 * r, 3000.0 - 900 * r, 0.7 + 0.55 * r - 0.2 * g) | {"cells": cells})
        rows.append({"relation": relation, "reversed": False, "neighbour_type": "item", "groups": groups})
    said = [figure(0.04, 500.0, 1.9), figure(0.05, 490.0, 2.2)]
    rows.append({"relation": "user_region", "reversed": False, "neighbour_type": "region", "groups": said})
    both = [{"name": name, "users": 500} for name in classes]
    picture = {"label": "gender", "attribute": "category", "categories": categories, "groups": both, "relations": rows}
    return [picture]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_night(tmp_path, 40)
    with_rhgn(tmp_path)
    picture = drawn(["tea", "records", "garden", "toys"], ["female", "male"])
    history = [{"epoch": 0, "loss": 0.7}]
    night.put(tmp_path, "finetune_rhgn", warm=0, rows_in=900, history=history, attention=picture)
    night.put(tmp_path, "publish_users_rhgn", users_trained=40, rows_out=40)
    return tmp_path


def with_rhgn(root: Path) -> None:
    users = (
        "source: {{events: {{path: none}}, items: {{path: none}}, users: {{path: none}}}}\n"
        "profiles: {{labels: {{gender: {{}}}}}}"
    )
    text = night.CONFIG.replace("source: {{events: {{path: none}}, items: {{path: none}}}}", users)
    text = text.replace("models: [transe, kqgc_mean]", "models: [transe, kqgc_mean, rhgn]")
    (root / "night.yaml").write_text(text.format(root=root / "data"), encoding="utf-8")


def cells_of(html: str) -> list[str]:
    """The heat maps' and the table's cells, in their order."""
    section = html[html.index('<section id="attention">') :]
    return section[: section.index("</section>")].split('class="n cell ')[1:]


def test_the_page_shows_both_groups_side_by_side(root: Path) -> None:
    html = report(root)
    page = Page(html)
    assert ("a", "href", "#attention") in page.attributes and ("section", "id", "attention") in page.attributes
    both, few = "500 users of class female and 500 users of class male", "fewer than 20 messages"
    for expected in (both, "all others", "all items", "user_region", "The items by category", few):
        assert expected in page.text, expected
    cells = cells_of(html)
    # Both groups: categories, others and all by three relations; then four relations by two groups.
    assert len(cells) == 2 * (4 + 1 + 1) * 3 + 4 * 2
    assert "heat c0" in cells[0] and "0.60" in cells[0] and "2.0 %" in cells[0] and '"300 messages"' in cells[0]
    assert "heat c1" in cells[2] and "1.40" in cells[2]
    few, none = cells[9], cells[11]
    assert "few" in few and "6.00" in few and "–" in none and "%" not in none.split("</td>")[0]
    assert "c1" in cells[-1] and "2.20" in cells[-1] and "490" in cells[-1].split("</tr>")[0]


@pytest.mark.parametrize("attribute", ["genre", None])
def test_what_the_job_leaves_is_what_the_page_draws(root: Path, attribute: str | None) -> None:
    graph, heard, groups = world_of_messages()
    found = picture(graph, heard, groups, attribute)
    night.put(root, "finetune_rhgn", attention=found)
    html = report(root)
    cells = cells_of(html)
    assert len(cells) == 2 * (2 * (8 + 1 + 1) * 3 * bool(attribute) + 4 * 2), "two labels"
    assert "maker (reversed)" in Page(html).text and f"{found[0]['relations'][0]['groups'][0]['lift']:.2f}" in html
    assert all(name in html for one in found for name in one["categories"])


def test_hostile_names_do_nothing(root: Path) -> None:
    elements = set(Page(report(root)).elements)
    picture = drawn(HOSTILE[:4], HOSTILE[5:7])
    picture[0]["label"] = picture[0]["relations"][0]["relation"] = HOSTILE[9]
    picture[0]["categories"][3] = HOSTILE[10]
    night.put(root, "finetune_rhgn", attention=picture)
    html = report(root)
    page = Page(html)
    assert set(page.elements) == elements and HOSTILE[0] in page.text and "onerror=alert(2)" in page.text
    assert "\u202e" not in html and "x" * 48 not in html, "marks that turn text are spelled out, long names cut"


def test_a_night_whose_rhgn_failed_or_left_no_picture_says_so(root: Path) -> None:
    night.put(root, "finetune_rhgn", warm=0)
    assert "The attention picture: not there tonight. finetune_rhgn ran and recorded none" in Page(report(root)).text
    shutil.rmtree(root / "data/run_metrics/stage=finetune_rhgn")
    assert "The attention picture: not there tonight. finetune_rhgn did not run" in Page(report(root)).text


def test_nights_without_rhgn_do_not_speak_of_attention(tmp_path: Path) -> None:
    night.write_night(tmp_path, 40)
    html = report(tmp_path)
    assert "attention" not in html[html.index("</style>") :].lower()


def card_of(picture: list[dict[str, Any]]) -> dict[str, Any]:
    stage = Stage("finetune_rhgn", True, details={"attention": picture})
    return shown(Night(night.DATE, Flow(("rhgn",), {"rhgn": ()}), (stage,)))["cards"][0]


def test_others_have_a_line_only_where_there_are_some() -> None:
    some, none = card_of(drawn(["a", "b"], ["f", "m"])), card_of(drawn(["a", "b"], ["f", "m"], others=0.0))
    assert [row["name"] for row in some["maps"][0]["rows"]] == ["a", "b", None]
    assert [row["name"] for row in none["maps"][1]["rows"]] == ["a", "b"]


def test_without_an_attribute_there_is_no_heat_map() -> None:
    picture = drawn([""], ["f", "m"])
    picture[0] |= {"attribute": None, "categories": []}
    for row in picture[0]["relations"]:
        for group in row["groups"]:
            group.pop("cells", None)
    card = card_of(picture)
    assert card["maps"] == [] and [row["relation"] for row in card["overall"]] == [*RELATIONS, "user_region"]
    bars = [[group["bar"] for group in row["groups"]] for row in card["overall"]]
    assert bars[0][0] == 1.0 and bars[3][1] == pytest.approx(0.05 / 0.3)


def test_colours_are_warm_above_an_equal_say_and_few_messages_do_not_set_their_scale() -> None:
    figures = [figure(0.1, 100, 2.0), figure(0.1, 100, 0.5), figure(0.1, 3, 16.0), figure(0, 0, None)]
    assert scale(figures) == 1.0 and scale(figures[2:]) == pytest.approx(0.3219, abs=1e-4)
    warm, cold, few, none = (cell(one, 1.0) for one in figures)
    assert (warm["tone"], warm["strength"], cold["tone"], cold["strength"]) == ("c1", 1.0, "c0", 1.0)
    assert few["few"] and few["strength"] == pytest.approx(1 / 3) and none["strength"] == 0
    assert cell(figure(0.1, 100, 1.1), 1.0)["strength"] < cell(figure(0.1, 100, 1.3), 1.0)["strength"] < 1
