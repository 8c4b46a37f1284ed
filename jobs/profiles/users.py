"""Everybody with a published vector, and the features that labels are predicted from."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import FeatureStore
from jobs.arrays import finite_matrix
from jobs.program import Input

if TYPE_CHECKING:
    from jobs.profiles.train_profiles import Config


@dataclass(frozen=True)
class Users:
    """Everybody with a vector: ids sorted by bytes, features float32 (n, F) with NaN where a model has none of the
    user, source of the vector."""

    user_id: pa.Array
    features: np.ndarray
    source: pa.Array


def read_users(date: datetime.date, models: list[str], user_embeddings: Input) -> Users:
    """The published vectors of `date`, side by side; a user's source is that of the first model that has the user.
    PartitionMissing."""
    root, _, view = user_embeddings.uri.rstrip("/").rpartition("/")
    store, columns = FeatureStore(root), ["user_id", "embedding", "source"]
    found = [store.read(view, model=model, dt=date.isoformat(), columns=columns) for model in models]
    raw = [one.table.column("user_id").cast(pa.string()).combine_chunks() for one in found]
    user_id = raw[0] if len(raw) == 1 else pc.unique(pa.chunked_array(raw))
    user_id = user_id.take(pc.sort_indices(user_id))
    parts, source = [], pa.nulls(len(user_id), pa.string())
    for model, one, ids in zip(models, found, raw, strict=True):
        where = user_embeddings.table(model).path(date.isoformat())
        at, matrix = pc.index_in(user_id, value_set=ids), finite_matrix(one.table.column("embedding"), where)
        parts.append(np.full((len(user_id), matrix.shape[1]), np.nan, np.float32))
        there = at.is_valid().to_numpy(zero_copy_only=False)
        parts[-1][there] = matrix[at.drop_null().to_numpy()]
        mine = one.table.column("source").cast(pa.string()).combine_chunks()
        source = pc.coalesce(source, mine.take(at))
    return Users(user_id, np.concatenate(parts, axis=1), source)


def with_baseline(
    users: Users, date: datetime.date, tables: tuple[Input, Input, Input, Input], config: Config
) -> Users:
    """The same users with lookalike's baseline as well. tables: knowledge_graph, interactions, entity_ids,
    relations."""
    from jobs.audiences.features import Eligible, baseline, choose_vocabulary
    from jobs.audiences.snapshot import Ledger, read_snapshot

    snapshot = read_snapshot(date, *tables, config.graph)
    user_id = users.user_id.cast(pa.large_string())
    everybody = Eligible(user_id, Ledger.read(tables[2].segments("user")).ids_of(user_id))
    look = config.lookalike
    vocabulary = choose_vocabulary(
        snapshot, everybody, look.history_attribute, config.graph.purchase, look.exclude_attributes)
    columns = baseline(snapshot, everybody, vocabulary, config.graph)
    return dataclasses.replace(users, features=np.concatenate([users.features, columns.values], axis=1))
