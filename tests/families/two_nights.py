"""Two nights of a family's models over the small log, job by job as the DAG has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from jobs.audiences import score_lookalike, train_lookalike
from jobs.embeddings import publish_users
from jobs.graphs import build_graphs
from jobs.program import execute
from jobs.recommendations import recommend_items
from jobs.report import write_report
from tests.dags import small_log

NIGHTS = small_log.NIGHTS[:2]  # a day apart, as long as the label window is


def configured(folder: Path, models: tuple[str, ...], **sections: object) -> Path:
    """A configuration that publishes these models."""
    lookalike = small_log.configuration(models)["lookalike"] | {"label_window_days": 1, "min_positives": 3}
    return small_log.write(folder, models, lookalike=lookalike, **sections)


def run_nights(
    config: Path, trainers: Sequence[ModuleType], models: Sequence[str], recommending: Sequence[str],
    others: Sequence[ModuleType] = (),
) -> Path:  # fmt: skip
    """Both nights by the jobs that train the models, some of which recommend, and by other jobs; the data root."""
    for date in NIGHTS:
        base = ["--date", str(date), "--config", str(config)]
        before = ["--predecessor", str(NIGHTS[0]) if date == NIGHTS[1] else "none"]
        assert execute(build_graphs.run, base) == 0
        for job in trainers:
            assert execute(job.run, [*base, *before]) == 0
        for model in models:
            assert execute(publish_users.run, [*base, *before, "--model", model]) == 0
        ends = {execute(job.run, base) for job in (train_lookalike, score_lookalike)}
        assert ends == ({99} if date == NIGHTS[0] else {0})
        for model in recommending:
            assert execute(recommend_items.run, [*base, "--model", model]) == 0
        assert {execute(job.run, base) for job in others} <= {0}
        assert execute(write_report.run, base, ends_night=True) == 0
    return config.parent / "data"
