"""Columns that stand in the names of a source's folders, as engines cut a table by: `events/country=DE/part.parquet`.

A column of a file goes before one of its folders. Values are texts; `%2F` and the like stand for what no name may hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jobs.configuration.ranges import is_far
from jobs.events.files import folder_of

if TYPE_CHECKING:
    from pyspark.sql import Column

NOTHING = "__HIVE_DEFAULT_PARTITION__"  # what engines call a folder of nulls


def folder_values(file: str) -> dict[str, str | None]:
    """Column → value of the folders above a file; of one that stands there twice the lowest."""
    parts = file.split("/")[3:-1] if is_far(file) else os.path.abspath(file).split(os.sep)[:-1]
    pairs = [part.partition("=") for part in parts if "=" in part]
    return {unquote(key): None if value == NOTHING else unquote(value) for key, _, value in pairs if key}


def folder_columns(files: Iterable[str]) -> list[str]:
    """The columns that all files have above them, from the top."""
    places = list(dict.fromkeys(folder_of(file) for file in files))
    found = [folder_values(f"{place}/x") for place in places]
    return [name for name in found[0] if all(name in one for one in found)] if found else []


def folder_column(path: Column, name: str, files: Sequence[str]) -> Column:
    """The value of such a column on Spark. path: of the file, as plain text."""
    from pyspark.sql import functions as F

    keys = {part.partition("=")[0] for file in files for part in folder_of(file).split("/") if "=" in part}
    spelled = "|".join(f"\\Q{key}\\E" for key in sorted(keys) if unquote(key) == name)
    value = F.regexp_extract(path, f"^.*/(?:{spelled})=([^/]*)/", 1)
    plain = F.coalesce(F.try_url_decode(F.replace(value, F.lit("+"), F.lit("%2B"))), value)
    return F.when(value != NOTHING, plain)
