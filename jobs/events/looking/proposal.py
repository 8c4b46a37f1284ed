"""A configuration to start from, of tables that nobody has described yet: by the names and the kinds of columns."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobs.configuration.sections import SourceTable
from jobs.configuration.tree import NAME
from jobs.events.looking.column_kinds import Look
from jobs.events.looking.names import NAMES, behavior_of_file, plain
from jobs.events.looking.sample import Sample

REQUIRED = ("user_id", "item_id", "event_time")
SMALL = 20_000_000  # bytes of all tables: a night's Spark jobs take seconds (docs/production.md, "Short jobs")
SHORT_JOBS = {"conf": {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}}


@dataclass
class Described:
    """A table, what its columns look like, and what it is taken for."""

    sample: Sample
    looks: Mapping[str, Look]
    role: str = ""  # events, items, users; nothing: none of them
    columns: dict[str, str] = field(default_factory=dict)  # ours → the source's

    @classmethod
    def of(cls, sample: Sample, looks: Mapping[str, Look]) -> Described:
        found = {ours: name for ours, called in NAMES.items() if (name := _named(looks, called, ours))}
        if all(name in found for name in REQUIRED):
            return cls(sample, looks, "events", found)
        for role, key in (("items", "item_id"), ("users", "user_id")):
            other = "user_id" if role == "items" else "item_id"
            if key in found and other not in found and len(looks) > 1:
                return cls(sample, looks, role, {key: found[key]})
        return cls(sample, looks, "", found)

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Of several tables for one role the highest is taken: a row for each key, many columns, many rows."""
        key = {"items": "item_id", "users": "user_id"}.get(self.role)
        different = len(set(self.sample.values(self.columns[key]))) if key else 0
        own = bool(key) and different > 0.99 * len(self.sample.rows)
        return own, len(self.looks if key else self.columns), len(self.sample.rows)

    @property
    def missing(self) -> list[str]:
        return [name for name in REQUIRED if name not in self.columns]


def best(tables: Sequence[Described], role: str) -> Described | None:
    """The table that is taken for items or users."""
    return max((one for one in tables if one.role == role), key=lambda one: one.rank, default=None)


def _named(looks: Mapping[str, Look], called: Sequence[str], ours: str) -> str | None:
    by_plain = {plain(name): name for name in reversed(looks)}
    for name in called:
        found = by_plain.get(name)
        if found and (ours not in ("event_time", "ingested_at") or looks[found].kind == "time"):
            return found
    return None


def source_of(described: Described) -> SourceTable:
    """The table as a source of the configuration."""
    sample, columns = described.sample, described.columns
    mapped = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    time = columns.get("event_time")
    constants = {}
    if described.role == "events" and "behavior" not in columns:
        constants = {"behavior": _behavior(sample.source.path, columns)}
    words = sample.values(columns["behavior"]) if described.role == "events" and "behavior" in columns else []
    look = described.looks[time] if time else None
    return dataclasses.replace(
        sample.source, columns=mapped, constants=constants, time_format=look and look.form,
        time_unit=look.unit if look and look.is_old else None, behaviors=usable_names(words),
        decimal="," if any(look.decimal == "," for look in described.looks.values()) else ".")


def usable_names(words: Iterable[Any]) -> dict[str, str]:
    """Names of behaviours for words that are none, since they are names of files and columns: Add to Cart is
    add_to_cart, and what has no letter of a to z has a number."""
    found = {}
    for word, _ in Counter(map(str, words)).most_common():
        if not NAME.fullmatch(word):
            ascii_letters = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()
            found[word] = re.sub(r"[^a-z0-9]+", "_", ascii_letters).strip("_") or f"behavior_{len(found) + 1}"
    return found


def purchase_of(behaviors: Sequence[str]) -> str | None:
    """The behaviour that is called like a purchase."""
    return next((name for name in behaviors if "purchase" in name or name in ("buy", "order", "transaction")), None)


def _behavior(file: str, columns: Mapping[str, str]) -> str:
    """What every row of a table without a behaviour may be, by its file's name or by what else it has."""
    if said := behavior_of_file(file):
        return said
    if "rating" in columns.get("value", "").lower():
        return "rate"
    return "purchase" if "value" in columns or "quantity" in columns else "view"


def configuration(tables: Sequence[Described], behaviors: Sequence[str], first: Any) -> str:
    """The YAML of what was found; lines to look at have a comment. first: the day of the first event."""
    source: dict[str, Any] = {}
    attributes = {}
    events = [_as_yaml(one, behaviors) for one in tables if one.role == "events"]
    source["events"] = events if len(events) > 1 else events[0]
    for role in ("items", "users"):
        if one := best(tables, role):
            source[role] = _as_yaml(one)
            attributes[role] = _attributes(one)
    purchase = purchase_of(behaviors) or behaviors[0]
    tree: dict[str, Any] = {
        "data_root": "data", "source": source,
        "events": {"behaviors": list(behaviors), "earliest_event_time": first},
        "graph": {"window_days": 90, "purchase": purchase, "behaviors": {name: {} for name in behaviors}},
    }
    for role, key in (("items", "item_attributes"), ("users", "user_attributes")):
        if attributes.get(role):
            tree["graph"][key] = attributes[role]
    if sum(one.sample.size for one in tables) < SMALL:
        tree["spark"] = SHORT_JOBS
    written = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    if written.replace("\n", "").isprintable():
        return written
    return yaml.safe_dump(tree, sort_keys=False, width=110, default_flow_style=None)  # escaped, as YAML writes it


def _as_yaml(one: Described, behaviors: Sequence[str] = ()) -> dict[str, Any]:
    source = source_of(one)
    columns: dict[str, Any] = dict(source.columns)
    if one.role != "events":
        columns |= {name: {"column": name, "separator": look.separator} for name, look in one.looks.items()
                    if look.separator and name not in one.columns.values()}
    default = SourceTable("")
    told = "format", "delimiter", "encoding", "constants", "time_format", "time_unit", "decimal"
    said = {name: value for name in told
            if (value := getattr(source, name)) != getattr(default, name)}
    words = {theirs: ours for theirs, ours in source.behaviors.items() if ours in behaviors}
    return {"path": source.path} | said | {
        name: value for name, value in (("columns", columns), ("behaviors", words)) if value}


def _attributes(one: Described) -> dict[str, Any]:
    """Codes and lists as categories, numbers in bins; ids, long texts and times are none."""
    found: dict[str, Any] = {}
    for name, look in one.looks.items():
        if name in one.columns.values():
            continue
        entity = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "attribute"
        wanted = {} if entity == name else {"entity_type": entity}
        if entity in ("user", "item", "relation"):
            wanted = {"entity_type": f"{entity}_value"}
        if look.kind == "number" and not plain(name).endswith(("id", "code", "no")):
            found[name] = {"type": "number", "bins": 10} | wanted
        elif look.kind in ("code", "list", "number"):
            found[name] = wanted
    return found
