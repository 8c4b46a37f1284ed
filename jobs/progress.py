"""What a training says: a progress bar on a terminal, nothing elsewhere (a scheduler's log wants lines, not bars),
and its best epoch's figure."""

from __future__ import annotations

import sys
from types import TracebackType

import numpy as np
from tqdm import tqdm

from jobs.program import log, metrics


class Progress:
    """Called with each epoch's record: moves on by one and shows the record's latest figures."""

    def __init__(self, what: str, total: int) -> None:
        self._bar = tqdm(total=total, desc=what, unit="epoch", file=sys.stderr, disable=not sys.stderr.isatty())

    def __call__(self, record: dict[str, float]) -> None:
        shown = {name: f"{value:.4g}" for name, value in record.items() if name not in ("epoch", "seconds", "edges")}
        self._bar.set_postfix(shown)
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def report_best(history: list[dict[str, float]], best_epoch: int, measure: str) -> None:
    """Put the epoch whose parameters are kept, and what they reach on held-out data, with its standard error where it
    is known: of that epoch, not the highest of all."""
    metrics.put("best_epoch", best_epoch)
    kept = next((entry for entry in history if entry["epoch"] == best_epoch), {})
    if not np.isfinite(kept.get(measure, np.nan)):
        return
    metrics.put(measure, kept[measure])
    said = f"kept epoch {best_epoch + 1} of {len(history)}: {measure} {kept[measure]:.4f}"
    error = kept.get(f"{measure}_error", np.nan)
    if np.isfinite(error):
        metrics.put(f"{measure}_error", error)
        said += f", standard error {error:.4f}"
    log.info(said)
