"""The losses on a model's card: those that its history has, each named in the legend."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jobs.report.training import _card
from models.families import family_named


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, []),
        ({"validation_loss": 1.5}, ["training loss", "validation loss"]),
        ({"behavior_loss": 4.0, "validation_loss": 1.5},
         ["training loss", "second loss, of behaviours", "validation loss"]),
    ],
)  # fmt: skip
def test_every_loss_of_the_history_is_drawn_and_named(more: dict[str, float], named: list[str]) -> None:
    history = [{"epoch": float(k), "loss": 2.0 - k, "seconds": 1.0, "validation_macro_f1": 0.5} | more for k in (0, 1)]
    stage = SimpleNamespace(table=lambda _: history, figure=lambda _: None, status="done", message="")
    card = _card("rhgn", stage, family_named("rhgn"))
    assert [words for _, words in card["legend"]] == named
    assert len({colour for colour, _ in card["legend"]}) == len(named)
    assert all(colour in str(card["loss"]) for colour, _ in card["legend"])
