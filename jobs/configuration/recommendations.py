"""The section `recommendations`: which items are recommended to everybody, and by which models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from jobs.configuration.messages import ConfigError, expect
from jobs.configuration.predicates import PredicateError, parse
from jobs.configuration.ranges import Range
from jobs.configuration.sections import Attribute


@dataclass(frozen=True)
class Recommendations:
    """Items for every user, by the vectors of published models."""

    models: list[str] = field(default_factory=list)  # some of publishing.models; none: nothing is recommended
    top_k: Annotated[int, Range(1, 1000)] = 20  # items of a user's list
    unseen_only: bool = True  # nothing that the user had an event with in the graph's window
    # a predicate on items, as those of lookalike.clients: nothing else is recommended; none: every item
    items: dict[str, Any] = field(default_factory=dict)


def check_recommendations(
    section: Recommendations, published: Collection[str], attributes: Mapping[str, Attribute]
) -> None:
    """ConfigError for a model that is not published, or a predicate that cannot be read."""
    for i, model in enumerate(section.models):
        wanted = f"one of publishing.models: {', '.join(published)}"
        expect(model in published, model, f"recommendations.models[{i}]", wanted)
    if section.items:
        try:
            parse(section.items, "recommendations.items", attributes)
        except PredicateError as error:
            raise ConfigError(str(error)) from error
