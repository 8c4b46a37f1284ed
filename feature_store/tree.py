"""Finds every table and ledger under a data root."""

from pyarrow import fs

from feature_store.disk import Disk, Entry, open_disk
from feature_store.errors import explain_os_errors
from feature_store.layout import LOCK, MANIFEST, RETIRED, is_partition, root_meant_by
from feature_store.segments import Segments, is_segment
from feature_store.storage import Storage
from feature_store.table import Table

_MAX_DEPTH = 5


class DataRoot:
    """The folder that holds all tables: `clean_events`, `checkpoints/my_model`,
    `feature_store/user_embeddings/model=my_model`, ..."""

    def __init__(self, root: str, filesystem: fs.FileSystem | Disk | Storage | None = None) -> None:
        self.disk, path = open_disk(str(root), filesystem)
        self.path = root_meant_by(path)
        self.tables: dict[str, Table] = {}
        self.ledgers: dict[str, Segments] = {}
        self._look("", _MAX_DEPTH)

    def _look(self, name: str, depth: int) -> None:
        folder = f"{self.path}/{name}" if name else self.path
        with explain_os_errors("looking for tables", folder, "Nothing was changed."):
            entries = self.disk.list(folder)
        if any(is_segment(entry.name) for entry in entries):
            self.ledgers[name] = Segments(folder, self.disk)
        keys: list[str] = []
        holding = self._holding(folder, entries)
        for entry in entries:
            if not entry.is_folder or entry.name.startswith((".", "_")):
                continue
            below = f"{name}/{entry.name}".lstrip("/")
            if "=" in entry.name and entry.name in holding:
                keys += [entry.name.partition("=")[0]] if is_partition(entry.name) else []
            elif depth:
                self._look(below, depth - 1)
        if keys:  # the key of most of them; others are strays, which `verify` names
            self.tables[name] = Table(folder, max(sorted(set(keys)), key=keys.count), self.disk)

    def _holding(self, folder: str, entries: list[Entry]) -> set[str]:
        """Names of the folders that hold versions of a partition, or did."""
        if not any("=" in entry.name and entry.is_folder for entry in entries):
            return set()
        with explain_os_errors("looking for partitions", folder, "Nothing was changed."):
            return self.disk.folders_with(folder, (MANIFEST, RETIRED, LOCK))
