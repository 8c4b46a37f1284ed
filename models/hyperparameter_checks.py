"""What a hyperparameter may be: the checks of `hyperparameters.py`, from the standard library alone."""

from __future__ import annotations

from collections.abc import Collection


class HyperparameterError(ValueError):
    """A value out of range. The message names the field, the value found and what would do."""


def check_range(
    name: str, value: float, minimum: float, maximum: float = float("inf"), *, open_minimum: bool = False
) -> None:
    """Raise unless minimum <= value <= maximum (minimum < value with `open_minimum`); NaN never passes."""
    above = value > minimum if open_minimum else value >= minimum
    if not (above and value <= maximum):
        bound = f"{'above' if open_minimum else 'at least'} {minimum:g}"
        limit = "" if maximum == float("inf") else f" and at most {maximum:g}"
        raise HyperparameterError(f"{name} is {value!r}; expected a number {bound}{limit}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise unless value is one of the choices."""
    if value not in choices:
        raise HyperparameterError(f"{name} is {value!r}; expected one of {', '.join(sorted(choices))}")
