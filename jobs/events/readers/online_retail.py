"""Online Retail and Online Retail II (UCI, Chen): invoice lines of a British gift shop.

No brand, no category: the words of the description serve. Times are UK local, to the minute. Postage and lines without
a customer are no behaviour of a user; cancelled lines and corrections come as returns, rows of negative quantity. What
an item or a customer is, is taken from its first line: known from the moment it enters any graph, whatever later months
say of it. For the same reason no word is dropped for being rare here: that is a statistic of D's graph (`min_entities`
of the attribute).
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa

from jobs.events.damage import open_lines
from jobs.events.places import SourceError
from jobs.events.readers.imported import Imported, Rows, events_table
from jobs.events.readers.source_files import Sheet, contents, listed, read_parquet, read_text

ZONE = "Europe/London"
# As Online Retail II calls them, and as the first edition does.
COLUMNS = (
    ("Invoice", "InvoiceNo"), "StockCode", "Description", "Quantity", "InvoiceDate", ("Price", "UnitPrice"),
    ("Customer ID", "CustomerID"), "Country",
)
TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M")  # 12/1/2010 8:26 is the first of December
ENDINGS = (".parquet", ".csv", ".csv.gz")
FILE = "online_retail.parquet"  # taken where the folder holds others as well
STOP_WORDS = frozenset(
    "and with for the from des pour assorted assrtd asst ass colour colours col design designs small large mini medium "
    "pack set".split()
)
WORD = re.compile(r"[a-z]{3,}")


def read(source: Path) -> Imported:
    """Either edition, of which `source` is the file or its folder. SourceError."""
    rows = Rows(_columns(_read(find_file(source))))
    rows.drop(rows.frame["customer"].isna(), "no customer")
    cancels = rows.frame["invoice"].str.startswith("C").fillna(False)
    rows.drop(cancels & (rows.frame["quantity"] >= 0), "cancellation without a negative quantity")
    rows.drop(rows.frame["invoice"].str.startswith("A").fillna(False), "bad debt")
    rows.drop(rows.frame["quantity"] == 0, "quantity 0")
    rows.drop(~rows.frame["item"].str.match(r"\d{5}").fillna(False), "no product (postage, fees, samples)")
    lines = rows.frame.assign(returned=rows.frame["quantity"] < 0)
    events = events_table({
        "user_id": lines["customer"], "item_id": lines["item"], "behavior": ["purchase"] * len(lines),
        "event_time": lines["time"], "quantity": lines["quantity"], "value": lines["price"],
    })
    countries = first_known(lines, "customer", "country")
    people = pa.table({
        "user_id": pa.array(countries.index, pa.string()), "country": pa.array(countries.to_numpy(), pa.string()),
    })
    notes = [*_notes(lines[~lines["returned"]]), f"{lines['returned'].sum():,} lines are returns, of negative quantity"]
    return Imported(events, _items(lines), people, rows.dropped, notes)


def find_file(source: Path) -> Path:
    """The one file of the data set. SourceError."""
    if source.is_file():
        if not source.name.lower().endswith(ENDINGS):
            raise SourceError(f"{source} is no {listed(ENDINGS, last='or')} file. Write its sheet as one of them.")
        return source
    found = sorted(path for path in source.iterdir() if path.name.lower().endswith(ENDINGS) and path.is_file())
    if source / FILE in found:
        return source / FILE
    if len(found) != 1:
        raise SourceError(f"{source} has {contents(source)}; expected {FILE}, or one file that ends in "
                          f"{listed(ENDINGS, last='or')}. Name the file with --source.")
    return found[0]


def _read(file: Path) -> Sheet:
    if file.name.lower().endswith(".parquet"):
        return read_parquet(file, COLUMNS)
    return read_text(file, COLUMNS, ",", quoted=True, encoding=_encoding(file))


def _encoding(file: Path) -> str:
    """UTF-8, else the Latin-1 that the first edition is published in (£ stands in some descriptions)."""
    with open_lines(str(file)) as lines:  # what is no UTF-8 becomes lone surrogates
        return "iso-8859-1" if any(re.search("[\udc80-\udcff]", line) for line in lines) else "utf-8-sig"


def _columns(sheet: Sheet) -> pd.DataFrame:
    """Of every line what is needed, of one type whatever the edition."""
    return pd.DataFrame({
        "invoice": sheet.ids("Invoice"), "item": sheet.ids("StockCode"), "text": sheet.texts("Description").str.strip(),
        "quantity": sheet.numbers("Quantity"), "time": sheet.times("InvoiceDate", TIMES, ZONE),
        "price": sheet.numbers("Price"), "customer": sheet.ids("Customer ID"), "country": sheet.texts("Country"),
    })


def _notes(lines: pd.DataFrame) -> list[str]:
    items, customers = _changed(lines, "item", "text"), _changed(lines, "customer", "country")
    return [
        f"InvoiceDate is local time of {ZONE}: an hour that does not exist moves on by an hour, "
        "one that exists twice is the earlier",
        "an item's description and a customer's country are those of the first line that has one "
        f"({items} items and {customers} customers have others later)",
        "`words` holds every word of the description but stop words: "
        "keep rare ones out of the graph by `min_entities` in the configuration",
        "no brand, no category, no demographics but country",
        "exact repeats are kept here: the configuration says deduplicate: exact",
    ]


def first_known(lines: pd.DataFrame, key: str, value: str) -> pd.Series:
    """Per key the value of its first line that has one, by time, of returns where there is no other; keys in order,
    without those that have none."""
    ordered = lines.sort_values(["returned", "time"], kind="stable").dropna(subset=[value])
    return ordered.drop_duplicates(key).set_index(key)[value].sort_index()


def _changed(lines: pd.DataFrame, key: str, value: str) -> int:
    """Keys with more than one value."""
    return int((lines.groupby(key)[value].nunique() > 1).sum())


def _items(lines: pd.DataFrame) -> pa.Table:
    descriptions = first_known(lines, "item", "text").reindex(sorted(lines["item"].unique()))
    return pa.table({
        "item_id": pa.array(descriptions.index, pa.string()),
        "words": pa.array([product_words(text) for text in descriptions.fillna("")], pa.list_(pa.string())),
        "stem": pa.array(descriptions.index.str[:5], pa.string()),
        "description": pa.array(descriptions.to_numpy(), pa.string(), from_pandas=True),
    })


def product_words(description: str) -> list[str]:
    """Its words of three letters and more that may tell kinds of products apart, each once, in order."""
    return sorted(set(WORD.findall(description.lower())) - STOP_WORDS)
