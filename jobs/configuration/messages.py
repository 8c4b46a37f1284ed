"""How the configuration's errors speak: one line, with the place, what was found (300 characters), what would do."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

MOST_OF_VALUE, MOST_OF_KEY, MOST_OF_PLACE, MOST_OF_ALL = 300, 80, 240, 1000  # characters


class ConfigError(ValueError):
    """The configuration cannot be used: dotted path, what was found, what would do. Always one line of bounded length,
    whatever the file holds."""

    def __init__(self, message: str) -> None:
        super().__init__(cut(one_line(message), MOST_OF_ALL))


def expect(holds: bool, value: Any, path: str, wanted: str) -> Any:
    """`value` where it `holds`. ConfigError."""
    if not holds:
        found = f"{place(path) or 'The file'} is {shown(value)} ({type(value).__name__})"
        raise ConfigError(f"{found}; expected {wanted}.")
    return value


def shown(value: Any) -> str:
    """A value as Python writes it, a date as YAML does, cut to its bound."""
    return cut(str(value) if isinstance(value, datetime.date) else repr(value), MOST_OF_VALUE)


def joined(path: str, key: Any) -> str:
    """The dotted path of a key below `path`."""
    text = cut(printable(str(key)), MOST_OF_KEY)
    return f"{path}.{text}" if path else text


def place(path: str) -> str:
    """A dotted path for a message: one that is too long keeps both ends."""
    half = MOST_OF_PLACE // 2
    return path if len(path) <= MOST_OF_PLACE else f"{path[:half]}…{path[-half:]}"


def listed(names: Iterable[Any]) -> str:
    """Names in a row, cut like a value."""
    return cut(", ".join(map(str, names)), MOST_OF_VALUE)


def one_line(text: str) -> str:
    """Lines in a row; other characters that do not print as Python writes them."""
    return printable(" ".join(line.strip() for line in text.splitlines()))


def printable(text: str) -> str:
    """Characters that do not print, ends of lines as well, as Python writes them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
