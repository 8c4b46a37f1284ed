"""The Alibaba e-commerce sample of DyHATR (EcommRec): clicks, favourites, carts, purchases, known to the day in China."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from jobs.events.readers.imported import Imported, Rows, end_of_day, events_table, text_lists

ZONE = "Asia/Shanghai"
BEHAVIORS = {"1": "click", "2": "favorite", "3": "cart", "4": "purchase"}
UNKNOWN = "-1"
PEOPLE = ["user_id", "gender", "age_level", "education", "career", "income", "stages"]


def read(source: Path) -> Imported:
    rows = Rows(pd.read_csv(source / "ecomm_edge_train.txt.gz", sep="\t", names=["user", "item", "behavior", "day"], dtype=str))
    rows.drop(~rows.frame["behavior"].isin(BEHAVIORS), "unknown behaviour code")
    edges = rows.frame
    events = events_table({
        "user_id": edges["user"], "item_id": edges["item"], "behavior": edges["behavior"].map(BEHAVIORS),
        "event_time": end_of_day(pd.to_datetime(edges["day"], format="%Y%m%d"), ZONE),
    })
    products = pd.read_csv(source / "ecomm_item_feature.txt.gz", sep="\t", names=["item", "top", "category", "brand", "price"], dtype=str)
    items = pa.table({
        "item_id": _texts(products["item"]), "category": _texts(products["category"]), "brand": _texts(products["brand"].where(products["brand"] != "0")),
        "price": pa.array(products["price"].astype(float), pa.float64()),
    })
    people = pd.read_csv(source / "ecomm_user_feature.txt", sep="\t", names=PEOPLE, dtype=str)
    users = pa.table({name: _texts(people[name].where(people[name] != UNKNOWN)) for name in PEOPLE[:5]} | {
        "income": pa.array(people["income"].astype(float), pa.float64()), "stages": text_lists(people["stages"].where(people["stages"] != UNKNOWN), ","),
    })
    repeats = int(edges.duplicated().sum())
    notes = [
        f"days only: stamped at the end of the day in {ZONE}",
        f"{repeats:,} rows repeat another exactly, several events of one day: kept",
        "brand 0 means none (98 % of the items); profiles are the platform's predictions, -1 means unknown",
        "the held-out 11th day (ecomm_edge_val_lr_train_test.txt) is not imported",
    ]
    return Imported(events, items, users, rows.dropped, notes)


def _texts(values: pd.Series) -> pa.Array:
    return pa.array(values, pa.string(), from_pandas=True)
