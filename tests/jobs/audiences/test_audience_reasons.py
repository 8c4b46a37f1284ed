"""Reasons add up to the margin, and none speaks against itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from feature_store.spreadsheet import to_csv
from jobs.audiences.audience_reasons import blended, group_of, reasons, share_of_gain, text_of, with_texts

NAMES = ["buy:days", "buy:since", "buy:gap", "user:buy:days", "set:buyers", "m:near_references"]


def boosters(features: np.ndarray, labels: np.ndarray, seeds: tuple[int, ...]) -> list[xgboost.Booster]:
    rows = xgboost.DMatrix(features, labels)
    fixed = {"objective": "binary:logistic", "subsample": 0.7, "max_depth": 3, "nthread": 1}
    return [xgboost.train(fixed | {"seed": seed}, rows, 5) for seed in seeds]


def test_contributions_add_up_to_the_blended_margin_and_the_cause_comes_first() -> None:
    random = np.random.default_rng(0)
    features = random.integers(1, 9, (300, len(NAMES))).astype(np.float32)
    features[:, 3] = 9
    labels = features[:, 0] > 4
    pooled, own = boosters(features, labels, (1, 2)), boosters(features, labels, (3,))
    found = blended([(pooled, 0.75), (own, 0.25)], features, 1)
    margins = [b.inplace_predict(features, predict_type="margin") for b in (*pooled, *own)]
    np.testing.assert_allclose(found.sum(1), 0.375 * (margins[0] + margins[1]) + 0.25 * margins[2], atol=1e-5)
    rows = reasons("<b>", pa.array([f"=u{i}" for i in range(300)]), features, NAMES, found, "buy", ["m"])
    first = {row["user_id"]: row for row in rows if row["reason"] == 1}
    who = next(i for i in range(300) if labels[i])
    assert first[f"=u{who}"]["group"] == "how often" and first[f"=u{who}"]["rank"] == who + 1
    assert all(row["contribution"] > 0 and row["reason"] <= 3 and row["group"] != "the set itself" for row in rows)
    shares = share_of_gain(pooled, NAMES, lambda name: group_of(name, "buy", ["m"]))
    assert next(iter(shares)) == "how often" and sum(shares.values()) == pytest.approx(1)


def test_reasons_are_told_with_figures_and_not_against_them() -> None:
    own = {"buy:days": 7.0, "user:buy:days": 12.0, "buy:since": 23.0, "buy:gap": 11.0, "m:near_references": -1.8}
    assert text_of("share of purchases", own, "buy") == "bought of it on 7 of 12 days with a purchase"
    assert text_of("overdue", own, "buy") == "overdue: 23 days since the last, usually 11"
    assert "close to buyers in m" in str(text_of("vectors: m", own, "buy"))
    never = {"buy:days": 0.0, "user:buy:days": 0.0, "buy:since": np.nan, "buy:gap": np.nan, "m:near_references": 0.5}
    for group in ("overdue", "share of purchases", "how often", "how lately", "activity", "goes with it", "vectors: m"):
        assert text_of(group, never, "buy") is None and text_of(group, {}, "buy") is None
    assert text_of("overdue", own | {"buy:since": 11.0}, "buy") is None


def test_the_csv_has_the_texts_in_safe_cells() -> None:
    rows = [{"user_id": "b", "reason": 1, "text": "=run"}, {"user_id": "b", "reason": 2, "text": "close"}]
    found = with_texts(pa.table({"user_id": ["a", "b"]}), rows)
    assert found.column("reason_1").to_pylist() == [None, "=run"] and found.column_names[-1] == "reason_3"
    assert to_csv(found).decode().splitlines()[2] == '"b","\'=run","close",""'
