"""The same for many partitions: one after the other on a local disk, several at a time where each waits for a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from feature_store.disk import Disk, is_local

AT_ONCE = 8
Value, Result = TypeVar("Value"), TypeVar("Result")


def each(disk: Disk, do: Callable[[Value], Result], values: Iterable[Value]) -> list[Result]:
    """What `do` gives for each value, in their order; the first one's error where there are any."""
    if is_local(disk):
        return [do(value) for value in values]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="partitions") as pool:
        return list(pool.map(do, values))
