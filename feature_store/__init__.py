"""Nocturne's feature store: Parquet partitions with atomic commits. Needs pyarrow, numpy and xxhash only."""

from feature_store.commit import Commit
from feature_store.content import content_hash
from feature_store.leases import Lease, Leases
from feature_store.manifest import FileEntry, Manifest
from feature_store.segments import Segments
from feature_store.store import FeatureStore
from feature_store.table import Table
from feature_store.view import Features

__all__ = [
    "Commit", "FeatureStore", "Features", "FileEntry", "Lease", "Leases", "Manifest", "Segments", "Table",
    "content_hash"]
