"""Is a file, byte for byte, what its manifest's entry says? Reads every byte once."""

import errno
import hashlib

import pyarrow as pa

from feature_store.disk import Disk
from feature_store.manifest import FileEntry

_CHUNK_BYTES = 32 << 20  # on an object store several requests, side by side
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)


def is_none(error: OSError) -> bool:
    """Whether there is no such regular file: it is gone, or a link, a pipe, a folder; else the disk refuses."""
    return error.errno in _NO_FILE


def sha256_of(disk: Disk, path: str) -> tuple[str, int]:
    """(hash, bytes) of a file. OSError."""
    with disk.open(path) as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: pa.NativeFile) -> tuple[str, int]:
    """(hash, bytes) of what is left of it."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read_buffer(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def problem_of(disk: Disk, path: str, entry: FileEntry) -> str | None:
    """What keeps the file from being the one that was published, naming it; None where nothing does.

    OSError where the disk itself refuses: then nothing is known of the file.
    """
    try:
        digest, size = sha256_of(disk, path)
    except OSError as error:
        if not is_none(error):
            raise
        return f"{path} cannot be read ({error})."
    if size != entry.size:
        return f"{path} has {size} bytes; the manifest says {entry.size}."
    if digest != entry.sha256:
        return f"{path} was changed after it was published: its checksum does not fit."
    return None
