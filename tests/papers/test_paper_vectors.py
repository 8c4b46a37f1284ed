"""The parts of `make paper-vectors` on small planted data: what it counts, who learns from whom, what peers make."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from jobs.configuration.load import load_settings
from models.classifiers.folds import uniform
from tests.papers import paper_vectors, vector_heads, vector_logs, vector_tasks
from tests.papers.paper_vectors import MODELS, Assessed, Bench, Entry, Vectors, models_of
from tests.papers.shops import CONFIGS
from tests.papers.vector_figures import Figure, Verdict, auc, figure, last_line, lift, mean_auc, verdict
from tests.papers.vector_heads import cross_scores, inputs, margins, splits
from tests.papers.vector_logs import FILMS, LOGS, SALT, LogNight, choosing, held_out_likes, in_fold_a
from tests.papers.vector_peers import WIDTH, cleora_steps
from tests.papers.vector_tasks import Task, above_median, activity, counts_of, exclusive, history, tasks_of

NONE = np.zeros(0, np.int64)


def test_auc_is_that_of_scikit_learn_with_ties_and_weights():
    random = np.random.default_rng(0)
    labels, scores = random.random(300) < 0.3, random.integers(0, 12, 300).astype(np.float32)
    weights = random.integers(0, 4, (5, 300))
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    expected = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    assert auc(labels, scores, weights) == pytest.approx(expected)


def test_the_mean_over_classes_leaves_out_those_of_one_kind_and_users_without_a_score():
    labels = np.array([[True, True, False], [False, True, False], [True, True, True], [False, True, False]])
    scores = np.array([[2.0, 0, 0], [1.0, 0, 0], [np.nan, np.nan, np.nan], [3.0, 0, 0]])
    assert mean_auc(labels, scores) == pytest.approx(0.5)  # of the first class, among three users


def test_a_bootstrap_draws_the_same_users_for_all_vectors():
    random = np.random.default_rng(1)
    labels = random.random((400, 2)) < 0.4
    ours = labels + random.normal(0, 1.0, labels.shape)
    one, two = figure(labels, [ours]), figure(labels, [ours - 5])
    assert np.array_equal(one.draws, two.draws) and one.draws.std() > 0
    told = verdict(one, {"shifted": two, "noise": figure(labels, [random.random(labels.shape)])})
    assert told.peer == "shifted" and told.behind == 0 and told.interval == (0, 0) and told.ahead


def test_ahead_is_a_lead_or_no_telling_and_the_last_line_tells_the_worst():
    draws = np.linspace(0.69, 0.71, 100)
    leads = verdict(Figure([0.75], draws + 0.05), {"peer": Figure([0.70], draws)})
    clear = verdict(Figure([0.68], draws - 0.02), {"peer": Figure([0.70], draws)})
    level = Verdict("peer", 0.4, (-0.2, 1.0))
    assert [leads.ahead, clear.ahead, level.ahead] == [True, False, True]
    assert last_line([leads, clear, level]) == "ahead: 2 of: 3 worst: 2.00"


def test_lift_is_one_by_chance_and_the_share_of_users_where_neighbours_are_alike():
    random = np.random.default_rng(2)
    labels = np.arange(400)[:, None] % 4 == np.arange(4)
    alike = np.eye(4)[np.arange(400) % 4] + random.normal(0, 0.01, (400, 4))
    assert lift(alike, labels) == pytest.approx(4.0)
    assert lift(random.normal(size=(400, 8)), labels) == pytest.approx(1.0, abs=0.1)


def test_nobody_is_scored_by_what_learned_from_him():
    asked, always = np.arange(10, 60), np.arange(10)
    seen = np.concatenate([test for _, test in splits(asked, always, 0)])
    assert sorted(seen) == list(asked)
    for train, test in splits(asked, always, 0):
        assert not set(train) & set(test) and set(always) <= set(train)


def test_a_vector_that_tells_a_user_apart_alone_scores_no_better_than_chance():
    random = np.random.default_rng(3)
    task = Task("noise", np.arange(200), random.random((200, 1)) < 0.5, ["noise"])
    own_columns = np.eye(200, dtype=np.float32)
    scores = cross_scores("logistic 1.0", task, own_columns, np.arange(200), NONE, 0)
    assert mean_auc(task.labels, scores) < 0.6  # 1.0 for who learned from the very users


def test_own_history_is_not_penalised_and_belongs_to_its_class():
    random = np.random.default_rng(4)
    own, vectors = random.normal(size=(600, 2, 1)), random.normal(size=(600, 5)).astype(np.float32)
    labels = own[:, :, 0] + random.normal(0, 0.5, (600, 2)) > 0
    task = Task("own", np.arange(600), labels, ["a", "b"], own)
    scores = cross_scores("logistic 0.0001", task, vectors, np.arange(600), NONE, 0)
    assert mean_auc(labels, scores) > 0.9
    x = inputs(vectors, own[:, 0], np.arange(600))
    everybody = np.arange(600)
    stretched = np.array([1.0] * 5 + [vector_heads.UNPENALISED])
    penalised = margins("logistic 0.0001", x / stretched, labels[:, 0], everybody, everybody)
    free = margins("logistic 0.0001", x, labels[:, 0], everybody, everybody)
    assert np.abs(free).mean() > 5 * np.abs(penalised).mean()


def test_columns_are_standardised_on_who_trains_alone():
    x = np.concatenate([np.random.default_rng(8).normal(3, 7, (50, 2)), np.full((5, 2), 1e6)])
    found = inputs(x, None, np.arange(50))
    assert found[:50].mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert found[:50].std(axis=0) == pytest.approx([1, 1])


def test_a_class_that_everybody_has_scores_nothing_and_breaks_nothing():
    x = np.random.default_rng(5).normal(size=(20, 3))
    for head in ("logistic 0.1", "xgboost"):
        assert (margins(head, x, np.ones(20, bool), np.arange(15), np.arange(15, 20)) == 0).all()


def test_both_heads_learn_what_is_there():
    random = np.random.default_rng(6)
    vectors = random.normal(size=(500, 6)).astype(np.float32)
    task = Task("planted", np.arange(500), (vectors[:, :1] + vectors[:, 1:2] > 0), ["planted"])
    for head in ("logistic 0.1", "xgboost"):
        assert mean_auc(task.labels, cross_scores(head, task, vectors, np.arange(500), NONE, 0)) > 0.85


def test_who_chooses_hangs_on_the_id_alone():
    users = np.array([f"u{k}" for k in range(2000)], object)
    chosen = choosing(users)
    assert chosen.mean() == pytest.approx(0.5, abs=0.04)
    assert np.array_equal(choosing(users[::-1])[::-1], chosen)
    assert np.array_equal(chosen, uniform(SALT, "choosing", users) < 0.5)


def test_a_fifth_of_the_likes_is_held_out_and_nothing_else():
    n = 3000
    events = pa.table({
        "user_id": [f"u{k % 100}" for k in range(n)], "item_id": [f"i{k}" for k in range(n)],
        "behavior": ["liked" if k % 3 else "seen" for k in range(n)]})  # fmt: skip
    held_out = held_out_likes(events)
    liked = np.arange(n) % 3 != 0
    assert not held_out[~liked].any() and held_out[liked].mean() == pytest.approx(0.2, abs=0.03)


def test_likes_that_are_held_out_are_none_of_the_source(tmp_path, monkeypatch):
    log = pa.table({"user_id": [f"u{k % 9}" for k in range(500)], "item_id": [f"i{k}" for k in range(500)],
                    "behavior": ["liked"] * 500})  # fmt: skip

    def imported(_, __, folder: Path) -> SimpleNamespace:
        folder.mkdir(parents=True)
        pq.write_table(log, folder / "events.parquet")
        return SimpleNamespace(events=log)

    monkeypatch.setattr(vector_logs, "import_dataset", imported)
    LogNight(FILMS, tmp_path, tmp_path, ["transe"]).import_source()
    known, apart = (pq.read_table(tmp_path / name).column("item_id").to_pylist()
                    for name in ("source/events.parquet", "held_out.parquet"))  # fmt: skip
    assert 50 < len(apart) < 150 and not set(known) & set(apart) and len(known) + len(apart) == 500


def test_no_label_is_an_attribute_of_the_films_graph_and_nothing_of_the_window_is_left_out():
    nights = LogNight(FILMS, Path("nowhere"), Path("nowhere"), ["transe"])
    graph = nights.settings().graph
    assert not graph.user_attributes and set(graph.item_attributes) == {"genres", "year", "directors", "actors"}
    assert nights.date - datetime.timedelta(days=graph.window_days) < datetime.date(2000, 4, 25)


def test_two_classes_are_one_question_and_more_are_one_each():
    assert exclusive("gender", np.arange(3), np.array(["F", "M", "F"])).classes == ["M"]
    ages = exclusive("age", np.arange(3), np.array(["18", "25", "35"]))
    assert ages.labels.tolist() == np.eye(3, dtype=bool).tolist()


def test_shares_are_held_against_the_median_and_classes_of_a_handful_stay_out():
    counts = np.stack([np.arange(1, 41), np.arange(40, 0, -1), np.zeros(40)], axis=1).astype(float)
    counts[0, 2] = 1
    task = above_median("genres", np.arange(40), counts, ["a", "b", "rare"])
    assert task.classes == ["a", "b"] and task.labels.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.03)


def events() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [("u1", "i1", "2020-01-01"), ("u1", "i1", "2020-01-01"), ("u1", "i2", "2020-01-09"),
            ("u2", "i2", "2020-01-05"), ("stranger", "i1", "2020-01-05")]  # fmt: skip
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "day"])
    log["event_time"] = pd.to_datetime(log.pop("day"), utc=True)
    return log, pd.DataFrame({"item_id": ["i1", "i2", "i2"], "value": ["milk", "milk", "soup"]})


def test_counts_and_history_are_of_the_user_and_the_class():
    log, values = events()
    users = np.array(["u1", "u2", "idle"], object)
    counts, classes = counts_of(log, values, users)
    assert classes == ["milk", "soup"] and counts.tolist() == [[3, 1], [1, 1], [0, 0]]
    own = np.expm1(history(log, values, users, classes, datetime.date(2020, 1, 11)))
    assert own[0].tolist() == [pytest.approx([3, 2, 2]), pytest.approx([1, 1, 2])]
    assert own[2, 0] == pytest.approx([0, 0, 180])


def test_a_shops_labels_come_after_the_night_and_all_else_before_it(monkeypatch):
    log, _ = events()
    monkeypatch.setattr(vector_tasks, "MOST_CLASSES", 1)
    later = log.iloc[:2].assign(user_id=["u2", "idle"], item_id=["i1", "i2"])
    items = pd.DataFrame({"item_id": ["i1", "i2"], "category": ["milk", "soup"]})
    nights = SimpleNamespace(is_films=False, shop=SimpleNamespace(config="completejourney"),
                             date=datetime.date(2020, 1, 11), before=lambda: log, after=lambda: later,
                             items=lambda: items)  # fmt: skip
    users = np.array(["u1", "u2", "idle"], object)
    plain, beside = tasks_of(nights, users)
    assert plain.classes == beside.classes == ["soup"], "both users had soup before, one had milk"
    assert plain.labels[:, 0].tolist() == beside.labels[:, 0].tolist() == [False, False, True]
    assert plain.own is None and np.expm1(beside.own[:, 0, 0]).tolist() == pytest.approx([1, 1, 0])
    at_large = np.expm1(beside.own[:, 0, 3:])
    assert at_large[0] == pytest.approx([3, 2, 2, 2, 10]), "activity in all, soup or not, stands beside the history"


def test_whose_label_a_model_may_have_learned_is_not_asked_for_it():
    users = np.array([f"u{k}" for k in range(60)], object)
    halves = ["1", "2"] * 30
    people = pd.DataFrame({"user_id": users, "gender": halves, "age_band": halves, "occupation": halves})
    settings = LogNight(FILMS, Path("nowhere"), Path("nowhere"), ["transe"]).settings()
    nights = SimpleNamespace(is_films=True, models=["rhgn"], people=lambda: people, settings=lambda: settings)
    asked = {task.name: len(task.rows) for task in itertools.islice(tasks_of(nights, users), 3)}
    free = int((~in_fold_a(settings, users)).sum())
    assert 0 < free < 60 and (asked["gender"], asked["age_band"], asked["occupation"]) == (free, free, 60)
    nights.models = ["transe"]
    assert next(tasks_of(nights, users)).rows.tolist() == list(range(60))


def test_whole_histories_of_films_are_read() -> None:
    """Most were written three years before the night."""
    of_films, of_a_shop = (LogNight(shop, Path("nowhere"), Path("nowhere"), ["hugt"]).settings() for shop in LOGS[:2])
    assert of_films.sequences.history_days is None and of_a_shop.sequences.history_days == 365


def test_models_that_learn_labels_are_trained_where_there_are_some():
    shops = {shop.config: LogNight(shop, Path("nowhere"), Path("nowhere"), ["transe", "rhgn"]) for shop in LOGS}
    assert shops.pop(FILMS.config).models == ["transe", "rhgn"]
    assert [one.models for one in shops.values()] == [["transe"]] * 2


def test_every_family_has_a_row_where_it_can_be_trained() -> None:
    assert models_of(FILMS) == [model for model in MODELS if model != "relgnn"]
    assert all(models_of(shop) == MODELS for shop in LOGS if shop is not FILMS)
    published = load_settings(CONFIGS / f"{FILMS.config}.yaml").publishing.models
    assert set(models_of(FILMS)) == set(published), "left out is what its configuration does without"


def test_five_statistics():
    log, _ = events()
    found = np.expm1(activity(log, np.array(["u1", "idle"], object), datetime.date(2020, 1, 11)))
    assert found[0] == pytest.approx([3, 2, 2, 2, 10]) and found[1, :3] == pytest.approx([0, 0, 0])


def test_cleora_brings_nodes_of_one_part_together():
    parts = sparse.block_diag([np.ones((6, 6)) - np.eye(6)] * 2).tocsr()
    *_, (steps, vectors) = cleora_steps(parts, 6)
    likeness = vectors @ vectors.T
    assert steps == 6 and vectors.shape == (12, WIDTH)
    assert likeness[:6, :6].min() > 0.99 and np.abs(likeness[:6, 6:]).max() < 0.6


def planted_bench(tmp_path) -> Bench:
    """400 users, one task; the labels lie in the first column of "good", and in nothing of "noise"."""
    bench = Bench(SimpleNamespace(root=tmp_path, models=["good"], shop=SimpleNamespace(name="planted")), None)
    random, users = np.random.default_rng(7), np.array([f"u{k}" for k in range(400)], object)
    good, noise = random.normal(size=(2, 400, 4)).astype(np.float32)
    bench.__dict__ |= {
        "users": users, "tasks": [Task("planted", np.arange(400), good[:, :1] > 0, ["planted"])],
        "vectors": [Vectors("good", {"published": good}, True), Vectors("bad", {"published": noise}, True),
                    Vectors("peer", {"a": noise, "b": good}, False)]}  # fmt: skip
    return bench


def test_settings_and_our_vector_are_chosen_by_those_who_choose(tmp_path):
    bench = planted_bench(tmp_path)
    found = bench.assess(bench.tasks[0], range(2), tests=True)
    assert found.ours.vectors.name == "good" and found.ours.tested.auc > 0.95
    assert found.entries[2].setting == "b" and list(found.peers) == ["peer"]
    assert paper_vectors.row_of(found)["ahead"] and len(found.ours.tested.by_seed) == 2


def test_what_tests_better_stands_for_us_no_sooner():
    names, draws = ("first", "second"), np.zeros(3)
    ours, other = (Vectors(name, {}, True) for name in names)
    entries = [Entry(ours, "", "", 0.7, Figure([0.6], draws)), Entry(other, "", "", 0.6, Figure([0.9], draws))]
    assert Assessed("log", "task", [], 9, entries).ours.vectors.name == "first"


def test_a_tasks_users_are_those_of_its_rows(tmp_path):
    """Some of all, in an order of their own."""
    bench = planted_bench(tmp_path)
    good, rows = bench.vectors[0].by_setting["published"], np.random.default_rng(9).permutation(400)[:250]
    task = Task("some", rows, good[rows, :1] > 0, ["planted"])
    found = bench.assess(task, range(1), tests=True).entries[0]
    assert found.choosing > 0.95 and found.tested.auc > 0.95 and found.lift > 1.3
    scores = bench.scores(task, "logistic 0.1", good, 0, tests=True)
    np.testing.assert_array_equal(np.isnan(scores[:, 0]), choosing(bench.users[rows]))


def test_labels_of_those_who_test_change_no_choice_and_kept_scores_are_not_computed_again(tmp_path, monkeypatch):
    bench = planted_bench(tmp_path)
    task = bench.tasks[0]
    chosen = [(one.setting, one.head, one.choosing) for one in bench.assess(task, range(1), tests=False).entries]
    labels = task.labels.copy()
    tests = ~choosing(bench.users)
    labels[tests] = ~labels[tests]
    changed = Task(task.name, task.rows, labels, task.classes)
    again = bench.assess(changed, range(1), tests=False).entries
    assert [(one.setting, one.head, one.choosing) for one in again] == chosen

    def computed(*_):
        raise AssertionError("kept scores were computed again")

    monkeypatch.setattr(paper_vectors, "cross_scores", computed)
    assert [one.choosing for one in bench.assess(task, range(1), tests=False).entries] == [c for *_, c in chosen]
