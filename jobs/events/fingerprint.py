"""What a source's files were when they were read: name, size, time of change, sha256. Equal means: need not be read
again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.events.read_source import check_whole

CHUNK = 1 << 20


def fingerprint(file: str, label: str, former: Mapping[str, Any] | None) -> dict[str, Any]:
    """One file; its bytes are read only where size or time of change differ from the `former` fingerprint. SourceError
    for a broken gzip."""
    status = os.stat(file)
    found = {"name": label, "size": status.st_size, "modified_ns": status.st_mtime_ns}
    if former and all(former.get(key) == value for key, value in found.items()):
        return dict(former)
    check_whole(file)
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return found | {"sha256": digest.hexdigest()}


def combined(files: Iterable[Mapping[str, Any]]) -> str:
    """One hash over names and contents of all files."""
    plain = sorted((file["name"], file["sha256"]) for file in files)
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
