"""A section of the page that a family of the tests alone has."""

from __future__ import annotations

from typing import Any

from jobs.report.night import Night

ANCHOR, NAME, TEMPLATE = "toys", "Toys", "toy_section.html.jinja"


def shown(night: Night) -> dict[str, Any]:
    return {"stage": night["train_toy"], "names": night["train_toy"].table("names")}
