"""Point-in-time join: to each (user, moment) the vector that was known then, and never one that knew more.

Feast's words: the entity rows carry `event_timestamp`; `max_age_days` is the ttl; a feature is taken if it is not later
than the row. One thing differs from Feast: a partition stands for all users of its night, so a user who is not in the
newest partition known at a row's moment has no vector there, even if an older partition had one.
"""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import StoreError
from feature_store.manifest import Manifest
from feature_store.store import FeatureStore, as_utc, columns_there
from feature_store.view import check_one_space

_DAY_US = 86_400_000_000
_ROW = "__row__"


def point_in_time(
    store: FeatureStore,
    rows: pa.Table,
    view: str,
    *,
    model: str,
    max_age_days: float | None = None,
    columns: list[str] | None = None,
    allow_other_spaces: bool = False,
) -> pa.Table:
    """`rows` (`user_id`, `event_timestamp`, anything else) in their order, with `columns`
    of the view (default: all) and `feature_timestamp`.

    Each row gets the vector of the newest `dt` not after its moment and not older than
    `max_age_days`; nulls where there is none or the user is not in it. All vectors must be of one
    space, unless `allow_other_spaces`. SpaceMismatch, StoreError.
    """
    moments = _moments_us(rows)
    table = store.table(view, model)
    values = table.values()
    chosen = _choose(moments, values, max_age_days)
    parts, manifests, needed = [], [], [values[position] for position in np.unique(chosen[chosen >= 0])]
    for value in needed:
        mine = np.flatnonzero(chosen == values.index(value))
        there = None if columns is None else columns_there(table, value, columns, needed)
        part, manifest = _join_one(store, rows, mine, view, model, value, there)
        parts.append(part)
        manifests.append(manifest)
    if not allow_other_spaces:
        check_one_space(manifests)
    without = np.flatnonzero(chosen < 0)
    if not parts and values:  # no row has a vector, and still the columns are there
        parts.append(_join_one(store, rows, without[:0], view, model, values[-1], columns)[0])
    return _in_order(rows, parts, without)


def _moments_us(rows: pa.Table) -> np.ndarray:
    """`event_timestamp` as microseconds since 1970 UTC."""
    for name in ("user_id", "event_timestamp"):
        if name not in rows.column_names:
            raise StoreError(
                f"The rows to join have the columns {rows.column_names}; "
                "expected user_id and event_timestamp among them."
            )
        if rows.column(name).null_count:
            raise StoreError(
                f"Found {rows.column(name).null_count} nulls in {name} of the rows to join; expected none. "
                "Drop those rows."
            )
    kind = rows.schema.field("event_timestamp").type
    if not pa.types.is_timestamp(kind) and not pa.types.is_date(kind):
        raise StoreError(
            f"event_timestamp of the rows to join is {kind}; expected a timestamp (UTC where it has no zone) or a date."
        )
    moments = rows.column("event_timestamp")
    if pa.types.is_timestamp(kind):  # rounding down: a vector of 00:00 must not reach a row of a nanosecond before
        moments = pc.floor_temporal(moments, unit="microsecond")
    return moments.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64()).to_numpy()


def _choose(moments: np.ndarray, values: list[str], max_age_days: float | None) -> np.ndarray:
    """For each moment the position of its partition in `values`, or -1."""
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    starts = np.array([(as_utc(value) - epoch) // datetime.timedelta(microseconds=1) for value in values], np.int64)
    chosen = np.searchsorted(starts, moments, side="right") - 1
    if max_age_days is not None and len(starts):
        chosen[(chosen >= 0) & (moments - starts[chosen] > max_age_days * _DAY_US)] = -1
    return chosen


def _join_one(
    store: FeatureStore,
    rows: pa.Table,
    indices: np.ndarray,
    view: str,
    model: str,
    value: str,
    columns: list[str] | None,
) -> tuple[pa.Table, Manifest]:
    """The rows at `indices` with their features, and their positions in `rows`."""
    users = rows.column("user_id").take(pa.array(indices))
    read = None if columns is None else list(dict.fromkeys(["user_id", *columns]))
    features = store.read(view, model=model, dt=value, user_ids=pc.unique(users).to_pylist(), columns=read)
    place = pc.index_in(users, features.table.column("user_id").combine_chunks())
    clashes = [name for name in features.table.column_names if name in rows.column_names]
    place = place.combine_chunks() if isinstance(place, pa.ChunkedArray) else place
    found = features.table.take(place)
    midnight = pa.scalar(as_utc(value), pa.timestamp("us", "UTC"))
    times = pc.if_else(pc.is_valid(place), midnight, pa.scalar(None, midnight.type))
    found = found.append_column("feature_timestamp", times).append_column(_ROW, pa.array(indices, pa.int64()))
    return found.drop_columns(clashes), features.manifest


def _in_order(rows: pa.Table, parts: list[pa.Table], without: np.ndarray) -> pa.Table:
    """Features of all parts beside their rows; nulls for rows `without` a partition."""
    no_time = pa.nulls(len(without), pa.timestamp("us", "UTC"))
    empty = pa.table({"feature_timestamp": no_time, _ROW: pa.array(without, pa.int64())})
    joined = pa.concat_tables([*parts, empty], promote_options="default")
    order = np.argsort(joined.column(_ROW).to_numpy(), kind="stable")
    joined = joined.take(pa.array(order)).drop_columns([_ROW])
    for name in joined.column_names:
        rows = rows.append_column(name, joined.column(name))
    return rows
