"""Modules that Great Expectations imports for expectations and pictures that no suite here has: they are read at the
first look at one of their names.

All of scipy.stats for the Kullback-Leibler divergence and Altair for drawing are two fifths of the time that its import
takes, and a night imports it once for every model that it publishes. `importlib.util.LazyLoader` does not serve: up to
Python 3.11 the import system's own look at `__spec__` makes it load.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

SELDOM_USED = ("scipy.stats", "altair")


class Late(types.ModuleType):
    """Stands in `sys.modules` for a module until somebody wants something of it; then that takes its place."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def postpone(*names: str) -> None:
    """Import these modules at their first use, where that is not too late already."""
    for name in names:
        sys.modules.setdefault(name, Late(name))
