"""What can go wrong in the store. Every message says what was found, where, what was expected, and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(Exception):
    """Any refusal of the store; catch this one to catch them all."""


class PartitionMissing(StoreError):
    """The partition asked for was never committed (or was pruned)."""


class TooOld(StoreError):
    """The newest partition at the asked time is older than `max_age_days` allows."""


class SpaceMismatch(StoreError):
    """Vectors of different spaces would be mixed; their distances mean nothing."""


class LockHeld(StoreError):
    """Another writer holds the partition, and did not finish within the time to wait."""


class ManifestBroken(StoreError):
    """A `_manifest.json` exists and is not what the store writes."""


class SchemaTooNew(StoreError):
    """The partition's schema has a newer major version than this code reads."""


class DataDamaged(StoreError):
    """A file that a manifest names is gone, truncated, changed or no Parquet."""


class BadName(StoreError):
    """A view, model, column or partition value that must not become a path."""


class NothingToRollBackTo(StoreError):
    """No replaced version of the partition is kept."""


class CannotWrite(StoreError):
    """The disk refused: read-only, no permission, or an input/output error."""


class DiskFull(CannotWrite):
    """No space left."""


class StorageRefused(StoreError):
    """The object store refuses for a reason that a person mends: no bucket, no right, expired credentials, a clock.

    `may_pass`: whether another try may find it mended without anybody, as new credentials are.
    """

    may_pass = False


class LockLost(StoreError):
    """A writer was held up for so long that another took its place; nothing of it was published."""


# what a disk refuses today and tomorrow; a file that is gone may have been replaced, and a full disk been cleared
_FOR_GOOD = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_UNCHANGED = "What was published before is unchanged."


def may_pass(error: StoreError | OSError) -> bool:
    """Whether another try may end otherwise: a lock that is held, a disk that is full or fails."""
    if isinstance(error, StorageRefused):
        return error.may_pass
    if isinstance(error, (OSError, CannotWrite)):
        cause = error if isinstance(error, OSError) else error.__cause__
        return getattr(cause, "errno", None) not in _FOR_GOOD
    return isinstance(error, (LockHeld, LockLost))


@contextmanager
def explain_os_errors(doing: str, path: str, state: str = _UNCHANGED) -> Iterator[None]:
    """Turns an OSError into a StoreError that a person can act on:
    what was being done, where, and the state that readers have now."""
    try:
        yield
    except OSError as error:
        raise explained(error, doing, path, state) from error


def explained(error: OSError, doing: str, path: str, state: str) -> StoreError:
    """The StoreError that says what the operating system refused, and what to do about it."""
    found = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"No space left while {doing} at {path}. {state} "
            "Free space (`python -m feature_store prune --dry-run` lists what may go) and run it again."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CannotWrite(
            f"{found} while {doing} at {path}. {state} "
            "Mount the data root writable, give this user the right to read and write there, or name another one, "
            "and run it again."
        )
    what = f"{found} (errno {error.errno}) while {doing} at {path}"
    return CannotWrite(f"{what}. {state} Check the disk and run it again.")
