"""The RelGNN paper's protocol: figures by hand, the split as it stands in the data, and what the table reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.papers import paper_relgnn
from tests.papers.gatne import read_split
from tests.papers.paper_relgnn import ASA, SETTINGS, figures


def test_figures_are_over_both_relations_and_by_relation() -> None:
    true, relations = np.array([1, 0, 1, 0], bool), np.array([0, 0, 1, 1])
    found = figures((np.zeros(4, int), relations, np.zeros(4, int), true), np.array([2.0, 1.0, -1.0, -2.0]))
    assert (found["auc"], found["auc of 1"], found["auc of 2"]) == (0.75, 1.0, 1.0)
    assert found["ap"] == pytest.approx((1 + 2 / 3) / 2) and found["f1"] == pytest.approx(0.5)


def test_every_model_is_there_without_and_with_asa_and_else_the_same() -> None:
    names = ("DistMult", "ComplEx", "R-GCN", "RelGNN")
    assert set(SETTINGS) == {name + more for name in names for more in ("", " + ASA")}
    for name in names:
        with_asa, without = SETTINGS[f"{name} + ASA"], SETTINGS[name]
        changed = {key for key in vars(without) if getattr(without, key) != getattr(with_asa, key)}
        assert changed == {"sampling"} and with_asa.sampling == ASA and without.sampling.kind == "uniform"
    tuned = {key for key in vars(SETTINGS["R-GCN"])
             if getattr(SETTINGS["R-GCN"], key) != getattr(SETTINGS["RelGNN"], key)}  # fmt: skip
    assert tuned == {"attends", "combines"}, "the same settings but for what R-GCN has not"


def test_runs_that_are_kept_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []
    names = ("auc", "ap", "f1", "auc of 1", "ap of 1", "auc of 2", "ap of 2")

    def run(hyper: object, seed: int) -> dict[str, float]:
        made.append(seed)
        return dict.fromkeys(names, 0.97 + 0.01 * hyper.attends)

    monkeypatch.setattr(paper_relgnn, "RESULTS", tmp_path / "kept.json")
    monkeypatch.setattr(paper_relgnn, "run", run)
    assert all(len(runs) == 0 for runs in paper_relgnn.all_runs(1, minutes=0).values()), "no time, no runs"
    paper_relgnn.all_runs(1, 58)
    runs = paper_relgnn.all_runs(2, 58)
    assert made == [1] * 8 + [2] * 8 and all(len(one) == 2 for one in runs.values())
    monkeypatch.setattr("sys.argv", ["paper_relgnn", "--seeds", "2", "--workers", "1"])
    paper_relgnn.main()
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == "auc: 0.9800 ap: 0.9800 lead: 1.00"
    assert len(json.loads((tmp_path / "kept.json").read_text())["RelGNN"]["runs"]) == 2


def test_the_split_is_gatnes(shared_data: Path) -> None:
    if not (shared_data / "gatne-amazon").exists():
        pytest.skip("no gatne-amazon in ../shared/data beside the repository")
    split = read_split(shared_data / "gatne-amazon")
    assert (split.triples.n_entities, split.triples.n_relations, len(split.triples.heads)) == (10_099, 2, 126_535)
    for part, pairs in ((split.validation, 7_378), (split.test, 14_746)):
        assert part[3].sum() == (~part[3]).sum() == pairs
    known = set(zip(*(column.tolist() for column in split.triples.edges), strict=True))
    assert not known & set(zip(*(column.tolist() for column in split.test[:3]), strict=True))
