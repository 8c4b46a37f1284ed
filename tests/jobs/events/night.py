"""A small source, its configuration, and a night over it."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from feature_store import Manifest
from jobs.configuration.load import load
from jobs.events import validate_events
from jobs.program import Output, metrics

DATE = datetime.date(2026, 1, 11)
WINDOW_DAYS = 5


def at(day: int, hour: float = 12.0) -> datetime.datetime:
    """A time in January 2026, UTC."""
    return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=day - 1, hours=hour)


def event(user: Any, day: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "user_id": user,
        "item_id": "i1",
        "behavior": "view",
        "event_time": at(day),
        "quantity": 1.0,
        "value": None,
        "event_id": None,
        "ingested_at": None,
    }
    return plain | changes


def every_day() -> list[dict[str, Any]]:
    """Two events on each day of the window."""
    return [event(user, day) for day in range(6, 11) for user in ("u1", "u2")]


class Sandbox:
    """A folder with a source, a configuration and a data root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "data"
        self.source: dict[str, Any] = {"path": "events.parquet"}
        self.quality: dict[str, Any] = {}
        self.events: dict[str, Any] = {
            "behaviors": ["view", "purchase"],
            "earliest_event_time": "2026-01-02",
            "max_rejected_share": 1.0,
        }

    def write_parquet(self, rows: list[dict[str, Any]], name: str = "events.parquet", **types: pa.DataType) -> Path:
        utc = pa.timestamp("us", tz="UTC")
        kinds = {
            "user_id": pa.string(),
            "item_id": pa.string(),
            "behavior": pa.string(),
            "event_time": utc,
            "quantity": pa.float32(),
            "value": pa.float64(),
            "event_id": pa.string(),
            "ingested_at": utc,
        } | types
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({key: pa.array([row[key] for row in rows], kind) for key, kind in kinds.items()}), path)
        return path

    def write_lines(self, lines: list[str], name: str, encoding: str = "utf-8") -> Path:
        path = self.folder / name
        content = "\n".join(lines).encode(encoding, "surrogatepass") + b"\n"
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    def config_file(self) -> Path:
        path = self.folder / "config.yaml"
        tree = {
            "data_root": "data",
            "source": {"events": self.source},
            "events": self.events,
            "quality": self.quality,
            "graph": {"behaviors": {"purchase": {}}, "window_days": WINDOW_DAYS},
            "lookalike": {"active_days": 3},
            "spark": {"shuffle_partitions": 2},
        }
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        return path

    def run(self, date: datetime.date = DATE) -> dict[str, Any]:
        """One night; its figures."""
        metrics.rows.clear()
        clean, rejected = self.outputs()
        validate_events.run(date, clean, rejected, load(self.config_file(), validate_events.Config))
        return {name: json.loads(detail) if detail else value for name, value, detail in metrics.rows}

    def outputs(self) -> tuple[Output, Output]:
        return Output("clean_events", str(self.root / "clean_events")), Output(
            "rejected_events", str(self.root / "rejected_events")
        )

    def clean(self) -> list[dict[str, Any]]:
        """All committed events, day by day."""
        table = self.outputs()[0].table()
        return [row for day in table.values() for row in table.read(day).to_pylist()]

    def rejected(self, date: datetime.date = DATE) -> list[dict[str, Any]]:
        return self.outputs()[1].table().read(date.isoformat()).to_pylist()

    def manifests(self) -> dict[str, Manifest]:
        table = self.outputs()[0].table()
        return {day: table.existing_manifest(day) for day in table.values()}
