"""What others call our columns, and what the name of a file says of its events."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

NAMES = {  # ours → what others call it: letters and digits alone, likeliest first
    "user_id": ("userid", "user", "customerid", "customer", "visitorid", "clientid", "householdid", "memberid", "uid",
                "accountid", "buyerid", "userno", "customerno", "shopperid", "personid", "member", "client", "buyer",
                "visitor", "shopper", "household", "account"),
    "item_id": ("itemid", "item", "productid", "product", "sku", "skuid", "stockcode", "articleid", "movieid", "asin",
                "materialnumber", "goodsid", "itemno", "productcode", "adgroupid", "songid", "bookid", "article",
                "goods", "movie"),
    "event_time": ("eventtime", "timestamp", "datetime", "time", "ts", "at", "createdat", "invoicedate", "orderdate",
                   "transactiontimestamp", "date", "purchasedate", "tsexact", "dt", "day", "t"),
    "behavior": ("behavior", "behaviour", "event", "eventtype", "action", "actiontype", "behaviortype", "type"),
    "quantity": ("quantity", "qty", "count", "units", "amountsold"),
    "value": ("price", "unitprice", "value", "salesvalue", "amount", "rating"),
    "event_id": ("eventid",),
    "ingested_at": ("ingestedat", "loadedat", "insertedat"),
}
SAID_BY_FILES = {
    "buy": "purchase", "order": "purchase", "purchase": "purchase", "transaction": "purchase", "cart": "cart",
    "click": "click", "fav": "favorite", "wish": "favorite", "comment": "comment", "rating": "rate", "review": "review",
    "view": "view"}


def plain(name: str) -> str:
    """A column's name in letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def is_called_like(name: str, ours: str) -> bool:
    return plain(name) in NAMES[ours]


def behavior_of_file(path: str) -> str | None:
    """What every row of a file may be; None where its name does not say."""
    name = PurePosixPath(path).name.lower()
    return next((behavior for word, behavior in SAID_BY_FILES.items() if word in name), None)
