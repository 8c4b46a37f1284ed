"""How numbers, times and hostile ids are written on the page."""

from __future__ import annotations

import math
import re
import unicodedata

from markupsafe import Markup, escape

MISSING = "–"
LONGEST_ID = 48
# Unicode categories: controls, marks of direction, surrogates, private ones, separators
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def count(value: float | None) -> str:
    """1234567 → 1,234,567."""
    return MISSING if _absent(value) else f"{value:,.0f}"


def figure(value: float | None, digits: int = 3) -> str:
    return MISSING if _absent(value) else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent: 0.0123 → 1.2 %."""
    return MISSING if _absent(value) else f"{100 * value:.{digits}f} %"


def signed_percent(value: float | None) -> str:
    """A relative change: 0.042 → +4.2 %."""
    return MISSING if _absent(value) else f"{100 * value:+.1f} %".replace("-", "−")


def duration(seconds: float | None) -> str:
    if _absent(seconds):
        return MISSING
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def memory(mib: float | None) -> str:
    if _absent(mib):
        return MISSING
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def shown(raw: object) -> str:
    """A foreign text, fit to be looked at: controls and marks that turn or hide text are spelled out, long ones cut.

    Escaping for HTML is the template's business; this keeps an id from reordering or hiding what stands around it.
    """
    text = shown_text(raw)
    return text if len(text) <= LONGEST_ID else f"{text[: LONGEST_ID - 1]}…"


def shown_text(raw: object) -> str:
    """`shown` without the cut, for messages."""
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in str(raw))


def breakable(name: str) -> Markup:
    """A feature set's or stage's name with places where a line may break."""
    return Markup(re.sub(r"([:_])", r"\1<wbr>", str(escape(name))).replace("+", "<wbr>+"))


def words(name: str) -> str:
    """`validation_loss` → validation loss."""
    return name.replace("_", " ")


def _absent(value: float | None) -> bool:
    return value is None or not isinstance(value, (int, float)) or not math.isfinite(value)
