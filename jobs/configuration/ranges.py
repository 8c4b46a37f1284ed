"""What a field of the configuration may hold beyond its type; beside the field, as `Annotated[int, Range(1, 9)]`.

Each rule says whether it holds for a value of the right type, and in words what would do.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from feature_store.storage import SCHEMES

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one letter is a drive, and no scheme
MOST_OF_PATH = 1024  # characters
# a bucket (or container, abfss://container@account.host), and what is below it
FAR = re.compile(r"[a-z0-9]+://[A-Za-z0-9][A-Za-z0-9._-]{1,253}(@[A-Za-z0-9.-]{1,253})?(/[^/]+)*/?")


class Rule(Protocol):
    """Read by jobs/configuration/tree.py when a value of the field's type was found."""

    @property
    def wanted(self) -> str: ...

    def holds(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Range:
    """minimum ≤ value ≤ maximum, or minimum < value. NaN never holds."""

    minimum: float
    maximum: float
    open_minimum: bool = False

    @property
    def wanted(self) -> str:
        return f"a number {'above' if self.open_minimum else 'at least'} {self.minimum} and at most {self.maximum}"

    def holds(self, value: float) -> bool:
        above = value > self.minimum if self.open_minimum else value >= self.minimum
        return above and value <= self.maximum


@dataclass(frozen=True)
class Pattern:
    """A text that matches as a whole."""

    pattern: str
    wanted: str

    def holds(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class Place:
    """A path on the local disk, or a URI of an object store; `file:///…` where the reader understands it."""

    file_scheme: bool = False

    @property
    def wanted(self) -> str:
        uri = ", file:///…" if self.file_scheme else ""
        return f"a path on a local disk{uri}, or s3://bucket/… of an object store, of at most {MOST_OF_PATH} characters"

    def holds(self, value: str) -> bool:
        usable = bool(value.strip()) and len(value) <= MOST_OF_PATH and not any(ord(c) < 32 for c in value)
        if is_far(value):
            return usable and FAR.fullmatch(value) is not None and not {".", ".."} & set(value.split("/"))
        is_file = self.file_scheme and value.startswith("file:///") and value.strip("/") != "file:"
        return usable and ("://" not in value and not SCHEME.match(value) or is_file)


def is_far(path: str) -> bool:
    """Whether it is a URI of an object store."""
    return path.partition("://")[0].lower() in SCHEMES and "://" in path


MOST_DAYS, MOST = 36_500, 1_000_000_000
EARLIEST, LATEST = datetime.date(1900, 1, 1), datetime.date(2199, 12, 31)  # of any date; their windows are dates too
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, open_minimum=True)]
Days = Annotated[int, Range(1, MOST_DAYS)]
Count = Annotated[int, Range(0, MOST)]
CONTROL_SHARE = Range(0, 0.9)  # of an audience: most of it, or all, is no control group
ControlShare = Annotated[float, CONTROL_SHARE]
AtLeastOne = Annotated[int, Range(1, MOST)]
Minutes = Annotated[int, Range(1, 43_200)]  # at most thirty days
AnyPath = Annotated[str, Place()]
DataRoot = Annotated[str, Place(file_scheme=True)]
