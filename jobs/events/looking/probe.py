"""What a file is, told from its first bytes: format, delimiter, encoding, and whether its first line has names."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import gzip
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

from jobs.configuration.ranges import is_far
from jobs.configuration.sections import SourceTable
from jobs.events.damage import BROKEN_GZIP, GZIP, PARQUET, kind_of
from jobs.events.far_places import files_below_far
from jobs.events.files import ends, is_file, is_folder, open_binary
from jobs.events.looking.names import behavior_of_file, is_called_like
from jobs.events.names_twice import names_twice
from jobs.events.places import SUFFIXES, SourceError, files_below, find_files, lake_format, refuse_lake_formats
from jobs.events.read_source import column_names
from jobs.events.time_texts import canonical, form_of
from jobs.events.times import NUMBER

HEAD = 1 << 16
DELIMITERS = ("\t", ",", ";", "|")
WORDY = re.compile(r"[^\W\d][\w .:/-]*")


@dataclasses.dataclass(frozen=True)
class Table:
    """Files that are one table, as a source would name them; problem: why no source can."""

    source: SourceTable
    problem: str = ""
    note: str = ""  # what else there is to know


def tables(paths: Iterable[str]) -> list[Table]:
    """What lies at the paths: a table for each file, one for files of a folder that have the same columns."""
    found: dict[tuple, list[Table]] = {}
    for path in paths:
        if lake := lake_format(path):
            found[(path, lake, ())] = [Table(SourceTable(path, lake))]
            continue
        for file in _files(path):
            table = probe(file)
            whole = file if is_file(path) else path
            header = _header(file, table.source) if not table.problem else file
            found.setdefault((whole, table.source.format, header), []).append(table)
    return [table for key, group in found.items() for table in _together(key[0], key[2], group, found)]


def _together(path: str, header: Iterable[str], group: list[Table], found: dict[tuple, list[Table]]) -> list[Table]:
    """Files of a folder with the same columns: a table each where each is a behaviour by its name, else one, the path
    itself where nothing else lies there."""
    if len(group) == 1 or group[0].problem:
        return group[:1]
    if _say_behaviors(header, group):
        return group
    if sum(key[0] == path for key in found) == 1:
        return [Table(dataclasses.replace(group[0].source, path=path))]
    names = ", ".join(Path(table.source.path).name for table in group[:8])
    note = (f"{len(group)} files of {path} have these columns: {names}; looked at the first. A glob names several. "
            "Where each file is one behaviour, list each under source.events, with its behavior in constants")
    return [Table(group[0].source, note=note)]


def _say_behaviors(header: Iterable[str], group: list[Table]) -> bool:
    """Whether no column, but each file's name says what its rows are, no two the same."""
    if any(is_called_like(name, "behavior") for name in header):
        return False
    said = {behavior_of_file(table.source.path) for table in group}
    return None not in said and len(said) == len(group)


def _files(path: str) -> list[str]:
    """Every file that may be a table. SourceError: nothing there."""
    refuse_lake_formats([path], "--source")
    if is_file(path):
        return [path]
    if not is_folder(path):
        for format in SUFFIXES:
            try:
                return find_files(path, format, "--source")
            except SourceError as error:
                last = error
        raise last
    below = files_below_far(path) if is_far(path) else files_below(Path(path))
    found = [file for file in below if not _is_prose(file)]
    if not found:
        raise SourceError(f"Nothing to look at in {path}; expected files of events, items or users.")
    return found


def _is_prose(file: str) -> bool:
    name = Path(file).name.lower()
    return name.endswith((".md", ".pdf", ".html", ".py", ".crc")) or "readme" in name or "license" in name


def probe(file: str) -> Table:
    """The table that a file is."""
    try:
        head, _, _ = ends(file, HEAD, 0)
        if head.startswith(PARQUET):
            return Table(SourceTable(file))
        if head.startswith(GZIP):
            if not file.endswith(".gz"):
                return Table(SourceTable(file, "csv"), "it is a gzip, and its name does not end in .gz: rename it")
            with open_binary(file) as packed, gzip.open(packed, "rb") as content:
                head = content.read(HEAD)
    except (OSError, *BROKEN_GZIP) as error:
        return Table(SourceTable(file, "csv"), f"it cannot be read: {error}")
    if not head:
        return Table(SourceTable(file, "csv"), "it is empty")
    encoding = _encoding(head)
    if encoding is None:
        return Table(SourceTable(file, "csv"), f"it is {kind_of(head) or 'binary data'}, which no source can be")
    return _text(file, head, encoding)


def _encoding(head: bytes) -> str | None:
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if head.startswith(mark):
            return name
    if kind_of(head) or b"\0" in head:
        return None
    for name in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(name)().decode(head)
            return name
        except UnicodeDecodeError:
            continue
    return "latin-1"


def _text(file: str, head: bytes, encoding: str) -> Table:
    text = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)("replace").decode(head)
    lines = text.splitlines()
    lines = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
    first = next((line for line in lines if line.strip()), "")
    if _is_object(first):
        return Table(SourceTable(file, "jsonl"))
    if first[:1] in "[{" and first.strip() in ("[", "{") or first.startswith(("[{", '{"')):
        return Table(SourceTable(file, "jsonl"), "it holds JSON, and not one object a line: write it as JSON lines")
    delimiter, width = _delimiter(lines[:200])
    source = SourceTable(file, "csv", delimiter=delimiter, encoding=encoding)
    if "::" in first and width > 1 and delimiter not in first.replace("::", ""):
        return Table(source, "its columns are separated by '::', and a delimiter is one character")
    if width == 1:
        what = "one column, or one that no delimiter of tab, comma, semicolon or bar cuts"
        return Table(source, f"it has {what}; its first line looks like {_shape(first)}")
    rows = list(csv.reader(io.StringIO("\n".join(lines[:50])), delimiter=delimiter))
    if not _is_header(rows):
        return Table(source, f"its first line has no names of columns but values, {_shape(first)}: put a line of "
                             "names before it")
    return Table(source)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _delimiter(lines: list[str]) -> tuple[str, int]:
    """(the delimiter that gives nearly all lines as many columns, how many)."""
    if lines and all("::" in line for line in lines[:20] if line):
        return ":", 2
    best = (0.0, 1, ",")
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter) if row]
        if widths and widths[0] > 1:
            share = sum(width == widths[0] for width in widths) / len(widths)
            best = max(best, (share, widths[0], delimiter))
    return (best[2], best[1]) if best[0] > 0.8 else (",", 1)


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first line has names: none a number or a time, none twice that is also a value below."""
    names, twice = rows[0], names_twice(rows[0])
    if any(name in twice for row in rows[1:] for name in row):
        return False
    if not all(WORDY.match(name.strip()) for name in names):
        return False
    return not any(re.fullmatch(NUMBER, name) or canonical(name) for name in names)


def _header(file: str, source: SourceTable) -> tuple[str, ...]:
    try:
        return tuple(column_names(source, [file]))
    except SourceError:
        return (file,)


def _shape(line: str) -> str:
    return repr(form_of(line))
