"""What is offered at one date, by hand: weights are learned from what was open to choose, the best known are exact."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.audiences.vectors import Vectors
from jobs.configuration.recommendations import Recommendations
from jobs.recommendations.catalogue import Catalogue
from jobs.recommendations.offers import Offers
from models.vectors.choices import Weights

USERS, ITEMS, D = 600, 150, 6


def offers(seed: int = 0, allowed: np.ndarray | None = None) -> Offers:
    """Users and items with vectors that are multiplied, ids that are no places, and pairs of before: items of low
    numbers are known to more users."""
    random = np.random.default_rng(seed)
    users, items = (random.normal(size=(n, D)).astype(np.float32) for n in (USERS, ITEMS))
    user_ids, item_ids = 1_000 + 3 * np.arange(USERS), 5_000 + 7 * np.arange(ITEMS)
    raw = (pa.array([f"{kind}{n}" for n in range(size)], pa.large_string())
           for kind, size in (("u", USERS), ("i", ITEMS)))  # fmt: skip
    vectors = Vectors("ram_gnn_rec", "space", "l2", np.eye(D), user_ids, users, item_ids, items, None)
    catalogue = Catalogue(*raw, user_ids, item_ids, np.ones(ITEMS, bool) if allowed is None else allowed)
    known = random.random((USERS, ITEMS)) < 0.4 / (1 + 0.2 * np.arange(ITEMS))
    return Offers(vectors, catalogue, tuple(np.nonzero(known)))


def chosen(made: Offers, weights: Weights, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Places: of everybody three of the unseen allowed items, drawn as the weights say."""
    scores = made.vectors.users.astype(float) @ made.vectors.items.T.astype(float)
    utilities = weights.utilities(scores, np.bincount(made.seen[1], minlength=ITEMS))
    utilities += np.random.default_rng(seed).gumbel(size=utilities.shape)
    utilities[made.seen] = -np.inf
    utilities[:, ~made.catalogue.allowed] = -np.inf
    best = np.argsort(-utilities, axis=1)[:, :3]
    return np.repeat(np.arange(USERS), 3), np.sort(best, axis=1).ravel()


def learned(made: Offers, pairs: tuple[np.ndarray, np.ndarray], **section: bool) -> Weights:
    return made.weights(pairs, Recommendations(**section), seed=3)


@pytest.mark.parametrize("planted", [Weights(0.6, 0.5, 1), Weights(0.3, 1.0, 1)])
def test_the_weights_that_chose_are_found(planted: Weights) -> None:
    made = offers()
    found = learned(made, chosen(made, planted))
    assert found.choices == 3 * USERS
    assert found.score == pytest.approx(planted.score, rel=0.15)
    assert found.popularity == pytest.approx(planted.popularity, rel=0.15)


def test_whose_choice_it_was_counts() -> None:
    """Users who change places choose by popularity alone, as far as their scores tell."""
    made = offers()
    users, items = chosen(made, Weights(0.6, 0.5, 1))
    turned = (users + USERS // 2) % USERS
    order = np.argsort(turned, kind="stable")
    found = learned(made, (turned[order], items[order]))
    assert found.score < 0.05 and found.popularity > 0.2


def test_what_stands_in_no_list_teaches_nothing() -> None:
    """Pairs of before, where only unseen items are recommended, and items that are not allowed."""
    allowed = np.arange(ITEMS) % 2 == 0
    made = offers(allowed=allowed)
    users, items = chosen(made, Weights(0.6, 0.5, 1))
    not_allowed = np.stack([np.arange(USERS), 2 * (np.arange(USERS) % 70) + 1])
    closed = np.concatenate([np.stack(made.seen), not_allowed], axis=1)
    pairs = np.unique(np.concatenate([np.stack([users, items]), closed], axis=1), axis=1)
    assert pairs.shape[1] > 1.5 * len(users)
    assert learned(made, tuple(pairs)) == learned(made, (users, items))


def test_what_was_seen_and_not_bought_again_is_no_alternative() -> None:
    """Popular items are seen by most: as alternatives that nobody takes they would tell against popularity."""
    made = offers()
    pairs = chosen(made, Weights(0.6, 0.5, 1))
    right, wrong = learned(made, pairs), learned(made, pairs, unseen_only=False)
    assert right.popularity > wrong.popularity + 0.1


def test_of_what_may_be_bought_again_all_teaches() -> None:
    made = offers()
    everything = np.unique(np.concatenate([np.stack(chosen(made, Weights(0.6, 0.5, 1))), np.stack(made.seen)], axis=1),
                           axis=1)  # fmt: skip
    found = learned(made, tuple(everything), unseen_only=False)
    assert found.choices == 2_000 and found.popularity > 0.5, "known items are bought again"


@pytest.mark.parametrize("unseen_only", [True, False])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_best_known_are_those_of_all_items(unseen_only: bool, share: float) -> None:
    made = offers(allowed=np.random.default_rng(4).random(ITEMS) < share)
    found = made.best_known(Recommendations(unseen_only=unseen_only, top_k=7))
    counts, allowed = np.bincount(made.seen[1], minlength=ITEMS), made.catalogue.allowed
    seen = set(zip(*(side.tolist() for side in made.seen), strict=True)) if unseen_only else set()
    for user in range(0, USERS, 37):
        mine = found.users == made.catalogue.user_ids[user]
        items = (found.items[mine] - 5_000) // 7
        open_to = [item for item in range(ITEMS) if allowed[item] and (user, item) not in seen]
        assert sorted(counts[items], reverse=True) == sorted(counts[open_to], reverse=True)[:7]
        assert set(items) <= set(open_to) and (np.diff(found.scores[mine]) <= 0).all()
        np.testing.assert_array_equal(found.scores[mine], counts[items])


def test_a_catalogue_of_which_everything_is_seen_or_nothing_allowed() -> None:
    made = offers()
    everything = tuple(side.ravel() for side in np.indices((USERS, ITEMS)))
    full = Offers(made.vectors, made.catalogue, everything)
    assert not len(full.best_known(Recommendations()).users) and learned(full, everything) == Weights()
    nothing = offers(allowed=np.zeros(ITEMS, bool))
    assert not len(nothing.best_known(Recommendations()).users)
    assert learned(nothing, everything) == Weights()
