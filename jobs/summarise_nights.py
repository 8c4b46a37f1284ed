"""The table that ends a run of nights: what came in, what came out, how good it is, what it took; read from `run_metrics`."""

from __future__ import annotations

import datetime
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feature_store import Table
from jobs.configuration.settings import Settings
from jobs.tables import TABLES

ROWS = (  # label, stage, metric
    ("events read", "validate_events", "rows_in"),
    ("events rejected", "validate_events", "rows_rejected"),
    ("events in the window", "build_interactions", "rows_in"),
    ("edges", "build_knowledge_graph", "rows_out"),
    ("user–item–behaviour", "build_interactions", "rows_out"),
)
STAGES = (  # in the order of the night
    "validate_events", "assign_ids", "build_knowledge_graph", "build_interactions", "resolve_predecessor", "pretrain_transe", "smooth_kqgc", "finetune_rhgn", "publish_users",
    "train_lookalike", "score_lookalike", "train_profiles", "write_report", "prune_partitions",
)
SKIPPED = 99


@dataclass
class Night:
    """One night's figures: stage → metric → value, and the same for details."""

    date: datetime.date
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    def value(self, stage: str, metric: str) -> float | None:
        return self.values.get(stage, {}).get(metric)

    def detail(self, stage: str, metric: str) -> Any:
        return self.details.get(stage, {}).get(metric)


def read_night(data_root: str, date: datetime.date) -> Night:
    """Every stage's figures of one date."""
    night = Night(date)
    for folder in sorted(Path(data_root, TABLES["run_metrics"].folder).glob("stage=*")):
        table = Table(str(folder))
        if table.manifest(date.isoformat()) is None:
            continue
        stage = folder.name.removeprefix("stage=")
        for row in table.read(date.isoformat()).to_pylist():
            if row["value"] is not None:
                night.values.setdefault(stage, {})[row["metric"]] = row["value"]
            if row["detail"] is not None:
                night.details.setdefault(stage, {})[row["metric"]] = json.loads(row["detail"])
    return night


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Columns side by side: the first flush left, the others flush right."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(r, widths, strict=True))] for r in [head, *rows]]
    return "\n".join("  " + "   ".join(line).rstrip() for line in [lines[0], ["─" * w for w in widths], *lines[1:]])


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def summary(settings: Settings, dates: list[datetime.date]) -> str:
    """The whole text."""
    nights = [read_night(settings.data_root, d) for d in dates]
    head = [d.isoformat() for d in dates]
    blocks = [
        grid(["", *head], sizes(nights)),
        "PR-AUC at 1:3, mean of the clients\n" + grid(["", *head], qualities(nights)),
        "Profiles, users of fold C\n" + grid(["", *head], found) if (found := profiles(nights)) else "",
        "\n".join(f"{stage} was skipped on {night.date}: {reason}" for night in nights for stage, reason in skipped(night)),
        "Seconds by stage\n" + grid(["", *head], seconds(nights)),
        places(settings, dates),
    ]
    return "\n\n".join(block for block in blocks if block)


def sizes(nights: list[Night]) -> list[list[str]]:
    """What came in, and how large the graph and the published tables are."""
    rows = [[label, *(number(n.value(stage, metric)) for n in nights)] for label, stage, metric in ROWS]
    entities = [n.detail("build_knowledge_graph", "entities") or {} for n in nights]
    rows += [[f"entities: {kind}", *(number(e.get(kind)) for e in entities)] for kind in dict.fromkeys(k for e in entities for k in e)]
    published = sorted({stage for n in nights for stage in n.values if stage.startswith("publish_users")})
    return rows + [[f"vectors: {stage.removeprefix('publish_users_')}", *(number(n.value(stage, "rows_out")) for n in nights)] for stage in published]


def qualities(nights: list[Night]) -> list[list[str]]:
    """Validation by feature set, then the test: the scores of D − L held against what happened since."""
    validation = [_mean_by_set(n.detail("train_lookalike", "pr_auc")) for n in nights]
    test = [_mean_by_set(n.detail("score_lookalike", "backtest")) for n in nights]
    rows = []
    for label, figures in (("validation", validation), ("test (backtest)", test)):
        rows += [[f"{label}: {name}", *(number(f.get(name), 3) for f in figures)] for name in dict.fromkeys(k for f in figures for k in f)]
    return rows or [["no figures yet", *("–" for _ in nights)]]


def profiles(nights: list[Night]) -> list[list[str]]:
    """Accuracy and macro-F1 of each label, beside those of always naming the majority class."""
    tests = [{facts["label"]: facts["test"] for facts in n.detail("train_profiles", "profiles") or [] if facts.get("test")} for n in nights]
    measures = (("accuracy", "accuracy"), ("macro-F1", "macro_f1"), ("accuracy of the majority class", "majority_accuracy"), ("its macro-F1", "majority_macro_f1"))
    labels = dict.fromkeys(label for found in tests for label in found)
    return [[f"{label}: {name}", *(number(found.get(label, {}).get(key), 3) for found in tests)] for label in labels for name, key in measures]


def _mean_by_set(rows: list[dict[str, Any]] | None) -> dict[str, float]:
    figures: dict[str, list[float]] = {}
    for row in rows or []:
        if row.get("pr_auc_1to3") is not None:
            figures.setdefault(row["feature_set"], []).append(row["pr_auc_1to3"])
    return {name: statistics.fmean(values) for name, values in figures.items()}


def skipped(night: Night) -> list[tuple[str, str]]:
    """(stage, reason) of what could not be done; that nothing was to be deleted is no news."""
    found = [stage for stage, values in night.values.items() if values.get("status") == SKIPPED and stage != "prune_partitions"]
    return [(stage, str(night.detail(stage, "status"))) for stage in sorted(found, key=place)]


def seconds(nights: list[Night]) -> list[list[str]]:
    """Per stage in the night's order, and the sum."""
    present = {stage for n in nights for stage in n.values}
    rows = [[stage, *(number(n.value(stage, "seconds"), 1) for n in nights)] for stage in sorted(present, key=place)]
    total = ["all stages", *(number(sum(v.get("seconds", 0.0) for v in n.values.values()), 1) for n in nights)]
    peak = ["peak memory of a stage, MiB", *(number(max((v.get("peak_memory_mib", 0.0) for v in n.values.values()), default=None)) for n in nights)]
    return [*rows, total, peak]


def place(stage: str) -> tuple[int, str]:
    """Sorts stages in the order of the night; a model's name stands after its stage's."""
    return next((i for i, s in enumerate(STAGES) if stage.startswith(s)), len(STAGES)), stage


def places(settings: Settings, dates: list[datetime.date]) -> str:
    """Where the last night's tables are."""
    root, last = settings.data_root, dates[-1].isoformat()
    lines = [
        f"Embeddings  {root}/{TABLES['user_embeddings'].folder}/model={{{','.join(settings.publishing.models)}}}/dt={last}/",
        f"Audiences   {_files(f'{root}/audiences', last)}",
        *([f"Profiles    {_files(f'{root}/profile_predictions', last)}"] if settings.profiles.labels else []),
        f"Report      {_files(f'{root}/reports', last)}",
        f"Read them   python -m feature_store read --root {root} --model {settings.publishing.models[-1]} --dt {last}",
    ]
    return "\n".join(lines)


def _files(folder: str, last: str) -> str:
    table = Table(folder)
    if table.manifest(last) is None:
        return f"none of {last}"
    files = table.files(last)
    return files[0] if len(files) == 1 else f"{table.path(last)}/  ({len(files)} files)"
