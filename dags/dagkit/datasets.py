"""Where the tables lie, and the Assets that tell others of a published partition.

The folders are those of `jobs/tables.py`, which a DAG must not import (a test compares the two). A table that has one
part per model, type or stage is named by the folder above its parts.
"""

from __future__ import annotations

from airflow.sdk import Asset

from dagkit.settings import Settings

FOLDERS = {
    "clean_events": "clean_events",
    "rejected_events": "rejected_events",
    "entity_ids": "entity_ids",
    "relations": "relations",
    "knowledge_graph": "knowledge_graph",
    "interactions": "interactions",
    "user_activity": "user_activity",
    "attributes": "attributes",
    "sequences": "sequences",
    "user_labels": "user_labels",
    "checkpoints": "checkpoints",
    "entity_embeddings": "entity_embeddings",
    "user_embeddings": "feature_store/user_embeddings",
    "canaries": "canaries",
    "lookalike_models": "lookalike_models",
    "lookalike_scores": "lookalike_scores",
    "audiences": "audiences",
    "audience_reasons": "audience_reasons",
    "requested_audiences": "requested_audiences",
    "attention": "attention",
    "profile_predictions": "profile_predictions",
    "recommendations": "recommendations",
    "predicted_relations": "predicted_relations",
    "run_metrics": "run_metrics",
    "reports": "reports",
    "erasures": "erasures",
    "nights": "nights",
}


def uri(settings: Settings, table: str) -> str:
    """The folder of a table, as the jobs' options take it."""
    return f"{settings.data_root}/{FOLDERS[table]}"


def user_embeddings(settings: Settings, model: str) -> Asset:
    """Published user vectors of one model; an event's `extra` holds their `dt`."""
    return _asset(f"user_embeddings.{model}", f"{uri(settings, 'user_embeddings')}/model={model}")


def audiences(settings: Settings) -> Asset:
    """The nightly prospects of all clients; an event's `extra` holds their `dt`."""
    return _asset("audiences", uri(settings, "audiences"))


def profile_predictions(settings: Settings) -> Asset:
    """Every user's probable classes of the configured labels; an event's `extra` holds their `dt`."""
    return _asset("profile_predictions", uri(settings, "profile_predictions"))


def reports(settings: Settings) -> Asset:
    """The night's page; an event's `extra` holds its `dt`."""
    return _asset("reports", uri(settings, "reports"))


def _asset(name: str, location: str) -> Asset:
    return Asset(name=name, uri=location if "://" in location else f"file://{location}", group="nocturne")
