"""docs/vectors.md, taken at its word: its code runs on a published night, and its scores are the models' own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from models.families import published_models
from models.vectors.comparison import Comparer
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, USERS, night

PAGE = (Path(__file__).parents[3] / "docs" / "vectors.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.S)
ROWS = [row.split("|")[1:3] for row in re.findall(r"^\| `.*", PAGE, re.M)]
KINDS = {name: kind for models, kind in ROWS for name in re.findall(r"`(\w+\*?)`", models)}


def test_the_code_reads_a_night_and_scores_as_the_model_does(root: Path) -> None:
    """The second night, whose vectors are turned back into the first one's space."""
    config = write_config(root, seed=3)
    night(config, DATES[0])
    night(write_config(root, seed=99), DATES[1], DATES[0])
    found: dict = {}
    for code in CODE:
        exec(code.replace("/data/nocturne", str(root / "data")).replace("2026-02-16", str(DATES[1])), found)
    assert found["users"].user_ids() == USERS and found["two"].table.num_rows <= 2
    assert len(found["v"]) == found["items"].table.num_rows > 10
    norm = found["fields"]["norm"]
    said = -np.linalg.norm(found["u"][:, None] + found["r"] - found["v"][None], ord=int(norm[1]), axis=2)
    native = Comparer.of("transe", norm).to_items(found["u"], found["r"], found["v"])
    np.testing.assert_allclose(said, -native, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", published_models())
def test_every_model_stands_in_the_table_with_its_kind(model: str) -> None:
    kinds = {Comparer.of(model, "l2", kind).kind for kind in ("diagonal", "complex")}
    said = next(kind for name, kind in KINDS.items() if re.fullmatch(name.replace("*", r"\w+"), model))
    assert all(kind in said for kind in kinds)


def test_the_scores_of_the_table_are_the_comparers() -> None:
    random = np.random.default_rng(0)
    u, v, r = random.normal(size=(5, 6)), random.normal(size=(4, 6)), random.normal(size=6)
    halves = [x[..., :3] + 1j * x[..., 3:] for x in (u, v, r)]
    cosine = (u / np.linalg.norm(u, axis=1, keepdims=True)) @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T
    expected = {
        "dot": u @ v.T, "diagonal": (u * r) @ v.T, "cosine": cosine - 1,
        "complex": np.real((halves[0] * halves[2]) @ halves[1].conj().T)}
    for kind, scores in expected.items():
        np.testing.assert_allclose(-Comparer(kind).to_items(u, r, v), scores, err_msg=kind)
