"""What a hyperparameter may be: the checks of `hyperparameters.py`, from the standard library alone."""

from __future__ import annotations

import re
from collections.abc import Collection

MOST = 1_000_000_000  # of any number


class HyperparameterError(ValueError):
    """A value out of range. The message names the field, the value found and what would do."""


def check_range(
    name: str, value: float, minimum: float, maximum: float = MOST, *, open_minimum: bool = False
) -> None:
    """Raise unless minimum <= value <= maximum (minimum < value with `open_minimum`); NaN never passes."""
    above = value > minimum if open_minimum else value >= minimum
    if not (above and value <= maximum):
        bound = f"{'above' if open_minimum else 'at least'} {minimum:g}"
        raise HyperparameterError(f"{name} is {value!r:.300}; expected a number {bound} and at most {maximum:g}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise unless value is one of the choices."""
    if value not in choices:
        raise HyperparameterError(f"{name} is {value!r:.300}; expected one of {', '.join(sorted(choices))}")


def check_device(name: str, value: str) -> None:
    """Raise unless value names a device as PyTorch does."""
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d{1,3})?", value):
        raise HyperparameterError(f"{name} is {value!r:.300}; expected a device such as cpu, cuda or cuda:0")
