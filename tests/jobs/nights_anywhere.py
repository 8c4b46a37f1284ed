"""Two nights of the small log, job by job as the DAG has them, wherever their data root and sources are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feature_store.tree import DataRoot
from jobs import prune_partitions
from jobs.audiences import score_lookalike, train_lookalike
from jobs.embeddings import pretrain_transe, publish_users, resolve_predecessor
from jobs.graphs import build_graphs
from jobs.profiles import train_profiles
from jobs.program import execute
from jobs.recommendations import recommend_items
from jobs.report import write_report
from tests.dags import small_log

NIGHTS = small_log.NIGHTS[:2]  # a day apart, as long as the label window is
TOLD = ("run_metrics", "reports")  # tables that hold seconds
JOBS = (train_lookalike, score_lookalike, train_profiles)


def configured(folder: Path, **sections: Any) -> Path:
    """A configuration with one model and every kind of table."""
    lookalike = small_log.configuration(())["lookalike"] | {"label_window_days": 1, "min_positives": 3}
    graph = small_log.configuration(())["graph"] | {"window_days": 8}
    given = {"lookalike": lookalike | {"active_days": 8}, "graph": graph, "profiles": small_log.PROFILES,
             "retention": {"rejected_events": 2}} | sections
    return small_log.write(folder, ("transe",), **given)


def run_night(config: Path, number: int) -> None:
    """The first or the second; every job ends as it should."""
    date = str(NIGHTS[number])
    base = ["--date", date, "--config", str(config)]
    before = ["--predecessor", str(NIGHTS[0]) if number else "none"]
    assert execute(build_graphs.run, base) == 0
    assert execute(resolve_predecessor.run, base) == 0
    assert execute(pretrain_transe.run, [*base, *before]) == 0
    assert execute(publish_users.run, [*base, *before, "--model", "transe"]) == 0
    assert [execute(job.run, base) for job in JOBS] == ([0, 0, 0] if number else [99, 99, 0])
    assert execute(recommend_items.run, [*base, "--model", "transe"]) == 0
    assert execute(write_report.run, base, ends_night=True) == 0
    assert execute(prune_partitions.run, base) == 0


def content_of(root: str) -> dict[tuple[str, str], str]:
    """Content hash by table and partition, of all tables that hold no seconds."""
    tables = DataRoot(root).tables
    return {
        (name, value): table.existing_manifest(value).content_hash
        for name, table in tables.items() if name.split("/")[0] not in TOLD for value in table.values()}
