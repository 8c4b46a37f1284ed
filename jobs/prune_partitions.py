"""Delete partitions that have outlived `retention`, and nothing that something kept still needs.

Reads: manifests of every table. Writes: nothing; deletes whole partitions below the data root.
Guarantees: never a predecessor of a kept partition, never D − L, which the next label window starts from, never a
table's newest partition, never what another night that is under way may read. What is broken or cannot be deleted is
left, and told when the rest is done.
`--dry-run=true` only says what would go.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from feature_store.errors import may_pass
from feature_store.prune import Candidate, Manifests, plan, problem_of_deleting
from feature_store.tree import DataRoot
from jobs.configuration.sections import Lookalike
from jobs.program import JobError, MayPass, log, main, metrics
from jobs.tables import TABLES


@dataclass(frozen=True)
class Config:
    data_root: str
    lookalike: Lookalike
    retention: dict[str, int]


def needed_dates(date: datetime.date, label_window_days: int) -> list[str]:
    """Every date from D − L on: each is the D − L of a night to come."""
    return [(date - datetime.timedelta(days=n)).isoformat() for n in range(label_window_days + 1)]


def as_figure(candidate: Candidate) -> dict[str, str | int | None]:
    """What the night's figures tell of a partition beyond its retention."""
    size, reason = candidate.size, candidate.kept_because
    return {"table": candidate.table, "value": candidate.value, "bytes": size, "kept_because": reason}


def run(date: datetime.date, config: Config, dry_run: bool = False) -> None:
    """Plan and delete, oldest first."""
    if not config.retention:
        log.info("prune_partitions %s: the configuration has no `retention`, so everything is kept", date)
        return
    root = DataRoot(config.data_root)
    folders = {TABLES[name].folder: days for name, days in config.retention.items()}
    tables = [f"{name}/" for name in root.tables]
    present = {folder: days for folder, days in folders.items() if any(t.startswith(f"{folder}/") for t in tables)}
    needed = needed_dates(date, config.lookalike.label_window_days)
    manifests = Manifests(root)
    candidates = plan(root, present, needed, date.isoformat(), manifests)
    going = [c for c in candidates if c.kept_because is None]
    doing, refused = "would delete" if dry_run else "deleting", []
    for candidate in going:
        log.info("%s %s %s (%.1f MiB)", doing, candidate.table, candidate.value, candidate.size / 2**20)
        problem = None if dry_run else problem_of_deleting(root, candidate)
        refused += [problem] if problem else []
    metrics.put("rows_out", 0 if dry_run else len(going) - len(refused))
    metrics.put("partitions", detail=[as_figure(candidate) for candidate in candidates])
    if problems := [*refused, *manifests.broken.values()]:
        more = f" (and {len(problems) - 1} more: `python -m feature_store verify` names them)" if problems[1:] else ""
        kind = MayPass if any(map(may_pass, refused)) else JobError
        raise kind(f"Left, while the rest was pruned: {problems[0]}{more}")


if __name__ == "__main__":
    main(run)
