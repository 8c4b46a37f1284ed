"""Feature sets by name.

`pooled` and `blend` score where the pooled classifier serves. Of a client learnt alone: `baseline`, `strong`, or
either followed by `+<model>:<kind>`, several times if wanted; kind is raw (the published vector), affinity
(models/vectors/affinities.py) or both: `strong+<model>:affinity`. Standard library and the records of the families
only: the configuration checks names here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.configuration.messages import shown
from models import families

BASELINES = ("baseline", "strong")  # what others are held against
POOLED, BLEND = POOLED_SETS = ("pooled", "blend")  # the pooled classifier alone; its mean with a client's own model
_EXTRA = re.compile(r"(?P<model>[a-z0-9_]+):(?P<kind>raw|affinity|both)")


@dataclass(frozen=True)
class FeatureSet:
    """A parsed name: whether the user's own history with the client is in it, and (model, kind) of each extra."""

    name: str
    strong: bool
    extras: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, name: str, models: list[str]) -> FeatureSet:
        """ValueError for a name that does not read, or a model that is not published."""
        base, *extras = name.split("+")
        parts = [_EXTRA.fullmatch(extra) for extra in extras]
        if base not in BASELINES or not all(parts):
            wanted = "baseline or strong, with +<model>:raw, :affinity or :both where wanted"
            raise ValueError(f"is {shown(name)}; expected {wanted}")
        for part in parts:
            if part["model"] not in models:
                wanted = f"one of publishing.models: {', '.join(models)}"
                raise ValueError(f"is {shown(name)}, of a model that is not published; expected {wanted}")
        return cls(name, base == "strong", tuple((part["model"], part["kind"]) for part in parts))


def default_names(models: list[str]) -> list[str]:
    """Both baselines, and the strong one with each of these models' affinities.

    Not those of models that learn from labels: they are trained to tell what users are, not what they buy.
    """
    of_purchases = [model for model in models if not families.family_of(model).learns_labels]
    return ["baseline", "strong", *(f"strong+{model}:affinity" for model in of_purchases)]


def models_of(sets: list[FeatureSet]) -> list[str]:
    """Models that the sets need, in order of first use."""
    return list(dict.fromkeys(model for s in sets for model, _ in s.extras))
