"""Reasons that stages gave, night after night, as few lines: what differs in numbers and dates alone is said once."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DATE = r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)"
NUMBER = r"(?<![\w.,-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w-])"  # that stands alone
PARTS = re.compile(f"({DATE}|{NUMBER})")
MOST_LINES = 12  # of one stage
LISTED_NIGHTS = 3  # more, equally far apart, are a number, the first and the last


@dataclass(frozen=True)
class Reason:
    """What a stage said of a night. `about` begins the line: `train_lookalike was skipped`."""

    stage: str
    date: datetime.date
    about: str
    text: str


def told_once(reasons: Iterable[Reason]) -> list[str]:
    """A line for each reason, with its nights; of a stage with many the first, and how many there are more."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Reason]] = {}
    for one in reasons:
        groups.setdefault((one.stage, one.about, skeleton(one.text)), []).append(one)
    by_stage: dict[str, list[str]] = {}
    for (stage, about, _), group in groups.items():
        nights = list(dict.fromkeys(one.date for one in group))
        by_stage.setdefault(stage, []).append(f"{about} on {in_words(nights)}: {merged([one.text for one in group])}")
    lines = []
    for stage, found in by_stage.items():
        lines += found[:MOST_LINES]
        if len(found) > MOST_LINES:
            lines.append(f"{stage}: {len(found) - MOST_LINES} more, which stand in run_metrics/stage={stage}")
    return lines


def skeleton(text: str) -> tuple[str, ...]:
    """What a text says, whatever its numbers and dates."""
    parts = PARTS.split(text)
    return tuple("date" if is_date(part) else "number" if i % 2 else part for i, part in enumerate(parts))


def is_date(part: str) -> bool:
    return re.fullmatch(DATE, part) is not None


def merged(texts: Sequence[str]) -> str:
    """Texts of one skeleton as one: from the least to the greatest number, the first one's dates."""
    columns = list(zip(*(PARTS.split(text) for text in texts), strict=True))
    said = "".join(_range(parts) if i % 2 and not is_date(parts[0]) else parts[0] for i, parts in enumerate(columns))
    differ = any(i % 2 and is_date(parts[0]) and len(set(parts)) > 1 for i, parts in enumerate(columns))
    return f"{said} (other nights: other dates)" if differ else said


def _range(numbers: Sequence[str]) -> str:
    ordered = sorted(set(numbers), key=lambda number: float(number.replace(",", "")))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def in_words(dates: Sequence[datetime.date]) -> str:
    """2026-01-05 and 2026-01-12; of many that are equally far apart how many they are, the first and the last."""
    parts = [_in_words(run) for run in _runs(dates)]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _in_words(run: Sequence[datetime.date]) -> str:
    if len(run) == 1:
        return run[0].isoformat()
    days = (run[1] - run[0]).days
    apart = f" ({days} days apart)" if days > 1 else ""
    return f"{len(run)} nights from {run[0]} to {run[-1]}{apart}"


def _runs(dates: Sequence[datetime.date]) -> list[Sequence[datetime.date]]:
    """Ascending dates cut into such as are equally far apart; of fewer than `LISTED_NIGHTS` + 1 each stands alone."""
    runs, at = [], 0
    while at < len(dates):
        end = at + 1
        while end < len(dates) and dates[end] - dates[end - 1] == dates[at + 1] - dates[at]:
            end += 1
        end = end if end - at > LISTED_NIGHTS else at + 1
        runs.append(dates[at:end])
        at = end
    return runs
