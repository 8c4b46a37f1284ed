"""How delta-rs and pyiceberg are told of an object store: as the configuration has it, and with the credentials of the
usual AWS files, which neither of them is asked to find.
"""

from __future__ import annotations

import os

from feature_store.credentials import aws_provider
from feature_store.known_stores import storage_of
from feature_store.storage import Storage
from jobs.configuration.ranges import is_far

KEYS = ("access_key_id", "secret_access_key", "token")  # as a provider calls them


def delta_options(path: str) -> dict[str, str] | None:
    """None for a local path; else what the environment does not say. StoreError: no such profile."""
    if not is_far(path):
        return None
    storage = storage_of(path) or Storage()
    if not path.startswith("s3"):
        named = {"azure_storage_account_name": storage.account, "azure_storage_endpoint": storage.endpoint}
        return {name: value for name, value in named.items() if value}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    endpoint = _endpoint(storage)
    told = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": storage.region} | _credentials(storage, names)
    if endpoint and endpoint.startswith("http://"):
        told["AWS_ALLOW_HTTP"] = "true"
    if storage.virtual_hosted:
        told["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "true"
    return {name: value for name, value in told.items() if value}


def iceberg_options(path: str) -> dict[str, str]:
    """Nothing for a local path."""
    if not is_far(path):
        return {}
    storage = storage_of(path) or Storage()
    names = ("s3.access-key-id", "s3.secret-access-key", "s3.session-token")
    told = {"s3.endpoint": _endpoint(storage), "s3.region": storage.region} | _credentials(storage, names)
    if storage.virtual_hosted:
        told["s3.force-virtual-addressing"] = "true"
    return {name: value for name, value in told.items() if value}


def _endpoint(storage: Storage) -> str | None:
    return storage.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _credentials(storage: Storage, names: tuple[str, ...]) -> dict[str, str | None]:
    """Of the AWS files; empty where the libraries find others by themselves."""
    provider = aws_provider(storage.profile)
    found = provider() if provider else {}
    return {name: found.get(key) for name, key in zip(names, KEYS, strict=True)}
