"""From margins to scores: which booster, which share, which odds, whose row; in chunks smaller than the users."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from scipy import sparse

from jobs.audiences import find_audience, learn_pool, score_lookalike, seed_request
from jobs.audiences.campaign import Campaign
from jobs.audiences.fitted import Trained, mean_margin
from jobs.audiences.item_sets import ItemSets, rows_of
from jobs.audiences.learn_pool import OWN_SHARES, Judged, Own, Pool, choose_share, client_calibration, fit_pool, judge
from jobs.audiences.pooled import Lessons, Rows, unseen_margin
from jobs.audiences.pooled_rows import NOBODYS, RATIO, odds_of_draw
from jobs.audiences.population import draw_sample
from jobs.audiences.score_lookalike import Scored, best, margins_of_parts
from jobs.audiences.seed_request import Asked, Learned, own_share
from jobs.audiences.validation import Validated
from jobs.tables import TABLES
from models.classifiers.forest import Forest
from models.classifiers.lookalike import Calibration
from tests.jobs.audiences.worlds import config

USERS = 400
RAW = pa.array([f"u{number:05d}" for number in range(USERS)], pa.large_string())
LOOK = config().lookalike


def boosters(features: np.ndarray, number: int) -> list[xgboost.Booster]:
    random = np.random.default_rng(0)
    fixed = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}
    labels = [features[:, 0] + random.normal(size=len(features)) > 0 for _ in range(number)]
    return [xgboost.train(fixed, xgboost.DMatrix(features, one), 2) for one in labels]


def judged(
    labels: np.ndarray, pooled: np.ndarray, own: np.ndarray | None, odds: float = 0.0, buyers: int = 10**6
) -> Judged:
    return Judged(labels, np.ones(len(labels), bool), pooled, own, [], buyers, odds)


def test_unseen_is_the_booster_of_the_users_own_fold() -> None:
    features = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    three, fold = boosters(features, 3), np.arange(60) % 4 - 1
    found = unseen_margin(three, features, fold, 1)
    for k in range(3):
        np.testing.assert_array_equal(found[fold == k], mean_margin([three[k]], features[fold == k], 1))
    np.testing.assert_array_equal(found[fold == NOBODYS], mean_margin(three, features[fold == NOBODYS], 1))
    assert len({tuple(mean_margin([one], features, 1)) for one in three}) == 3


def test_a_blend_has_the_own_models_share_of_its_margin() -> None:
    pooled, own = np.array([1.0, 2.0]), np.array([5.0, -2.0])
    one = judged(np.ones(2, bool), pooled, own)
    np.testing.assert_allclose(one.blended(0.25), 0.75 * pooled + 0.25 * own)
    np.testing.assert_array_equal(dataclasses.replace(one, own=None).blended(0.25), pooled)


def test_the_share_is_the_one_that_ranks_best_and_the_least_of_equals() -> None:
    labels = np.arange(USERS) % 5 == 0
    right, wrong, rows = labels * 1.0, ~labels * 1.0, [np.arange(USERS)]
    assert choose_share([judged(labels, wrong, right)], rows) in OWN_SHARES[-2:]
    assert choose_share([judged(labels, right, wrong)], rows) == OWN_SHARES[0]
    assert choose_share([judged(labels, right, right)], rows) == OWN_SHARES[0]
    assert choose_share([judged(labels, right, None)], rows) == OWN_SHARES[0]


def drawn(share: float, number: int = 40_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(true log odds of a population, labels, numbers of those drawn at 1:RATIO, the draw's odds)."""
    random = np.random.default_rng(int(1 / share))
    true = np.log(share) + random.normal(size=number)
    labels = random.random(number) < 1 / (1 + np.exp(-true))
    others = random.permutation(np.flatnonzero(~labels))[: RATIO * int(labels.sum())]
    return true, labels, np.concatenate([np.flatnonzero(labels), others]), odds_of_draw(labels, np.ones(number, bool))


def test_the_pools_margins_less_the_draws_odds_are_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sets of very different size: trees that know the odds among those drawn exactly need no correction."""
    parts = []
    for share in (0.01, 0.1):
        true, labels, rows, odds = drawn(share)
        margin = (true + odds)[rows, None].astype(np.float32)
        parts.append(Rows(margin, labels[rows], np.zeros(len(rows), np.int64), np.full(len(rows), odds)))
    monkeypatch.setattr(learn_pool, "rows_of_pool", lambda *_: Rows.together(parts))
    monkeypatch.setattr(learn_pool, "fit_rows", lambda *_: [])
    monkeypatch.setattr(learn_pool, "unseen_margin", lambda boosters, features, *_: features[:, 0])
    found = fit_pool(SimpleNamespace(windows=[], sets=None), LOOK, 0).calibration
    assert found.slope == pytest.approx(1, abs=0.1) and found.intercept == pytest.approx(0, abs=0.25)


def test_a_client_of_few_users_is_calibrated_by_the_pool_and_its_draws_odds() -> None:
    true, labels, _, odds = drawn(0.01)
    pool, few = Pool([], Calibration(1.0, 0.0), {}), np.arange(len(labels)) < 200
    margins = (true + odds).astype(np.float32)
    found = client_calibration(judged(labels, margins, None, odds), margins, pool, few)
    assert odds > 2 and found(margins).mean() == pytest.approx(labels.mean(), rel=0.6)
    of_all = client_calibration(judged(labels, margins, None, odds), margins, pool, np.ones(len(labels), bool))
    assert of_all(margins).mean() == pytest.approx(labels.mean(), rel=0.1)


def lessons(eligible: np.ndarray) -> Lessons:
    """One client; a row's column is the number of its eligible user."""
    past = SimpleNamespace(eligible=eligible, raw=RAW.take(pa.array(eligible)))
    labels = np.arange(len(eligible)) % 4 == 0
    window = SimpleNamespace(past=past, labels=lambda place: labels, not_eligible=np.array([3]))
    sets = ItemSets(["client:acme"], rows_of([np.arange(1)], 2), sparse.csr_array((2, 0), dtype=np.float32))
    return Lessons(
        sets, [window], np.arange(USERS) % 4, np.arange(USERS).astype(np.uint64),
        lambda past, place, rows: rows[:, None].astype(np.float32), ["number"])  # fmt: skip


@pytest.mark.parametrize("threads", [1, 4])
def test_columns_are_those_of_the_set_and_the_past_asked_for(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few sets what hangs on the set alone is kept; of others, and of a past that is like another, it is not."""
    made = []

    def columns(kind: int, past: Any, place: int) -> Any:
        made.append((kind, past.number, place))
        return lambda rows: np.stack([rows, np.full(len(rows), past.number), np.full(len(rows), place)], 1)

    monkeypatch.setattr(
        learn_pool, "SetColumns", SimpleNamespace(of=lambda past, sets, place: columns(0, past, place)))
    monkeypatch.setattr(
        learn_pool, "near_of", lambda published, models, past, sets, place, keys: columns(1, published, place))
    monkeypatch.setattr(learn_pool, "names", lambda past: [])
    pasts = [SimpleNamespace(number=number, today=number // 2) for number in range(3)]
    of, _ = learn_pool.columns_of(pasts, None, None, [], None, None, None, 0, vectors=lambda past: past)
    asked = [(past, place) for place in (0, 1, 0, 5, 1) for past in (*pasts, *pasts[::-1])] * 20
    rows = np.arange(3)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda one: of(*one, rows), asked))
    for (past, place), values in zip(asked, found, strict=True):
        assert values[:, [0, 3]].tolist() == [[row, row] for row in range(3)]
        assert values[:, [1, 2, 4, 5]].tolist() == [[past.number, place] * 2] * 3

    met = []

    class Met(int):
        """A place at whose first comparison another thread has a set made."""

        def __eq__(self, other: object) -> bool:
            if not met:
                met.append(of(pasts[1], 77, rows))
            return int(self) == other

    of(pasts[0], Met(8), rows)
    assert of(pasts[0], 8, rows)[:, 2].tolist() == [8] * 3 and met
    made.clear()
    for past in pasts:
        for chunk in (rows, rows + 3, rows):
            of(past, 9, chunk)
    assert made == [(kind, past.number, 9) for past in pasts for kind in (0, 1)]


def test_vectors_are_read_once_for_each_day_and_each_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(learn_pool, "published_at", lambda tables, past, *_: read.append(past.today) or past.today)
    of = learn_pool.vectors_of(None, [], None, None, 0)
    assert [of(SimpleNamespace(today=day)) for day in (3, 4, 3, 4, 5)] == [3, 4, 3, 4, 5] and read == [3, 4, 5]


def of_number_and_fold(boosters: Any, features: np.ndarray, fold: np.ndarray, threads: int) -> np.ndarray:
    return features[:, 0] + 1000 * fold


def test_chunks_of_users_are_judged_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_pool, "CHUNK", 37)
    monkeypatch.setattr(learn_pool, "unseen_margin", of_number_and_fold)
    eligible = np.flatnonzero(np.arange(USERS) % 3)
    found = judge("acme", Own(["own"], 40), lessons(eligible), Pool(["pooled"], Calibration(1, 0), {}), LOOK)
    wanted = np.arange(len(eligible)) + 1000 * (eligible % 4)
    assert len(eligible) > 5 * 37 and (found.pooled == wanted).all() and (found.own == wanted).all()


def test_a_clients_entry_weighs_its_parts_and_curves_are_of_users_that_calibrated_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = np.random.default_rng(2).normal(size=(USERS, 1)).astype(np.float32)
    pooled, own = boosters(features, 2), boosters(-features, 2)
    taught, asked, honest = lessons(np.arange(USERS)), [], client_calibration
    labels = taught.windows[0].labels(0)
    one = dataclasses.replace(judged(labels, features[:, 0], -features[:, 0], buyers=100), own_boosters=own)
    sample = draw_sample(RAW, labels, one.allowed, 3, 0, "acme")

    def calibration(judged: Judged, margins: np.ndarray, pool: Pool, among: np.ndarray) -> Calibration:
        asked.append(among)
        return honest(judged, margins, pool, among)

    monkeypatch.setattr(learn_pool, "client_calibration", calibration)
    found = learn_pool._fitted("acme", one, sample, Pool(pooled, Calibration(1, 0), {}), 0.5, taught, LOOK, 0)
    parts = {fitted.feature_set: [(part.weight, part.boosters) for part in fitted.parts] for fitted in found}
    share = 0.5 * 100 / 200
    assert parts == {
        "pooled": [(1.0, pooled)], "own": [(1.0, own)], "blend": [(1 - share, pooled), (share, own)]}  # fmt: skip
    assert {fitted.figures["own_share"] for fitted in found} == {share}
    assert [(among & sample.validation).any() for among in asked] == [False, True] * 3
    assert all(among.any() for among in asked)


def test_chunks_of_users_are_scored_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(3).normal(size=(USERS, 2)).astype(np.float32)
    of_files = {("a", "b"): boosters(features, 2), ("c",): boosters(-features, 1)}
    rows = np.flatnonzero(np.arange(USERS) % 3)
    of = Scored(["x", "y"], features.__getitem__, rows, RAW, None)
    forests = {files: Forest.of(mine) for files, mine in of_files.items()}
    monkeypatch.setattr(score_lookalike, "SCORED_AT_A_TIME", 37)
    for threads in (1, 3):
        found = margins_of_parts(forests, of, threads)
        for files, mine in of_files.items():
            np.testing.assert_allclose(found[files], mean_margin(mine, features[rows], 1), rtol=1e-6, atol=1e-6)


def test_of_users_whose_columns_cannot_be_had_nobody_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a thread is the job's, be it the last one's."""
    forests = {("a",): Forest.of(boosters(np.zeros((USERS, 1), np.float32), 1))}
    of = Scored(["x"], lambda rows: 1 / 0, np.arange(USERS), RAW, None)
    with pytest.raises(ZeroDivisionError):
        margins_of_parts(forests, of, 2)
    monkeypatch.setattr(score_lookalike, "SCORED_AT_A_TIME", 37)
    ones = np.ones((37, 1), np.float32)
    last = dataclasses.replace(of, columns=lambda rows: 1 / 0 if USERS - 1 in rows else ones[: len(rows)])
    with pytest.raises(ZeroDivisionError):
        margins_of_parts(forests, last, 2)
    assert len(margins_of_parts(forests, dataclasses.replace(of, rows=np.arange(0)), 2)[("a",)]) == 0


def test_chunks_of_a_request_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["number", "more"]
    lists = SimpleNamespace(
        names=lambda: names, columns=lambda found, seeds, rows: np.stack([rows, -rows], 1).astype(np.float32))
    asked = Asked(SimpleNamespace(boosters=[], columns=["number"]), lists, lists, np.arange(USERS) % 5, 1)
    monkeypatch.setattr(seed_request, "CHUNK", 37)
    monkeypatch.setattr(seed_request, "unseen_margin", of_number_and_fold)
    rows = np.flatnonzero(np.arange(USERS) % 3)
    assert (asked.margins(lists, None, np.arange(5), rows) == rows + 1000 * (rows % 5)).all()


def test_a_request_is_ranked_by_so_much_of_its_own_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    random, positive = np.random.default_rng(4), np.arange(USERS) % 5 == 0
    night = Learned(random.normal(size=USERS) + positive, random.normal(size=USERS) + positive, {})
    own = find_audience.Margins(-night.told, random.normal(size=USERS))
    monkeypatch.setattr(find_audience, "margins_alone", lambda *_: own)
    users = SimpleNamespace(users=SimpleNamespace(raw=RAW))
    lesson = SimpleNamespace(positive=positive, allowed=np.ones(USERS, bool), now=users)
    found = find_audience.rank(lesson, "transe", "spring", config(), night)
    share = own_share(80)
    assert found.weights == {"own": round(share, 4), "learned": round(1 - share, 4)} and 0.1 < share < 0.2
    wanted = (1 - share) * night.now + share * own.now
    np.testing.assert_array_equal(np.argsort(found.scores), np.argsort(wanted))
    assert found.figures["pr_auc_population"] > 0.3, "told by mostly the night's"


def test_equal_scores_are_in_the_order_of_their_users() -> None:
    schema, n = TABLES["lookalike_scores"].arrow_schema(), 50
    values = np.where(np.arange(n) % 2, 0.5, 0.25).astype(np.float32)
    columns = {
        "client": ["acme"] * n, "feature_set": ["blend"] * n, "user_id": RAW.slice(0, n).cast(pa.string()),
        "score": values, "chosen": [True] * n}  # fmt: skip
    top = best(pa.table(columns).cast(schema), 40, Campaign("acme", pa.array([], pa.large_string()), 0.0, 0))
    order = [*range(1, n, 2), *range(0, n, 2)][:40]
    assert top.column("user_id").to_pylist() == RAW.take(pa.array(order)).to_pylist()


def test_no_users_probability_is_told_by_his_own_label() -> None:
    margins = np.random.default_rng(5).normal(size=USERS).astype(np.float32)
    labels = np.arange(USERS) % 4 == 0
    sample = draw_sample(RAW, labels, np.ones(USERS, bool), 3, 0, "acme")
    one = Validated("acme", "strong", RAW, sample, margins)
    _, told = one.calibrated(0)
    for user in np.flatnonzero(sample.validation)[:20]:
        other = labels.copy()
        other[user] = not other[user]
        _, then = dataclasses.replace(one, sample=dataclasses.replace(sample, labels=other)).calibrated(0)
        assert then[user] == told[user] and not np.array_equal(then, told, equal_nan=True)


def test_a_score_is_of_the_weighted_sum_of_its_parts() -> None:
    parts = [{"weight": 0.75, "files": ["a", "b"]}, {"weight": 0.25, "files": ["c"]}]
    of_parts = {("a", "b"): np.array([1.0, 2.0], np.float32), ("c",): np.array([-3.0, 6.0], np.float32)}
    found = Trained({"chosen": "blend"}, [], {}).margin({"parts": parts}, of_parts)
    np.testing.assert_array_equal(found, [0.0, 3.0])
