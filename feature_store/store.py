"""The feature store: views of features, by model and date."""

import datetime

import pyarrow.compute as pc
from pyarrow import fs

from feature_store.disk import Disk, open_disk
from feature_store.errors import PartitionMissing, StoreError, TooOld
from feature_store.layout import check_model, check_value
from feature_store.table import Table
from feature_store.view import Features

AsOf = str | datetime.date | datetime.datetime


class FeatureStore:
    """Everything under `<data root>/feature_store`: `<view>/model=<model>/dt=<date>/`."""

    def __init__(self, root: str, filesystem: fs.FileSystem | Disk | None = None) -> None:
        self.disk, self.root = open_disk(str(root), filesystem)

    def views(self) -> list[str]:
        return [entry.name for entry in self.disk.list(self.root) if entry.is_folder and not entry.name.startswith((".", "_"))]

    def models(self, view: str) -> list[str]:
        """Models that have a folder in the view, by name."""
        entries = self.disk.list(f"{self.root}/{check_model(view)}")
        return [entry.name.removeprefix("model=") for entry in entries if entry.is_folder and entry.name.startswith("model=")]

    def table(self, view: str, model: str) -> Table:
        return Table(f"{self.root}/{check_model(view)}/model={check_model(model)}", "dt", self.disk)

    def files(self, view: str, *, model: str, dt: str | None = None, as_of: AsOf | None = None) -> list[str]:
        """Paths of one whole committed version, for other engines."""
        return self.table(view, model).files(self.resolve(view, model=model, dt=dt, as_of=as_of))

    def read(
        self,
        view: str,
        *,
        model: str,
        dt: str | None = None,
        as_of: AsOf | None = None,
        max_age_days: float | None = None,
        user_ids: list[str] | None = None,
        columns: list[str] | None = None,
    ) -> Features:
        """One partition: `dt` exactly, or the newest that knew nothing from `as_of` on.

        `max_age_days` refuses vectors that were older than that at `as_of` (or at `dt`: no age). `user_ids` reads the pages that may hold them;
        unknown ids are absent from the answer. PartitionMissing, TooOld.
        """
        value = self.resolve(view, model=model, dt=dt, as_of=as_of, max_age_days=max_age_days)
        wanted = None if user_ids is None else pc.field("user_id").isin(list(user_ids))
        table, manifest = self.table(view, model).read_version(value, columns, wanted)
        return Features(table, manifest)

    def resolve(self, view: str, *, model: str, dt: str | None = None, as_of: AsOf | None = None, max_age_days: float | None = None) -> str:
        """The partition value that a read would take."""
        if (dt is None) == (as_of is None):
            raise StoreError(f"Found dt={dt!r} and as_of={as_of!r}; expected exactly one: dt for that very date, as_of for the newest known then.")
        if dt is not None:
            return check_value("dt", dt)
        moment = as_utc(as_of)
        table = self.table(view, model)
        values = table.values()
        known = [value for value in values if as_utc(value) <= moment]
        if not known:
            there = f"the first is {values[0]}" if values else "there is none at all"
            raise PartitionMissing(f"No partition of {table.uri} is from {moment.isoformat()} or before: {there}. Backfill that date, or ask for a later one.")
        age_days = (moment - as_utc(known[-1])).total_seconds() / 86_400
        if max_age_days is not None and age_days > max_age_days:
            raise TooOld(
                f"The newest partition of {table.uri} at {moment.isoformat()} is dt={known[-1]}, {age_days:.1f} days old; at most {max_age_days:g} were asked for. "
                "Run the nightly DAG for the missing dates, or allow more."
            )
        return known[-1]


def as_utc(moment: AsOf) -> datetime.datetime:
    """A date is its 00:00 UTC; a time without a zone is UTC."""
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    elif not isinstance(moment, datetime.datetime):
        moment = datetime.datetime(moment.year, moment.month, moment.day)
    return moment.replace(tzinfo=datetime.timezone.utc) if moment.tzinfo is None else moment.astimezone(datetime.timezone.utc)
