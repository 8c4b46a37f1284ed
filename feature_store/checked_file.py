"""A Parquet file that hands out no column chunk that is not, byte for byte, what was published.

What Arrow asks for is read once into memory of its own and hashed there before Arrow has it. XXH3 passes over it as
fast as memory gives it, so that this costs a third of Arrow's CRC-32 of the pages, and covers page headers too. It is
no cryptographic hash: it finds damage, as the pages' CRCs do; `verify` compares SHA-256. Bytes that no column chunk
holds are the caller's to check (frames.py).
"""

import atexit
import io
import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import xxhash

from feature_store.errors import DataDamaged

DIGITS = 16  # of a hash
# Files and the buffers that they gave, while a reader has them or a thread of Arrow's that has just read. No WeakSet:
# it hears of an end in Python code, within which that thread may lose the interpreter, and need it once more.
_HELD: dict[int, weakref.ref] = {}
_LOCK = threading.Lock()  # row groups are read side by side
_numbers = itertools.count()
_PATIENCE_SECONDS = 2


class Chunk(NamedTuple):
    """A column chunk: its first byte and the one after its last, its hash, and what a message calls it."""

    start: int
    end: int
    digest: str
    name: str


class CheckedFile:
    """`source` as a file for `pa.PythonFile(…, mode="r")`, which is to read with `pre_buffer`: then it asks for whole
    chunks; of a part of one, all is read. DataDamaged where a chunk does not fit its hash; OSError."""

    def __init__(self, source: pa.NativeFile, chunks: Sequence[Chunk], path: str) -> None:
        self._source, self._chunks, self._path = source, chunks, path
        self._size, self._at = source.size(), 0
        self._chunks_end = max((chunk.end for chunk in chunks), default=0)
        _hold(self)

    @property
    def closed(self) -> bool:
        return self._source.closed

    def close(self) -> None:
        """Whoever opened the source closes it."""

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = origin + offset
        return self._at

    def read(self, size: int) -> bytes:
        return self.read_buffer(size).to_pybytes()

    def read_buffer(self, size: int) -> pa.Buffer:
        """Without a copy: what Arrow asks for in place of `read` where there is one."""
        start, end = self._at, min(self._at + size, self._size)
        self._at = end
        if end > self._chunks_end:
            return self._beyond_chunks(start, end)
        touched = [chunk for chunk in self._chunks if chunk.start < end and chunk.end > start]
        first = min([start, *(chunk.start for chunk in touched)])
        self._source.seek(first)
        content = self._source.read_buffer(max([end, *(chunk.end for chunk in touched)]) - first)
        view = memoryview(content)
        for chunk in touched:
            if xxhash.xxh3_64_hexdigest(view[chunk.start - first : chunk.end - first]) != chunk.digest:
                raise DataDamaged(
                    f"{self._path} was changed after it was published: {chunk.name} does not fit its checksum. "
                    "`verify` names the file; roll the partition back or publish it again."
                )
        given = content.slice(start - first, end - start)
        _hold(given)
        return given

    def _beyond_chunks(self, start: int, end: int) -> pa.Buffer:
        """Arrow guesses how long a footer is: what it is given of the chunks before it is blank, and not read."""
        first = max(start, self._chunks_end)
        content = pa.BufferOutputStream()
        content.write(bytes(first - start))
        content.write(self._source.read_at(end - first, first))
        given = content.getvalue()
        _hold(given)
        return given


def _hold(one: CheckedFile | pa.Buffer) -> None:
    with _LOCK:
        for number in [number for number, held in _HELD.items() if held() is None]:
            del _HELD[number]
        _HELD[next(_numbers)] = weakref.ref(one)


def _all_gone() -> bool:
    with _LOCK:
        return all(held() is None for held in _HELD.values())


@atexit.register
def _wait_for_threads() -> None:
    """A thread of Arrow's may hold a file, or the buffer that it decoded from, a moment longer than its reader. If it
    lets go while Python is shutting down, the process is aborted ("terminate called without an active exception",
    Arrow issue 34314)."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not _all_gone() and time.monotonic() < end:
        time.sleep(0.001)
