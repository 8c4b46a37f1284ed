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
from jobs.report.charts import Axis, Series, as_short_count, column_chart, line_chart
from jobs.report.night import Night, Stage

Row = dict[str, Any]


def status_of(night: Night) -> Row:
    """The page's first line: how the night went, and each gap with its reason and its cure."""
    gaps = [{"stage": s.name, "status": s.status, "message": s.message or _silence(s), "rerun": night.rerun(s)} for s in night.gaps]
    kinds = {g["status"] for g in gaps}
    word = "failed" if kinds & {"failed", "absent"} else "gaps" if gaps else "complete"
    title = "Something failed" if "failed" in kinds else {"failed": "Not everything ran", "gaps": "Done, with gaps", "complete": "Every stage done"}[word]
    gaps.sort(key=lambda g: ("failed", "absent", "skipped").index(g["status"]))
    absent = [g for g in gaps if g["status"] == "absent"]
    for gap in absent if "failed" in kinds else absent[1:]:
        gap["rerun"] = None  # it runs again with what it waits for
    return {"word": word, "title": title, "gaps": gaps, "done": sum(s.status == "done" for s in night.stages), "stages": len(night.stages)}


def _silence(stage: Stage) -> str:
    return "It gave no reason; its log has one." if stage.ran else "It did not run, or died without a word: see its log, or that of what it waits for."


def arrival(night: Night, days: Sequence[tuple[datetime.date, int]], reasons: Mapping[str, int]) -> Row | None:
    """What came in and what was turned away. days: committed clean days before D; reasons: rejected rows by reason, from their table."""
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
        rows = [_check(row) for row in stage.table("checks")]
        if rows:
            found.append({"stage": stage.name, "passed": sum(r["success"] for r in rows), "rows": sorted(rows, key=lambda r: r["success"])})
    return found


def _check(row: Row) -> Row:
    return {**row, "claim": text.words(str(row.get("expectation", "?")).removeprefix("expect_")), "success": bool(row.get("success"))}


def graph(night: Night) -> Row | None:
    """Entities by type and edges by relation, as bars."""
    stages = [night[name] for name in ("build_knowledge_graph", "build_interactions", "assign_ids")]
    result = {}
    for name in ("entities", "edges"):
        sizes = next((s.mapping(name) for s in stages if s.mapping(name)), {})
        ranked = sorted(((k, v) for k, v in sizes.items() if isinstance(v, (int, float))), key=lambda pair: (-pair[1], pair[0]))
        largest = max((v for _, v in ranked), default=0)
        result[name] = [{"name": k, "count": v, "share": v / largest if largest else 0} for k, v in ranked]
        result[f"{name}_total"] = sum(v for _, v in ranked)
    return result if result["entities"] or result["edges"] else None


def training(night: Night) -> list[Row]:
    """One card per model: loss, the held-out measure, how it started."""
    cards, seen = [], set()
    pairs = [("transe", night["pretrain_transe"]), *night.training()]
    for model, stage in pairs:
        if model in seen or not stage.ran:
            continue
        seen.add(model)
        history = stage.table("history")
        losses = [Series("training loss", _epochs(history), _column(history, "loss"), "c0")]
        if any("validation_loss" in h for h in history):
            losses.append(Series("validation loss", _epochs(history), _column(history, "validation_loss"), "c1", dots=True))
        measure = next((k for k in ("validation_mrr", "mrr", "validation_macro_f1", "validation_accuracy") if any(k in h for h in history)), None)
        cards.append({
            "model": model, "status": stage.status, "message": stage.message, "start": "warm start" if stage.figure("warm") else "cold start",
            "epochs": len(history), "facts": _training_facts(stage, {"transe": "edges", "rhgn": "labelled users"}.get(model, "pairs")),
            "loss": line_chart(f"Loss of {model} by epoch", losses, Axis("epoch"), Axis("loss")), "two": len(losses) > 1,
            "measure": measure and line_chart(f"{text.words(measure)} of {model} by epoch", [
                Series(measure, _epochs(history), _column(history, measure), "c2", dots=True)], Axis("epoch"), Axis(text.words(measure)))})
    return cards


def _training_facts(stage: Stage, learned_from: str) -> list[str]:
    wanted = (("mrr", "filtered MRR {:.3f} on held-out edges"), ("validation_accuracy", "{:.1%} of held-out pairs ranked right"),
              ("validation_macro_f1", "macro-F1 {:.3f} on held-out users of fold A"),
              ("rows_in", f"{{:,.0f}} {learned_from}"), ("best", "best after epoch {:.0f}"))
    best = stage.figure("best_epoch")
    figures = stage.figures | {"best": best + 1 if best is not None and best >= 0 else None}
    return [form.format(figures[name]) for name, form in wanted if figures.get(name) is not None]


def _epochs(history: Sequence[Row]) -> list[float | None]:
    """Epochs counted from 1, as people do."""
    return [None if h.get("epoch") is None else h["epoch"] + 1 for h in history]


def _column(history: Sequence[Row], name: str) -> list[float | None]:
    return [h.get(name) for h in history]


def space(night: Night, moved: Mapping[str, Sequence[float]]) -> list[Row]:
    """Per model: users published, the alignment with the predecessor, and the drift since; moved: cosine distances of sampled users by model."""
    found = []
    for model, stage in night.of_models("publish_users"):
        if not stage.ran:
            continue
        drift = stage.mapping("drift")
        found.append({
            "model": model, "status": stage.status, "message": stage.message, "alignment": stage.mapping("alignment"),
            "reason": stage.mapping("alignment").get("reason") or "",
            "before": drift.get("since_predecessor") or {}, "label_start": drift.get("since_label_start") or {},
            **{name: stage.figure(f"users_{name}") or (0 if stage.status == "done" else None) for name in ("trained", "inductive", "carried")},
            "users": published(stage), "histogram": _histogram(model, moved.get(model, ()))})
    return found


def published(stage: Stage) -> float | None:
    """Users whose vectors a publish handed out, None where it did not get so far."""
    if stage.status != "done":
        return None
    parts = [stage.figure(f"users_{name}") for name in ("trained", "inductive", "carried")]
    return sum(p for p in parts if p is not None) if any(p is not None for p in parts) else stage.figure("rows_out")


def _histogram(model: str, distances: Sequence[float]) -> Markup | None:
    if not len(distances):
        return None
    counts, edges = np.histogram(distances, bins=20, range=(0.0, max(float(np.max(distances)), 1e-3)))
    labels = [f"{low:.2g} – {high:.2g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    summary = f"Cosine distance of {len(distances)} users to the night before, {model}"
    return column_chart(summary, counts.tolist(), labels, edges.tolist(), Axis("cosine distance", tick="{:.2g}".format), Axis("users", tick=as_short_count))


def stages(night: Night) -> list[Row]:
    """Seconds and peak memory by stage, with when the figures were committed: whatever differs between two equal nights stands here alone."""
    longest = max((s.figure("seconds") or 0 for s in night.stages), default=0)
    most = max((s.figure("peak_memory_mib") or 0 for s in night.stages), default=0)
    rows, newest = [], None
    for stage in night.stages:
        seconds, peak = stage.figure("seconds"), stage.figure("peak_memory_mib")
        earlier = bool(newest and stage.finished and stage.name in _CHAIN and stage.finished < newest)
        newest = max(filter(None, (newest, stage.finished if stage.name in _CHAIN else None)), default=None)
        rows.append({"name": stage.name, "status": stage.status, "seconds": seconds, "peak": peak, "rows": stage.figure("rows_out"), "finished": stage.finished,
                     "seconds_share": (seconds or 0) / longest if longest else 0, "peak_share": (peak or 0) / most if most else 0, "earlier": earlier})
    return rows


# Each starts only after the one before it: figures older than those of a stage before are from an earlier run of the night.
_CHAIN = ("validate_events", "assign_ids", "build_knowledge_graph", "pretrain_transe", "train_lookalike", "score_lookalike")
