"""The table that the nightly DAG's page shows: what one sees of a failure, and why it is so and what to do."""

from __future__ import annotations

from collections.abc import Iterable

BEFORE_TRAINING = (
    ("`wait_for_source`", "The input's marker did not come in time. Deliver the input, clear the task."),
    (
        "`size_pods`",
        "Its pod did not end well, or the figures of earlier nights could not be read at all: its last line says why. "
        "The night went on, with the configured memory. Where it stays so, set `pods.memory_nights: 0`.",
    ),
    (
        "`build_graphs`",
        "Several programs in one Spark session; its last lines and the report say which failed. `validate_events`: "
        "unreadable input, or more rejected rows than `events.max_rejected_share`; the rows and their reasons are in "
        "`rejected_events/dt=D`. Mend the source or the limit, clear the task. Others: mostly memory or disk. Safe to "
        "clear: ids once given stay.",
    ),
    (
        "`build_graphs` or `resolve_predecessor` is *up for reschedule*",
        "An earlier night is under way, which this one may start from; its log says which. Nothing to do. Failed and "
        "*put off*: that one could not start while this run had its place (newest first); its end starts this run "
        "again.",
    ),
    (
        "`resolve_predecessor`",
        "`training.on_gap: fail` and a night is missing: run the missing dates first, or set `warm`.",
    ),
)
AFTER_TRAINING = (
    (
        "`publish_…`",
        "A check before publishing failed (coverage, norms, alignment); **readers still have the former version**. The "
        "message names the check. Other models are published all the same; audiences wait for all of them.",
    ),
    (
        "`train_lookalike` skipped",
        "Fewer than 20 item sets with buyers, or a log too short: then clients are learnt alone, and D − L has to be "
        "there, in the same space; the reason names the dates to rerun. Or no client has `lookalike.min_positives` "
        "buyers: the reason has their counts. Without clients: the reason says why no model of seed lists can be "
        "learned; audiences on demand then take 30 seeds.",
    ),
    (
        "`score_lookalike`",
        "A suppression list cannot be used: the message names its key and its file. Deliver the file, clear the task: "
        "without it no audience is made.",
    ),
    (
        "`train_profiles` skipped",
        "No label can be modelled; the reason says of each what is missing. A label that cannot stops no other.",
    ),
    ("`write_report`", "The embeddings are out; clear the task."),
)


def table(of_families: Iterable[tuple[str, str]]) -> str:
    """Markdown, with the rows of the families that are trained, each once, where training stands in the night."""
    rows = [*BEFORE_TRAINING, *dict.fromkeys(of_families), *AFTER_TRAINING]
    return "\n".join(["| what | why, and what to do |", "|---|---|", *(f"| {what} | {why} |" for what, why in rows)])
