"""A folder for what Spark writes on the way to a ledger: below the table, so that every machine sees it, and gone
afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from feature_store.disk import Disk
from feature_store.errors import LockHeld, explain_os_errors

_PREFIX, _LOCK = "_scratch-", ".lock"


@contextmanager
def scratch_folder(disk: Disk, parent: str) -> Iterator[str]:
    """A new folder in `parent`, deleted with the block; those of killed runs are deleted first (their locks are
    free)."""
    with explain_os_errors("making a scratch folder", parent):
        disk.make_folder(parent)
        remove_abandoned(disk, parent)
    folder = f"{parent}/{_PREFIX}{uuid.uuid4().hex}"
    with disk.lock(folder + _LOCK, 0):  # held before the folder exists: whoever finds it can tell that it is in use
        try:
            yield folder
        finally:
            disk.delete_folder(folder)
            disk.delete(folder + _LOCK)


def remove_abandoned(disk: Disk, parent: str) -> None:
    """Folders of killed runs."""
    for entry in disk.list(parent):
        if not (entry.is_folder and entry.name.startswith(_PREFIX)):
            continue
        folder = f"{parent}/{entry.name}"
        try:
            with disk.lock(folder + _LOCK, 0):
                disk.delete_folder(folder)
                disk.delete(folder + _LOCK)
        except LockHeld:
            continue  # its run lives
