"""Who entered each client's audience, and who left it, since the newest earlier night that handed one out."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import StoreError
from jobs.program import Input

SHOWN = 5  # users of either kind, the best ranked


def night_before(date: datetime.date, max_gap_days: int, audiences: Input) -> str | None:
    """The newest earlier date with audiences, at most so many days back."""
    first = (date - datetime.timedelta(days=max_gap_days)).isoformat()
    return max((dt for dt in audiences.table().values() if first <= dt < date.isoformat()), default=None)


def changes(date: datetime.date, max_gap_days: int, audiences: Input) -> dict[str, Any] | None:
    """{before, clients, problem}, a row per client of either night; None without an audience of tonight, or of before.

    problem: why the earlier one cannot be read: tonight's page does not fail for it.
    """
    dt, table, before = date.isoformat(), audiences.table(), night_before(date, max_gap_days, audiences)
    if before is None or table.manifest(dt) is None:
        return None
    columns = ["client", "rank", "user_id"]
    now = table.read(dt, columns)
    try:
        then = table.read(before, columns)
    except StoreError as error:
        return {"before": before, "clients": [], "problem": str(error)}
    clients = sorted({*now.column("client").to_pylist(), *then.column("client").to_pylist()})
    return {"before": before, "clients": [_of(client, now, then) for client in clients], "problem": ""}


def _of(client: str, *nights: pa.Table) -> dict[str, Any]:
    now, then = (night.filter(pc.equal(night.column("client"), client)) for night in nights)
    entered, left = _not_in(now, then), _not_in(then, now)
    return {
        "client": client, "now": now.num_rows, "then": then.num_rows, "stayed": now.num_rows - entered.num_rows,
        "entered": entered.num_rows, "left": left.num_rows, "examples": [_best(entered), _best(left)]}


def _not_in(some: pa.Table, others: pa.Table) -> pa.Table:
    """Those of some who are not among the others."""
    known = pc.is_in(some.column("user_id"), value_set=others.column("user_id").combine_chunks())
    return some.filter(pc.invert(known))


def _best(users: pa.Table) -> list[dict[str, Any]]:
    """The best ranked: id, and the rank in the audience that they stand in."""
    order = np.argsort(users.column("rank").to_numpy(), kind="stable")[:SHOWN]
    return users.take(pa.array(order.tolist(), pa.int64())).select(["user_id", "rank"]).to_pylist()
