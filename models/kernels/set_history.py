"""What users did with a set of items before a day, in one pass over each user's events.

The events of one behaviour lie by user and, within a user, by day: those of user u are the rows
start[u]:start[u + 1]. One row is what a user did with an item on a day.
Shapes: E events, n items, p users asked for, S spans, H half-lives, W weightings of items.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import kernel

NEVER = -(1 << 30)  # a day before all others
EVENTS, DAYS, ITEMS, MONEY, FIRST, LAST = range(6)  # the leading columns of what `set_history` writes
LEADING = 6


def width(spans: int, half_lives: int, weightings: int) -> int:
    """Columns that `set_history` writes: the leading ones, events and days in each span, decayed events by half-life,
    mean and largest weight by weighting."""
    return LEADING + 2 * spans + half_lives + 2 * weightings


@kernel
def set_history(
    users, start, item, day, count, money, previous, of_set, weights, first_day, today, spans, half_lives, out
):  # fmt: skip
    """Write a row per user of `users` (p,) int64, -1 for one without events, to out (p, width) float32.

    item, day (E,) int32; count, money (E,) float32; previous (E,) int32: the last day before on which the user did the
    same with the item, NEVER without one. of_set (n,) bool: the items of the set. weights (W, n) float32: what an item
    outside the set says of it. Counted are the days first_day <= day < today. spans (S,) int32 days, half_lives (H,)
    float32 days: the first one of them weighs the means.
    FIRST and LAST are the age of the first and last day in days, NaN without one; a mean weight is NaN without events
    outside the set.
    """
    n_spans, n_lives, n_weights = len(spans), len(half_lives), len(weights)
    decay_at, weights_at = LEADING + 2 * n_spans, LEADING + 2 * n_spans + n_lives
    for row in range(len(users)):
        out[row, :] = 0
        out[row, FIRST], out[row, LAST] = np.nan, np.nan
        user, outside, last = users[row], np.float32(0), np.int32(NEVER)
        begin = start[user] if user >= 0 else 0
        end = start[user + 1] if user >= 0 else 0
        for e in range(begin, end):
            if day[e] < first_day or day[e] >= today:
                continue
            age = today - day[e]
            if not of_set[item[e]]:
                if n_weights:
                    weight = count[e] * np.float32(2.0) ** (-age / half_lives[0])
                    for k in range(n_weights):
                        value = weights[k, item[e]]
                        out[row, weights_at + k] += weight * value
                        if value > out[row, weights_at + n_weights + k] or outside == 0:
                            out[row, weights_at + n_weights + k] = value
                    outside += weight
                continue
            new_day = day[e] != last
            last = day[e]
            out[row, EVENTS] += count[e]
            out[row, DAYS] += new_day
            out[row, ITEMS] += previous[e] < first_day
            out[row, MONEY] += money[e]
            if np.isnan(out[row, FIRST]):
                out[row, FIRST] = age
            out[row, LAST] = age
            for k in range(n_spans):
                if age <= spans[k]:
                    out[row, LEADING + k] += count[e]
                    out[row, LEADING + n_spans + k] += new_day
            for k in range(n_lives):
                out[row, decay_at + k] += count[e] * np.float32(2.0) ** (-age / half_lives[k])
        for k in range(n_weights):
            if outside > 0:
                out[row, weights_at + k] /= outside
            else:
                out[row, weights_at + k], out[row, weights_at + n_weights + k] = np.nan, np.nan
