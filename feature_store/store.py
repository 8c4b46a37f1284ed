"""The feature store: views of features, by model and date."""

import datetime
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from feature_store.disk import Disk, open_disk
from feature_store.errors import DataDamaged, PartitionMissing, StoreError, TooOld
from feature_store.layout import check_model, check_value, is_model
from feature_store.manifest import Manifest
from feature_store.storage import Storage
from feature_store.table import Table
from feature_store.view import Features, check_one_space, count_after

_HELD_AGAINST_STATISTICS, _IN_PARTS = 50, 2_000
AsOf = str | datetime.date | datetime.datetime
_ASKED_AS = {"user_id": "user_ids", "entity_type": "entity_type", "raw": "raw_ids"}  # by column
ENTITIES = "entity_embeddings"  # of items, attributes and relations: a view that lies beside the feature store's folder


class FeatureStore:
    """Everything under `<data root>/feature_store`: `<view>/model=<model>/dt=<date>/`."""

    def __init__(self, root: str, filesystem: fs.FileSystem | Disk | Storage | None = None) -> None:
        self.disk, self.root = open_disk(str(root), filesystem)

    def views(self) -> list[str]:
        entries = self.disk.list(self.root)
        return [entry.name for entry in entries if entry.is_folder and is_model(entry.name)]

    def models(self, view: str) -> list[str]:
        """Models that have a folder in the view, by name."""
        names = [entry.name for entry in self.disk.list(f"{self.root}/{check_model(view)}") if entry.is_folder]
        models = [name.removeprefix("model=") for name in names if name.startswith("model=")]
        return [model for model in models if is_model(model)]

    def table(self, view: str, model: str) -> Table:
        name = f"{check_model(view)}/model={check_model(model)}"
        if view == ENTITIES:
            return Table(f"{self.root.rpartition('/')[0] or '.'}/{ENTITIES}/{model}", "dt", self.disk)
        return Table(f"{self.root}/{name}", "dt", self.disk)

    def files(
        self, view: str, *, model: str, dt: str | None = None, as_of: AsOf | None = None, verify: bool = False
    ) -> list[str]:
        """Paths of one whole committed version, for other engines.

        `verify` reads every byte first and holds it against the manifest: engines check little. DataDamaged.
        """
        table, value = self.table(view, model), self.resolve(view, model=model, dt=dt, as_of=as_of)
        if problems := table.verify(value) if verify else []:
            raise DataDamaged(" ".join(problems))
        return table.files(value)

    def read(
        self,
        view: str,
        *,
        model: str,
        dt: str | Sequence[str] | None = None,
        as_of: AsOf | None = None,
        max_age_days: float | None = None,
        user_ids: Iterable[str] | None = None,
        entity_type: str | None = None,
        raw_ids: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Features:
        """`dt` exactly (several dates: one after the other, in one space), or the
        newest partition that knew nothing from `as_of` on.

        `max_age_days` refuses a partition that was older than that at `as_of`. `user_ids` reads only row groups that
        may hold them; unknown ids are absent from the answer. So do `entity_type` ("item", an attribute's type,
        "relation") and `raw_ids` of the view `entity_embeddings`, in the same space. Of several dates, a column that
        came later is null for those before it. PartitionMissing, TooOld, SpaceMismatch.
        """
        asked = {"user_id": user_ids, "entity_type": None if entity_type is None else [entity_type], "raw": raw_ids}
        rows = {name: _strings(_ASKED_AS[name], ids) for name, ids in asked.items() if ids is not None}
        columns = None if columns is None else _strings("columns", columns).to_pylist()
        if dt is None or isinstance(dt, str) or isinstance(dt, datetime.date):
            value = self.resolve(view, model=model, dt=dt, as_of=as_of, max_age_days=max_age_days)
            limit = as_utc(value if as_of is None else as_of)
            table, manifest = self._read_one(view, model, value, limit, rows, columns)
            return Features(table, (manifest,))
        if as_of is not None or max_age_days is not None or not dt:
            raise StoreError(
                f"Found dt={dt!r}, as_of={as_of!r}, max_age_days={max_age_days!r}; "
                "expected at least one date in dt alone, or as_of."
            )
        values = [check_value("dt", value) for value in dt]
        table, parts = self.table(view, model), []
        for value in values:
            there = None if columns is None else columns_there(table, value, columns, values)
            parts.append(self._read_one(view, model, value, as_utc(value), rows, there))
        check_one_space([manifest for _, manifest in parts])
        table = pa.concat_tables([part for part, _ in parts], promote_options="default")
        return Features(table if columns is None else table.select(columns), tuple(manifest for _, manifest in parts))

    def _read_one(
        self,
        view: str,
        model: str,
        value: str,
        limit: datetime.datetime,
        rows: Mapping[str, pa.Array],
        columns: list[str] | None,
    ) -> tuple[pa.Table, Manifest]:
        """One partition's rows, those that have one of the values of each column of `rows`; refuses vectors from after
        `limit`, whatever their partition claims."""
        source, reading = self.table(view, model), columns
        there = source.schema(value).names if rows or columns is not None else []
        if absent := sorted(set(rows) - set(there)):
            asked = ", ".join(_ASKED_AS[name] for name in absent)
            raise StoreError(f"Asked for rows by {asked}; {source.path(value)} has no column {absent}, but {there}.")
        if columns is not None and "event_timestamp" in there:
            reading = list(dict.fromkeys([*columns, "event_timestamp"]))
        wanted = [_one_of(name, values) for name, values in rows.items()]
        chosen = functools.reduce(operator.and_, wanted) if wanted else None
        table, manifest = source.read_version(value, reading, chosen)
        late = count_after(table.column("event_timestamp"), limit) if "event_timestamp" in table.column_names else 0
        if late:
            raise DataDamaged(
                f"{late} vectors in {source.path(value)} have an event_timestamp after {limit.isoformat()}, "
                f"although the partition is dt={value}. "
                "Handing them out would leak the future. Publish the partition again, or roll it back."
            )
        return (table if columns is None else table.select(columns)), manifest

    def resolve(
        self,
        view: str,
        *,
        model: str,
        dt: str | None = None,
        as_of: AsOf | None = None,
        max_age_days: float | None = None,
    ) -> str:
        """The partition value that a read would take."""
        if (dt is None) == (as_of is None):
            raise StoreError(
                f"Found dt={dt!r} and as_of={as_of!r}; expected exactly one: dt for that very date, "
                "as_of for the newest known then."
            )
        if max_age_days is not None and (dt is not None or not max_age_days >= 0):
            raise StoreError(
                f"Found max_age_days={max_age_days!r} and dt={dt!r}; "
                "expected a number of days from 0 on, together with as_of."
            )
        if dt is not None:
            return check_value("dt", dt)
        moment = as_utc(as_of)
        table = self.table(view, model)
        values = table.values()
        known = [value for value in values if as_utc(value) <= moment]
        if not known:
            there = f"the first is {values[0]}" if values else "there is none at all"
            raise PartitionMissing(
                f"No partition of {table.uri} is from {moment.isoformat()} or before: {there}. "
                "Backfill that date, or ask for a later one."
            )
        age_days = (moment - as_utc(known[-1])).total_seconds() / 86_400
        if max_age_days is not None and age_days > max_age_days:
            raise TooOld(
                f"The newest partition of {table.uri} at {moment.isoformat()} is dt={known[-1]}, "
                f"{age_days:.1f} days old; at most {max_age_days:g} were asked for. "
                "Run the nightly DAG for the missing dates, or allow more."
            )
        return known[-1]


def columns_there(table: Table, value: str, columns: Sequence[str], values: Iterable[str]) -> list[str]:
    """The columns to read of one partition: a column that it lacks is left out where another of `values` has it, being
    of a later version of the table, and asked for where none has, so that it is missed by name."""
    there = table.schema(value).names
    elsewhere = {name for other in values for name in table.schema(other).names} if set(columns) - set(there) else ()
    return [name for name in columns if name in there or name not in elsewhere]


def _one_of(column: str, values: pa.Array) -> pc.Expression:
    """Arrow holds at most 50 values against a row group's statistics: more of them are told in parts, in their order;
    of very many each row group has some."""
    if not _HELD_AGAINST_STATISTICS < len(values) <= _IN_PARTS:
        return pc.field(column).isin(values)
    ordered = values.take(pc.sort_indices(values))
    starts = range(0, len(ordered), _HELD_AGAINST_STATISTICS)
    parts = (pc.field(column).isin(ordered.slice(start, _HELD_AGAINST_STATISTICS)) for start in starts)
    return functools.reduce(operator.or_, parts)


def _strings(name: str, values: Iterable[str]) -> pa.Array:
    """StoreError for one text in place of many, which would be taken for its letters, and for what is no text.

    Its message names no user.
    """
    if isinstance(values, (str, bytes)):
        raise StoreError(f"Found one text as {name}; expected a list of texts, also for a single one.")
    try:
        return pa.array(values, pa.string())
    except (TypeError, ValueError) as error:
        raise StoreError(f"Found {name} that are no texts; expected texts only, as the column holds them.") from error


def as_utc(moment: AsOf) -> datetime.datetime:
    """A date is its 00:00 UTC; a time without a zone is UTC. StoreError when it is neither."""
    try:
        if not isinstance(moment, datetime.datetime):
            moment = datetime.datetime.fromisoformat(moment if isinstance(moment, str) else moment.isoformat())
    except (ValueError, AttributeError) as error:
        raise StoreError(
            f"Found the time {moment!r}; expected a date or a time, like '2026-01-05' or '2026-01-05T06:00:00Z'."
        ) from error
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
