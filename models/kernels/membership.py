"""Which triples are true: a hash table, behind a bitmap that answers most questions from the cache.

`known` is a pair (table, bitmap) of uint64 arrays: the keys by open addressing, and one bit per hashed key at 16 or
more bits per triple, so that a triple that is not true is nearly always settled by one bit. Two empty arrays know
nothing.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel
from models.kernels.draws import mix

_ABSENT, _ONE = np.uint64(0), np.uint64(1)
# odd multipliers: a linear hash, of which everything but the drawn entity is computed once per query
_OF_HEAD, _OF_RELATION = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_OF_TAIL = np.uint64(0xD6E8FEB86659FD93)
_HIGH, _WORD_BITS, _BIT_MASK = np.uint64(32), np.uint64(6), np.uint64(63)


@inlined
def triple_key(head, relation, tail, n_entities, n_relations):
    """One uint64 per triple, never 0."""
    return np.uint64((head * n_relations + relation) * n_entities + tail + 1)


@inlined
def _linear_hash(head, relation, tail):
    return np.uint64(head) * _OF_HEAD + np.uint64(relation) * _OF_RELATION + np.uint64(tail) * _OF_TAIL


@kernel
def fill_known(heads, relations, tails, n_entities, n_relations, known):
    """Put every triple into `known`: zeros, lengths powers of two, the table at most half full."""
    table, bitmap = known
    mask, bit_mask = np.uint64(table.shape[0] - 1), np.uint64(64 * bitmap.shape[0] - 1)
    for i in range(heads.shape[0]):
        h, r, t = np.int64(heads[i]), np.int64(relations[i]), np.int64(tails[i])
        bit = (_linear_hash(h, r, t) >> _HIGH) & bit_mask
        bitmap[bit >> _WORD_BITS] |= _ONE << (bit & _BIT_MASK)
        key = triple_key(h, r, t, n_entities, n_relations)
        slot = mix(key) & mask
        while table[slot] != _ABSENT and table[slot] != key:
            slot = (slot + _ONE) & mask
        table[slot] = key


@kernel
def _in_table(table, key):
    """Whether the key is in the table."""
    mask = np.uint64(table.shape[0] - 1)
    slot = mix(key) & mask
    while table[slot] != _ABSENT:
        if table[slot] == key:
            return True
        slot = (slot + _ONE) & mask
    return False


@inlined
def is_true(known, entity, broken_tail, head, relation, tail, n_entities, n_relations):
    """Whether the triple with `entity` in place of its tail (or else its head) is true."""
    table, bitmap = known
    if table.shape[0] == 0:
        return False
    h, t = (head, entity) if broken_tail else (entity, tail)
    bit = (_linear_hash(h, relation, t) >> _HIGH) & np.uint64(64 * bitmap.shape[0] - 1)
    if (bitmap[bit >> _WORD_BITS] >> (bit & _BIT_MASK)) & _ONE == _ABSENT:
        return False
    return _in_table(table, triple_key(h, relation, t, n_entities, n_relations))


@inlined
def mark_false(known, entities, broken_tail, head, relation, tail, n_entities, n_relations, marks):
    """marks[j] = 1 where `entities[j]` in place of the tail (or else the head) makes a broken triple, 0 a true one."""
    table, bitmap = known
    for j in range(entities.shape[0]):
        marks[j] = 1
    if table.shape[0] == 0:
        return
    zero, bit_mask = np.int64(0), np.uint64(64 * bitmap.shape[0] - 1)
    base = _linear_hash(head if broken_tail else zero, relation, zero if broken_tail else tail)
    factor = _OF_TAIL if broken_tail else _OF_HEAD
    for j in range(entities.shape[0]):
        bit = ((base + np.uint64(entities[j]) * factor) >> _HIGH) & bit_mask
        if (bitmap[bit >> _WORD_BITS] >> (bit & _BIT_MASK)) & _ONE != _ABSENT:
            h, t = (head, entities[j]) if broken_tail else (entities[j], tail)
            if _in_table(table, triple_key(h, relation, t, n_entities, n_relations)):
                marks[j] = 0
