"""What an object store refuses, told as the store tells what a disk refuses.

A missing object is FileNotFoundError; what may pass (a connection, an overloaded server) is an OSError with an errno,
which callers put into words; what a person has to mend is StorageRefused at once, whoever was asking. Texts of the
library are not passed on whole: its URLs may hold signatures.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from feature_store.errors import StorageRefused

Answer = TypeVar("Answer")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>|\(code: ([A-Za-z0-9]+)\)")
_STATUS = re.compile(r"status code: (\d{3})")
_NO_PATH = re.compile(r'object with invalid path: .*?"(.*?)"(?:: Encountered| contained)', re.S)
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>|expecting '([a-z0-9-]+)'")
_CREDENTIALS = "Give this process valid ones (environment, ~/.aws/credentials, the pod's role) and run it again."
_UNCHANGED = "What was published before is unchanged."
# by the server's code: what is wrong, what to do
_REFUSALS = {
    "NoSuchBucket": ("The bucket does not exist", "Create it, or name another data root, and run it again."),
    "AccessDenied": (
        "These credentials have no right to do that",
        "Grant read, write, list and delete on the bucket (docs/object_store.md lists the rights), or name others.",
    ),
    "AllAccessDisabled": ("The bucket is closed to everybody", "Ask its owner."),
    "InvalidAccessKeyId": ("The server does not know the access key", _CREDENTIALS),
    "SignatureDoesNotMatch": ("The secret key does not belong to the access key", _CREDENTIALS),
    "ExpiredToken": ("The credentials have expired", _CREDENTIALS),
    "TokenRefreshRequired": ("The credentials have expired", _CREDENTIALS),
    "InvalidToken": ("The session token is not valid", _CREDENTIALS),
    "RequestTimeTooSkewed": (
        "This machine's clock differs from the server's by more than it allows (15 minutes)",
        "Set the clock (chronyd, systemd-timesyncd) and run it again.",
    ),
    "NotImplemented": (
        "The server does not know this request",
        "The store needs conditional writes (If-Match, If-None-Match): use a server that has them.",
    ),
}
_REGION_CODES = ("PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect", "IllegalLocationConstraint")
_MAY_PASS = ("ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed")


class _Process:
    """Whether this one has spoken to a store, and whether it was forked from one that had."""

    has_spoken = False
    is_forked = False


def _after_fork() -> None:
    _Process.is_forked = _Process.has_spoken


os.register_at_fork(after_in_child=_after_fork)


def check_process() -> None:
    """StorageRefused in a process that was forked from one that spoke to a store: obstore's threads did not come with
    it, and it would wait for them for ever."""
    _Process.has_spoken = True
    if _Process.is_forked:
        raise StorageRefused(
            "This process was forked from one that had used an object store already, which cannot be used here. "
            "Start it by `spawn` or `forkserver` (multiprocessing.get_context), or fork before the store is used."
        )


@contextmanager
def translated(doing: str, path: str) -> Iterator[None]:
    """Around a request: `doing` what (a verb in -ing), with which object or folder."""
    from obstore.exceptions import BaseError

    check_process()
    try:
        yield
    except (FileNotFoundError, BaseError, PermissionError) as error:
        raise explained(error, doing, path) from None


def whole_answer(call: Callable[[], Answer], patient: bool) -> Answer:
    """Asks again where the answer ended in its middle, which obstore does of objects alone: of what may be asked twice,
    lists and deletions."""
    from obstore.exceptions import BaseError

    for left in (2, 1, 0) if patient else (0,):
        try:
            return call()
        except BaseError as error:
            if not left or "body error" not in str(error):
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def no_store(path: str) -> StorageRefused:
    """Where a new object is answered with "not found", and no bucket is said to be missing."""
    return StorageRefused(
        f"The server answers a new object with \"not found\" (404) while writing {path}. {_UNCHANGED} "
        "This is no object store, or not its address: check `endpoint` (AWS_ENDPOINT_URL) and run it again."
    )


def never_first(path: str, tries: int) -> StorageRefused:
    """Where the server refuses conditional puts as if another writer had been first each time."""
    return StorageRefused(
        f"The server refused {tries} conditional puts of {path} one after the other, each as if another writer had "
        f"been first. {_UNCHANGED} The store needs conditional writes (If-Match, If-None-Match): use a server that "
        "has them, or, where many writers wait for this one partition, run it again."
    )


def no_conditions(path: str) -> StorageRefused:
    """Where a put went through whose condition did not hold."""
    return StorageRefused(
        f"The server ignores the conditions of a put (If-Match, If-None-Match), as one of {path} showed: two writers "
        f"would overwrite each other there. {_UNCHANGED} Use a server that keeps them (docs/object_store.md)."
    )


def explained(error: Exception, doing: str, path: str) -> Exception:
    """The exception to raise in place of one of obstore's."""
    text = str(error)
    code = next((one or other for one, other in _CODE.findall(text)), "")
    if unread := _NO_PATH.search(text):
        return StorageRefused(
            f"Found an object named {unread[1][:200]!r} while {doing} {path}: a name with an empty part, '.', '..' or "
            f"a control character, with which nothing beside it can be listed. {_UNCHANGED} Rename or delete it."
        )
    if code in _REGION_CODES or (not code and ("status code: 301" in text or "configured region" in text)):
        return _other_region(text, doing, path)
    if code in _REFUSALS:
        found, advice = _REFUSALS[code]
        refused = StorageRefused(f"{found} ({code}) while {doing} {path}. {_UNCHANGED} {advice}")
        refused.may_pass = code in _MAY_PASS
        return refused
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    status = next(iter(_STATUS.findall(text)), "")
    if status in ("401", "403") or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        found, advice = _REFUSALS["AccessDenied"]
        said = code or status or "no credentials"
        return StorageRefused(f"{found} ({said}) while {doing} {path}. {_UNCHANGED} {advice}")
    return OSError(errno.EIO, f"The object store did not answer as it should ({_short(text, code)})", path)


def _other_region(text: str, doing: str, path: str) -> StorageRefused:
    region = next((one or other for one, other in _REGION.findall(text)), "")
    where = f"in the region {region}" if region else "in another region"
    return StorageRefused(
        f"The bucket is {where}, not where it was asked for, while {doing} {path}. {_UNCHANGED} "
        f"Set `region: {region or '…'}` (or AWS_REGION) to the bucket's own and run it again."
    )


def _short(text: str, code: str) -> str:
    """Its first line, without URLs."""
    first = re.sub(r"\s*\S+://\S+", "", text.split("\n", 1)[0].split("<?xml", 1)[0]).strip(" :.-")
    return f"{code + ': ' if code else ''}{first[:200]}"
