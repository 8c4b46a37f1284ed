"""The baselines' columns against loops over the event log; draws that depend on nothing but seed, client and raw id."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_store import Segments
from jobs.audiences import vectors as vectors_module
from jobs.audiences.feature_sets import Source
from jobs.audiences.features import Eligible, Vocabulary, baseline, choose_vocabulary, own_history, past_buyers
from jobs.audiences.nights import Tables
from jobs.audiences.population import draw_sample, one_to, uniform
from jobs.audiences.snapshot import Ledger
from jobs.audiences.vectors import Vectors
from jobs.configuration.feature_names import FeatureSet
from jobs.configuration.predicates import parse
from jobs.graphs.ledgers import attribute_relation
from models.classifiers.lookalike import fit
from models.hyperparameters import TreeHyperparameters
from tests.jobs.audiences.worlds import DATE, DIMENSION, GRAPH, START, config, day, planted, reads
from tests.jobs.report.tables_by_hand import Log, write_vectors


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Log, object, Eligible]:
    root = tmp_path_factory.mktemp("features")
    log = planted(root, users=60, seed=3)
    snapshot = Tables(**reads(root)).snapshot(START, GRAPH)
    raw = pa.array(sorted({f"u{u:05d}" for u in range(60)}), pa.large_string())
    return log, snapshot, Eligible(raw, Ledger.read(reads(root)["entity_ids"].segments("user")).ids_of(raw))


def test_a_relation_whose_types_changed_is_the_one_that_the_graph_was_built_with(tmp_path: Path) -> None:
    """The ledger keeps a row of each; a configuration that was taken back has the older one again."""
    planted(tmp_path, users=60, seed=3)
    tables = Tables(**reads(tmp_path))
    before = tables.snapshot(START, GRAPH).item_attributes["brand"]
    ledger, name = Segments(f"{tmp_path}/relations"), attribute_relation("item", "brand")
    newer = {"id": [ledger.read().num_rows], "name": [name], "head_type": ["item"], "tail_type": ["maker"]}
    assert ledger.append(2, pa.table(newer))
    found = tables.snapshot(START, GRAPH).item_attributes["brand"]
    assert len(before.heads) and found.heads.tolist() == before.heads.tolist() and found.values == before.values


def test_every_column_agrees_with_a_loop_over_the_log(night: tuple) -> None:
    log, snapshot, users = night
    vocabulary = choose_vocabulary(snapshot, users, "category", "purchase")
    columns = baseline(snapshot, users, vocabulary, GRAPH)
    mine = parse({"brand": "b1"}, "p", GRAPH.item_attributes)
    own = own_history(snapshot, users, snapshot.matching(mine), GRAPH)
    values = dict(zip(columns.names + own.names, np.concatenate([columns.values, own.values], 1).T, strict=True))
    known = log.events[log.events["event_time"] < pd.Timestamp(START, tz="UTC")]
    category, brand = (dict(zip(log.items[n]["id"], log.items[n]["value"], strict=True)) for n in ("category", "brand"))
    age = dict(zip(log.users["age"]["id"], log.users["age"]["value"], strict=True))
    for row, user in enumerate(users.raw.to_pylist()):
        events = known[known["user_id"] == user]
        bought, client = events[events["behavior"] == "purchase"], events[events["item_id"].map(brand) == "b1"]
        client_bought = client[client["behavior"] == "purchase"]
        seen, n_bought = events[events["behavior"] == "view"], len(bought)
        wanted = {
            "days_since_last_event": since(events), "days_since_view": since(seen), "purchase_events": n_bought,
            "purchase_items": bought["item_id"].nunique(), "money": 5.0 * n_bought,
            "money_per_purchase": 5.0 if n_bought else np.nan,
            "bought:category=c3": (bought["item_id"].map(category) == "c3").sum(),
            "client_purchase_events": len(client_bought), "client_view_events": (client["behavior"] == "view").sum(),
            "client_days_since_purchase": since(client_bought),
            "client_share_of_purchases": len(client_bought) / max(1, n_bought),
            "age=1": float(age[user] == "1") if len(events) else 0.0}  # fmt: skip
        for name, value in wanted.items():
            assert values[name][row] == pytest.approx(value, abs=1e-4, nan_ok=True), (user, name)


def test_money_beyond_float32_is_no_infinite_column(night: tuple) -> None:
    """Each purchase fits float32, their sum does not; trees refuse it and with it the night."""
    _, snapshot, users = night
    seen = snapshot.interactions
    huge = dataclasses.replace(snapshot, interactions=dataclasses.replace(seen, value=np.full(len(seen.value), 4e38)))
    vocabulary = choose_vocabulary(huge, users, "category", "purchase")
    both = baseline(huge, users, vocabulary, GRAPH), own_history(huge, users, np.ones(len(huge.items), bool), GRAPH)
    for columns in both:
        assert not np.isinf(columns.values).any()
        fit(columns.values, np.arange(len(users)) % 2 == 0, np.arange(len(users)) < 20, TreeHyperparameters(), 0)


def test_money_given_back_stays_below_nothing(night: tuple) -> None:
    _, snapshot, users = night
    seen = snapshot.interactions
    back = dataclasses.replace(snapshot, interactions=dataclasses.replace(seen, value=-seen.value))
    everything = np.ones(len(snapshot.items), bool)
    spent, returned = (own_history(one, users, everything, GRAPH) for one in (snapshot, back))
    money = [place for place, name in enumerate(spent.names) if spent.values[:, place].max() > 0
             and np.array_equal(spent.values[:, place], -returned.values[:, place])]  # fmt: skip
    assert money


def test_vectors_are_turned_back_whole_whatever_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    turn, native = np.linalg.qr(random.normal(size=(4, 4)))[0], random.normal(size=(7, 4))
    published = (native @ turn).astype(np.float32)
    for rows in (2, 7, 100):
        monkeypatch.setattr(vectors_module, "_TURNED_ROWS", rows)
        ids = np.arange(10, 17)
        found = Vectors("transe", "s", "l2", turn, ids, published, ids + 100, published[::-1], published[0])
        np.testing.assert_allclose(found.native_users_of(np.array([16, 10, 13])), native[[6, 0, 3]], atol=1e-5)
        np.testing.assert_allclose(found.native_items_of(np.array([110, 116])), native[[6, 0]], atol=1e-5)
        np.testing.assert_allclose(found.native_purchase, native[0], atol=1e-5)
        assert np.isnan(found.native_users_of(np.array([17, 9]))).all()


def since(events: pd.DataFrame) -> float:
    """Days from the last event to the snapshot's date."""
    return (day(START, 0) - events["event_time"].max()).total_seconds() / 86_400 if len(events) else np.nan


def test_the_baseline_does_not_hold_the_users_own_history_with_the_client(night: tuple) -> None:
    _, snapshot, users = night
    vocabulary = choose_vocabulary(snapshot, users, "brand", "purchase")
    source = Source(snapshot, users, None, vocabulary, GRAPH, {}, 0)
    some = {"any": [{"brand": "b1"}, {"not": {"category": "c2"}}]}
    client = source.client("x", parse(some, "p", GRAPH.item_attributes))
    plain, strong = (client.columns(FeatureSet.parse(name, [])).names for name in ("baseline", "strong"))
    assert {n for n in plain if n.startswith("bought:")} == {"bought:brand=b0", "bought:brand=b2", "bought:brand=b3"}
    assert set(strong) - set(plain) and all(n.startswith("client_") for n in set(strong) - set(plain))


def test_the_vocabulary_of_training_fixes_the_columns_of_scoring(night: tuple) -> None:
    _, snapshot, users = night
    vocabulary = choose_vocabulary(snapshot, users, None, "purchase")
    assert vocabulary.history_attribute == "category"  # five values; brand has four, too few to be categories
    fewer = Eligible(users.raw.slice(0, 5), users.ids[:5])
    assert baseline(snapshot, fewer, vocabulary, GRAPH).names == baseline(snapshot, users, vocabulary, GRAPH).names


def test_past_buyers_bought_from_the_client_before_the_date(night: tuple) -> None:
    log, snapshot, users = night
    mine = snapshot.matching(parse({"brand": "b2"}, "p", GRAPH.item_attributes))
    brand = dict(zip(log.items["brand"]["id"], log.items["brand"]["value"], strict=True))
    before = log.events["event_time"] < pd.Timestamp(START, tz="UTC")
    known = log.events[before & (log.events["behavior"] == "purchase")]
    wanted = set(known.loc[known["item_id"].map(brand) == "b2", "user_id"])
    found = np.isin(users.ids, past_buyers(snapshot, mine, "purchase"))
    assert set(users.raw.to_numpy(zero_copy_only=False)[found]) == wanted


def test_a_draw_depends_on_seed_purpose_client_and_id_alone() -> None:
    raw = pa.array([f"u{i}" for i in range(2000)], pa.large_string())
    first = uniform(1, "split", "acme", raw)
    np.testing.assert_array_equal(uniform(1, "split", "acme", raw.take(pa.array([5, 3]))), first[[5, 3]])
    for other in ((2, "split", "acme"), (1, "negative", "acme"), (1, "split", "zeta")):
        assert abs(np.corrcoef(first, uniform(*other, raw))[0, 1]) < 0.1
    assert 0 <= first.min() and first.max() < 1
    np.testing.assert_allclose(np.quantile(first, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


def test_a_sample_is_six_to_four_and_one_to_three() -> None:
    raw = pa.array([f"u{i}" for i in range(6000)], pa.large_string())
    labels = np.random.default_rng(0).random(6000) < 0.1
    allowed = np.random.default_rng(1).random(6000) < 0.8
    sample = draw_sample(raw, labels, allowed, 3, seed=4, client="acme")
    assert not (sample.training & sample.validation).any()
    assert not ((sample.training | sample.validation) & ~allowed).any()
    assert (labels & allowed <= (sample.training | sample.validation)).all()
    for part in (sample.training, sample.validation_sampled):
        assert (part & ~labels).sum() == 3 * (part & labels).sum()
    assert sample.validation.sum() / allowed.sum() == pytest.approx(0.4, abs=0.02)
    assert (sample.validation_sampled <= sample.validation).all() and (sample.held_out <= sample.training).all()
    assert sample.held_out.sum() / sample.training.sum() == pytest.approx(0.1, abs=0.01)
    assert (sample.held_out & labels).sum() / (sample.training & labels).sum() == pytest.approx(0.1, abs=0.01)


def test_positives_are_thinned_where_negatives_run_short() -> None:
    labels, everybody = np.arange(100) < 60, np.ones(100, bool)
    chosen = one_to(3, labels, everybody, np.random.default_rng(0).random(100))
    assert ((chosen & labels).sum(), (chosen & ~labels).sum()) == (13, 39)


def test_a_vocabulary_that_went_through_json_gives_the_columns_in_the_same_order(night: tuple) -> None:
    """Training's index is JSON with sorted keys; scoring reads it. Attributes may stand in
    any order in the configuration."""
    _, snapshot, users = night
    (age,) = snapshot.user_attributes.values()
    turned = dataclasses.replace(snapshot, user_attributes={"zone": age, "age": age})
    vocabulary = choose_vocabulary(turned, users, None, "purchase")
    back = Vocabulary(**json.loads(json.dumps(dataclasses.asdict(vocabulary), sort_keys=True)))
    assert baseline(turned, users, back, GRAPH).names == baseline(turned, users, vocabulary, GRAPH).names


def test_a_published_user_whom_the_ledger_does_not_know_is_nobodys_vector(tmp_path: Path) -> None:
    """Such as one who was erased; the log may hold users without a ledger id, too, and they are not he."""
    planted(tmp_path, users=60)
    some = {name: np.full(DIMENSION, 1.0) for name in ("u00000", "u00001", "nobody")}
    write_vectors(tmp_path, "transe", DATE, some, {"i0": np.zeros(DIMENSION)}, np.zeros(DIMENSION))
    vectors = Tables(**reads(tmp_path)).source(DATE, ["transe"], GRAPH, config().lookalike, 0).vectors["transe"]
    assert len(vectors.user_ids) == 2 and (vectors.user_ids >= 0).all()
    assert np.isnan(vectors.native_users_of(np.array([-1]))).all()
