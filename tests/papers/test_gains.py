"""The arithmetic of paper-kqgc: gains against a plain loop, one bootstrap for all clients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.papers import gains
from tests.papers.gains import Scored, bootstrap, draws_of, gain, gain_of_means, interval, pr_auc_1to3, table
from tests.papers.paper_kqgc import CANDIDATES, STRONG, Result, assess, choose
from tests.papers.shops import SHOPS

EVERYBODY = np.ones(400, bool)


def scored(client: str, seed: int, feature_set: str, strength: float, n: int = 400) -> Scored:
    labels = np.random.default_rng(len(client)).random(n) < 0.15
    noise = np.random.default_rng([seed, len(feature_set), len(client)]).normal(size=n)
    return Scored(client, seed, feature_set, labels, noise + strength * labels)


def test_pr_auc_is_the_mean_over_fixed_draws_at_one_to_three() -> None:
    one = scored("acme", 0, "baseline", 1.0)
    draws = draws_of(one.labels, EVERYBODY, "acme", gains.DRAWS)
    assert len(draws) == 20 and len({tuple(d) for d in draws}) == 20
    for rows in draws:
        assert (~one.labels[rows]).sum() == 3 * one.labels[rows].sum() and one.labels[rows].sum() == one.labels.sum()
    wanted = np.mean([average_precision_score(one.labels[rows], one.margins[rows]) for rows in draws])
    assert pr_auc_1to3(one) == pytest.approx(wanted, abs=1e-12)
    assert all((a == b).all() for a, b in zip(draws, draws_of(one.labels, EVERYBODY, "acme", 20), strict=True))


def test_who_is_not_ranked_is_in_no_draw() -> None:
    one, ranked = scored("acme", 0, "baseline", 1.0), np.arange(400) % 5 > 0
    hidden = gains.Scored("acme", 0, "baseline", one.labels, np.where(ranked, one.margins, np.nan))
    assert all(ranked[rows].all() for rows in draws_of(one.labels, ranked, "acme", 20))
    known = [average_precision_score(one.labels[rows], one.margins[rows])
             for rows in draws_of(one.labels, ranked, "acme", 20)]  # fmt: skip
    assert pr_auc_1to3(hidden) == pytest.approx(np.mean(known), abs=1e-12) != pr_auc_1to3(one)


def test_gain_averages_seeds_first_then_clients() -> None:
    tests = [scored(c, s, f, w) for c in ("a", "bb") for s in (0, 1) for f, w in (("baseline", 0.5), ("better", 1.5))]
    figures = table(tests)
    by_seed: dict[tuple[str, str], list] = {}
    for test in tests:
        by_seed.setdefault((test.feature_set, test.client), []).append(pr_auc_1to3(test))
    means = {key: np.mean(values) for key, values in by_seed.items()}
    ratios = [means["better", c] / means["baseline", c] for c in ("a", "bb")]
    assert gain(figures, "better", "baseline") == pytest.approx(100 * (np.mean(ratios) - 1))
    both = [np.mean([means[f, c] for c in ("a", "bb")]) for f in ("better", "baseline")]
    assert gain_of_means(figures, "better", "baseline") == pytest.approx(100 * (both[0] / both[1] - 1))
    assert gain(figures, "baseline", "baseline") == 0


def test_the_bootstrap_draws_users_once_for_all() -> None:
    twice = [scored("a", 0, f, 1.0) for f in ("baseline", "same")]
    twice[1] = Scored("a", 0, "same", twice[0].labels, twice[0].margins)
    draws = bootstrap(twice, 30, seed=0)
    np.testing.assert_array_equal(draws["baseline", "a"], draws["same", "a"])
    assert interval(gain(draws, "same", "baseline")) == (0, 0)
    assert np.std(draws["baseline", "a"]) > 0.01
    with pytest.raises(ValueError, match="different users"):
        bootstrap([scored("a", 0, "x", 1.0), scored("a", 0, "y", 1.0, n=300)], 2, 0)


def test_the_choice_is_validations_and_the_test_has_no_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.papers.paper_kqgc.BOOTSTRAP_DRAWS", 5)
    monkeypatch.setattr(gains, "DRAWS", 2)
    names = ["baseline", *CANDIDATES, *STRONG]
    results = []
    for i, name in enumerate(names):
        best = name == CANDIDATES[2]
        test = scored("a", 0, name, -1.0 if best else 2.0, n=120)
        results.append(Result(0.9 if best else 0.1 + 0.01 * i, test, test))
    assert choose(results, CANDIDATES) == CANDIDATES[2]
    found = assess(SHOPS[0], results)
    assert found["chosen"] == CANDIDATES[2] and found["gain"] < 0
    assert found["gain_interval"][0] <= found["gain_interval"][1]
    assert not set(found["chosen"].split("+")) & {"strong"}


@pytest.mark.parametrize("shop", SHOPS, ids=lambda s: s.name)
def test_the_windows_do_not_overlap_and_the_clients_are_committed(shop) -> None:
    first, second, third = shop.dates
    assert (second - first).days == (third - second).days == 45 and third == shop.end
    assert 1 <= len(shop.clients()) <= 12
