"""Reasons add up to the margin, and none speaks against itself."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from feature_store.spreadsheet import to_csv
from jobs.audiences.audience_reasons import blended, group_of, reasons, share_of_gain, text_of, with_texts
from jobs.audiences.event_log import Behavior, EventLog
from jobs.audiences.score_lookalike import Scored, reasons_of
from jobs.audiences.seed_sets import SeedLists
from jobs.audiences.set_affinities import affinity_names
from jobs.audiences.set_columns import Past, names
from tests.jobs.audiences.worlds import config

NAMES = ["buy:days", "buy:since", "buy:gap", "buy:at_large_days", "set:buyers", "m:near_references"]


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
    rows = reasons("<b>", pa.array([f"=u{i}" for i in range(300)]), features, NAMES, found, "buy")
    first = {row["user_id"]: row for row in rows if row["reason"] == 1}
    who = next(i for i in range(300) if labels[i])
    assert first[f"=u{who}"]["group"] == "how often" and first[f"=u{who}"]["rank"] == who + 1
    days = features[:, 0][[row["rank"] - 1 for row in rows if row["group"] == "how often"]]
    told = [row["text"] for row in rows if row["group"] == "how often"]
    assert told == [f"bought of it on {n:.0f} day{'s' if n > 1 else ''}" for n in days], "each one's own figure"
    assert all(row["contribution"] > 0 and row["reason"] <= 3 and row["group"] != "the set itself" for row in rows)
    shares = share_of_gain(pooled, NAMES, lambda name: group_of(name, "buy"))
    assert next(iter(shares)) == "how often" and sum(shares.values()) == pytest.approx(1)


def test_reasons_are_of_the_audiences_own_users() -> None:
    """The audience is by score, the columns by user id; some users are eligible and in no audience."""
    features = np.random.default_rng(0).integers(1, 99, (300, 1)).astype(np.float32)
    raw, labels = pa.array([f"u{i:03d}" for i in range(300)], pa.large_string()), features[:, 0] > 50
    pooled, own = boosters(features, labels, (1, 2)), boosters(features, labels, (3,))
    trained = SimpleNamespace(boosters=lambda models: {("a", "b"): pooled, ("c",): own})
    parts = [{"files": ["a", "b"], "weight": 0.75}, {"files": ["c"], "weight": 0.25}]
    of = Scored(["purchase:days"], features.__getitem__, np.arange(300), raw, None)
    order = np.random.default_rng(1).permutation(300)[:90]
    audience = pa.table({"user_id": raw.take(pa.array(order)).cast(pa.string())})
    model = {"client": "acme", "feature_set": "blend", "parts": parts}
    rows = reasons_of(model, audience, of, trained, config(reasons_for=60))
    margins = [b.inplace_predict(features, predict_type="margin") for b in (*pooled, *own)]
    blend = 0.375 * (margins[0] + margins[1]) + 0.25 * margins[2]
    bias = pooled[0].predict(xgboost.DMatrix(features[:1]), pred_contribs=True)[0, -1]
    assert {row["rank"] for row in rows} == {n + 1 for n, user in enumerate(order[:60]) if blend[user] > bias + 0.01}
    for row in rows:
        user = order[row["rank"] - 1]
        assert row["user_id"] == raw[user].as_py() and row["text"] == f"bought of it on {features[user, 0]:.0f} days"
    for whom, columns in ((audience.slice(0, 0), of), (audience, None)):
        assert reasons_of(model, whom, columns, trained, config()) == []


def test_reasons_are_told_with_figures_and_not_against_them() -> None:
    own = {"buy:days": 7.0, "buy:at_large_days": 12.0, "buy:since": 23.0, "buy:gap": 11.0, "m:near_references": -1.8}
    assert text_of("share of purchases", own, "buy") == "bought of it on 7 of 12 days with a purchase"
    assert text_of("overdue", own, "buy") == "overdue: 23 days since the last, usually 11"
    assert "close to buyers in m" in str(text_of("vectors: m", own, "buy"))
    nothing = {"buy:days": 0.0, "buy:at_large_days": 0.0, "buy:since": np.nan, "buy:gap": np.nan}
    never = nothing | {"m:near_references": 0.5}
    for group in ("overdue", "share of purchases", "how often", "how lately", "activity", "goes with it", "vectors: m"):
        assert text_of(group, never, "buy") is None and text_of(group, {}, "buy") is None
    assert text_of("overdue", own | {"buy:since": 11.0}, "buy") is None


def test_the_csv_has_the_texts_in_safe_cells() -> None:
    rows = [{"user_id": "b", "reason": 1, "text": "=run"}, {"user_id": "b", "reason": 2, "text": "close"}]
    found = with_texts(pa.table({"user_id": ["a", "b"]}), rows)
    assert found.column("reason_1").to_pylist() == [None, "=run"] and found.column_names[-1] == "reason_3"
    assert to_csv(found).decode().splitlines()[2] == '"b","\'=run","close",""'


@pytest.mark.parametrize("purchase", ["buy", "set", "user", "m", "vectors: m", "a:days"])
def test_a_behaviour_may_be_called_anything(purchase: str) -> None:
    """As the set's columns, as a model, or with a colon: no two columns have one name, and each is of its own group."""
    hostile = ("set", "m", "user:buy", "user", f"{purchase}:events", "list", "purchases", "look")
    others, nobody = [name for name in hostile if name != purchase], Behavior(np.zeros(1, np.int64), *[np.zeros(0)] * 5)
    log = EventLog(pa.array([]), pa.array([]), dict.fromkeys([purchase, *others], nobody), 0)
    past = Past(log, 100, 60, 28, purchase, np.zeros(0, np.int64))
    columns = [*names(past), *affinity_names(["m"])]
    of_lists = SeedLists(past, None, None, ["m"], None).names()
    assert len(set(columns)) == len(columns) and len(set(of_lists)) == len(of_lists)
    groups = {name: group_of(name, purchase) for name in columns}
    counted = Counter(groups.values())
    assert counted["vectors: m"] == 8 and counted["the set itself"] == 6 and counted["other"] == 0
    assert counted["activity"] == (7 + len(past.spans)) * len(past.behaviors)
    assert all(counted[f"behavior: {other}"] == counted[f"behavior: {others[0]}"] > 10 for other in others)
    assert groups[f"{purchase}:overdue"] == "overdue" and groups[f"{purchase}:share_of_days"] == "share of purchases"
    assert text_of("behavior: user:buy", {"user:buy:days": 2.0, "buy:at_large_days": 9.0}, purchase) is not None
