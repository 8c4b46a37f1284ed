"""SHA-256 of what is written, by a thread of its own: whoever packs rows and sends them does not wait for it."""

import collections
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

_FEW_BYTES = 4 << 20  # are hashed at once: a thread costs more
_MOST_WAITING = 16  # pieces, of at most a megabyte where Arrow writes them


class HashBeside:
    """Bytes are given in order, and are not changed afterwards."""

    def __init__(self) -> None:
        self._hash, self._given = hashlib.sha256(), 0
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: collections.deque[Future[None]] = collections.deque()

    def update(self, content: memoryview) -> None:
        self._given += len(content)
        if self._given <= _FEW_BYTES:
            self._hash.update(content)
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._waiting.append(self._thread.submit(self._hash.update, content))
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft().result()

    def hexdigest(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()
