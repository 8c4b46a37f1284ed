"""The configuration of profiles: which labels, who trains and who tests, on what features; with its checks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from jobs.configuration.messages import expect
from jobs.configuration.ranges import AtLeastOne, PositiveShare, Range, Share
from jobs.configuration.tree import NAME
from models import families
from models.hyperparameters import TreeHyperparameters

if TYPE_CHECKING:
    from jobs.configuration.sections import Graph, Source


@dataclass(frozen=True)
class Label:
    """Something that is known of some users and predicted for all."""

    # of source.users, by our name; the label's own name where none. No attribute of the graph may be read from it
    column: str | None = None
    # ascending: a number is cut into classes at them, [24, 54]: ≤ 24, above 24 up to 54, above 54
    bounds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Folds:
    """Shares of the labelled users. Each user's fold hangs on (user_id, salt) alone, whatever the label; C stays C when
    A and B are weighed anew."""

    a: Share = 0.4  # trains the models that learn from labels; with another share they begin a new space
    b: PositiveShare = 0.4  # trains and calibrates the classifier on their vectors
    c: PositiveShare = 0.2  # tests both, for ever: trains nothing


@dataclass(frozen=True)
class Profiles:
    """Predicting labels of users from their vectors; off where there is no label."""

    labels: dict[str, Label] = field(default_factory=dict)
    # of the folds: another salt deals them anew, and models that learn from labels begin a new space
    salt: str = "nocturne"
    folds: Folds = Folds()
    models: list[str] | None = None  # whose published vectors are the features; none: the first of publishing.models
    baseline_features: bool = False  # add demographics, recency, frequency, money and purchase history
    # in fold B; users of a rarer class count as unlabelled, and the report says so
    min_users_per_class: AtLeastOne = 20
    # every class weighs the same in training; calibration gives the classes their true shares back
    class_weights: bool = True
    cross_validation: Annotated[int, Range(2, 100)] = 5  # parts of B that take turns in early stopping and calibration
    trees: TreeHyperparameters = TreeHyperparameters()
    # of the why-table for each user, where a published model has one
    attention_rows: Annotated[int, Range(1, 1000)] = 5

    def column(self, label: str) -> str:
        """The column of source.users that a label is read from."""
        return self.labels[label].column or label

    def read_models(self, published: Sequence[str]) -> list[str]:
        """The models whose vectors are features."""
        return list(dict.fromkeys(self.models or published[:1]))


def check_profiles(profiles: Profiles, graph: Graph, source: Source, published: Sequence[str]) -> None:
    """ConfigError for what can never work, above all for a label that would be among its own features."""
    for name, label in profiles.labels.items():
        path = f"profiles.labels.{name}"
        expect(bool(NAME.fullmatch(name)), name, path, "a name of [a-z0-9_]+")
        expect(
            source.users is not None,
            name,
            path,
            "labels of users only where there is source.users: configure it, or leave the labels out",
        )
        _check_no_leak(profiles.column(name), path, graph.user_attributes, source.users.names)
        ascending = all(a < b for a, b in itertools.pairwise(label.bounds))
        expect(ascending, label.bounds, f"{path}.bounds", "ascending numbers")
    _check_folds(profiles.folds)
    for i, model in enumerate(profiles.models or []):
        expect(model in published, model, f"profiles.models[{i}]", f"one of publishing.models: {', '.join(published)}")
    expect(
        profiles.models is None or bool(profiles.models),
        profiles.models,
        "profiles.models",
        "at least one model, or none for the first published one",
    )
    for i, model in enumerate(published):
        if families.family_of(model).learns_labels:
            wanted = f"models that can be trained: {model} learns from profiles.labels and profiles.folds.a"
            expect(bool(profiles.labels) and profiles.folds.a > 0, model, f"publishing.models[{i}]", wanted)
    least, found = profiles.cross_validation, profiles.min_users_per_class
    expect(
        found >= least,
        found,
        "profiles.min_users_per_class",
        f"at least profiles.cross_validation ({least}): one user in each part",
    )


def _check_no_leak(column: str, path: str, user_attributes: Mapping[str, object], theirs: Mapping[str, str]) -> None:
    """An attribute of the graph is in every vector: its prediction would read off what it is asked for."""
    same = next(
        (name for name in user_attributes if name == column or theirs.get(name, name) == theirs.get(column, column)),
        None,
    )
    wanted = (
        f"a column that is no attribute of the graph; graph.user_attributes.{same} would tell the vectors the answer: "
        "take it out there, or predict something else"
    )
    expect(same is None, column, f"{path}.column", wanted)


def _check_folds(folds: Folds) -> None:
    total = folds.a + folds.b + folds.c
    expect(abs(total - 1) < 1e-9, total, "profiles.folds", "shares a, b, c that add up to 1")
