"""The section `sequences`: how far back the users' histories reach that some models read, and how long they are."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from jobs.configuration.messages import expect, listed
from jobs.configuration.ranges import Days, Range
from jobs.configuration.sections import Events, Graph, Publishing
from models import families

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Sequences:
    """Every user's events in order: the table `sequences`, for the models that read it."""

    # the last so many events of each user; models read all of them. 10 events less cost a tenth of time and memory
    max_length: Annotated[int, Range(1, 10_000)] = 200
    # days before D that they cover; null: all since events.earliest_event_time, of which clean_events keeps each day
    history_days: Days | None = 365
    behaviors: list[str] | None = None  # of which events; none: those of graph.behaviors

    def behaviors_of(self, graph: Graph) -> list[str]:
        """Which events a history has."""
        return sorted(graph.behaviors if self.behaviors is None else self.behaviors)


class Configured(Protocol):
    """The sections that say whether somebody reads histories, and from when on."""

    @property
    def families(self) -> Mapping[str, Any]: ...
    @property
    def publishing(self) -> Publishing: ...
    @property
    def sequences(self) -> Sequences: ...
    @property
    def events(self) -> Events: ...


def are_read(config: Configured) -> bool:
    """Whether a model that is trained reads the table `sequences`."""
    sections = {name: dataclasses.asdict(hyperparameters) for name, hyperparameters in config.families.items()}
    trained = families.trained_models(config.publishing.models, sections)
    return any("sequences" in families.job_of(model).reads for model in trained)


def history_days(config: Configured, date: datetime.date) -> int:
    """Days before D that histories cover, 1 at least: none from before events.earliest_event_time."""
    since_earliest = max((date - config.events.earliest_event_time).days, 1)
    days = config.sequences.history_days
    return since_earliest if days is None else min(days, since_earliest)


def days_before(config: Configured, date: datetime.date, window_days: int) -> int:
    """Days before D that the night's tables cover: its window's, or those of histories where they are read and reach
    further back."""
    return max(window_days, history_days(config, date)) if are_read(config) else window_days


def check_sequences(section: Sequences, events: Events) -> None:
    """ConfigError for a behaviour that is none of the events', or stands twice, or for none at all."""
    for i, name in enumerate(section.behaviors or []):
        wanted = f"one of events.behaviors: {listed(events.behaviors)}"
        expect(name in events.behaviors, name, f"sequences.behaviors[{i}]", wanted)
        expect(name not in section.behaviors[:i], name, f"sequences.behaviors[{i}]", "every one once")
    some = section.behaviors is None or bool(section.behaviors)
    expect(some, section.behaviors, "sequences.behaviors", "at least one behaviour, or leave it out for the graph's")
