"""Online Retail II (UCI, Chen): invoice lines of a British gift shop; no brand, no category, so the words of the description serve.

Times are UK local, to the minute. Cancellations, corrections, postage and lines without a customer are no behaviour of a user.
What an item or a customer is, is taken from its first line: known from the moment it enters any graph, whatever later months say of it.
For the same reason no word is dropped for being rare here: that is a statistic of D's graph (`min_entities` of the attribute).
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa

from jobs.events.readers.imported import Imported, Rows, events_table, local_to_utc

ZONE = "Europe/London"
STOP_WORDS = frozenset("and with for the from des pour assorted assrtd asst ass colour colours col design designs small large mini medium pack set".split())
WORD = re.compile(r"[a-z]{3,}")


def read(source: Path) -> Imported:
    file = source if source.is_file() else source / "online_retail.parquet"
    rows = Rows(pd.read_parquet(file))
    rows.drop(rows.frame["Customer ID"].isna(), "no customer")
    rows.drop(rows.frame["Invoice"].str.startswith("C"), "cancellation")
    rows.drop(rows.frame["Invoice"].str.startswith("A"), "bad debt")
    rows.drop(rows.frame["Quantity"] <= 0, "quantity 0 or less")
    rows.drop(~rows.frame["StockCode"].str.match(r"\d{5}"), "no product (postage, fees, samples)")
    lines = rows.frame.assign(user=rows.frame["Customer ID"].astype("int64").astype(str), text=rows.frame["Description"].str.strip())
    events = events_table({
        "user_id": lines["user"], "item_id": lines["StockCode"], "behavior": ["purchase"] * len(lines),
        "event_time": local_to_utc(pd.to_datetime(lines["InvoiceDate"]), ZONE), "quantity": lines["Quantity"], "value": lines["Price"],
    })
    countries = first_known(lines, "user", "Country")
    people = pa.table({"user_id": pa.array(countries.index, pa.string()), "country": pa.array(countries.to_numpy(), pa.string())})
    notes = [
        f"InvoiceDate is local time of {ZONE}: an hour that does not exist moves on by an hour, one that exists twice is the earlier",
        f"an item's description and a customer's country are those of the first line that has one ({_changed(lines, 'StockCode', 'text')} items "
        f"and {_changed(lines, 'user', 'Country')} customers have others later)",
        "`words` holds every word of the description but stop words: keep rare ones out of the graph by `min_entities` in the configuration",
        "no brand, no category, no demographics but country",
        "exact repeats are kept here: the configuration says deduplicate: exact",
    ]
    return Imported(events, _items(lines), people, rows.dropped, notes)


def first_known(lines: pd.DataFrame, key: str, value: str) -> pd.Series:
    """Per key the value of its first line that has one, by the time of the invoice; keys in order, without those that have none."""
    ordered = lines.sort_values("InvoiceDate", kind="stable").dropna(subset=[value])
    return ordered.drop_duplicates(key).set_index(key)[value].sort_index()


def _changed(lines: pd.DataFrame, key: str, value: str) -> int:
    """Keys with more than one value."""
    return int((lines.groupby(key)[value].nunique() > 1).sum())


def _items(lines: pd.DataFrame) -> pa.Table:
    descriptions = first_known(lines, "StockCode", "text").reindex(sorted(lines["StockCode"].unique()))
    return pa.table({
        "item_id": pa.array(descriptions.index, pa.string()),
        "words": pa.array([product_words(text) for text in descriptions.fillna("")], pa.list_(pa.string())),
        "stem": pa.array(descriptions.index.str[:5], pa.string()),
        "description": pa.array(descriptions.to_numpy(), pa.string(), from_pandas=True),
    })


def product_words(description: str) -> list[str]:
    """Its words of three letters and more that may tell kinds of products apart, each once, in order."""
    return sorted(set(WORD.findall(description.lower())) - STOP_WORDS)
