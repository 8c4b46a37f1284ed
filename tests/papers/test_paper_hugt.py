"""paper_hugt: who is asked for what, windows, what counts as seen, and what the last lines say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from models.hugt_graph import Histories, item_vectors
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_ranking import figures
from models.hugt_training import World
from tests.papers import paper_hugt
from tests.papers.hugt_tasks import Task
from tests.papers.paper_hugt import all_runs, lines, popularity, run

SMALL = HUGTHyperparameters(width=8, epochs=2, neighbours=3, svd_rank=4, validation_share=0.0, learning_rate=0.02)


def task(users: int = 40, items: int = 30) -> Task:
    random = np.random.default_rng(0)
    lengths = random.integers(4, 30, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    histories = Histories(np.concatenate([random.permutation(items)[:n] for n in lengths]), offsets)
    return Task(histories, np.floor(0.6 * lengths).astype(np.int64), np.arange(users) % 3 == 0, items, 6)


@pytest.mark.parametrize("hop", [1, 3, 50])
def test_every_event_is_asked_for_by_a_state_that_knows_those_before_it(hop: int) -> None:
    given, users = task(), np.arange(0, 40, 2)
    starts, ends, asked = given.windows(users, hop)
    assert asked.sum() == len(given.asked(users))
    places = np.concatenate([np.arange(end - n + 1, end + 1) for end, n in zip(ends, asked, strict=True)])
    np.testing.assert_array_equal(places, given.asked(users))
    known = np.concatenate([np.arange(end - n + 1, end + 1) - start
                            for start, end, n in zip(starts, ends, asked, strict=True)])  # fmt: skip
    owners = np.searchsorted(given.histories.offsets, places, side="right") - 1
    before = places - given.histories.offsets[owners]
    assert (known <= np.maximum(before, 1)).all()
    if hop == 1:
        np.testing.assert_array_equal(known, np.minimum(before, given.max_length))


def test_ranks_are_those_of_one_state_after_the_other() -> None:
    from models.hugt import states_of

    given = task()
    vectors = item_vectors(given.training, given.n_items, 4, 0)
    model = World(given.training, given.n_items, given.max_length, vectors).model(SMALL, 1)
    users, expected = np.array([3, 7]), []
    for place in given.asked(users):
        owner = np.searchsorted(given.histories.offsets, place, side="right") - 1
        before = given.histories.items[given.histories.offsets[owner] : place]
        state = states_of(model, Histories(before, np.array([0, len(before)])), vectors)
        scores = (state @ model.items.detach().numpy().T)[0]
        target, unseen = given.histories.items[place], np.setdiff1d(np.arange(given.n_items), before)
        expected.append([1 + (scores[among] > scores[target]).sum() for among in (np.arange(given.n_items), unseen)])
    for column, seen in enumerate((True, False)):
        np.testing.assert_array_equal(given.ranks(model, vectors, users, 1, seen), [row[column] for row in expected])


def test_popularity_counts_what_is_for_learning_alone() -> None:
    given = task()
    counts = np.bincount(given.training.items, minlength=given.n_items)
    test = np.flatnonzero(~given.chooses)
    wanted = given.histories.items[given.asked(test)]
    ranks = np.array([(counts > counts[i]).sum() + ((counts == counts[i]).sum() + 1) / 2 for i in wanted])
    assert popularity(given)["all"]["ndcg"] == pytest.approx(figures(ranks)["ndcg"])
    assert popularity(given)["unseen"]["hr"] > popularity(given)["all"]["hr"]


def test_what_is_asked_for_teaches_nothing_and_the_test_chooses_nothing(tmp_path: Path) -> None:
    """Neither the SVD nor the training knows the events that are asked for; those of the users who test decide nothing,
    and no item that a user had is asked for again."""
    given, runs = task(), {}
    everyone = np.arange(len(given.learned))
    for name, changed in (("none", everyone[:0]), ("test", everyone[~given.chooses]), ("all", everyone)):
        items = given.histories.items.copy()
        for user in changed:
            items[given.asked(np.array([user]))] %= 3
        other = dataclasses.replace(given, histories=Histories(items, given.histories.offsets))
        runs[name] = run(other, SMALL, 1, tmp_path / f"{name}.safetensors", lambda _: None)
    plain, tested, everybody = runs.values()
    assert plain["losses"] == pytest.approx(tested["losses"], abs=2e-4)
    assert plain["losses"] == pytest.approx(everybody["losses"], abs=2e-4)
    assert (plain["validation"], plain["chosen"]) == (tested["validation"], tested["chosen"])
    assert plain["validation"] != everybody["validation"] and plain["all"]["ndcg"] != tested["all"]["ndcg"]
    assert plain["unseen"]["ndcg"] > plain["all"]["ndcg"]


def test_runs_are_kept_and_the_last_line_is_of_the_variant_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_hugt, "RESULTS", tmp_path / "paper_hugt.json")
    monkeypatch.setattr(paper_hugt, "SCRATCH", tmp_path)
    monkeypatch.setattr(paper_hugt, "movielens", task)
    monkeypatch.setattr(paper_hugt, "settings", lambda *_: {
        "SASRec": dataclasses.replace(SMALL, sequence_heads=4), "HUGT-MP": SMALL,
        "HUGT-SE": dataclasses.replace(SMALL, variant="se")})  # fmt: skip
    some = all_runs("ml-1m", 1, users=30, models=["HUGT-SE"])
    assert {model: len(found) for model, found in some.items()} == {"popularity": 1, "HUGT-SE": 1}
    assert "lead" not in lines("ml-1m", some)[-1]
    runs = all_runs("ml-1m", 2, users=30)
    assert {model: len(found) for model, found in runs.items()} == {
        "popularity": 1, "SASRec": 2, "HUGT-MP": 2, "HUGT-SE": 2}  # fmt: skip
    monkeypatch.setattr(paper_hugt, "run", None)  # all are kept
    older = {json.dumps({name: value for name, value in json.loads(key).items() if name != "horizon_days"}): one
             for key, one in json.loads(paper_hugt.RESULTS.read_text()).items()}  # fmt: skip
    paper_hugt.RESULTS.write_text(json.dumps(older))  # of before there was that setting
    again = all_runs("ml-1m", 2, users=30)
    assert json.dumps(again, sort_keys=True) == json.dumps(runs, sort_keys=True)
    assert not list(tmp_path.glob("*.safetensors"))

    def made(ndcg: float, unseen: float, chosen: float) -> list[dict[str, object]]:
        sides = {"all": {"hr": 2 * ndcg, "ndcg": ndcg}, "unseen": {"hr": 2 * unseen, "ndcg": unseen}}
        return [sides | {"chosen": {"hr": 0.0, "ndcg": chosen}}]

    found = lines("ml-1m", {"SASRec": made(0.1, 0.2, 0.1), "HUGT-MP": made(0.12, 0.21, 0.1),
                            "HUGT-SE": made(0.11, 0.22, 0.3)})  # fmt: skip
    assert found[-1] == "hr@10: 0.2200 ndcg@10: 0.1100 lead: 10.00"
    assert found[-2] == "without the seen items: hr@10: 0.4400 ndcg@10: 0.2200 lead: 10.00 (HUGT-SE)"
