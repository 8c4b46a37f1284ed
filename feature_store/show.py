"""Text for terminals: aligned tables, sizes, and values that cannot play tricks."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any


def safe(value: Any) -> str:
    """A cell as one line of text.

    Control characters, line ends and direction marks are escaped: ids are hostile text.
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, (list, tuple)):
        shown = ", ".join(safe(one) for one in value[:4])
        return f"[{shown}{', ...' if len(value) > 4 else ''}]" + (f" ({len(value)})" if len(value) > 4 else "")
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(count: int) -> str:
    """Bytes in words."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable: the last unit takes everything")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Aligned columns; numbers to the right."""
    rows = [list(row) for row in rows]
    numeric = [all(isinstance(row[i], (int, float)) or row[i] is None for row in rows) for i in range(len(header))]
    cells = [list(header)] + [[f"{cell:,}" if isinstance(cell, int) else safe(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    sides = [str.rjust if right else str.ljust for right in numeric]
    lines = ("  ".join(side(c, w) for side, c, w in zip(sides, row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
