"""The YAML file as plain values: mappings with text keys, lists, texts, numbers, true and false, dates, null.

YAML allows what no configuration means, and some of it costs a job its memory: keys that stand twice (the last one
wins, silently), aliases that hold themselves or grow tenfold a line, numbers that are none, whole numbers of thousands
of digits, lists a thousand deep, tags. Each is a `ConfigError` with the dotted path, found while the file is read and
before anything is expanded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.configuration.messages import ConfigError, cut, expect, joined, one_line, place, shown

MOST_BYTES = 256 * 1024  # of the file; the largest shipped one has 3 kB
MOST_EXPANDED = 2 * MOST_BYTES  # characters of all values, aliases written out
MOST_DEEP = 40  # mappings and lists within each other; predicates on items are the deepest
MOST_DIGITS = 100  # characters of a number
READER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # events only; libyaml's is ten times as fast
TAG = "tag:yaml.org,2002:"
MERGE = TAG + "merge"
PLAIN = {TAG + kind for kind in ("null", "bool", "int", "float", "timestamp", "str", "value")}
WANTED = {
    "int": "a whole number",
    "float": "a finite number",
    "timestamp": "a date that exists, such as 2026-01-31 (quote it if it is a text)",
    "bool": "true or false",
}


@dataclass(frozen=True)
class Known:
    """What an alias stands for: its value, how many characters it expands to, and how deep it goes."""

    value: Any
    size: int
    height: int


def read_document(path: Path) -> Any:
    """The file's values. ConfigError: no such file, no text, no YAML, or one that no configuration needs."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8") if len(content) <= MOST_BYTES else None
    except FileNotFoundError:
        raise ConfigError(
            f"No configuration at {place(str(path))}. Name one of jobs/configs/*.yaml or your own with --config."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{place(str(path))} cannot be read as a text in UTF-8: {cut(str(error), 200)}. "
            "Name a YAML file with --config."
        ) from error
    if text is None:
        raise ConfigError(f"{place(str(path))} has more than {MOST_BYTES} bytes; expected fewer.")
    try:
        return Document(text).read()
    except yaml.YAMLError as error:
        raise ConfigError(f"{place(str(path))} is not YAML: {_problem(error)}.") from error


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return cut(one_line(str(error)), 200)
    return f"{cut(one_line(str(error.problem)), 200)}, line {mark.line + 1}, column {mark.column + 1}"


class Document:
    """One reading of a text, event by event; `path` is the dotted path of where it is."""

    def __init__(self, text: str) -> None:
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=READER)
        self.plain = yaml.SafeLoader("")  # resolves and constructs single values
        self.anchors: dict[str, Known | None] = {}  # None: still being read
        self.size, self.depth, self.path = 0, 0, ""

    def read(self) -> Any:
        """The only document of the text; None where it is empty."""
        documents = []
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if documents:
                    line = event.start_mark.line + 1
                    raise ConfigError(f"The file has a second document in line {line}; expected one: remove the '---'.")
                documents.append(self._value(next(self.events)).value)
        return documents[0] if documents else None

    def _value(self, event: yaml.Event) -> Known:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor:
            self.anchors[event.anchor] = None
        before = self.size
        if isinstance(event, yaml.ScalarEvent):
            self._grow(max(1, len(event.value)))
            value, height = self._scalar(event), 0
        else:
            self._grow(1)
            value, height = self._nested(event)
        known = Known(value, self.size - before, height)
        if event.anchor:
            self.anchors[event.anchor] = known
        return known

    def _alias(self, event: yaml.AliasEvent) -> Known:
        name = cut(event.anchor, 80)
        if event.anchor not in self.anchors:
            raise ConfigError(f"{self._here} is *{name}, and nothing above it is called &{name}; expected a value.")
        known = self.anchors[event.anchor]
        if known is None:
            raise ConfigError(f"{self._here} is *{name}, within &{name} itself; expected an alias of what has ended.")
        self._grow(known.size)
        self._expect_depth(self.depth + known.height)
        return known

    def _nested(self, event: yaml.Event) -> tuple[Any, int]:
        """(a mapping or a list, how deep it goes)."""
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", TAG + ("seq" if is_list else "map")):
            self._refuse_tag(event.tag)
        self.depth += 1
        self._expect_depth(self.depth)
        value, height = self._list() if is_list else self._mapping()
        self.depth -= 1
        return value, height + 1

    def _list(self) -> tuple[list[Any], int]:
        values, height, outside = [], 0, self.path
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            self.path = f"{outside}[{len(values)}]"
            known = self._value(event)
            values.append(known.value)
            height = max(height, known.height)
        self.path = outside
        return values, height

    def _mapping(self) -> tuple[dict[str, Any], int]:
        values, merged, lines, height, outside = {}, {}, {}, 0, self.path
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key, is_merge = self._key(event)
            self.path = joined(outside, key)
            if key in lines:
                twice = f"stands twice, in lines {lines[key]} and {line}"
                raise ConfigError(f"{self._here} {twice}; expected every key once: remove one.")
            lines[key] = line
            known = self._value(next(self.events))
            height = max(height, known.height)
            if is_merge:
                merged = self._merged(known.value)
            else:
                values[key] = known.value
            self.path = outside
        return merged | values, height

    def _key(self, event: yaml.Event) -> tuple[str, bool]:
        """(the key, whether it is YAML's `<<`, which takes over the keys of another mapping)."""
        if not isinstance(event, yaml.ScalarEvent):
            wanted = "a text as key (quote it)"
            found = f"a key in line {event.start_mark.line + 1} is a list, a mapping or an alias"
            raise ConfigError(f"{self._here}: {found}; expected {wanted}.")
        if event.anchor:
            self.anchors[event.anchor] = Known(event.value, max(1, len(event.value)), 0)
        self._grow(max(1, len(event.value)))
        if self._tag(event) == MERGE:
            return event.value, True
        key = self._scalar(event)
        expect(isinstance(key, str), key, joined(self.path, event.value), "a text as key (quote it)")
        return key, False

    def _merged(self, value: Any) -> dict[str, Any]:
        """The keys that `<<` takes over; of several mappings the first one's count."""
        parts = value if isinstance(value, list) else [value]
        expect(all(isinstance(part, dict) for part in parts), value, self.path, "a mapping, or a list of mappings")
        return {key: v for part in reversed(parts) for key, v in part.items()}

    def _tag(self, event: yaml.ScalarEvent) -> str:
        if event.tag not in (None, "!"):
            return event.tag
        return self.plain.resolve(yaml.ScalarNode, event.value, event.implicit)

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        tag = self._tag(event)
        if tag == MERGE:
            return event.value
        if tag not in PLAIN:
            self._refuse_tag(tag)
        kind = tag.removeprefix(TAG)
        if kind in ("str", "value"):
            return event.value
        short = kind not in ("int", "float") or len(event.value) <= MOST_DIGITS
        expect(short, event.value, self.path, f"a number of at most {MOST_DIGITS} characters")
        try:
            value = self.plain.construct_object(yaml.ScalarNode(tag, event.value))
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, yaml.YAMLError):
            raise ConfigError(f"{self._here} is {shown(event.value)}; expected {WANTED.get(kind, 'null')}.") from None
        finite = not isinstance(value, float) or math.isfinite(value)
        expect(finite, value, self.path, "a finite number")
        return value

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > MOST_EXPANDED:
            found = f"the values up to here have more than {MOST_EXPANDED} characters, aliases written out"
            raise ConfigError(f"{self._here}: {found}; expected fewer: use fewer aliases (*name).")

    def _expect_depth(self, depth: int) -> None:
        if depth > MOST_DEEP:
            raise ConfigError(f"{self._here} is nested more than {MOST_DEEP} deep; expected a flatter value.")

    def _refuse_tag(self, tag: str) -> None:
        raise ConfigError(f"{self._here} has the tag {shown(tag)}; expected a plain value without a tag.")

    @property
    def _here(self) -> str:
        return place(self.path) or "The file"
