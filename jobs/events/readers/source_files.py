"""The files of a published data set: read as they are, or refused with one message.

Every SourceError of this file names the file or the column, says what was found, and what would do.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pyarrow as pa

from jobs.events import damage
from jobs.events.damage import check_whole, first_line
from jobs.events.parquet_frames import parquet_schema
from jobs.events.places import SourceError, refuse_lake_formats
from jobs.events.readers.imported import local_to_utc

MOST_NAMES = 12  # of what was found in its stead
OTHERWISE = "Fetch it again, or choose another --format."


@dataclass(frozen=True)
class Sheet:
    """A file and its rows; columns are called as the reader asked for them, `theirs` has the file's own names."""

    file: Path
    frame: pd.DataFrame
    theirs: Mapping[str, str] = field(default_factory=dict)

    def numbers(self, column: str) -> pd.Series:
        """float64, NaN where the source has none. SourceError."""
        values = self.frame[column]
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        self._refuse(column, values, numbers.isna() & values.notna(), "a number")
        return numbers

    def integers(self, column: str) -> pd.Series:
        """int64: every row has a whole number. SourceError."""
        numbers = self.numbers(column)
        self._refuse(column, self.frame[column], numbers.isna() | (numbers % 1 != 0), "a whole number in every row")
        return numbers.astype("int64")

    def texts(self, column: str) -> pd.Series:
        """Texts, null where the source has none."""
        return self.frame[column].astype("string")

    def ids(self, column: str) -> pd.Series:
        """The same; numbers that a spreadsheet or pandas wrote as 17850.0 are the whole numbers they were."""
        return self.texts(column).str.replace(r"^(\d+)\.0$", r"\1", regex=True)

    def times(self, column: str, forms: Sequence[str], zone: str) -> pd.Series:
        """UTC. Timestamps, and texts in one of `forms`, are local times of `zone`; timestamps with a zone tell it.

        SourceError.
        """
        values = self.frame[column]
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            return values.astype("datetime64[us, UTC]")
        if pd.api.types.is_datetime64_any_dtype(values):
            return local_to_utc(values, zone)
        return local_to_utc(self.dates(column, forms), zone)

    def dates(self, column: str, forms: Sequence[str]) -> pd.Series:
        """datetime64 without a zone, of texts that are all in one of `forms` (strftime). SourceError."""
        values = self.texts(column)
        read = [pd.to_datetime(values, format=form, errors="coerce") for form in forms]
        best = max(read, key=lambda times: times.notna().sum())
        self._refuse(column, values, best.isna() & values.notna(), f"all of them as {' or all as '.join(forms)}")
        return best

    def _refuse(self, column: str, values: pd.Series, bad: pd.Series, wanted: str) -> None:
        if bad.any():
            row = int(bad.to_numpy().argmax())
            value = None if pd.isna(values.iloc[row]) else values.iloc[row]
            name = self.theirs.get(column, column)
            raise SourceError(f"{self.file}: column {name!r} holds {value!r} in row {row + 1}; expected {wanted}. "
                              "Mend the file.")


def require_files(source: Path, names: Sequence[str]) -> dict[str, Path]:
    """Name → the file of that name in the folder, gzipped (`.gz` after the name) or not. SourceError."""
    if source.is_file():
        raise SourceError(f"{source} is a file; expected the folder that holds {listed(names)}. Name it with --source.")
    found = {name: next((p for p in (source / name, source / f"{name}.gz") if p.is_file()), None) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise SourceError(f"{source} has no {listed(missing, last='no')}; it has {contents(source)}. "
                          f"Expected {listed(names)}, gzipped or not. Choose another --source or --format.")
    return found


def contents(folder: Path) -> str:
    """The names in a folder, in words."""
    return listed(sorted(path.name for path in folder.iterdir())) or "nothing"


def listed(names: Sequence[str], last: str = "and") -> str:
    """a, b and c; of many the first, and how many more."""
    shown = list(names) if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}" if len(shown) > 1 else "".join(shown)


def read_parquet(file: Path, columns: Sequence[str | Sequence[str]]) -> Sheet:
    """Those columns; of one that editions call differently the name that is there, under the first. SourceError."""
    refuse_lake_formats([str(file)], "--source")
    theirs = choose_columns(file, parquet_schema(str(file)).names, columns)
    table = damage.read_parquet(str(file), list(theirs.values()))
    try:
        frame = table.to_pandas()
    except (pa.ArrowException, ValueError) as error:  # e.g. bytes that are no UTF-8, a time that cannot be
        raise SourceError(f"{file} holds what cannot be read ({first_line(error)}). {OTHERWISE}") from error
    return _sheet(file, frame.set_axis(list(theirs), axis=1), theirs)


def read_text(
    file: Path, columns: Sequence[str | Sequence[str]], separator: str = "\t", *, has_header: bool = True,
    typed: bool = False, quoted: bool = False, encoding: str = "utf-8-sig",
) -> Sheet:
    """The same of a text file, gzipped or not, every value as text, null where there is nothing.

    Without a header, `columns` are the names of all columns. typed: the header says `name:type`. SourceError.
    """
    refuse_lake_formats([str(file)], "--source")
    check_whole(str(file), "csv")
    names, between = _names(columns), _word(separator)
    try:
        frame = pd.read_csv(
            file, sep=separator, header=None, dtype=str, keep_default_na=False, na_values=[""], encoding=encoding,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, engine="c" if len(separator) == 1 else "python")
    except pd.errors.EmptyDataError:
        raise SourceError(f"{file} is empty; expected the columns {listed(names)}. {OTHERWISE}") from None
    except (UnicodeDecodeError, csv.Error, pd.errors.ParserError) as error:
        form = f"text in {encoding.removesuffix('-sig')} with {between} between its columns"
        raise SourceError(f"{file} cannot be read as {form} ({first_line(error)}). {OTHERWISE}") from error
    if has_header:
        there = [str(name).split(":")[0] if typed else str(name) for name in frame.iloc[0]]
        theirs = choose_columns(file, there, columns)
        frame = frame.iloc[1:].set_axis(there, axis=1)[list(theirs.values())]
        return _sheet(file, frame.set_axis(list(theirs), axis=1), theirs)
    if frame.shape[1] != len(columns):
        raise SourceError(f"{file} has {frame.shape[1]} columns with {between} between them; "
                          f"expected {len(columns)}: {listed(names)}. {OTHERWISE}")
    return _sheet(file, frame.set_axis(names, axis=1))


def choose_columns(file: Path, there: Sequence[str], columns: Sequence[str | Sequence[str]]) -> dict[str, str]:
    """The reader's name → the source's. SourceError where a column is missing, or is there twice."""
    theirs = {}
    for wanted in columns:
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        found = [name for name in there if name in names]
        if len(found) != 1:
            count = f"{len(found)} columns" if found else "no column"
            raise SourceError(f"{file} has {count} {' or '.join(map(repr, names))}; it has {_quoted(there)}. "
                              f"Expected one each of {listed(_names(columns))}. {OTHERWISE}")
        theirs[names[0]] = found[0]
    return theirs


def _names(columns: Sequence[str | Sequence[str]]) -> list[str]:
    return [wanted if isinstance(wanted, str) else "/".join(wanted) for wanted in columns]


def _quoted(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names])


def _word(separator: str) -> str:
    return {"\t": "a tab", ",": "a comma"}.get(separator, repr(separator))


def _sheet(file: Path, frame: pd.DataFrame, theirs: Mapping[str, str] = MappingProxyType({})) -> Sheet:
    if frame.empty:
        raise SourceError(f"{file} has no rows. {OTHERWISE}")
    return Sheet(file, frame, theirs)
