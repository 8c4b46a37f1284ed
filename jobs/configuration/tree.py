"""A tree as YAML gave it becomes typed dataclasses, or a ConfigError with the dotted path and what would do."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import re
import types
import typing
from typing import Annotated, Any, Literal

from feature_store.errors import StoreError
from feature_store.storage import Storage
from jobs.configuration.messages import MOST_OF_KEY, ConfigError, expect, joined, place
from jobs.configuration.ranges import EARLIEST, LATEST
from models.hyperparameters import HyperparameterError

NAME = re.compile(r"[a-z0-9_]+")  # of clients, labels, behaviours, entity types: they name files and columns


def build(cls: Any, value: Any, path: str) -> Any:
    """`value`, as YAML gave it, as an instance of the type `cls`; `path` is its dotted path for messages."""
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin is Annotated:
        return _build_ruled(arguments, value, path)
    if cls is Storage:
        return _build_storage(value, path)
    if dataclasses.is_dataclass(cls):
        return _build_dataclass(cls, value, path)
    if origin is Literal:
        return expect(value in arguments, value, path, f"one of {', '.join(map(repr, arguments))}")
    if origin in (types.UnionType, typing.Union):
        return None if value is None else build(_member(arguments, value), value, path)
    if origin is list:
        expect(isinstance(value, list), value, path, "a list")
        return [build(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value)]
    if origin is dict:
        expect(isinstance(value, dict), value, path, "a mapping")
        return {key: build(arguments[1], v, joined(path, key)) for key, v in value.items()}
    return _build_plain(cls, value, path)


def _member(arguments: tuple[Any, ...], value: Any) -> Any:
    """Which of a union's types a value is meant as: the one that a mapping or a list makes, for such a value; else the
    first."""
    inner = [a for a in arguments if a is not type(None)]
    of_mapping = [a for a in inner if typing.get_origin(a) is dict or dataclasses.is_dataclass(a)]
    of_list = [a for a in inner if typing.get_origin(a) is list]
    meant = of_mapping if isinstance(value, dict) else of_list if isinstance(value, list) else []
    return [*meant, inner[0]][0]


def _build_dataclass(cls: Any, value: Any, path: str) -> Any:
    value = {} if value is None else value
    expect(isinstance(value, dict), value, path, "a mapping of keys to values")
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(key[:MOST_OF_KEY], hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            unknown = place(joined(path, key))
            raise ConfigError(f"Unknown key '{unknown}'.{hint} Known here: {', '.join(sorted(hints))}.")
    for f in dataclasses.fields(cls):
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in value:
            raise ConfigError(f"Missing key {joined(path, f.name)!r}: it has no default. Add it to the configuration.")
    fields = {key: build(hints[key], v, joined(path, key)) for key, v in value.items()}
    try:
        return cls(**fields)
    except HyperparameterError as error:
        raise ConfigError(f"{path}.{error}" if path else str(error)) from error


def _build_storage(value: Any, path: str) -> Storage:
    """The store's own class has rules of its own, which refuse a key in plain."""
    expect(isinstance(value, dict), value, path, "a mapping of keys to values")
    try:
        return Storage.from_mapping(value)
    except StoreError as error:
        raise ConfigError(f"{place(path)}: {error}") from error


def _build_ruled(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    """A value of `Annotated[type, rules…]`."""
    built = build(arguments[0], value, path)
    for rule in arguments[1:]:
        expect(rule.holds(built), built, path, rule.wanted)
    return built


def _build_plain(cls: Any, value: Any, path: str) -> Any:
    if cls is Any:
        return value
    if cls is float and type(value) is int:
        return float(value)
    if cls is datetime.date:
        return _build_date(value, path)
    names = {int: "a whole number", float: "a number", str: "a text (quote it)", bool: "true or false"}
    expect(type(value) is cls, value, path, names.get(cls, cls.__name__))
    return expect(cls is not str or "\0" not in value, value, path, "a text without NUL")


def _build_date(value: Any, path: str) -> datetime.date:
    wanted, found = f"a date such as 2026-01-31, from {EARLIEST} to {LATEST}", value
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value)
        except ValueError:
            expect(False, found, path, wanted)
    return expect(type(value) is datetime.date and EARLIEST <= value <= LATEST, value, path, wanted)
