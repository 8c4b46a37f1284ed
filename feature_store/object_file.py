"""Objects as files: read in ranges, several at a time where they are large; written in parts while they grow."""

import contextlib
import errno
import functools
import io
import mmap
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import CannotWrite, DiskFull
from feature_store.hash_beside import HashBeside
from feature_store.object_errors import translated, whole_answer

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

_PIECE_BYTES = 8 << 20  # of one request; larger reads are split, and their pieces read side by side
_TAIL_BYTES = 64 << 10  # a Parquet file's footer, mostly, comes with the first request
_PART_BYTES = 16 << 20  # of a multipart upload: 10,000 parts are the most
_READERS, _WRITERS = 8, 4
_pool = ThreadPoolExecutor(_READERS, thread_name_prefix="ranged-read")


class ObjectFile:
    """An object as a file for `pa.PythonFile(…, mode="r")`: nothing is read ahead but its last 64 KiB.

    `path` is for messages; patient: what ends in its middle is asked for again. FileNotFoundError, OSError,
    StorageRefused.
    """

    closed = False

    def __init__(self, bucket: "Bucket", key: str, path: str, patient: bool = True) -> None:
        self._bucket, self._key, self._path, self._at, self._patient = bucket, key, path, 0, patient
        with translated("opening", path):
            self._size, self._tail = whole_answer(lambda: _size_and_tail(bucket, key), patient)

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def size(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        return self.read_buffer(size).to_pybytes()

    def read_buffer(self, size: int | None = -1) -> pa.Buffer:
        """The next `size` bytes (-1: all that are left), without a copy where one request brings them."""
        start = self._at
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        self._at = max(start, end)
        return self._range(start, end) if end > start else pa.py_buffer(b"")

    def _range(self, start: int, end: int) -> pa.Buffer:
        tail_start = self._size - len(self._tail)
        if start >= tail_start:
            return self._tail.slice(start - tail_start, end - start)
        if end - start <= _PIECE_BYTES:
            return self._request(start, end)
        content = pa.allocate_buffer(end - start)
        view = memoryview(content)

        def fetch(piece: int) -> None:
            part = self._request(piece, min(piece + _PIECE_BYTES, end))
            view[piece - start : piece - start + part.size] = memoryview(part)

        for _ in _pool.map(fetch, range(start, end, _PIECE_BYTES)):
            pass
        return content

    def _request(self, start: int, end: int) -> pa.Buffer:
        import obstore

        with translated("reading", self._path):
            asked = functools.partial(obstore.get_range, self._bucket, self._key, start=start, end=end)
            content = whole_answer(asked, self._patient)
        if len(content) != end - start:
            raise OSError(5, f"The object store sent {len(content)} of {end - start} bytes", self._path)
        return pa.py_buffer(content)


def _size_and_tail(bucket: "Bucket", key: str) -> tuple[int, pa.Buffer]:
    import obstore
    from obstore.store import AzureStore

    if not isinstance(bucket, AzureStore):  # which knows no ranges from the end
        try:
            got = obstore.get(bucket, key, options={"range": {"suffix": _TAIL_BYTES}})
            return got.meta["size"], pa.py_buffer(got.bytes())
        except obstore.exceptions.GenericError as error:
            if "416" not in str(error):  # of an empty object there is no range
                raise
    size = obstore.head(bucket, key)["size"]
    if not size:
        return 0, pa.py_buffer(b"")
    return size, pa.py_buffer(obstore.get_range(bucket, key, start=max(0, size - _TAIL_BYTES), end=size))


@contextlib.contextmanager
def _kept_here() -> Iterator[None]:
    """CannotWrite, DiskFull: it is this machine's temporary folder that refuses, and not the object store."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else CannotWrite
        raise kind(
            f"{error.strerror or error}, in the temporary folder ({tempfile.tempdir}), where a file is kept until the "
            "object store has it. What was published before is unchanged. Make room there for 512 MB a writer, or name "
            "another folder by TMPDIR, and run it again."
        ) from error


class ObjectSink:
    """A new object being written from front to end; it is there, whole, when `close` returns.

    What is written goes to the store in parts meanwhile, is hashed on the way, and is kept in a temporary file without
    a name until the sink is gone, so that nothing is fetched back to be looked at (`reread`).
    """

    closed = False

    def __init__(self, bucket: "Bucket", key: str, path: str) -> None:
        import obstore

        self._bucket, self._key, self._path = bucket, key, path
        self._hash, self._size = HashBeside(), 0
        with _kept_here():
            self._kept = tempfile.TemporaryFile()
        with translated("writing", path):
            self._upload = obstore.open_writer(bucket, key, buffer_size=_PART_BYTES, max_concurrency=_WRITERS)

    def write(self, content: bytes) -> int:
        view = memoryview(content).cast("B")
        self._hash.update(view)
        with _kept_here():
            self._kept.write(view)
        with translated("writing", self._path):
            self._upload.write(view)
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Parts go when they are full."""

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with translated("writing", self._path):
            try:
                self._upload.close()
            except Exception:
                if not self._is_there():  # the answer may have been lost, not the object; its name is unique
                    raise

    def _is_there(self) -> bool:
        import obstore

        with contextlib.suppress(Exception):
            return obstore.head(self._bucket, self._key)["size"] == self._size
        return False

    def sha256(self) -> str:
        return self._hash.hexdigest()

    @contextlib.contextmanager
    def reread(self) -> Iterator[pa.NativeFile]:
        """What was written, from the copy here."""
        with _kept_here():
            self._kept.flush()
        mapped = mmap.mmap(self._kept.fileno(), self._size, access=mmap.ACCESS_READ) if self._size else b""
        with pa.BufferReader(pa.py_buffer(mapped)) as source:
            yield source
