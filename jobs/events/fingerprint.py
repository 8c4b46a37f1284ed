"""What a source's files were when they were read: name, size, time of change, sha256; on an object store its ETag in
place of both, so that no file is read for its checksum alone. Equal means: need not be read again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.configuration.messages import one_line
from jobs.configuration.ranges import is_far
from jobs.events.damage import UTF8, check_whole
from jobs.events.files import Status, at_once, common_folder, statuses
from jobs.program import MayPass

CHUNK = 1 << 20
UNCHANGED = "Nothing was committed. Deliver whole files: write them aside, and rename them when they are done."


def fingerprints_now(
    files: Sequence[str], format: str, former: Mapping[str, Mapping[str, Any]], encoding: str = UTF8, prefix: str = ""
) -> list[dict[str, Any]]:
    """All files of a source; the bytes of one are read only where size or change differ from its `former` fingerprint,
    by its name, which begins with the prefix. SourceError for one that is not whole, or not of the format."""
    names, now = {file: prefix + label for file, label in labels(files).items()}, statuses(files)
    found = {file: _found(names[file], now[file]) for file in files}
    new = [file for file in files if not _is_known(found[file], former)]
    at_once(lambda file: check_whole(file, format, encoding), new)
    for file in new:
        check_whole(file, format, encoding)
        if not is_far(file):
            found[file]["sha256"] = _sha256(file)
    fresh = set(new)
    return [found[file] if file in fresh else dict(former[names[file]]) for file in files]


def _found(label: str, now: Status) -> dict[str, Any]:
    return {"name": label, "size": now.size, "etag" if isinstance(now.change, str) else "modified_ns": now.change}


def _is_known(found: Mapping[str, Any], former: Mapping[str, Mapping[str, Any]]) -> bool:
    known = former.get(found["name"], {})
    return all(known.get(key) == value for key, value in found.items())


def _sha256(file: str) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprints(files: Sequence[str], format: str, encoding: str = UTF8) -> list[dict[str, Any]]:
    """All files of a source, as a manifest records what was read."""
    found = fingerprints_now(files, format, {}, encoding)
    return [{key: value for key, value in one.items() if key != "modified_ns"} for one in found]


def was(fingerprint: Mapping[str, Any]) -> Status:
    """What a file was, by its fingerprint."""
    return Status(fingerprint["size"], fingerprint["etag" if "etag" in fingerprint else "modified_ns"])


def require_unchanged(before: Mapping[str, Status]) -> None:
    """MayPass where a file is not what it was: what was read of it may be of neither."""
    try:
        now = statuses(before)
    except OSError as error:
        raise MayPass(f"{one_line(str(error.filename))} has gone while it was read ({error.strerror}). {UNCHANGED}"
                      ) from error
    for file, former in before.items():
        if now[file] != former:
            raise MayPass(f"{one_line(file)} was changed while it was read: it had {former.size:,} bytes, and has "
                          f"{now[file].size:,}. {UNCHANGED}")


def labels(files: Sequence[str]) -> dict[str, str]:
    """File → its name in manifests and rejected rows: its path below the source's folder."""
    root = common_folder(files)
    return {file: file[len(root) :].lstrip("/") if is_far(file) else os.path.relpath(file, root) for file in files}


def combined(files: Iterable[Mapping[str, Any]]) -> str:
    """One hash over names and contents of all files."""
    plain = sorted((file["name"], file.get("sha256") or file["etag"]) for file in files)
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
