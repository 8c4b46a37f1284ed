"""What a source's path names on an object store, where folders are but parts of names: places.py has the local disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from jobs.events.files import far_files, is_file, store_of

GLOB = "*?["


def found_far(path: str, endings: tuple[str, ...]) -> list[str]:
    """The object of that name; else those below that folder whose names end so; else what the glob finds."""
    if is_file(path):
        return [path]
    below = files_below_far(path, endings)
    return below or (_matching(path, endings) if any(letter in path for letter in GLOB) else [])


def files_below_far(folder: str, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Objects whose names end so, but hidden ones."""
    start = len(folder.rstrip("/")) + 1
    return [name for name in far_files(folder) if name.endswith(endings) and not _hidden(name[start:].split("/"))]


def _matching(path: str, endings: tuple[str, ...]) -> list[str]:
    """As a local glob: a folder that it finds is read where its name has an ending of the format."""
    first = min(path.index(letter) for letter in GLOB if letter in path)
    folder = path[:first].rpartition("/")[0]
    patterns, found = path[len(folder) + 1 :].split("/"), []
    for name in far_files(folder):
        parts = name[len(folder) + 1 :].split("/")
        if _hidden(parts):
            continue
        above = (parts[:n] for n in range(1, len(parts)))
        in_folder = name.endswith(endings) and any(
            each[-1].endswith(endings) and _fits(each, patterns) for each in above)
        if in_folder or _fits(parts, patterns):
            found.append(name)
    return found


def _fits(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the names fit the patterns, `**` any number of them."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _fits(parts, patterns[1:]) or (bool(parts) and _fits(parts[1:], patterns))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _fits(parts[1:], patterns[1:])


def _hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def folders_above(paths: Sequence[str]) -> list[str]:
    """The first path, and every folder above any, up to the bucket."""
    places = {paths[0].rstrip("/"): None} if paths else {}
    for path in paths:
        parts = path.rstrip("/").split("/")
        places.update(dict.fromkeys("/".join(parts[:n]) for n in range(len(parts) - 1, 2, -1)))
    return list(places)


def far_marks(folder: str) -> Iterator[tuple[str, str]]:
    """(lake format, what tells it) of a folder; nothing of any other."""
    disk, path = store_of(folder)
    there = {entry.name: entry.is_folder for entry in disk.list(path)}
    for kind, name in (("Delta", "_delta_log"), ("Hudi", ".hoodie")):
        if there.get(name):
            yield kind, f"{folder}/{name}"
    if there.get(".hoodie_partition_metadata") is False:  # of a partition, taken out of its table
        yield "Hudi", f"{folder}/.hoodie_partition_metadata"
    if there.get("metadata"):
        names = [entry.name for entry in disk.list(f"{path}/metadata") if not entry.is_folder]
        logs = [name for name in names if ".metadata.json" in name or name == "version-hint.text"]
        yield from (("Iceberg", f"{folder}/metadata/{name}") for name in logs)
