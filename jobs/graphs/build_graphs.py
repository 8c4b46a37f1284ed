"""Build a night's tables from its events in one Spark session: every program of `PROGRAMS` in turn, and the builders of
the trained models' families.

Reads: the configured sources. Writes: clean_events and rejected_events, entity_ids and relations, knowledge_graph,
interactions, user_activity and user_labels of D, and what the builders write (where the configuration's data root has
it); the lease of D in nights: from now on D is under way.
Guarantees: each program does what it does when it is started alone, and commits its figures as a stage of its own; the
first that fails ends the task with its message, and what was committed before it stays. A scheduler that tells of its
runs as `--under-way` is told to come back later (exit status 75) while an earlier night is under way, so that ids are
given in the order of nights.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterator

from jobs import spark as engine
from jobs.configuration.settings import Settings
from jobs.embeddings.family import models_of
from jobs.nights import Turn
from jobs.program import Output, main, run_stage
from jobs.quality.check import prepare
from models.families import family_of

PROGRAMS = (
    "events.validate_events", "graphs.assign_ids", "graphs.build_knowledge_graph", "graphs.build_interactions",
    "graphs.build_user_activity")


def programs(config: Settings) -> Iterator[Callable[..., None]]:
    """The `run` of each program of the night, in order."""
    labels = ("profiles.read_labels",) if config.profiles.labels else ()
    builders = dict.fromkeys(name for model in models_of(config) for name in family_of(model).builders)
    for name in (*PROGRAMS, *labels, *builders):
        yield importlib.import_module(f"jobs.{name}").run


def run(
    date: datetime.date, clean_events: Output, rejected_events: Output, entity_ids: Output, relations: Output,
    knowledge_graph: Output, interactions: Output, user_activity: Output, user_labels: Output, nights: Output,
    config: Settings, under_way: str | None = None, scheduled_run: str | None = None,
) -> None:  # fmt: skip
    """Run them all. under_way, scheduled_run: as in `Turn.expect`, from a scheduler."""
    turn = Turn.of(date, nights, config.training)
    turn.begin()
    if under_way is not None:
        turn.expect(under_way, scheduled_run)
    tables = (clean_events, rejected_events, entity_ids, relations, knowledge_graph, interactions, user_activity,
              user_labels)  # fmt: skip
    given = {"date": date} | {table.name: table.uri for table in tables}
    prepare()
    with engine.session(config.spark, "build_graphs"):
        for program in programs(config):
            run_stage(program, given, config)


if __name__ == "__main__":
    main(run)
