"""The Complete Journey 2.0 (84.51°): receipt lines of a grocer, product hierarchy, household demographics.

Campaigns and coupons are not taken: they name who was targeted, which is nobody's behaviour.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from jobs.events.readers.imported import Imported, Rows, events_table
from jobs.events.readers.source_files import Sheet, read_parquet, require_files

LINES, PRODUCTS, PEOPLE = "transactions_sample.parquet", "products.parquet", "demographics.parquet"
LINE = ("household_id", "product_id", "quantity", "sales_value", "transaction_timestamp")
ITEM = {
    "product_id": "item_id", "department": "department", "product_category": "category",
    "product_type": "type", "brand": "brand_kind", "manufacturer_id": "manufacturer",
}
PERSON = {"household_id": "user_id"} | {name: name for name in (
    "age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count",
)}
TIMES = ("%Y-%m-%d %H:%M:%S",)


def read(source: Path) -> Imported:
    """SourceError."""
    files = require_files(source, (LINES, PRODUCTS, PEOPLE))
    sheet, products = read_parquet(files[LINES], LINE), read_parquet(files[PRODUCTS], list(ITEM))
    people = read_parquet(files[PEOPLE], list(PERSON))
    rows = Rows(sheet.frame.assign(
        user=sheet.ids("household_id"), item=sheet.ids("product_id"), quantity=sheet.numbers("quantity"),
        paid=sheet.numbers("sales_value"), time=sheet.times("transaction_timestamp", TIMES, "UTC"),
    ))
    rows.drop(rows.frame["quantity"] == 0, "quantity 0")
    lines = rows.frame
    events = events_table({
        "user_id": lines["user"], "item_id": lines["item"], "behavior": ["purchase"] * len(lines),
        "event_time": lines["time"], "quantity": lines["quantity"], "value": lines["paid"] / lines["quantity"],
    })
    unknown = (~lines["item"].isin(products.ids("product_id"))).sum()
    notes = [
        "transaction_timestamp is UTC in the files (the shops are in New York time)",
        "value is sales_value ÷ quantity, the price paid for one",
        f"{(lines['quantity'] < 0).sum():,} lines are returns, of negative quantity",
        f"lines with a product that products.parquet does not know: {unknown}, kept without attributes",
        "a 5 % sample of receipt lines: baskets are broken, households thin",
    ]
    return Imported(events, _texts(products, ITEM), _texts(people, PERSON), rows.dropped, notes)


def _texts(sheet: Sheet, names: dict[str, str]) -> pa.Table:
    """Those columns under our names, all as text."""
    values = {ours: sheet.ids(name) if name.endswith("_id") else sheet.texts(name) for name, ours in names.items()}
    return pa.table({ours: pa.array(column, pa.string(), from_pandas=True) for ours, column in values.items()})
