"""A folder of partitions, each committed by one atomic put of its manifest."""

from contextlib import AbstractContextManager

from pyarrow import fs

from feature_store import retired
from feature_store.columns import SchemaProblem
from feature_store.commit import Commit
from feature_store.disk import Disk
from feature_store.manifest import Manifest
from feature_store.partitions import Partitions
from feature_store.publish import orphans, replacing, roll_back
from feature_store.storage import Storage
from feature_store.verify import verify_partition


class Table(Partitions):
    """Partitions that are read, published, rolled back and verified. One writer per partition.

    `schema_problem` says what keeps an Arrow schema from being this table's
    (None: nothing); no commit publishes such a file.
    """

    def __init__(
        self,
        uri: str,
        key: str = "dt",
        filesystem: fs.FileSystem | Disk | Storage | None = None,
        schema_problem: SchemaProblem | None = None,
    ) -> None:
        super().__init__(uri, key, filesystem)
        self.schema_problem = schema_problem

    def unfinished(self) -> list[str]:
        """Values whose folder holds files and no manifest:
        of a first publish that crashed or runs now, or of a prune that crashed."""
        return [value for value in self.folders() if not self._is_committed(value) and self.orphans(value)]

    def replace(
        self,
        value: str,
        *,
        schema_version: tuple[int, int] = (1, 0),
        keep_versions: int = 1,
        wait_seconds: float = 60.0,
        only_if_changed: bool = False,
    ) -> AbstractContextManager[Commit]:
        """Publishes the partition anew: yields a Commit; leaving the block commits by one atomic put of the manifest.

        An exception inside the block leaves what readers had. Replaced versions are kept, the last `keep_versions`
        of them. Equal content is committed all the same (its lineage may differ), unless `only_if_changed`.
        LockHeld after `wait_seconds`; DiskFull, CannotWrite.
        """
        return replacing(self, value, self.schema_problem, schema_version, keep_versions, wait_seconds, only_if_changed)

    def rollback(self, value: str, *, wait_seconds: float = 60.0) -> Manifest:
        """Puts the newest replaced version back, with its own manifest; the current one takes its place among the
        replaced, so that a second call undoes the first. NothingToRollBackTo, LockHeld."""
        return roll_back(self, value, wait_seconds)

    def versions(self, value: str) -> list[Manifest]:
        """Manifests of the replaced versions that are kept, oldest first."""
        return [manifest for _, manifest in retired.versions(self.disk, self.path(value))]

    def orphans(self, value: str) -> list[str]:
        """Names of files of crashed publishes (or of one that runs now). Readers ignore them, a plain glob does not."""
        return [entry.name for entry in orphans(self, self.path(value), self.manifest(value))]

    def verify(self, value: str) -> list[str]:
        """Problems with the committed version, each naming its file; [] when it is whole."""
        return verify_partition(self, value)
