"""What a job warns of, as a figure of its stage: who reads the summary of a night has no task's log before them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.program import Metrics


class _Kept(logging.Handler):
    """Keeps the texts of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def warnings_kept(log: logging.Logger, metrics: Metrics) -> Iterator[None]:
    """Puts the texts of what is warned of in the block as the figure `warnings`, also when the block raises.

    What a block within the block keeps is not kept twice: a stage within a stage has figures of its own.
    """
    kept, outer = _Kept(), [handler for handler in log.handlers if isinstance(handler, _Kept)]
    for handler in outer:
        log.removeHandler(handler)
    log.addHandler(kept)
    try:
        yield
    finally:
        log.removeHandler(kept)
        for handler in outer:
            log.addHandler(handler)
        if kept.texts:
            metrics.put("warnings", detail=list(dict.fromkeys(kept.texts)))
