"""A tree as YAML gave it becomes typed dataclasses, or a ConfigError with the dotted path and what would do."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import re
import types
import typing
from typing import Any, Literal

from models.hyperparameters import HyperparameterError

NAME = re.compile(r"[a-z0-9_]+")  # of clients, labels, behaviours, entity types: they name files and columns


class ConfigError(ValueError):
    """The configuration cannot be used: dotted path, what was found, what would do."""


def build(cls: Any, value: Any, path: str) -> Any:
    """`value`, as YAML gave it, as an instance of the type `cls`; `path` is its dotted path for messages."""
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if dataclasses.is_dataclass(cls):
        return _build_dataclass(cls, value, path)
    if origin is Literal:
        return expect(value in arguments, value, path, f"one of {', '.join(map(repr, arguments))}")
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None else build(inner[0], value, path)
    if origin is list:
        expect(isinstance(value, list), value, path, "a list")
        return [build(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value)]
    if origin is dict:
        expect(isinstance(value, dict), value, path, "a mapping")
        return {_expect_key(k, path): build(arguments[1], v, f"{path}.{k}") for k, v in value.items()}
    return _build_plain(cls, value, path)


def _build_dataclass(cls: Any, value: Any, path: str) -> Any:
    value = {} if value is None else value
    expect(isinstance(value, dict), value, path, "a mapping of keys to values")
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"Unknown key {_join(path, key)!r}.{hint} Known here: {', '.join(sorted(hints))}.")
    for f in dataclasses.fields(cls):
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in value:
            raise ConfigError(f"Missing key {_join(path, f.name)!r}: it has no default. Add it to the configuration.")
    fields = {key: build(hints[key], v, _join(path, key)) for key, v in value.items()}
    try:
        return cls(**fields)
    except HyperparameterError as error:
        raise ConfigError(f"{_join(path, str(error))}") from error


def _build_plain(cls: Any, value: Any, path: str) -> Any:
    if cls is Any:
        return value
    if cls is float and type(value) is int:
        return float(value)
    if cls is datetime.date and isinstance(value, str):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            expect(False, value, path, "a date such as 2026-01-31")
    if cls is datetime.date:
        return expect(type(value) is datetime.date, value, path, "a date such as 2026-01-31")
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text (quote it)",
        bool: "true or false",
        dict: "a mapping",
    }
    return expect(type(value) is cls, value, path, names.get(cls, cls.__name__))


def expect(holds: bool, value: Any, path: str, wanted: str) -> Any:
    if not holds:
        raise ConfigError(f"{path or 'The file'} is {value!r} ({type(value).__name__}); expected {wanted}.")
    return value


def _expect_key(key: Any, path: str) -> str:
    return expect(isinstance(key, str), key, path, "a text as key (quote it)")


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
