"""Which published data set lies in a folder, by the name of the file that has its events."""

from __future__ import annotations

from pathlib import Path

from jobs.events.readers import alibaba_ecomm, completejourney, movielens, online_retail

EVENTS = {
    completejourney.LINES: "completejourney", online_retail.FILE: "online-retail", movielens.RATINGS_1M: "movielens",
    movielens.RATINGS_100K: "movielens", alibaba_ecomm.EDGES: "alibaba-ecomm"}


def format_of(path: str) -> str | None:
    """The `--format` of import_dataset that reads it; none where no importer is known to."""
    place = Path(path)
    names = {file.name.removesuffix(".gz") for file in (place.iterdir() if place.is_dir() else [place])}
    return next((format for name, format in EVENTS.items() if name in names), None)
