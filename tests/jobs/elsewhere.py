"""A disk that Spark has no file system for, as far as the jobs know: in truth the local one."""

from __future__ import annotations

from typing import Any

from feature_store.local_disk import LocalDisk


class Elsewhere:
    """All operations of the local disk; not a `LocalDisk`. It can be pickled, as every disk can."""

    def __init__(self) -> None:
        self._disk = LocalDisk()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by pickle before there is a disk
            raise AttributeError(name)
        return getattr(self._disk, name)
