"""Leases: a small file `<uri>/<key>=<value>` that says until when something of that value counts as under way.

Unlike a lock, a lease outlives the process that wrote it and runs out by itself: several programs, one after the other,
hold it together, and one that is killed holds up nobody for long. It keeps nobody from writing.

This is where the store reads the clock for more than `created_timestamp`: whether a lease has run out is a matter of
the time of day. Machines that share a root need clocks that agree to within a fraction of a lease.
"""

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyarrow import fs

from feature_store.disk import Disk, open_disk
from feature_store.errors import explain_os_errors, explained
from feature_store.layout import LOCK, check_key, check_value, is_value
from feature_store.storage import Storage
from feature_store.whole import is_none

NIGHTS = "nights"  # the folder of nights' leases, below a data root
WAIT_SECONDS = 60.0  # for another that writes a lease, which takes no time


def utc_now() -> datetime.datetime:
    """The clock's time."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Lease:
    """What `value` is under way until; `said`: what its holder tells of itself, JSON objects of names."""

    value: str
    until: datetime.datetime
    said: dict[str, Any] = field(default_factory=dict)


class Leases:
    """All leases of one folder."""

    def __init__(
        self, uri: str, key: str = "dt", filesystem: fs.FileSystem | Disk | Storage | None = None,
        clock: Callable[[], datetime.datetime] = utc_now,
    ) -> None:  # fmt: skip
        self.disk, self.uri = open_disk(str(uri), filesystem)
        self.key, self.clock = check_key(key), clock

    def path(self, value: str) -> str:
        return f"{self.uri}/{self.key}={check_value(self.key, value)}"

    def write(self, value: str, length: datetime.timedelta, **said: Any) -> Lease:
        """A lease from now on, in place of one that is there."""
        with self._alone() as confirm:
            return self._put(Lease(value, self.clock() + length, said), confirm)

    def renew(self, value: str, length: datetime.timedelta) -> bool:
        """Let it hold from now on, at least; what it says stays. False where there is none: it was ended."""
        if self.get(value) is None:
            return False
        with self._alone() as confirm:
            if found := self.get(value):
                self._put(Lease(value, max(found.until, self.clock() + length), found.said), confirm)
        return found is not None

    def end(self, value: str) -> None:
        """Nothing of that value is under way any more; no lease is fine."""
        path = self.path(value)
        if not self.disk.exists(path):
            return
        with self._alone() as confirm, explain_os_errors("ending the lease", path):
            confirm()
            self.disk.delete(path)

    def get(self, value: str) -> Lease | None:
        """The lease, whether it has run out or not. None where there is none, or what lies there is none of ours."""
        path = self.path(value)
        try:
            document = json.loads(self.disk.read_bytes(path))
            until = datetime.datetime.fromisoformat(document["until"]).astimezone(datetime.UTC)
            return Lease(value, until, dict(document["said"]))
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)) or is_none(error):
                return None
            raise explained(error, "reading the lease", path, "Nothing was changed.") from error

    def holding(self) -> list[Lease]:
        """Those that have not run out, by value."""
        with explain_os_errors("looking for leases", self.uri, "Nothing was changed."):
            names = [entry.name for entry in self.disk.list(self.uri) if not entry.is_folder]
        prefix = f"{self.key}="
        values = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        found = [self.get(value) for value in sorted(values) if is_value(self.key, value)]
        now = self.clock()
        return [lease for lease in found if lease is not None and lease.until > now]

    @contextmanager
    def _alone(self) -> Iterator[Callable[[], None]]:
        """A renewal reads and writes: what another writes or ends meanwhile must not come back. What is given raises
        LockLost where another has come in, whom a lock on an object store cannot keep out for ever."""
        with explain_os_errors("making the folder of the leases", self.uri):
            self.disk.make_folder(self.uri)
        lock = self.disk.lock(f"{self.uri}/{LOCK}", WAIT_SECONDS)
        with explain_os_errors("locking the leases", self.uri), lock as confirm:
            yield confirm

    def _put(self, lease: Lease, confirm: Callable[[], None]) -> Lease:
        path = self.path(lease.value)
        document = {"until": lease.until.isoformat(), "said": lease.said}
        with explain_os_errors("writing the lease", path):
            self.disk.remove_strays(self.uri)
            confirm()
            self.disk.put_atomic(path, json.dumps(document, sort_keys=True).encode())
        return lease
