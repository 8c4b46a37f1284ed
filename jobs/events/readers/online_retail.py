"""Online Retail II (UCI, Chen): invoice lines of a British gift shop; no brand, no category, so the words of the description serve.

Times are UK local, to the minute. Cancellations, corrections, postage and lines without a customer are no behaviour of a user.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa

from jobs.events.readers.imported import Imported, Rows, events_table, local_to_utc

ZONE = "Europe/London"
MIN_ITEMS_PER_WORD = 20  # rarer words describe single products
MAX_SHARE_PER_WORD = 0.2  # of the items: commoner words describe nothing
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
    lines = rows.frame
    users = lines["Customer ID"].astype("int64").astype(str)
    events = events_table({
        "user_id": users, "item_id": lines["StockCode"], "behavior": ["purchase"] * len(lines),
        "event_time": local_to_utc(pd.to_datetime(lines["InvoiceDate"]), ZONE), "quantity": lines["Quantity"], "value": lines["Price"],
    })
    countries = most_frequent(users, lines["Country"])
    people = pa.table({"user_id": pa.array(countries.index, pa.string()), "country": pa.array(countries.to_numpy(), pa.string())})
    notes = [
        f"InvoiceDate is local time of {ZONE}: an hour that does not exist moves on by an hour, one that exists twice is the earlier",
        "an item's description is its most frequent one",
        f"`words` holds those of its words that at least {MIN_ITEMS_PER_WORD} items and at most {MAX_SHARE_PER_WORD:.0%} of them have",
        "no brand, no category, no demographics but country",
        "exact repeats are kept here: the configuration says deduplicate: exact",
    ]
    return Imported(events, _items(lines), people, rows.dropped, notes)


def most_frequent(keys: pd.Series, values: pd.Series) -> pd.Series:
    """Per key the value that occurs most, the first in order where several do."""
    counts = pd.DataFrame({"key": keys.to_numpy(), "value": values.to_numpy()}).dropna().value_counts().rename("n").reset_index()
    ordered = counts.sort_values(["key", "n", "value"], ascending=[True, False, True])
    return ordered.drop_duplicates("key").set_index("key")["value"]


def _items(lines: pd.DataFrame) -> pa.Table:
    descriptions = most_frequent(lines["StockCode"], lines["Description"].str.strip()).reindex(sorted(lines["StockCode"].unique()))
    return pa.table({
        "item_id": pa.array(descriptions.index, pa.string()),
        "words": pa.array(product_words(list(descriptions.fillna(""))), pa.list_(pa.string())),
        "stem": pa.array(descriptions.index.str[:5], pa.string()),
        "description": pa.array(descriptions.to_numpy(), pa.string(), from_pandas=True),
    })


def product_words(descriptions: list[str]) -> list[list[str]]:
    """The words of each description that tell kinds of products apart: neither stop words nor rare nor everywhere."""
    words = [sorted(set(WORD.findall(text.lower())) - STOP_WORDS) for text in descriptions]
    counts = Counter(word for each in words for word in each)
    kept = {word for word, n in counts.items() if MIN_ITEMS_PER_WORD <= n <= MAX_SHARE_PER_WORD * len(descriptions)}
    return [[word for word in each if word in kept] for each in words]
