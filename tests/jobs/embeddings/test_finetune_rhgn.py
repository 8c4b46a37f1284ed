"""RHGN in the night: learns fold A alone, goes on where the former night was, publishes users and says whom they listen
to."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from feature_store import FeatureStore, Segments, Table
from jobs.configuration.load import load_settings
from jobs.configuration.tree import ConfigError
from jobs.embeddings import resolve_predecessor
from jobs.program import SKIPPED, execute
from models.classifiers.folds import A
from models.rhgn_classifiers import class_probabilities
from tests.jobs.embeddings.planted import N_USERS, RELATIONS, group_of
from tests.jobs.embeddings.rhgn_night import (
    CAP,
    DATES,
    FOLD,
    PROFILES,
    RHGN,
    USERS,
    WIDTH,
    checkpoint,
    config_of,
    content,
    label,
    night,
    publish,
    write_world,
)
from tests.jobs.written import wrong_columns


@pytest.fixture
def root(tmp_path: Path, spark: SparkSession) -> Path:
    write_world(tmp_path)
    return tmp_path


def test_two_nights_are_published_in_one_space_and_users_whose_labels_it_never_saw_lie_with_their_like(
    root: Path,
) -> None:
    assert night(root, DATES[0]) == publish(root, DATES[0]) == 0
    assert night(root, DATES[1], DATES[0]) == publish(root, DATES[1], DATES[0]) == 0
    store = FeatureStore(str(root / "data" / "feature_store"))
    first, second = (store.read("user_embeddings", model="rhgn", dt=str(date)) for date in DATES)
    assert second.user_ids() == USERS and second.matrix().shape == (N_USERS, WIDTH)
    spaces = [
        Table(str(root / "data/feature_store/user_embeddings/model=rhgn")).manifest(str(date)).fields["space_id"]
        for date in DATES
    ]
    assert spaces[0] == spaces[1]
    assert {"attention": [], "user_embeddings": [], "entity_embeddings": []}.items() <= wrong_columns(
        root / "data"
    ).items()
    groups = np.array([group_of(user) for user in USERS])
    centres = np.stack([first.matrix()[(groups == g) & (FOLD == A)].mean(0) for g in range(4)])
    unseen = FOLD != A
    nearest = np.linalg.norm(second.matrix()[unseen, None] - centres, axis=2).argmin(1)  # of the first night: one space
    assert (nearest == groups[unseen]).mean() > 0.7  # chance: 0.25


def test_labels_of_folds_b_and_c_change_nothing_and_those_of_a_do(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    before = content(root)
    label(root, lambda user: str(group_of(user)) if FOLD[USERS.index(user)] == A else "another")
    assert night(root, DATES[0]) == 0
    assert content(root) == before
    label(root, lambda user: str((group_of(user) + (int(user[1:]) % 7 == 0)) % 4))
    assert night(root, DATES[0]) == 0
    assert content(root) != before


@pytest.mark.parametrize(
    ("permuted", "least", "most"), [(False, 0.7, 1.0), (True, 0.0, 0.25 + 4 * (0.25 * 0.75 / (FOLD != A).sum()) ** 0.5)]
)
def test_with_the_labels_of_fold_a_permuted_the_others_are_named_by_chance(
    root: Path, permuted: bool, least: float, most: float
) -> None:
    in_a = [user for user, fold in zip(USERS, FOLD, strict=True) if fold == A]
    others = dict(zip(in_a, np.random.default_rng(0).permutation(in_a) if permuted else in_a, strict=True))
    label(root, lambda user: str(group_of(others.get(user, user))))
    assert night(root, DATES[0]) == 0
    found = checkpoint(root, DATES[0])
    vectors = found.entities[found.entity_type == found.types.index("user")]  # in the order of the raw ids
    named = class_probabilities(found.parameters("rhgn"), vectors)[0].argmax(axis=1)
    right = (named == [group_of(user) for user in USERS])[FOLD != A].mean()
    assert least <= right <= most


def test_two_labels_of_one_column_have_the_same_users_who_test(root: Path) -> None:
    """Else the one would learn from whom the other is tested on."""
    both = PROFILES | {"labels": {"taste": {}, "coarse": {"column": "taste"}}}
    assert night(root, DATES[0], profiles=both) == 0
    before = content(root)
    label(root, lambda user: str(group_of(user)) if FOLD[USERS.index(user)] == A else "another")
    assert night(root, DATES[0], profiles=both) == 0
    assert content(root) == before and list(json.loads(checkpoint(root, DATES[0]).facts["classes"])) == [
        "coarse",
        "taste",
    ]


def test_the_why_table_has_each_users_heaviest_neighbours(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    rows = Table(str(root / "data/attention")).read(str(DATES[0])).to_pandas()
    assert sorted(set(rows["user_id"])) == USERS
    assert rows.groupby("user_id")["rank"].apply(list).map(lambda ranks: ranks == list(range(CAP))).all()
    assert (rows.groupby("user_id")["weight"].sum() <= 1 + 1e-5).all() and (rows["weight"] > 0).all()
    assert (rows.groupby("user_id")["weight"].diff().dropna() <= 0).all()
    assert not rows["reversed"].any(), "users are the heads of all relations here"
    assert {
        tuple(row) for row in rows[["user_id", "relation", "neighbour_type", "neighbour"]].itertuples(index=False)
    } <= edges_by_name(root, DATES[0])


def test_the_picture_has_all_messages_of_users_of_two_classes_of_fold_a(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    (found,) = picture_of(root, DATES[0])
    in_a = [group_of(user) for user, fold in zip(USERS, FOLD, strict=True) if fold == A]
    counts = {str(group): in_a.count(group) for group in range(4)}
    common = sorted(counts, key=lambda name: (-counts[name], name))[:2]
    assert found["label"] == "taste" and found["groups"] == [{"name": name, "users": counts[name]} for name in common]
    assert found["attribute"] is None, "brands are four: too few to be categories"
    for g, name in enumerate(common):
        figures = {row["relation"]: row["groups"][g] for row in found["relations"]}
        assert set(figures) == {"purchase", "user_region"}
        assert sum(one["share"] for one in figures.values()) == pytest.approx(1, abs=1e-4), (
            "more than the why-table's rows"
        )
        assert (
            figures["user_region"]["messages"] == counts[name] and figures["purchase"]["messages"] > CAP * counts[name]
        )
    assert night(root, DATES[1], DATES[0], lookalike={"history_attribute": "brand"}) == 0
    (found,) = picture_of(root, DATES[1])
    assert found["attribute"] == "brand" and set(found["categories"]) == {"b0", "b1", "b2", "b3"}


def test_a_model_whose_fold_a_was_dealt_otherwise_is_no_predecessor(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who tests tonight would have trained it."""
    assert night(root, DATES[0]) == publish(root, DATES[0]) == 0
    found = []
    for changed in ({}, {"salt": "pepper"}, {"folds": {"a": 0.5, "b": 0.2, "c": 0.3}}):
        assert (
            execute(
                resolve_predecessor.run,
                ["--date", str(DATES[1]), "--config", str(config_of(root, profiles=PROFILES | changed))],
            )
            == 0
        )
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [one["rhgn"] for one in found] == [str(DATES[0]), None, None]


def picture_of(root: Path, date: datetime.date) -> list[dict]:
    rows = Table(str(root / "data/run_metrics/stage=finetune_rhgn")).read(str(date)).to_pylist()
    return next(json.loads(row["detail"]) for row in rows if row["metric"] == "attention")


def edges_by_name(root: Path, date: datetime.date) -> set[tuple[str, str, str, str]]:
    """(head, relation, type of the tail, tail) of every edge, in raw ids."""
    graph = Table(str(root / "data/knowledge_graph")).read(str(date)).to_pandas()
    names = {
        kind: Segments(str(root / "data/entity_ids" / kind)).read().to_pandas().set_index("id")["raw"]
        for kind in ("user", "item", "brand", "region")
    }
    return {
        (names[head].loc[edge.head], name, tail, names[tail].loc[edge.tail])
        for number, (name, head, tail) in enumerate(RELATIONS)
        for edge in graph[graph["relation"] == number].itertuples()
    }


def test_a_relation_and_a_node_type_that_are_gone_leave_the_rest_warm(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    table = Table(str(root / "data/knowledge_graph"))
    left = table.read(str(DATES[1]))
    # item_brand, which comes first by name: all others move
    left = left.filter(pc.not_equal(left.column("relation"), 1))
    with table.replace(str(DATES[1])) as commit:
        commit.write_table(left)
    small = {"width": WIDTH, "heads": 2, "epochs": 1, "batch_size": 16, "learning_rate": 1e-6}
    assert night(root, DATES[1], DATES[0], rhgn=small) == 0
    first, second = (checkpoint(root, date) for date in DATES)
    assert "brand" in first.types and "brand" not in second.types
    former, rows = (
        first.extra["rhgn.layers.0.w_att"],
        [list(first.relation_id).index(one) for one in second.relation_id],
    )
    codes = [*rows, *(row + len(first.relation_id) for row in rows)]
    np.testing.assert_allclose(second.extra["rhgn.layers.0.w_att"], former[codes], atol=1e-4)
    kinds = [first.types.index(kind) for kind in second.types]
    np.testing.assert_allclose(second.extra["rhgn.input.weight"], first.extra["rhgn.input.weight"][kinds], atol=1e-4)


def test_without_labels_the_first_night_is_skipped_and_a_later_one_goes_on_with_what_was_learned(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    label(root, lambda user: None)
    assert night(root, DATES[1]) == SKIPPED
    assert night(root, DATES[1], DATES[0], rhgn=RHGN | {"softmax_over": "relation"}) == SKIPPED, "it did not learn so"
    assert night(root, DATES[1], DATES[0], training={"train_every_days": 9}) == 0
    first, second = (checkpoint(root, date) for date in DATES)
    assert picture_of(root, DATES[1]) == [], "nobody's class is known tonight"
    assert second.facts["trained_at"] == str(DATES[0]) and second.facts["classes"] == first.facts["classes"]
    np.testing.assert_array_equal(second.extra["rhgn.layers.0.w_att"], first.extra["rhgn.layers.0.w_att"])


def test_a_class_that_is_new_starts_a_classifier_anew_and_keeps_the_rest(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    label(root, lambda user: "new" if int(user[1:]) % 3 == 0 else str(group_of(user)))
    small = {"width": WIDTH, "heads": 2, "epochs": 1, "batch_size": 16, "learning_rate": 1e-6}
    assert night(root, DATES[1], DATES[0], rhgn=small) == 0
    first, second = (checkpoint(root, date) for date in DATES)
    assert '"new"' in second.facts["classes"] and len(second.extra["rhgn.classifiers.0.bias"]) == 5 != len(
        first.extra["rhgn.classifiers.0.bias"]
    )
    np.testing.assert_allclose(second.extra["rhgn.layers.0.w_att"], first.extra["rhgn.layers.0.w_att"], atol=1e-4)


def test_a_label_that_comes_leaves_the_others_classifiers_warm(root: Path) -> None:
    """And finds its own by name: the newcomer sorts before the other."""
    assert night(root, DATES[0]) == 0
    labels = {"labels": {"coarse": {"column": "taste"}, "taste": {}}}
    hardly = {"rhgn": {**RHGN, "learning_rate": 1e-12, "epochs": 1}, "profiles": {**PROFILES, **labels}}
    assert night(root, DATES[1], DATES[0], **hardly) == 0
    first, second = (checkpoint(root, date).parameters("rhgn") for date in DATES)
    np.testing.assert_allclose(second["classifiers.1.weight"], first["classifiers.0.weight"], atol=1e-6)
    assert np.abs(second["classifiers.0.weight"] - first["classifiers.0.weight"]).max() > 0.01
    assert "optimiser.classifiers.1.weight.exp_avg" in second


def test_the_figure_of_the_night_is_that_of_the_parameters_it_keeps(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    rows = {
        row["metric"]: row
        for row in Table(str(root / "data/run_metrics/stage=finetune_rhgn")).read(str(DATES[0])).to_pylist()
    }
    history = json.loads(rows["history"]["detail"])
    best = max(history, key=lambda entry: entry["validation_macro_f1"])
    assert rows["best_epoch"]["value"] == best["epoch"] and rows["validation_macro_f1"]["value"] == pytest.approx(
        best["validation_macro_f1"]
    )


def test_the_second_loss_is_learned_from_the_behaviours_and_is_a_figure_of_the_night(root: Path) -> None:
    """A warm night with it goes on from one without it."""
    given = {**RHGN, "epochs": 3}
    assert night(root, DATES[0], rhgn=given) == 0
    assert night(root, DATES[1], DATES[0], rhgn={**given, "behavior_weight": 1.0}) == 0
    histories = []
    for date in DATES:
        rows = Table(str(root / "data/run_metrics/stage=finetune_rhgn")).read(str(date)).to_pylist()
        histories.append(next(json.loads(row["detail"]) for row in rows if row["metric"] == "history"))
    assert not any("behavior_loss" in entry for entry in histories[0])
    assert all(0 < entry["behavior_loss"] < 20 for entry in histories[1])
    assert histories[1][0]["loss"] < histories[0][0]["loss"]


def test_rhgn_without_a_label_is_refused_at_start(root: Path) -> None:
    with pytest.raises(ConfigError, match="publishing.models.*profiles.labels"):
        load_settings(config_of(root, profiles={}))
