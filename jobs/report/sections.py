"""From a night's figures to what each section of the page shows: pure functions, plain values, ready-drawn figures.

Every function takes what may be missing as missing: a section whose stage did not run is None, and the page says why.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from jobs.report import text
from jobs.report.charts import Axis, as_short_count, column_chart
from jobs.report.night import Night, Stage

Row = dict[str, Any]


def status_of(night: Night) -> Row:
    """The page's first line: how the night went, and each gap with its reason and its cure."""
    gaps = [_gap(night, stage) for stage in night.gaps]
    kinds = {g["status"] for g in gaps}
    word = "failed" if kinds & {"failed", "absent"} else "gaps" if gaps else "complete"
    titles = {"failed": "Not everything ran", "gaps": "Done, with gaps", "complete": "Every stage done"}
    title = "Something failed" if "failed" in kinds else titles[word]
    gaps.sort(key=lambda g: ("failed", "absent", "skipped").index(g["status"]))
    absent = [g for g in gaps if g["status"] == "absent"]
    for gap in absent if "failed" in kinds else absent[1:]:
        gap["rerun"] = None  # it runs again with what it waits for
    done = sum(s.status == "done" for s in night.stages)
    return {"word": word, "title": title, "gaps": gaps, "done": done, "stages": len(night.stages)}


def _gap(night: Night, stage: Stage) -> Row:
    message = stage.message or _silence(stage)
    return {"stage": stage.name, "status": stage.status, "message": message, "rerun": night.rerun(stage)}


def _silence(stage: Stage) -> str:
    if stage.ran:
        return "It gave no reason; its log has one."
    return "It did not run, or died without a word: see its log, or that of what it waits for."


def arrival(night: Night, days: Sequence[tuple[datetime.date, int]], reasons: Mapping[str, int]) -> Row | None:
    """What came in and what was turned away. days: committed clean days before D; reasons: rejected rows
    by reason, from their table."""
    stage = night["validate_events"]
    by_reason = stage.mapping("rejected_by_reason") or dict(reasons)
    if not (stage.ran or days):
        return None
    rows_in, rejected = stage.figure("rows_in"), stage.figure("rows_rejected")
    if rejected is None and by_reason:
        rejected = float(sum(by_reason.values()))
    counts = [{"name": name, "value": value} for name, value in (
        ("Rows read", rows_in), ("Rejected", rejected), ("Repeats left out", stage.figure("rows_repeated")),
        ("Came late", stage.figure("rows_late")), ("Clean events", stage.figure("rows_out")),
        ("Returns among them", stage.figure("rows_returned") or None),
        ("Days written anew", stage.figure("days_written")), ("Days left as they were", stage.figure("days_unchanged")),
        ("Days without an event", stage.figure("days_empty"))) if value is not None]
    largest = max(by_reason.values(), default=0)
    ranked = sorted(by_reason.items(), key=lambda pair: (-pair[1], pair[0]))
    most = max((n for _, n in days), default=0)
    columns = [{"day": day, "count": n, "share": n / most if most else 0} for day, n in days]
    share = rejected / rows_in if rows_in and rejected is not None else None
    return {"counts": counts, "rows_in": rows_in, "share": share, "days": columns, "most": most, "rejected": rejected,
            "reasons": [{"name": name, "count": n, "share": n / largest if largest else 0} for name, n in ranked]}


def checks(night: Night) -> list[Row]:
    """Results of the data checks by stage: counts only, no values."""
    found = []
    for stage in night.stages:
        rows = sorted((_check(row) for row in stage.table("checks")), key=lambda row: row["success"])
        if rows:
            found.append({"stage": stage.name, "passed": sum(row["success"] for row in rows), "rows": rows})
    return found


def _check(row: Row) -> Row:
    claim = text.words(str(row.get("expectation", "?")).removeprefix("expect_"))
    return {**row, "claim": claim, "success": bool(row.get("success"))}


def graph(night: Night) -> Row | None:
    """Entities by type and edges by relation, as bars."""
    stages = [night[name] for name in ("build_knowledge_graph", "build_interactions", "assign_ids")]
    result = {}
    for name in ("entities", "edges"):
        sizes = next((s.mapping(name) for s in stages if s.mapping(name)), {})
        known = [(key, value) for key, value in sizes.items() if isinstance(value, (int, float))]
        ranked = sorted(known, key=lambda pair: (-pair[1], pair[0]))
        largest = max((v for _, v in ranked), default=0)
        result[name] = [{"name": k, "count": v, "share": v / largest if largest else 0} for k, v in ranked]
        result[f"{name}_total"] = sum(v for _, v in ranked)
    own = stages[0].mapping("own_values")
    result["own_values"] = [{"name": name, "values": own[name][0], "entities": own[name][1]} for name in sorted(own)]
    return result if result["entities"] or result["edges"] else None


def space(night: Night, moved: Mapping[str, Sequence[float]]) -> list[Row]:
    """Per model: users published, the alignment with the predecessor, and the drift since; moved: cosine distances of
    sampled users by model."""
    return [
        _space(model, stage, moved.get(model, ())) for model, stage in night.of_models("publish_users") if stage.ran]


def _space(model: str, stage: Stage, moved: Sequence[float]) -> Row:
    alignment, drift = stage.mapping("alignment"), stage.mapping("drift")
    nobody = 0 if stage.status == "done" else None
    users = {name: stage.figure(f"users_{name}") or nobody for name in ("trained", "inductive", "carried")}
    return users | {
        "model": model, "status": stage.status, "message": stage.message, "alignment": alignment,
        "reason": alignment.get("reason") or "", "before": drift.get("since_predecessor") or {},
        "label_start": drift.get("since_label_start") or {}, "users": published(stage),
        "canaries": stage.table("canaries"),
        "histogram": _histogram(model, moved)}


def published(stage: Stage) -> float | None:
    """Users whose vectors a publish handed out, None where it did not get so far."""
    if stage.status != "done":
        return None
    parts = [stage.figure(f"users_{name}") for name in ("trained", "inductive", "carried")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else stage.figure("rows_out")


def _histogram(model: str, distances: Sequence[float]) -> Markup | None:
    if not len(distances):
        return None
    counts, edges = np.histogram(distances, bins=20, range=(0.0, max(float(np.max(distances)), 1e-3)))
    labels = [f"{low:.2g} – {high:.2g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    summary = f"Cosine distance of {len(distances)} users to the night before, {model}"
    x, y = Axis("cosine distance", tick="{:.2g}".format), Axis("users", tick=as_short_count)
    return column_chart(summary, counts.tolist(), labels, edges.tolist(), x, y)


def stages(night: Night) -> list[Row]:
    """Seconds and peak memory by stage, with when the figures were committed: whatever differs between two equal nights
    stands here alone."""
    longest = max((s.figure("seconds") or 0 for s in night.stages), default=0)
    most = max((s.figure("peak_memory_mib") or 0 for s in night.stages), default=0)
    before = night.flow.waits_for()
    rows = []
    for stage in night.stages:
        seconds, peak = stage.figure("seconds"), stage.figure("peak_memory_mib")
        newest = _newest_before(stage.name, night, before)
        rows.append({
            "name": stage.name, "status": stage.status, "seconds": seconds, "peak": peak,
            "rows": stage.figure("rows_out"), "finished": stage.finished,
            "seconds_share": (seconds or 0) / longest if longest else 0,
            "peak_share": (peak or 0) / most if most else 0,
            "earlier": bool(newest and stage.finished and stage.finished < newest)})
    return rows


def _newest_before(name: str, night: Night, before: Mapping[str, Sequence[str]]) -> datetime.datetime | None:
    """When the last of all that a stage waited for was committed."""
    found = []
    for other in before.get(name, ()):
        found += [night[other].finished, _newest_before(other, night, before)]
    return max(filter(None, found), default=None)
