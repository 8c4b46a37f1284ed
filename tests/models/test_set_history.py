"""One pass over a user's events against a loop that reads like the columns' description."""

from __future__ import annotations

import numpy as np

from models.kernels import set_history as kernel

USERS, ITEMS, TODAY, FIRST = 40, 12, 100, 40
SPANS, LIVES = np.array([7, 30], np.int32), np.array([20.0, 5.0], np.float32)


def world(seed: int) -> dict[str, np.ndarray]:
    """Events by user, day and item, some outside the window."""
    random = np.random.default_rng(seed)
    raw = random.integers(0, [USERS, 130, ITEMS], (900, 3))
    user, day, item = np.unique(raw[raw[:, 0] % 7 != 0], axis=0).T
    previous = np.full(len(user), kernel.NEVER, np.int32)
    for e in range(len(user)):
        before = day[(user == user[e]) & (item == item[e]) & (day < day[e])]
        previous[e] = before.max() if len(before) else kernel.NEVER
    count, money = random.integers(1, 4, len(user)).astype(np.float32), random.random(len(user)).astype(np.float32)
    start = np.searchsorted(user, np.arange(USERS + 1))
    return {
        "start": start, "item": item.astype(np.int32), "day": day.astype(np.int32), "count": count, "money": money,
        "previous": previous}  # fmt: skip


def slowly(events: dict[str, np.ndarray], user: int, of_set: np.ndarray, weights: np.ndarray) -> list[float]:
    mine = slice(events["start"][user], events["start"][user + 1]) if user >= 0 else slice(0, 0)
    rows = [dict(zip(events, values, strict=False)) for values in zip(*(
        [events["start"][:1].repeat(len(events["item"]))[mine]] + [events[k][mine] for k in list(events)[1:]]),
        strict=True)]  # fmt: skip
    rows = [r for r in rows if FIRST <= r["day"] < TODAY]
    inside, outside = ([r for r in rows if of_set[r["item"]] == side] for side in (True, False))
    ages = [TODAY - r["day"] for r in inside]
    out = [
        sum(r["count"] for r in inside), len(set(ages)), len({r["item"] for r in inside}),
        sum(r["money"] for r in inside), max(ages, default=np.nan), min(ages, default=np.nan)]  # fmt: skip
    out += [sum(r["count"] for r in inside if TODAY - r["day"] <= span) for span in SPANS]
    out += [len({a for a in ages if a <= span}) for span in SPANS]
    out += [sum(r["count"] * 2.0 ** (-(TODAY - r["day"]) / life) for r in inside) for life in LIVES]
    decayed = np.array([r["count"] * 2.0 ** (-(TODAY - r["day"]) / LIVES[0]) for r in outside])
    said = [np.array([w[r["item"]] for r in outside]) for w in weights]
    out += [np.nan if not len(outside) else (decayed * s).sum() / decayed.sum() for s in said]
    return out + [np.nan if not len(outside) else s.max() for s in said]


def test_every_column_is_what_a_loop_over_the_events_counts() -> None:
    for seed in range(3):
        events, random = world(seed), np.random.default_rng(seed)
        of_set = random.random(ITEMS) < 0.4
        weights = random.normal(size=(2, ITEMS)).astype(np.float32)
        users = np.append(random.permutation(USERS), -1)
        out = np.empty((len(users), kernel.width(len(SPANS), len(LIVES), 2)), np.float32)
        kernel.set_history(users, *events.values(), of_set, weights, FIRST, TODAY, SPANS, LIVES, out)
        wanted = np.array([slowly(events, user, of_set, weights) for user in users])
        np.testing.assert_allclose(out, wanted, rtol=2e-4, atol=1e-6)
        assert np.isnan(wanted).any() and (wanted[:, kernel.DAYS] > 1).any()
