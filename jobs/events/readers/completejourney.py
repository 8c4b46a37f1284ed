"""The Complete Journey 2.0 (84.51°): receipt lines of a grocer, product hierarchy, household demographics.

Campaigns and coupons are not taken: they name who was targeted, which is nobody's behaviour.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.events.readers.imported import Imported, Rows, events_table

ITEMS = {
    "product_id": "item_id", "department": "department", "product_category": "category",
    "product_type": "type", "brand": "brand_kind", "manufacturer_id": "manufacturer",
}


def read(source: Path) -> Imported:
    rows = Rows(pd.read_parquet(source / "transactions_sample.parquet"))
    rows.drop(rows.frame["quantity"] <= 0, "quantity 0 or less")
    lines = rows.frame
    events = events_table({
        "user_id": lines["household_id"], "item_id": lines["product_id"], "behavior": ["purchase"] * len(lines),
        "event_time": lines["transaction_timestamp"].dt.tz_localize("UTC"), "quantity": lines["quantity"], "value": lines["sales_value"] / lines["quantity"],
    })
    products = pq.read_table(source / "products.parquet", columns=list(ITEMS)).rename_columns(list(ITEMS.values()))
    people = pq.read_table(source / "demographics.parquet")
    people = people.rename_columns(["user_id" if name == "household_id" else name for name in people.column_names])
    unknown = (~lines["product_id"].isin(products["item_id"].to_pandas())).sum()
    notes = [
        "transaction_timestamp is UTC in the files (the shops are in New York time)",
        "value is sales_value ÷ quantity, the price paid for one",
        f"lines with a product that products.parquet does not know: {unknown}, kept without attributes",
        "a 5 % sample of receipt lines: baskets are broken, households thin",
    ]
    return Imported(events, _plain(products), _plain(people), rows.dropped, notes)


def _plain(table: pa.Table) -> pa.Table:
    """large_string as string, for every engine."""
    return table.cast(pa.schema([(f.name, pa.string()) for f in table.schema])).replace_schema_metadata(None)
