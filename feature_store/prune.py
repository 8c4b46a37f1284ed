"""Deletes partitions that have outlived their table's retention, and nothing that something kept still needs.

A partition whose manifest cannot be read is left, and so is what it may need; the rest goes.
"""

import datetime
import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from feature_store.errors import StoreError, explain_os_errors
from feature_store.layout import DATE_KEYS, LOCK, MANIFEST, check_date
from feature_store.leases import NIGHTS, Leases
from feature_store.lineage import built_on
from feature_store.manifest import Manifest
from feature_store.publish import writing
from feature_store.table import Table
from feature_store.tree import DataRoot

ALL_DAYS = 365_000  # that a night may read back


@dataclass(frozen=True)
class Candidate:
    """A partition beyond its retention. `kept_because` is None where it goes."""

    table: str
    value: str
    size: int
    kept_because: str | None


class Manifests:
    """Those of a root, each read once. `broken`: why one cannot be read, by table and value."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._read: dict[tuple[str, str], Manifest | None] = {}
        self.broken: dict[tuple[str, str], str] = {}

    def get(self, name: str, value: str) -> Manifest | None:
        """None where there is none, or a broken one."""
        if (name, value) not in self._read:
            self._read[name, value] = None
            table = self._root.tables[name]
            try:
                manifest = table.manifest(value)
                _label_window(manifest, table.path(value))
                self._read[name, value] = manifest
            except StoreError as error:
                self.broken[name, value] = str(error)
        return self._read[name, value]


def plan(
    root: DataRoot,
    retention_days: Mapping[str, int],
    keep: Iterable[str] = (),
    as_of: str | None = None,
    manifests: Manifests | None = None,
    allow_missing: bool = False,
) -> list[Candidate]:
    """Partitions older than their table's `retention_days` before `as_of`.

    By default that is each table's newest date, never the clock.

    A retention's name is a table's path below the root or a folder above tables ("feature_store/user_embeddings");
    where nothing lies there, one below feature_store ("user_embeddings", as a configuration calls it). A name of
    nothing at all is refused, but with `allow_missing`: a table that no night has written yet.
    `keep` names dates that a label window still needs; those of the windows that manifests record are known without it.
    Kept as well: each table's newest partition, every predecessor that a remaining partition was built on, and what a
    night that is under way may read: of D, by its lease, as much before D as the retention leaves, and the newest
    partition before D, however old. `manifests`, where given, tells afterwards which are broken.
    """
    manifests = manifests or Manifests(root)
    keep_dates = {check_date("--keep", date) for date in keep} | _label_window_dates(root, manifests)
    by_table = _by_table(root, retention_days, allow_missing)
    old = {name: _old_values(root.tables[name], days, as_of) for name, days in by_table.items()}
    read = _read_by_nights(root, by_table)
    going = {(name, value) for name, values in old.items() for value in values if value not in keep_dates}
    going = {one for one in going - read.keys() if manifests.get(*one) or one not in manifests.broken}
    needed = read | _needed(root, going, manifests)
    found = []
    for name, values in old.items():
        for value in values:
            reason = "a label window needs it" if value in keep_dates else needed.get((name, value))
            size = _size(root.tables[name], value, manifests.get(name, value))
            if (name, value) in manifests.broken:
                reason = "its manifest is broken"
            found.append(Candidate(name, value, size, reason))
    return found


def why_kept(root: DataRoot, name: str, value: str) -> str | None:
    """What still needs a partition, whatever its age; None: it may go."""
    reasons = _needed(root, {(name, value)}, Manifests(root)) | _read_by_nights(root, {name: ALL_DAYS})
    return reasons.get((name, value))


def problem_of_deleting(root: DataRoot, candidate: Candidate) -> StoreError | None:
    """Deletes it; what kept that from being done, for callers who go on with the rest."""
    try:
        delete(root, candidate)
    except StoreError as error:
        return error
    return None


def delete(root: DataRoot, candidate: Candidate) -> None:
    """See `delete_partition`."""
    delete_partition(root.tables[candidate.table], candidate.value)


def delete_partition(table: Table, value: str, wait_seconds: float = 60.0) -> None:
    """The manifest first: from then on the partition is not there, whatever crashes. LockHeld, CannotWrite.

    On an object store the lock and a manifest of blanks stay, some hundred bytes: without them, a writer that sleeps
    could not be told from the first."""
    folder = table.path(value)
    state = "The partition is either whole or gone for readers; prune again."
    with explain_os_errors("pruning", folder, state):
        was_committed = table.disk.exists(f"{folder}/{MANIFEST}")
    with writing(table, folder, wait_seconds) as held:
        with explain_os_errors("pruning", folder, state):
            if not was_committed and table.disk.exists(f"{folder}/{MANIFEST}"):
                return  # it was no leftover but a publish, which has finished
            table.disk.withdraw(held.manifest, held.version)
            held.delete([entry for entry in table.disk.list(folder) if entry.name != LOCK])
            if not table.disk.in_place:
                _delete_emptied(table, folder)


def _delete_emptied(table: Table, folder: str) -> None:
    """With the lock: whoever waits for it sees that its name is gone, and makes both anew,
    perhaps before the folder went."""
    try:
        table.disk.delete_folder(folder)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def missing(root: DataRoot, names: Iterable[str]) -> list[str]:
    """Those that are no table under the root, nor a folder of tables."""
    return [name for name in names if _folder(root, name) is None]


def _by_table(root: DataRoot, retention_days: Mapping[str, int], allow_missing: bool) -> dict[str, int]:
    """The longest matching folder wins; of two names of one folder, the longer retention."""
    for name, days in retention_days.items():
        if isinstance(days, bool) or not isinstance(days, int) or days < 1:
            raise StoreError(f"Found the retention {days!r} for {name}; expected a whole number of days, at least 1.")
    if (unknown := missing(root, retention_days)) and not allow_missing:
        raise StoreError(
            f"Found a retention for {unknown}, which is no table under {root.path}. "
            f"There are: {', '.join(sorted(root.tables)) or 'none'}. "
            "Mend the name, or let retentions of tables that are not written yet be with --allow-missing."
        )
    folders: dict[str, int] = {}
    for name, days in retention_days.items():
        if (folder := _folder(root, name)) is not None:
            folders[folder] = max(days, folders.get(folder, 0))
    chosen = {}
    for table in root.tables:
        above = [folder for folder in folders if _covers(folder, table)]
        if above and root.tables[table].key in DATE_KEYS:
            chosen[table] = folders[max(above, key=len)]
    return chosen


def _folder(root: DataRoot, name: str) -> str | None:
    """Where a retention's tables lie below the root: at its name, else below feature_store."""
    places = (name, f"feature_store/{name}")
    return next((place for place in places if any(_covers(place, table) for table in root.tables)), None)


def _covers(name: str, table: str) -> bool:
    return table == name or table.startswith(f"{name}/")


def _old_values(table: Table, days: int, as_of: str | None) -> list[str]:
    """Beyond `days`, ascending: committed ones but the newest, and leftovers of a publish or a prune that crashed."""
    values = table.values()
    newest = check_date("--as-of", as_of) if as_of else max(values, default=None)
    if newest is None:
        return []
    limit = (datetime.date.fromisoformat(newest) - datetime.timedelta(days=days)).isoformat()
    return sorted(value for value in [*values[:-1], *table.unfinished()] if value < limit)


def _read_by_nights(root: DataRoot, retention_days: Mapping[str, int]) -> dict[tuple[str, str], str]:
    """What nights with a lease may read, and of which that is."""
    found, leases = {}, Leases(f"{root.path}/{NIGHTS}", filesystem=root.disk).holding()
    for name, days in retention_days.items() if leases else ():
        values = root.tables[name].values()
        for lease in leases:
            first = (datetime.date.fromisoformat(lease.value) - datetime.timedelta(days=days)).isoformat()
            newest = [value for value in values if value < lease.value][-1:]
            for value in [*newest, *(value for value in values if first <= value <= lease.value)]:
                found[name, value] = f"the night of {lease.value}, which is under way, may read it"
    return found


def _label_window_dates(root: DataRoot, manifests: Manifests) -> set[str]:
    """From D − L to D, where D is a table's newest date that learned from a label window [D − L, D):
    each is the D − L of a night to come. Of the newest that can be read, up to the newest."""
    dates: set[str] = set()
    for name, table in root.tables.items():
        values = table.values()
        readable = next((found for value in reversed(values) if (found := manifests.get(name, value))), None)
        if window := _label_window(readable, table.uri):
            start, end = window[0], max(window[1], datetime.date.fromisoformat(values[-1]))
            dates |= {(start + datetime.timedelta(days=n)).isoformat() for n in range((end - start).days + 1)}
    return dates


def _label_window(manifest: Manifest | None, where: str) -> tuple[datetime.date, datetime.date] | None:
    """StoreError where it is no window."""
    window = manifest.fields.get("label_window") if manifest else None
    if not window:
        return None
    try:
        start, end = map(datetime.date.fromisoformat, window)
    except (TypeError, ValueError):
        raise StoreError(
            f"{where}: the manifest's label window is {str(window)[:50]!r}; expected two dates. Run that night again."
        ) from None
    return start, end


def _size(table: Table, value: str, manifest: Manifest | None) -> int:
    return manifest.size if manifest else sum(entry.size for entry in table.disk.list(table.path(value)))


def _needed(root: DataRoot, going: set[tuple[str, str]], manifests: Manifests) -> dict[tuple[str, str], str]:
    """Predecessors of what stays; what they keep keeps nothing further,
    since their own predecessors were read long ago. Where a manifest is broken, the partition before it."""
    needed = {}
    for name, table in root.tables.items():
        before = None
        for value in table.values():
            manifest = None if (name, value) in going else manifests.get(name, value)
            if (name, value) in manifests.broken and (name, before) in going:
                needed[name, before] = f"perhaps the predecessor of {name} {value}, whose manifest is broken"
            before = value
            for edge in built_on(manifest) if manifest else ():
                if edge.is_predecessor and (edge.table, edge.value) in going:
                    needed[edge.table, edge.value] = f"the predecessor of {name} {value}"
    return needed
