"""Finds every table and ledger under a data root."""

from pyarrow import fs

from feature_store.disk import Disk, open_disk
from feature_store.errors import explain_os_errors
from feature_store.layout import LOCK, MANIFEST, RETIRED
from feature_store.segments import Segments
from feature_store.table import Table

_MAX_DEPTH = 5


class DataRoot:
    """The folder that holds all tables: `clean_events`, `checkpoints/my_model`,
    `feature_store/user_embeddings/model=my_model`, ..."""

    def __init__(self, root: str, filesystem: fs.FileSystem | Disk | None = None) -> None:
        self.disk, path = open_disk(str(root), filesystem)
        # Whoever names the feature store itself means the root around it: lineage reaches beyond the store.
        self.path = path.removesuffix("/feature_store")
        self.tables: dict[str, Table] = {}
        self.ledgers: dict[str, Segments] = {}
        self._look("", _MAX_DEPTH)

    def _look(self, name: str, depth: int) -> None:
        folder = f"{self.path}/{name}" if name else self.path
        with explain_os_errors("looking for tables", folder, "Nothing was changed."):
            entries = self.disk.list(folder)
        if any(entry.name.startswith("segment-") and entry.name.endswith(".parquet") for entry in entries):
            self.ledgers[name] = Segments(folder, self.disk)
        for entry in entries:
            if not entry.is_folder or entry.name.startswith((".", "_")):
                continue
            below = f"{name}/{entry.name}".lstrip("/")
            if "=" in entry.name and self._is_partition(f"{folder}/{entry.name}"):
                self.tables.setdefault(name, Table(folder, entry.name.partition("=")[0], self.disk))
            elif depth:
                self._look(below, depth - 1)

    def _is_partition(self, folder: str) -> bool:
        return any(self.disk.exists(f"{folder}/{name}") for name in (MANIFEST, RETIRED, LOCK))
