"""Vectors of relations and values around users and items that stay where they are: a TransE fitted with those held
fixed, for what smooths vectors of a model that has none of its own for relations and values.

They are kept with the checkpoint of the model that starts from them: on a night without training what is known stays,
and only what is new is fitted.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jobs.arrays import NONE, TRAINED, Checkpoint
from jobs.embeddings.pretrain_transe import triples_of
from jobs.embeddings.training import Tonight, converging
from jobs.progress import Progress
from models.learning.initialisation import WarmStart
from models.transe_training import train_transe

_RELATIONS, _VALUES, _ROWS = "around.relations", "around.values", "around.rows"
_IMMOVABLE = np.float32(1e30)  # of an accumulator: a step is divided by its root


def start_of(tonight: Tonight) -> tuple[Checkpoint, dict[str, np.ndarray]]:
    """(the checkpoint that tonight's model starts from, with a vector for every relation and value; what the next night
    needs of them, for the model's own checkpoint).

    The fit has TransE's settings, but for the length of its vectors, which is that of those that stay, all of length 1.
    """
    night, source, config = tonight.night, tonight.source, tonight.config
    fixed = source.source != NONE
    entities, relations, entity_known, relation_known = _before(tonight, source, fixed)
    stays = np.where(fixed | (entity_known & (not tonight.trains)), _IMMOVABLE, np.float32(0))
    relation_stays = np.where(relation_known & (not tonight.trains), _IMMOVABLE, np.float32(0))
    if not (entity_known.all() and relation_known.all() and not tonight.trains):
        warm = WarmStart(
            entities, relations, entity_known, relation_known, *(s.astype(np.float32) for s in (stays, relation_stays)))
        own = dataclasses.replace(
            config.families["transe"], dimension=entities.shape[1], unit_norm=True, optimizer="adagrad",
            warm_accumulator_share=1.0)
        with Progress("TransE around it", own.epochs) as progress, converging("transe", config):
            state = train_transe(
                triples_of(night), own, seed=config.seed, deterministic=config.deterministic, initial=warm,
                progress=progress).state
        moves, relation_moves = stays == 0, relation_stays == 0
        entities[moves], relations[relation_moves] = state.entities[moves], state.relations[relation_moves]
    rows = np.flatnonzero(~fixed)
    extra = {_RELATIONS: relations, _VALUES: entities[rows], _ROWS: rows}
    whole = dataclasses.replace(
        source, entities=entities, relations=relations, source=np.where(fixed, source.source, TRAINED).astype(np.uint8))
    return whole, extra


def _before(
    tonight: Tonight, source: Checkpoint, fixed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(entities (n, d), relations (m, d), whether each has a vector (n,), (m,)): those that stay, and what was fitted
    before."""
    night, former = tonight.night, tonight.former
    entities, relations = source.entities.copy(), np.zeros_like(source.relations)
    known, relation_known = fixed.copy(), np.zeros(len(relations), bool)
    if former is None or former.extra.get(_VALUES, np.zeros((0, 0))).shape[1:] != entities.shape[1:]:
        return entities, relations, known, relation_known
    fitted = np.full((len(former.entity_id), entities.shape[1]), np.nan, np.float32)
    fitted[former.extra[_ROWS]] = former.extra[_VALUES]
    rows, there = former.rows_of(night)
    told = there & ~fixed & np.isfinite(fitted[rows]).all(axis=1)
    entities[told], known[told] = fitted[rows[told]], True
    relation_rows, relation_known = former.relation_rows_of(night)
    relations[relation_known] = former.extra[_RELATIONS][relation_rows[relation_known]]
    return entities, relations, known, relation_known
