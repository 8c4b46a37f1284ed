"""Who trains and who tests: folds A, B and C of the users, by their ids alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

A, B, C = 0, 1, 2


def uniform(salt: str, purpose: str, user_ids: Iterable[str]) -> np.ndarray:
    """float64 (n,) in [0, 1): a keyed hash (BLAKE2b) of each user id alone.

    The same every night and in every version of every library.
    """
    key = hashlib.sha256(f"{salt}\0{purpose}".encode()).digest()
    hashed = (hashlib.blake2b(user_id.encode(), digest_size=8, key=key).digest() for user_id in user_ids)
    return (np.frombuffer(b"".join(hashed), ">u8") >> np.uint64(11)) * (1.0 / (1 << 53))


def folds(salt: str, user_ids: Iterable[str], a: float, c: float) -> np.ndarray:
    """int8 (n,) of A, B, C by the shares of A and C, the same for every label.

    So who tests one trains no other that may tell of it. C takes the upper end, so that users who test go on testing
    when A and B are weighed anew.
    """
    return np.searchsorted([a, 1 - c], uniform(salt, "fold", user_ids), side="right").astype(np.int8)
