"""Columns of one name in one file: nobody can tell which of them is meant, so none of them is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobs.events.places import SourceError, in_words


def names_twice(names: Iterable[str], as_read: Callable[[str], str] = str) -> list[str]:
    """The names that stand more than once, each spelling once, in their order. as_read: str.lower for what Spark looks
    at, which tells capitals from no others."""
    names = list(names)
    counts = Counter(map(as_read, names))
    return [name for name in dict.fromkeys(names) if counts[as_read(name)] > 1]


def require_once(
    file: str, names: Sequence[str], read: Mapping[str, str], as_read: Callable[[str], str] = str
) -> None:
    """SourceError where a column that is read stands more than once in the file. read: our column → the source's."""
    several = names_twice(names, as_read)
    for ours, theirs in read.items():
        found = [name for name in several if as_read(name) == as_read(theirs)]
        if found:
            count = sum(as_read(name) == as_read(theirs) for name in names)
            spelled = "" if found == [theirs] else f", as {in_words(found)}"
            raise SourceError(f"{file} has {count} columns of the name {theirs!r} (our {ours!r}){spelled}; expected "
                              "one, since nobody can tell which is meant. Write the file with a name for each, or map "
                              f"another column: source.*.columns.{ours}: <their name>.")


def require_parquet_once(file: str, names: Sequence[str], read: Mapping[str, str]) -> None:
    """SourceError where any name stands more than once: Spark, which takes capitals for small letters, opens no such
    Parquet, whichever of its columns are read."""
    require_once(file, names, read, str.lower)
    several = names_twice(names, str.lower)
    if several:
        raise SourceError(f"{file} has several columns of one name, capitals or not: {in_words(several)}; expected "
                          "each once, since Spark reads no such Parquet. Write the file with a name for each.")
