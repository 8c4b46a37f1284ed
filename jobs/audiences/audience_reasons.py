"""Why a user is in an audience: the three groups of columns that raise the margin most, in words with his own figures.

Contributions are XGBoost's exact ones (SHAP values of trees; Lundberg et al. 2020), so that they and the bias add up to
the margin. A reason speaks of "it", the client's items, and names no attribute's value. None is given whose figure is
missing or speaks against it.
Shapes: k users, F columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from jobs.audiences.set_columns import AT_LARGE, OF_SET
from models.classifiers.trees import xgboost
from models.vectors.affinities import EVERY_NAME as AFFINITIES

MOST_REASONS = 3
OVERDUE, LATELY, SHARE, OFTEN = "overdue", "how lately", "share of purchases", "how often"
ACTIVITY, LIFT, KIN, THE_SET, OTHER = "activity", "goes with it", "same kind", "the set itself", "other"
LEAST_LIFT = 1.05  # times as likely: below it an item does not go with the set
Figures = dict[str, float]  # column → one user's figure


def contributions(boosters: Sequence[xgboost.Booster], features: np.ndarray, threads: int) -> np.ndarray:
    """float64 (k, F + 1): the boosters' mean, the bias last; each row adds up to their mean margin."""
    total = np.zeros((len(features), features.shape[1] + 1))
    if not len(features):
        return total
    rows = xgboost.DMatrix(features, nthread=threads)
    for booster in boosters:
        booster.set_param({"nthread": threads})
        total += booster.predict(rows, pred_contribs=True)
    return total / len(boosters)


def blended(
    parts: Sequence[tuple[Sequence[xgboost.Booster], float]], features: np.ndarray, threads: int
) -> np.ndarray:
    """float64 (k, F + 1): the sum over (boosters, weight), as the margin is blended."""
    return np.sum([weight * contributions(boosters, features, threads) for boosters, weight in parts], axis=0)


def group_of(name: str, purchase: str) -> str:
    """The group of a column of set_columns.py or set_affinities.py: by its leaf, whatever behaviours are called."""
    subject, _, leaf = name.rpartition(":")
    if leaf in AFFINITIES:
        return f"vectors: {subject}"
    if leaf in OF_SET:
        return THE_SET
    if leaf.endswith(("_lift", "_kin")):
        return LIFT if leaf.endswith("_lift") else KIN
    if leaf.startswith(AT_LARGE):
        return ACTIVITY
    if subject != purchase:
        return f"behavior: {subject}" if subject else OTHER
    if leaf in ("gap", "overdue"):
        return OVERDUE
    if leaf.startswith("share_"):
        return SHARE
    return LATELY if leaf == "since" or leaf.startswith(("events_", "days_", "decayed_")) else OFTEN


def text_of(group: str, own: Figures, purchase: str) -> str | None:
    """What the group says of a user; None where his figures do not bear it out."""
    days, since = (own.get(f"{purchase}:{name}", np.nan) for name in ("days", "since"))
    gap, large = own.get(f"{purchase}:gap", np.nan), own.get(f"{purchase}:{AT_LARGE}days", np.nan)
    if group == OVERDUE:
        late = round(since) > round(gap) if gap > 0 and since > 0 else False
        return f"overdue: {_days(since)} since the last, usually {gap:.0f}" if late else None
    if group == SHARE:
        return f"bought of it on {days:.0f} of {large:.0f} days with a purchase" if 0 < days <= large else None
    if group == OFTEN:
        return f"bought of it on {_days(days)}" if days > 0 else None
    if group == LATELY:
        return f"last bought of it {_days(since)} ago" if since > 0 else None
    if group == ACTIVITY:
        return f"bought on {_days(large)} in all" if large > 0 else None
    if group == LIFT:
        times = np.exp(own.get(f"{purchase}:most_lift", np.nan))
        said = f"bought what goes with it: its buyers are {times:.1f} times as likely to buy of it"
        return said if times > LEAST_LIFT else None
    kind, _, subject = group.partition(": ")
    if kind == "vectors":
        return _nearness(subject, own)
    on = own.get(f"{subject}:days", np.nan) if kind == "behavior" else np.nan
    return f"“{subject}” of it on {_days(on)}" if on > 0 else None


def _nearness(model: str, own: Figures) -> str | None:
    """Small means near, in the user's own standard deviations (models/vectors/affinities.py)."""
    for column, whom in (("near_references", "buyers"), ("near_items", "its items")):
        if (nearer := -own.get(f"{model}:{column}", np.nan)) >= 0.1:
            return f"close to {whom} in {model}: {nearer:.1f} standard deviations nearer than at large"
    return None


def _days(count: float) -> str:
    return f"{count:.0f} day{'' if round(count) == 1 else 's'}"


def reasons(
    client: str, users: pa.Array, features: np.ndarray, names: Sequence[str], found: np.ndarray, purchase: str
) -> list[dict]:
    """A row per user and reason, in the order of the users (k,), best ranked first; found: `blended` of their rows."""
    groups = [group_of(name, purchase) for name in names]
    known = list(dict.fromkeys(groups))
    sums = np.stack([found[:, [g == group for g in groups] + [False]].sum(1) for group in known], axis=1)
    rows = []
    for i, user in enumerate(users.to_pylist()):
        own, said = dict(zip(names, features[i].tolist(), strict=True)), 0
        for place in np.argsort(-sums[i], kind="stable"):
            if sums[i, place] <= 0 or said == MOST_REASONS:
                break
            if (text := text_of(known[place], own, purchase)) is not None:
                said += 1
                rows.append({
                    "client": client, "user_id": user, "rank": i + 1, "reason": said, "group": known[place],
                    "contribution": float(sums[i, place]), "text": text})  # fmt: skip
    return rows


def with_texts(audience: pa.Table, rows: Sequence[dict]) -> pa.Table:
    """The audience of one client with the columns reason_1 to reason_3 for its CSV; null where there is none."""
    said = {(row["user_id"], row["reason"]): row["text"] for row in rows}
    users = audience.column("user_id").to_pylist()
    for number in range(1, MOST_REASONS + 1):
        texts = pa.array([said.get((user, number)) for user in users], pa.string())
        audience = audience.append_column(f"reason_{number}", texts)
    return audience


def share_of_gain(boosters: Sequence[xgboost.Booster], names: Sequence[str], group: Callable[[str], str]) -> Figures:
    """Group → its columns' share of the boosters' total gain, the largest first."""
    shares: Figures = {}
    for booster in boosters:
        for column, gain in booster.get_score(importance_type="total_gain").items():
            of = group(names[int(column.removeprefix("f"))])
            shares[of] = shares.get(of, 0.0) + gain
    whole = sum(shares.values()) or 1.0
    return {of: gain / whole for of, gain in sorted(shares.items(), key=lambda pair: -pair[1])}
