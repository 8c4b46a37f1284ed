"""Which triples are true: a hash table, behind a bitmap that answers most questions from the cache.

`known` is a pair (table, bitmap) of uint64 arrays: the keys by open addressing, and one bit per hashed key at 16 or more bits per
triple, so that a triple that is not true is nearly always settled by one bit. Two empty arrays know nothing.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel
from models.kernels.draws import mix

_ABSENT, _ONE = np.uint64(0), np.uint64(1)
_HIGH, _WORD_BITS, _BIT_MASK = np.uint64(32), np.uint64(6), np.uint64(63)


@inlined
def triple_key(head, relation, tail, n_entities, n_relations):
    """One uint64 per triple, never 0."""
    return np.uint64((head * n_relations + relation) * n_entities + tail + 1)


@kernel
def fill_known(heads, relations, tails, n_entities, n_relations, known):
    """Put every triple into `known`: zeros, lengths powers of two, the table at most half full."""
    table, bitmap = known
    mask, bit_mask = np.uint64(table.shape[0] - 1), np.uint64(64 * bitmap.shape[0] - 1)
    for i in range(heads.shape[0]):
        key = triple_key(np.int64(heads[i]), np.int64(relations[i]), np.int64(tails[i]), n_entities, n_relations)
        hashed = mix(key)
        bit = (hashed >> _HIGH) & bit_mask
        bitmap[bit >> _WORD_BITS] |= _ONE << (bit & _BIT_MASK)
        slot = hashed & mask
        while table[slot] != _ABSENT and table[slot] != key:
            slot = (slot + _ONE) & mask
        table[slot] = key


@kernel
def _in_table(table, key, hashed):
    """Whether the key is in the table."""
    mask = np.uint64(table.shape[0] - 1)
    slot = hashed & mask
    while table[slot] != _ABSENT:
        if table[slot] == key:
            return True
        slot = (slot + _ONE) & mask
    return False


@inlined
def is_known(known, key):
    """Whether the triple of this key is true."""
    table, bitmap = known
    if table.shape[0] == 0:
        return False
    hashed = mix(key)
    bit = (hashed >> _HIGH) & np.uint64(64 * bitmap.shape[0] - 1)
    if (bitmap[bit >> _WORD_BITS] >> (bit & _BIT_MASK)) & _ONE == _ABSENT:
        return False
    return _in_table(table, key, hashed)


@inlined
def is_true(known, entity, broken_tail, head, relation, tail, n_entities, n_relations):
    """Whether the triple with `entity` in place of its tail (or else its head) is true."""
    if broken_tail:
        return is_known(known, triple_key(head, relation, entity, n_entities, n_relations))
    return is_known(known, triple_key(entity, relation, tail, n_entities, n_relations))
