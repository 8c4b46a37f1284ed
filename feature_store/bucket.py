"""A data root's bucket: from `s3://bucket/prefix` and plain settings to obstore's client, one for each in a process."""

import copyreg
import dataclasses
import datetime
import functools
import os
import posixpath
from typing import TYPE_CHECKING, Any

from feature_store.errors import BadName, CannotWrite
from feature_store.storage import SCHEMES, Storage, check_no_secret

if TYPE_CHECKING:
    from feature_store.object_store import ObjectStore

_LARGE_PUT_SECONDS = 1_800.0
_OF_CLOUDS = ("AWS_", "GOOGLE_", "AZURE_")
_NEEDS_OBSTORE = (
    "{} lies on an object store, and the package obstore, which speaks to those, is not installed here: "
    "pip install 'nocturne[s3]'. What was published before is unchanged."
)


def is_object_uri(uri: str) -> bool:
    """Whether it names a bucket: s3://, gs://, az:// and their other spellings."""
    return uri.partition("://")[0] in SCHEMES and "://" in uri


def open_bucket(uri: str, storage: Storage) -> "tuple[ObjectStore, str]":
    """The object store and the whole, plain URI. StoreError for a name that is none, or that holds a key; CannotWrite
    where obstore is missing."""
    check_no_secret("The data root's URI", uri, is_uri=True)
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not bucket or any(mark in rest for mark in "?#@\\\0") or set(prefix.split("/")) & {".", ".."}:
        raise BadName(f"Found the URI {uri!r}; expected scheme://bucket/prefix, like 's3://bucket/nocturne'.")
    root = f"{SCHEMES[scheme]}://{bucket}"
    prefix = posixpath.normpath(prefix).strip("/") if prefix.strip("/") else ""
    environment = tuple(sorted((name, text) for name, text in os.environ.items() if name.startswith(_OF_CLOUDS)))
    return _opened(root, storage, environment, os.getpid()), f"{root}/{prefix}".rstrip("/")


@functools.lru_cache(maxsize=32)
def _opened(root: str, storage: Storage, environment: tuple[tuple[str, str], ...], process: int) -> "ObjectStore":
    """One for each process, since a client does not survive a fork, and for each state of the environment."""
    try:
        import obstore.store
    except ModuleNotFoundError as error:
        raise CannotWrite(_NEEDS_OBSTORE.format(root)) from error
    from feature_store.object_store import ObjectStore

    copyreg.pickle(ObjectStore, _packed)
    scheme, _, name = root.partition("://")
    make = {"s3": _s3, "gs": _gcs, "az": _azure}[scheme]
    patient = dataclasses.replace(storage, timeout_seconds=max(storage.timeout_seconds, _LARGE_PUT_SECONDS))
    return ObjectStore(make(obstore.store, name, storage), root, storage, make(obstore.store, name, patient))


def _packed(store: "ObjectStore") -> tuple:
    """A client does not travel: another process opens its own, with the credentials that it has."""
    return _unpacked, (store.root, store.storage)


def _unpacked(root: str, storage: Storage) -> "ObjectStore":
    return open_bucket(root, storage)[0]


def _s3(stores: Any, name: str, storage: Storage) -> Any:
    from feature_store.credentials import aws_provider

    endpoint = storage.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings = {
        "endpoint": endpoint,
        "region": storage.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        "server_side_encryption": storage.encryption,
        "sse_kms_key_id": storage.kms_key_id,
    }
    return stores.S3Store(
        name,
        **{key: value for key, value in settings.items() if value},
        virtual_hosted_style_request=storage.virtual_hosted,
        credential_provider=aws_provider(storage.profile),
        **_requests(storage, endpoint),
    )


def _gcs(stores: Any, name: str, storage: Storage) -> Any:
    return stores.GCSStore(name, **_requests(storage, storage.endpoint))


def _azure(stores: Any, name: str, storage: Storage) -> Any:
    settings = {"account_name": storage.account, "endpoint": storage.endpoint}
    given = {key: value for key, value in settings.items() if value}
    return stores.AzureStore(name, **given, **_requests(storage, storage.endpoint))


def _requests(storage: Storage, endpoint: str | None) -> dict[str, Any]:
    """How long a request may take, and how long one that failed for a passing reason is tried again."""
    seconds = datetime.timedelta(seconds=storage.timeout_seconds)
    retrying = datetime.timedelta(seconds=storage.retry_seconds)
    return {
        "client_options": {
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "timeout": seconds,
            "connect_timeout": min(seconds, datetime.timedelta(seconds=10)),
        },
        "retry_config": {"max_retries": 10 if storage.retry_seconds else 0, "retry_timeout": retrying},
    }
