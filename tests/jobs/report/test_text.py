"""How ids, numbers and names are written on the page, and the labels of its figures."""

from __future__ import annotations

import re

from jobs.report import text
from jobs.report.charts import Axis, column_chart, ticks


def test_ids_are_shown_without_marks_that_turn_or_hide_text() -> None:
    assert text.shown("a\u202eb\u200dc\n") == "a\\u202eb\\u200dc\\u000a"
    assert text.shown("y" * 1024) == "y" * 47 + "…"
    assert text.signed_percent(-0.042) == "−4.2 %"
    assert text.percent(float("nan")) == text.MISSING and text.count(None) == text.MISSING


def test_columns_are_labelled_with_the_edges_between_them() -> None:
    drawn = str(column_chart("some", [1, 2], ["0 – 0.25", "0.25 – 0.5"], [0.0, 0.25, 0.5], Axis("x"), Axis("y")))
    below = re.findall(r'text-anchor="middle">([^<]*)<', drawn)
    assert below == ["0", "0.25", "0.5"] and "<title>0.25 – 0.5: 2</title>" in drawn


def test_a_long_name_may_break_and_is_escaped() -> None:
    assert text.breakable("strong+kqgc_mean:<b>") == "strong<wbr>+kqgc_<wbr>mean:<wbr>&lt;b&gt;"


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(0.13, 0.92) == [0.2, 0.4, 0.6, 0.8]
    assert all(3 <= len(ticks(0.0, top)) <= 7 for top in (1e-6, 0.3, 7.0, 123456.0))
