"""From the name that a configuration or a request gives to the files that are read: one place for every source.

A name that exists is that file or that folder, whatever it holds (`*`, `[`, `{`, `?`). Any other is a glob, expanded
here and once: whoever reads gets plain names. A folder of a lake format is refused by its name: its log says which of
its files hold rows, and read as plain files it brings back what the log removed.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from jobs.configuration.messages import one_line
from jobs.configuration.ranges import is_far
from jobs.events.far_places import far_marks, folders_above, found_far
from jobs.events.files import is_file, is_folder
from jobs.program import JobError

SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson"),
}
# what Python would let pass and Spark would not: it leaves out names such as engines give to what is no data
UNREAD_BEGINNINGS, UNREAD_ENDING = ("_", "."), "._COPYING_"

MOST_NAMES, MOST_OF_NAME = 50, 60  # in a message


class SourceError(JobError):
    """A source cannot be read as configured. Always one line, whatever the names of files and columns hold."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def find_files(path: str, format: str, setting: str = "source.*.path") -> list[str]:
    """The files that `path` names, in order of their names: a file, a folder of files of the format, or a glob.

    A folder that a glob finds is read where its name has an ending of the format, as Spark names its output.
    SourceError: nothing there; a lake format.
    """
    found = _found(path, SUFFIXES[format])
    refuse_lake_formats([path, *found], setting)
    if not found:
        raise SourceError(_nothing(path, SUFFIXES[format], setting))
    return found


def find_file(path: str, setting: str) -> str:
    """The one file of that name. SourceError: there is none, it is no file, or belongs to a lake format."""
    refuse_lake_formats([path], setting)
    if is_file(path):
        return path
    if is_folder(path) or os.path.exists(path):
        raise SourceError(f"{path}, which {setting} names, is no file; expected one file. Name a file in it.")
    raise SourceError(f"Nothing to read at {path}, which {setting} names; expected a file. Check the name, and "
                      "that this machine sees its folder.")


def _found(path: str, endings: tuple[str, ...]) -> list[str]:
    if is_far(path):
        return found_far(path, endings)
    named = Path(path)
    if named.is_dir():
        return files_below(named, endings)
    if named.is_file():
        return [str(named)]
    there = _there(named)
    matches = [Path(match) for match in _expanded(path)]
    shown = [match for match in matches if not _hidden(match.relative_to(there))]
    files = {str(match) for match in shown if _is_file(match)}
    for folder in shown:
        if folder.is_dir() and folder.name.endswith(endings):
            files.update(files_below(folder, endings))
    return sorted(files)


def _expanded(path: str) -> list[str]:
    """What a glob finds; the folders above it that are there are taken by their names."""
    there = _there(Path(path))
    return glob.glob(os.path.join(glob.escape(str(there)), Path(path).relative_to(there)), recursive=True)


def _there(path: Path) -> Path:
    """The lowest folder above a path that exists."""
    return next(folder for folder in (*path.parents, Path()) if folder.exists())


def files_below(folder: Path, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Files whose names end so, but hidden ones, in order of their names. Links are followed; a folder that is reached
    twice counts once."""
    found, seen = [], set()
    for top, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(top)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(Path(name)))
        files = (Path(top, name) for name in names if name.endswith(endings) and not _hidden(Path(name)))
        found += [str(file) for file in files if _is_file(file)]
    return sorted(found)


def _is_file(path: Path) -> bool:
    """SourceError: a link to what is not there. To leave it out would be to read less than was meant, unnoticed."""
    if path.is_symlink() and not path.exists():
        raise SourceError(f"{path} is a link to nothing: {os.readlink(path)}; expected a file. Mend the link, or take "
                          "it away.")
    return path.is_file()


def _refuse(error: OSError) -> None:
    """SourceError: a folder that cannot be listed."""
    raise SourceError(f"{error.filename} cannot be listed ({error.strerror}). Give this user the right to read it.")


def _hidden(path: Path) -> bool:
    """Engines leave `_SUCCESS`, `.crc`, `_temporary/` beside their files."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _nothing(path: str, endings: tuple[str, ...], setting: str) -> str:
    wanted = f"expected a file, a folder of {' or '.join(endings)} files, or a glob (*, ?, [abc], ** for any folders)"
    folders = [] if is_far(path) else [match for match in _expanded(path) if Path(match).is_dir()]
    if folders == [path]:
        return f"{path} is a folder without any {' or '.join(endings)} file. Check {setting}, and the table's format."
    if folders:
        return f"{path} finds folders alone, e.g. {folders[0]}; {wanted}. Add /* to it, or name one folder: {setting}."
    braces = " Braces are no part of a glob here: name their folder, or use [ ]." if "{" in path else ""
    return f"Nothing to read at {path}; {wanted}.{braces} Check {setting}."


def refuse_lake_formats(paths: Iterable[str], setting: str) -> None:
    """SourceError where a path is, or lies in, the folder of a Delta, Iceberg or Hudi table."""
    paths = list(paths)
    local: dict[Path, None] = {}
    for path in paths:
        for one in set() if is_far(path) else {Path(os.path.abspath(path)), Path(os.path.realpath(path))}:
            local.update(dict.fromkeys([one, *one.parents]))
    places: list[str | Path] = [*local, *folders_above([path for path in paths if is_far(path)])]
    for place in places:
        for kind, mark in far_marks(place) if isinstance(place, str) else _marks(place):
            log = f"its log, {mark}, says which of its files hold rows"
            raise SourceError(
                f"{place} is a table of {kind}: {log}, and read as plain files it would bring back rows that were "
                f"removed. Expected plain files. {_cure(kind, setting)}.")


def _cure(kind: str, setting: str) -> str:
    written = f"Write a snapshot of it as Parquet with an engine that reads {kind}, and name that: {setting}"
    if kind == "Hudi" or not setting.startswith("source."):
        return written
    return f"Say what it is: {setting.removesuffix('.path')}.format: {kind.lower()}. Or: {written}"


def lake_format(path: str) -> str | None:
    """`delta` or `iceberg`, where a folder is such a table."""
    kinds = {kind.lower() for kind, _ in (far_marks(path) if is_far(path) else _marks(Path(path)))}
    return next((kind for kind in ("delta", "iceberg") if kind in kinds), None)


def _marks(folder: Path) -> Iterable[tuple[str, Path]]:
    """(lake format, what tells it) of a folder; nothing of any other."""
    for kind, name in (("Delta", "_delta_log"), ("Hudi", ".hoodie")):
        if os.path.isdir(folder / name):
            yield kind, folder / name
    if os.path.isfile(folder / ".hoodie_partition_metadata"):  # of a partition, taken out of its table
        yield "Hudi", folder / ".hoodie_partition_metadata"
    metadata = folder / "metadata"
    if os.path.isdir(metadata):
        logs = (*sorted(metadata.glob("*.metadata.json*")), metadata / "version-hint.text")
        yield from (("Iceberg", log) for log in logs if log.is_file())


def require_readable_by_spark(files: Iterable[str]) -> None:
    """SourceError for a name that Spark leaves out without a word, or cannot open."""
    for file in files:
        name = Path(file).name
        problem = (
            "begins with _ or ." if name.startswith(UNREAD_BEGINNINGS)
            else f"ends in {UNREAD_ENDING}" if name.endswith(UNREAD_ENDING)
            else "holds a colon" if ":" in name
            else "is not valid UTF-8" if not _is_utf8(file)
            else "")
        if problem:
            shown = file.encode("utf-8", "backslashreplace").decode()
            raise SourceError(f"The name of {shown} {problem}; Spark reads no such file. Rename it, or link to it.")


def in_words(names: Sequence[str]) -> str:
    """Names of columns, quoted; of many or long ones so much as can be read."""
    shown = [repr(name if len(name) <= MOST_OF_NAME else f"{name[:MOST_OF_NAME]}…") for name in names[:MOST_NAMES]]
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(shown) + more


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
