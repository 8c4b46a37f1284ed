"""Modules that libraries import for what no job asks of them: they are read at the first look at one of their names.

A night starts a process for every model that it trains and publishes, each for seconds of work. Great Expectations,
and scikit-learn with XGBoost behind it, take two fifths and a fifth of their imports for all of scipy.stats, and the
former for Altair, which draws; the first step of a PyTorch optimiser imports the whole compiler, only to tell it where
not to compile. `importlib.util.LazyLoader` does not serve: up to Python 3.11 the import system's own look at `__spec__`
makes it load.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

ASKED_OF_ALL = ("__file__", "__warningregistry__")  # by who looks through all modules and wants none


class Late(types.ModuleType):
    """Stands in `sys.modules` for a module until somebody wants something of it that is not given here; then that takes
    its place."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> Any:
        if name in ASKED_OF_ALL:
            raise AttributeError(f"{self.__name__} is not imported yet")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

    def on_call(self, function: str) -> None:
        """Let this function be taken along; the module is read when it is called."""
        setattr(self, function, lambda *given, **named: self.__getattr__(function)(*given, **named))


def postpone(name: str, **given: Any) -> Late:
    """Import a module at its first use, unless it is imported already; `given` does not count as one."""
    late = Late(name, given)
    sys.modules.setdefault(name, late)
    return late


def postpone_statistics() -> None:
    """scipy.stats, of which scikit-learn takes two functions along when it is imported."""
    folders = importlib.util.find_spec("scipy.stats").submodule_search_locations
    late = postpone("scipy.stats", __path__=folders)
    for function in ("rankdata", "gmean"):
        late.on_call(function)


def postpone_compiler() -> None:
    """PyTorch's compiler. Where nothing is compiled, there is nowhere to break off and nothing to leave alone."""

    def disable(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        return function

    postpone("torch._dynamo", graph_break=lambda: None, disable=disable)
