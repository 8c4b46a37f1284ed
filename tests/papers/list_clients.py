"""Lists the clients of `make paper-kqgc`.

They are per shop the 12 with the most buyers in the training window [T1, T2), at least 100.

    python -m tests.papers.list_clients

Writes tests/papers/clients_<shop>.json, which is committed: the clients stand before any model is
trained. Looks at no vector and at no day of the test window. Buyers are users active in the `active_days`
before T1 (the eligible), since only they can be positives.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from jobs.configuration.load import load_settings
from jobs.events.import_dataset import READERS
from tests.papers.shops import CONFIGS, SHOPS, L, Shop

MOST, LEAST_BUYERS = 12, 100
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def clients_of(shop: Shop) -> list[dict[str, object]]:
    """Values of the shop's client attribute with their buyers, most first, equal ones by name."""
    start, end, _ = shop.dates
    imported = READERS[shop.format](DATA / shop.name)
    active_days = load_settings(CONFIGS / f"{shop.config}.yaml").lookalike.active_days
    events = imported.events.select(["user_id", "item_id", "event_time"]).to_pandas()
    first, last = pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC")
    times = events["event_time"]
    eligible = set(events.loc[(times < first) & (times >= first - pd.Timedelta(days=active_days)), "user_id"])
    window = events[(times >= first) & (times < last) & events["user_id"].isin(eligible)]
    attribute = shop.client_attribute
    values = imported.items.select(["item_id", attribute]).to_pandas().explode(attribute).dropna()
    pairs = window.merge(values, on="item_id").drop_duplicates(["user_id", attribute])
    counts = pairs.groupby(attribute).size().reset_index(name="buyers")
    counts = counts[counts["buyers"] >= LEAST_BUYERS].sort_values(["buyers", attribute], ascending=[False, True])
    return [{"value": str(v), "buyers": int(n)} for v, n in counts.head(MOST).itertuples(index=False)]


def main() -> None:
    for shop in SHOPS:
        start, end, _ = shop.dates
        chosen = {
            "shop": shop.name,
            "attribute": shop.client_attribute,
            "window": [start.isoformat(), end.isoformat()],
            "days": L.days,
            "clients": clients_of(shop),
        }
        shop.clients_file.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
        print(shop.name, chosen["clients"])


if __name__ == "__main__":
    main()
