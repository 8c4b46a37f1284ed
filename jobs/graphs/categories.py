"""Which attribute stands for an item's category where the configuration names none."""

from __future__ import annotations

from collections.abc import Mapping

FEWEST_VALUES = 5  # an attribute with fewer (own brand or not) is no category


def coarsest_of(sizes: Mapping[str, tuple[int, int]], n_items: int) -> str | None:
    """The attribute with the fewest values, but enough to tell tastes apart, among those that most items have. sizes:
    name → (values, items that have one)."""
    usable = sorted(
        (values, name) for name, (values, items) in sizes.items() if 2 * items >= n_items and values >= FEWEST_VALUES
    )
    return usable[0][1] if usable else None
