"""One writer per partition: flock on a file that also says who holds it.

The kernel frees it when its holder is killed.
"""

import datetime
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from feature_store.errors import CannotWrite, LockHeld

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.05


@contextmanager
def locked(path: str, wait_seconds: float) -> Iterator[Callable[[], None]]:
    """Holds the lock file `path`; LockHeld names the holder when `wait_seconds` have passed.

    Gives a function that raises LockLost where the lock is another's by now, which the kernel lets happen to nobody.
    """
    descriptor = _acquire(path, wait_seconds)
    try:
        _write_holder(descriptor)
        yield lambda: None
    finally:
        os.close(descriptor)


def _acquire(path: str, wait_seconds: float) -> int:
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_at(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            os.close(descriptor)  # prune deleted the folder in between: the lock is on a name that is gone
            continue
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"{path} is held by {holder(path)}; waited {wait_seconds:g} s for it to finish. "
                "One writer per partition: let it finish or stop it (a killed writer frees the lock by itself), "
                "then run this again."
            )
        if not told:
            told = True
            _log.warning("waiting up to %g s for %s, held by %s", wait_seconds, path, holder(path))
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _open(path: str) -> int:
    """CannotWrite for a link or a pipe: what a link points to would be overwritten."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise _no_lock(path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_lock(path)
    return descriptor


def _no_lock(path: str) -> CannotWrite:
    return CannotWrite(
        f"{path} is a link, a pipe, a folder or a device; expected the regular file that writers lock. "
        "What was published before is unchanged. Delete it and run this again."
    )


def _is_still_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def holding_now() -> dict[str, int | str]:
    """What a holder says of itself."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    command = " ".join([os.path.basename(sys.executable), *sys.argv])[:500]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "command": command}


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holding_now()).encode(), 0)


def holder(path: str) -> str:
    """Who wrote its name into the lock file last, in words."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return f"process {found['pid']} on {found['host']} since {found['since']} ({found['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not written its name yet"
