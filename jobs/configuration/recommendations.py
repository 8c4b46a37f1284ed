"""The section `recommendations`: which items are recommended to everybody, and by which models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, Any

from jobs.configuration.messages import ConfigError, expect
from jobs.configuration.predicates import PredicateError, parse
from jobs.configuration.ranges import Range
from jobs.configuration.sections import Attribute, Graph
from models import families


@dataclass(frozen=True)
class Recommendations:
    """Items for every user, by the vectors of published models."""

    models: list[str] = field(default_factory=list)  # some of publishing.models; none: nothing is recommended
    top_k: Annotated[int, Range(1, 1000)] = 20  # items of a user's list
    unseen_only: bool = True  # nothing that the user had an event with in the graph's window
    # how much an item's popularity counts beside the model's score is learned from what was bought since the lists of a
    # label window ago; off: the score stands alone
    popularity: bool = True
    # a predicate on items, as those of lookalike.clients: nothing else is recommended; none: every item
    items: dict[str, Any] = field(default_factory=dict)
    # behaviours of the graph whose relationships are predicted as well, top_k for each user and relation, and
    # attributes as the graph names them (item_brand), top_k for each item or user: the table predicted_relations. Of a
    # model that tells no relations apart, the purchases alone. unseen_only leaves out pairs with that very relation
    relations: list[str] = field(default_factory=list)


def relations_of(model: str, section: Recommendations, purchase: str) -> list[str]:
    """Which of the section's relations a model predicts: all, or the purchases where it tells no relations apart."""
    tells_apart = families.family_of(model).compared not in ("dot", "softmax", "cosine")
    return [relation for relation in section.relations if tells_apart or relation == purchase]


def attributes_of(graph: Graph) -> dict[str, dict[str, Attribute]]:
    """The attributes of items and of users, by the entity type that stands before their relations' names."""
    return {"item": graph.item_attributes, "user": graph.user_attributes}


def attribute_of(relation: str, graph: Graph) -> tuple[str, str]:
    """(entity type, attribute) of an attribute's relation. KeyError for any other."""
    known = attributes_of(graph)
    named = {f"{kind}_{name}": (kind, name) for kind, attributes in known.items() for name in attributes}
    return named[relation]


def check_recommendations(section: Recommendations, published: Collection[str], graph: Graph) -> None:
    """ConfigError for a model that is not published, a relation that is none of the graph's or that no model
    knows of, for either that stands twice, or a predicate that cannot be read."""
    for i, model in enumerate(section.models):
        wanted = f"one of publishing.models: {', '.join(published)}"
        expect(model in published, model, f"recommendations.models[{i}]", wanted)
        expect(model not in section.models[:i], model, f"recommendations.models[{i}]", "every one once")
    told = {relation for model in section.models for relation in relations_of(model, section, graph.purchase)}
    for i, relation in enumerate(section.relations):
        path, wanted = f"recommendations.relations[{i}]", f"one of graph.behaviors: {', '.join(graph.behaviors)}"
        names = [f"{kind}_{name}" for kind, known in attributes_of(graph).items() for name in known]
        wanted += f"; or an attribute: {', '.join(names)}" if names else ""
        expect(relation in graph.behaviors or relation in names, relation, path, wanted)
        expect(relation not in section.relations[:i], relation, path, "every one once")
        wanted = f"{graph.purchase}, since {', '.join(section.models)} tells no relations apart"
        expect(relation in told or not section.models, relation, path, wanted)
    if section.items:
        try:
            parse(section.items, "recommendations.items", graph.item_attributes)
        except PredicateError as error:
            raise ConfigError(str(error)) from error
