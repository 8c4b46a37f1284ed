"""One writer per partition on an object store: an object that says who holds it, renewed while it is held.

No clock is compared with another's. A holder renews its lease every third of its length, which changes the object's
ETag; whoever waits takes it over once it has seen one ETag for the whole length that stands in it, by its own
stopwatch. A holder that was held up for longer finds the lease another's: its renewal is refused. Nothing depends on
its noticing in time: what it started from has been replaced by then (ObjectStore.fence), so its commit fails.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from feature_store.errors import LockHeld, LockLost, StoreError
from feature_store.lock import holding_now
from feature_store.object_errors import never_first, no_conditions

_log = logging.getLogger(__name__)
MOST_LOST = 100  # races for a free lease or manifest, one after the other: more are no races
Version = dict[str, str]  # ETag, and version where the store has those


@dataclass(frozen=True)
class Seen:
    """An object as it was when it was looked at."""

    content: bytes
    version: Version


class Objects(Protocol):
    """What a lease needs of the store. `has_conditions`: whether the server was seen to keep the conditions of puts."""

    has_conditions: bool

    def look(self, path: str) -> Seen | None: ...

    # None: another was first
    def put_if(self, path: str, content: bytes, version: Version | None) -> Version | None: ...


@dataclass
class LeaseLock:
    """`with` it: held inside. Entering gives a function that asks the store whether it still is (LockLost).

    LockHeld names the holder when `wait_seconds` have passed. `clock` is a stopwatch in seconds.
    """

    objects: Objects
    path: str
    wait_seconds: float
    length_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _number: int = 0
    _renewals: int = 0
    _version: Version | None = None

    def __enter__(self) -> Callable[[], None]:
        self._version = self._acquire()
        try:
            if not self.objects.has_conditions:
                self._require_conditions(self._version)
        except BaseException:
            self._let_go()
            raise
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name=f"lease of {self.path}", daemon=True)
        self._renewing.start()
        return self.check

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._renewing.join()
        self._let_go()

    def _let_go(self) -> None:
        if self._version is None:
            return
        try:
            self._replace({"number": self._number, "free": True})
        except (OSError, StoreError) as failed:
            _log.warning("%s could not be let go (%s): it runs out in %g s", self.path, failed, self.length_seconds)

    def check(self) -> None:
        seen = self.objects.look(self.path)
        if seen is None or _read(seen.content).get("id") != self._id:
            raise LockLost(_lost(self.path, seen))

    def _require_conditions(self, former: Version) -> None:
        """StorageRefused where the server puts whatever it is told: nothing would keep two writers apart there."""
        self._renewals += 1  # equal content would have an equal version
        self._version = self._replace(self._said())
        for stale in (None, former) if self._version else ():
            if self.objects.put_if(self.path, _document({"free": True}), stale):
                raise no_conditions(self.path)
            self.objects.has_conditions = stale is former

    def _acquire(self) -> Version:
        deadline = self.clock() + self.wait_seconds
        watched: tuple[Version | None, float] = (None, 0.0)
        told, lost = False, 0
        while lost < MOST_LOST:
            seen, now = self.objects.look(self.path), self.clock()
            if seen is not None and seen.version != watched[0]:
                watched = (seen.version, now)
            said = _read(seen.content) if seen else {}
            if _is_free(said) or now - watched[1] >= _length(said, self.length_seconds):
                if not _is_free(said):
                    _log.warning("taking over %s: %s has not renewed it", self.path, holder(said))
                self._number = _whole(said.get("number")) + 1
                if version := self.objects.put_if(self.path, _document(self._said()), seen.version if seen else None):
                    return version
                lost += 1
                continue
            lost = 0
            if now >= deadline:
                raise LockHeld(
                    f"{self.path} is held by {holder(said)}; waited {self.wait_seconds:g} s for it to finish. "
                    "One writer per partition: let it finish or stop it (what a killed writer held is free "
                    f"{_length(said, self.length_seconds):g} s later), then run this again."
                )
            if not told:
                told = True
                _log.warning("waiting up to %g s for %s, held by %s", self.wait_seconds, self.path, holder(said))
            self.sleep(min(0.5, _length(said, self.length_seconds) / 10, max(0.01, deadline - now)))
        raise never_first(self.path, lost)

    def _said(self) -> dict[str, Any]:
        mine = {"id": self._id, "number": self._number, "renewals": self._renewals, "seconds": self.length_seconds}
        return holding_now() | mine

    def _replace(self, said: dict[str, Any]) -> Version | None:
        """Of the lease, while it is this one's; None where it is not."""
        version = self.objects.put_if(self.path, _document(said), self._version)
        if version is None:  # perhaps an earlier renewal arrived after all, whose answer was lost
            seen = self.objects.look(self.path)
            if seen is not None and _read(seen.content).get("id") == self._id:
                version = self.objects.put_if(self.path, _document(said), seen.version)
        return version

    def _renew(self) -> None:
        pause = self.length_seconds / 3
        while not self._ended.wait(pause):
            try:
                self._renewals += 1
                self._version = self._replace(self._said())
            except (OSError, StoreError) as error:
                _log.warning("the lease %s could not be renewed (%s); trying again", self.path, error)
                pause = self.length_seconds / 10
                continue
            if self._version is None:
                _log.warning("the lease %s was taken over by another writer: nothing more is published here", self.path)
                return
            pause = self.length_seconds / 3


def holder(said: dict[str, Any]) -> str:
    """In words."""
    try:
        return f"process {said['pid']} on {said['host']} since {said['since']} ({said['command']})"
    except KeyError:
        return "a process that has not written its name"


def _lost(path: str, seen: Seen | None) -> str:
    said = _read(seen.content) if seen else {}
    by = f"by {holder(said)}" if "pid" in said else "by another writer"
    return (
        f"{path} was taken over {by} while this one was held up for longer than its lease. "
        "Nothing of this one was published; what the other publishes stands. Run it again if it is still wanted."
    )


def _is_free(said: dict[str, Any]) -> bool:
    return "id" not in said


def _length(said: dict[str, Any], default: float) -> float:
    seconds = said.get("seconds", default)
    return float(seconds) if isinstance(seconds, int | float) and 0 < seconds <= 86_400 else default


def _whole(number: object) -> int:
    return number if isinstance(number, int) and not isinstance(number, bool) else 0


def _document(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True).encode()


def _read(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return {}  # none of ours: nobody holds it
    return said if isinstance(said, dict) else {}
