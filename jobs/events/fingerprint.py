"""What a source's files were when they were read: name, size, time of change, sha256. Equal means: need not be read
again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.configuration.messages import one_line
from jobs.events.damage import UTF8, check_whole
from jobs.program import MayPass

CHUNK = 1 << 20
UNCHANGED = "Nothing was committed. Deliver whole files: write them aside, and rename them when they are done."


def fingerprint(
    file: str, label: str, format: str, former: Mapping[str, Any] | None = None, encoding: str = UTF8
) -> dict[str, Any]:
    """One file; its bytes are read only where size or time of change differ from the `former` fingerprint. SourceError
    for one that is not whole, or not of the format."""
    status = os.stat(file)
    found = {"name": label, "size": status.st_size, "modified_ns": status.st_mtime_ns}
    if former and all(former.get(key) == value for key, value in found.items()):
        return dict(former)
    check_whole(file, format, encoding)
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return found | {"sha256": digest.hexdigest()}


def fingerprints(files: Sequence[str], format: str, encoding: str = UTF8) -> list[dict[str, Any]]:
    """All files of a source, as a manifest records what was read."""
    names = labels(files)
    found = (fingerprint(file, names[file], format, encoding=encoding) for file in files)
    return [{key: value for key, value in one.items() if key != "modified_ns"} for one in found]


def stamps(files: Iterable[str]) -> dict[str, tuple[int, int]]:
    """File → size and time of change."""
    return {file: (status.st_size, status.st_mtime_ns) for file in files for status in [os.stat(file)]}


def require_unchanged(before: Mapping[str, tuple[int, int]]) -> None:
    """MayPass where a file is not what it was: what was read of it may be of neither."""
    for file, stamp in before.items():
        name = one_line(file)
        try:
            now = stamps([file])[file]
        except OSError as error:
            raise MayPass(f"{name} has gone while it was read ({error.strerror}). {UNCHANGED}") from error
        if now != stamp:
            raise MayPass(f"{name} was changed while it was read: it had {stamp[0]:,} bytes, and has {now[0]:,}. "
                          f"{UNCHANGED}")


def labels(files: Sequence[str]) -> dict[str, str]:
    """File → its name in manifests and rejected rows: its path below the source's folder."""
    folders = [os.path.dirname(file) for file in files]
    root = folders[0] if len(files) == 1 else os.path.commonpath(folders)
    return {file: os.path.relpath(file, root) for file in files}


def combined(files: Iterable[Mapping[str, Any]]) -> str:
    """One hash over names and contents of all files."""
    plain = sorted((file["name"], file["sha256"]) for file in files)
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
