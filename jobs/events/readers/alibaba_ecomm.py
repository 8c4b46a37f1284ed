"""The Alibaba e-commerce sample of DyHATR (EcommRec): clicks, favourites, carts, purchases by day, in China."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from jobs.events.readers.imported import Imported, Rows, end_of_day, events_table, text_lists
from jobs.events.readers.source_files import read_text, require_files

ZONE = "Asia/Shanghai"
BEHAVIORS = {"1": "click", "2": "favorite", "3": "cart", "4": "purchase"}
UNKNOWN = "-1"
EDGES, PRODUCTS, PEOPLE = "ecomm_edge_train.txt", "ecomm_item_feature.txt", "ecomm_user_feature.txt"
EDGE = ("user", "item", "behavior", "day")
PRODUCT = ("item", "top", "category", "brand", "price")
PERSON = ("user_id", "gender", "age_level", "education", "career", "income", "stages")


def read(source: Path) -> Imported:
    """SourceError."""
    files = require_files(source, (EDGES, PRODUCTS, PEOPLE))
    sheet = read_text(files[EDGES], EDGE, has_header=False)
    rows = Rows(sheet.frame.assign(date=sheet.dates("day", ["%Y%m%d"])))
    rows.drop(~rows.frame["behavior"].isin(BEHAVIORS), "unknown behaviour code")
    edges = rows.frame
    events = events_table({
        "user_id": edges["user"], "item_id": edges["item"], "behavior": edges["behavior"].map(BEHAVIORS),
        "event_time": end_of_day(edges["date"], ZONE),
    })
    repeats = int(edges.duplicated().sum())
    notes = [
        f"days only: stamped at the end of the day in {ZONE}",
        f"{repeats:,} rows repeat another exactly, several events of one day: kept",
        "brand 0 means none (98 % of the items); profiles are the platform's predictions, -1 means unknown",
        "the held-out 11th day (ecomm_edge_val_lr_train_test.txt) is not imported",
    ]
    return Imported(events, _items(files[PRODUCTS]), _users(files[PEOPLE]), rows.dropped, notes)


def _items(file: Path) -> pa.Table:
    sheet = read_text(file, PRODUCT, has_header=False)
    products = sheet.frame
    return pa.table({
        "item_id": _texts(products["item"]), "category": _texts(products["category"]),
        "brand": _texts(products["brand"].where(products["brand"] != "0")),
        "price": pa.array(sheet.numbers("price"), pa.float64()),
    })


def _users(file: Path) -> pa.Table:
    sheet = read_text(file, PERSON, has_header=False)
    people = sheet.frame
    texts = {name: _texts(people[name].where(people[name] != UNKNOWN)) for name in PERSON[:5]}
    return pa.table(texts | {
        "income": pa.array(sheet.numbers("income"), pa.float64()),
        "stages": text_lists(people["stages"].where(people["stages"] != UNKNOWN), ","),
    })


def _texts(values: pd.Series) -> pa.Array:
    return pa.array(values, pa.string(), from_pandas=True)
