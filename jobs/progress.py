"""A progress bar on a terminal, nothing elsewhere (a scheduler's log wants lines, not bars)."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Called with each epoch's record: moves on by one and shows the record's latest figures."""

    def __init__(self, what: str, total: int) -> None:
        self._bar = tqdm(total=total, desc=what, unit="epoch", file=sys.stderr, disable=not sys.stderr.isatty())

    def __call__(self, record: dict[str, float]) -> None:
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in record.items() if name not in ("epoch", "seconds", "edges")})
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()
