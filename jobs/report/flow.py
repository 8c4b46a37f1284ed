"""What the configuration lets a night do: its stages, which task ran each, and which waits for which."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models import families

GRAPHS = "build_graphs"  # the task that runs several programs, each with a stage of its own, in one Spark session
PROGRAMS = (
    "validate_events", "assign_ids", "build_knowledge_graph", "build_interactions", "build_user_activity",
    "read_labels")


def stage_that_trains(model: str) -> str:
    """The stage of run_metrics that a model's training stands under."""
    return families.job_of(model).stage(model)


def task_of(stage: str) -> str:
    """The last word of the DAG's task that ran a stage."""
    if stage in PROGRAMS or stage in _builders(families.published_models()):
        return GRAPHS
    tasks = {stage_that_trains(model): families.job_of(model).task(model) for model in families.published_models()}
    return tasks.get(stage, stage.replace("publish_users_", "publish_").replace("recommend_items_", "recommend_"))


def _builders(models: Sequence[str]) -> list[str]:
    """Stages of the programs that build what these models read."""
    programs = [program for model in models for program in families.family_of(model).builders]
    return list(dict.fromkeys(program.rpartition(".")[2] for program in programs))


@dataclass(frozen=True)
class Flow:
    """published: models, as configured; trained: each model that a night trains, in the order of training, with those
    that it starts from; clients, labels: whether there are some to find prospects for, or to predict; recommending:
    models by whose vectors items are recommended."""

    published: tuple[str, ...]
    trained: Mapping[str, tuple[str, ...]]
    clients: bool = False
    labels: bool = False
    recommending: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, published: Sequence[str], hyperparameters: Mapping[str, Any], clients: bool = False, labels: bool = False,
        recommending: Sequence[str] = (),
    ) -> Flow:  # fmt: skip
        """hyperparameters: of each family by its name, which say what a model starts from."""
        sections = {name: asdict(section) for name, section in hyperparameters.items()}
        trained = families.trained_models(published, sections)
        sources = {m: families.sources_of(m, sections) for m in trained}
        return cls(tuple(published), sources, clients, labels, tuple(recommending))

    @property
    def graph_stages(self) -> tuple[str, ...]:
        """Those of the graphs' task."""
        programs = [name for name in PROGRAMS if self.labels or name != "read_labels"]
        return (*programs, *_builders(list(self.trained)))

    @property
    def stages(self) -> list[str]:
        """All that is expected, in the flow's order."""
        names = [*self.graph_stages, "resolve_predecessor", *map(stage_that_trains, self.trained)]
        names += [f"publish_users_{model}" for model in self.published]
        names += ["train_lookalike", "score_lookalike"] if self.clients else []
        names += ["train_profiles"] if self.labels else []
        return names + [f"recommend_items_{model}" for model in self.recommending]

    def waits_for(self) -> dict[str, list[str]]:
        """Of a stage those that it starts after: figures of its own that are older than theirs are from an earlier run
        of the night. In the flow's order."""
        graph = PROGRAMS[:3]
        found = {after: [before] for before, after in itertools.pairwise(graph)}
        for model, sources in self.trained.items():
            found[stage_that_trains(model)] = [stage_that_trains(source) for source in sources] or [graph[-1]]
        found |= {f"recommend_items_{model}": [stage_that_trains(model)] for model in self.recommending}
        found["train_lookalike"] = [stage_that_trains(model) for model in self.trained]
        return found | {"score_lookalike": ["train_lookalike"]}
