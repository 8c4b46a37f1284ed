"""A small source of each importer, of the shape in which its data set is published."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

RETAIL = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country".split(",")
RETAIL_FIRST = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country".split(",")
LINE = "household_id,product_id,quantity,sales_value,transaction_timestamp".split(",")
PRODUCT = "product_id,manufacturer_id,department,brand,product_category,product_type".split(",")
PERSON = "household_id,age,income,home_ownership,marital_status,household_size,household_comp,kids_count".split(",")


@dataclass(frozen=True)
class Part:
    """One file of a source: its content by column, and how it is written."""

    name: str
    columns: dict[str, list]
    separator: str = ""  # none: Parquet
    header: str | None = "{}"  # how a column's name stands in the first line; None: there is none

    def write(self, folder: Path) -> None:
        frame = pd.DataFrame(self.columns)
        if not self.separator:
            frame.to_parquet(folder / self.name)
            return
        rows = [] if self.header is None else [[self.header.format(name) for name in self.columns]]
        rows += [["" if pd.isna(value) else str(value) for value in row] for row in frame.itertuples(index=False)]
        text = "".join(self.separator.join(row) + "\n" for row in rows).encode()
        (folder / self.name).write_bytes(gzip.compress(text) if self.name.endswith(".gz") else text)


def completejourney() -> list[Part]:
    moment = pd.Timestamp("2017-01-28 19:06:53")
    lines = dict(zip(LINE, (["h1", "h2"], ["p1", "p2"], [2.0, 0.0], [5.0, 0.0], [moment, moment]), strict=True))
    return [
        Part("transactions_sample.parquet", lines),
        Part("products.parquet", {name: ["p1", "p2"] if name == "product_id" else ["x", None] for name in PRODUCT}),
        Part("demographics.parquet", {name: ["h1"] for name in PERSON}),
    ]


def online_retail() -> list[Part]:
    row = ("1", "85048", "RED TEA MUG", 12, "2010-10-31 01:30:00", 6.95, 13085.0, "United Kingdom")
    return [Part("online_retail.parquet", {name: [value] for name, value in zip(RETAIL, row, strict=True)})]


def online_retail_first() -> list[Part]:
    """The other edition, as CSV."""
    row = ("536365", "85123A", "WHITE HOLDER", "6", "12/1/2010 8:26", "2.55", "17850.0", "United Kingdom")
    return [Part("data.csv", {name: [value] for name, value in zip(RETAIL_FIRST, row, strict=True)}, ",")]


def movielens_100k() -> list[Part]:
    ratings = {"user_id": ["196"], "item_id": ["242"], "rating": ["3"], "timestamp": ["881250949"]}
    films = {"item_id": ["242"], "movie_title": ["Kolya"], "release_year": ["1996"], "class": ["Comedy Drama"]}
    people = {"user_id": ["196"], "age": ["49"], "gender": ["M"], "occupation": ["writer"]}
    return [Part(f"ml-100k.{name}", columns, "\t", "{}:token") for name, columns in (
        ("inter.gz", ratings), ("item", films), ("user", people))]


def movielens_1m() -> list[Part]:
    ratings = {
        "user_id": ["1", "1"], "movie_id": ["1", "2"], "rating": ["4", "2"], "position": ["0", "1"],
        "ts_exact": ["978300760", None], "ts_approx": [None, None]}
    credits = {"movie_id": ["1"], "director": ["John Lasseter"], "actors": ["Tom Hanks, Tim Allen"]}
    people = {"user_id": ["1"], "gender": ["F"], "age": ["1"], "occupation": ["10"], "zip": ["48067"]}
    films = {"item_id": ["1"], "title": ["Toy Story (1995)"], "genres": ["Animation|Comedy"]}
    return [
        Part("interactions.tsv.gz", ratings, "\t"), Part("movie_credits.tsv.gz", credits, "\t"),
        Part("users.dat", people, "::", None), Part("movies.dat", films, "::", None)]


def alibaba_ecomm() -> list[Part]:
    edges = {"user": ["1", "1"], "item": ["2", "3"], "behavior": ["1", "4"], "day": ["20190616", "20190617"]}
    items = {"item": ["2"], "top": ["33"], "category": ["50"], "brand": ["0"], "price": ["21.8"]}
    people = {"user_id": ["1"], "gender": ["1"], "age_level": ["5"], "education": ["-1"], "career": ["10"],
              "income": ["15203.1"], "stages": ["1,6"]}
    return [
        Part("ecomm_edge_train.txt.gz", edges, "\t", None), Part("ecomm_item_feature.txt.gz", items, "\t", None),
        Part("ecomm_user_feature.txt", people, "\t", None)]


SOURCES: dict[str, tuple[str, Callable[[], list[Part]]]] = {  # case → (format, its files)
    "completejourney": ("completejourney", completejourney),
    "online retail II": ("online-retail", online_retail),
    "online retail": ("online-retail", online_retail_first),
    "movielens 100k": ("movielens", movielens_100k),
    "movielens 1m": ("movielens", movielens_1m),
    "alibaba": ("alibaba-ecomm", alibaba_ecomm),
}


def write(folder: Path, parts: list[Part]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        part.write(folder)
    return folder
