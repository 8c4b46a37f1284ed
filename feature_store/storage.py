"""Which object store, in plain settings that may stand in a configuration: never a key.

Credentials come from where the cloud's own tools take them: the environment, the usual AWS files (`profile` names a
section of theirs), a pod's service account, a machine's role.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from feature_store.errors import StoreError

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "azure": "az", "abfs": "az", "abfss": "az"}
_WHERE_KEYS_GO = (
    "Credentials come from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY), from ~/.aws/credentials (name its section with "
    "`profile`), or from the role of the pod or the machine. Remove it here, and replace the key if others saw it."
)
_SECRET_NAMES = re.compile(
    r"secret|password|passwd|token|credential|access_?key|account_?key|api_?key|private_?key|sas|signature", re.I
)
_SECRET_IN_URIS = (
    r"(?<![A-Z0-9])(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}(?![A-Z0-9])"  # an AWS access key's id
    r"|[?&;](?:sig|X-Amz-Signature|AccountKey)="
    r"|//[^/@\s]*:[^/@\s]*@"  # user:password@host
)
_SECRET_TEXTS = (
    rf"{_SECRET_IN_URIS}|-----BEGIN"
    r"|(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"  # an AWS secret key, and the path of many a table
    r"|[A-Za-z0-9/+]{86}=="  # an Azure account key
)


@dataclass(frozen=True)
class Storage:
    """Where the bucket is and how it is spoken to; what is left out comes from the cloud's own settings.

    endpoint: URL of an S3-compatible server, or of an emulator of another; None: the cloud's own. region: of the
    bucket. profile: section of the AWS files. virtual_hosted: `bucket.host/key` in place of `host/bucket/key`.
    encryption: `AES256` or `aws:kms`, with kms_key_id (its name, which is no secret). lease_seconds: how long a writer
    that was killed keeps others waiting. timeout_seconds: of one request; retry_seconds: for how long a request that
    failed for a passing reason is tried again; 0 never. account: the Azure storage account.
    StoreError for a value that is not of its kind, or that is a key.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    account: str | None = None
    virtual_hosted: bool = False
    encryption: str | None = None
    kms_key_id: str | None = None
    lease_seconds: float = 30.0
    timeout_seconds: float = 60.0
    retry_seconds: float = 60.0

    def __post_init__(self) -> None:
        for one in fields(self):
            _check(one.name, getattr(self, one.name), one.type)
        if self.endpoint is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", self.endpoint):
            raise StoreError(f"Found the endpoint {self.endpoint!r}; expected a URL like 'https://s3.example.com'.")
        if self.encryption not in (None, "AES256", "aws:kms", "aws:kms:dsse"):
            raise StoreError(f"Found the encryption {self.encryption!r}; expected 'AES256', 'aws:kms' or none.")

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "Storage":
        """From a configuration's section. StoreError for a name that is unknown, or that of a secret."""
        known = [one.name for one in fields(cls)]
        for name in settings:
            if name not in known and _SECRET_NAMES.search(str(name)):
                raise StoreError(f"Found {name!r} among the settings of the object store. {_WHERE_KEYS_GO}")
            if name not in known:
                raise StoreError(f"Found the setting {name!r} of the object store; it has {', '.join(known)}.")
        return cls(**settings)


def check_no_secret(where: str, text: str, is_uri: bool = False) -> None:
    """StoreError, which does not repeat it, for a text that holds a key."""
    if re.search(_SECRET_IN_URIS if is_uri else _SECRET_TEXTS, text):
        raise StoreError(f"{where} holds what looks like a key in plain. {_WHERE_KEYS_GO}")


def _check(name: str, value: object, kind: Any) -> None:
    if kind is bool:
        fits = isinstance(value, bool)
    elif kind is float:
        least = 0 if name == "retry_seconds" else 0.1
        fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= 86_400
    else:
        fits = value is None or (isinstance(value, str) and bool(value.strip()))
        if isinstance(value, str):
            check_no_secret(f"The object store's setting {name!r}", value)
    if not fits:
        raise StoreError(f"Found {value!r} as the object store's {name}; expected {_expected(name, kind)}.")


def _expected(name: str, kind: Any) -> str:
    if kind is bool:
        return "true or false"
    if kind is float:
        return f"seconds, from {0 if name == 'retry_seconds' else 0.1} to 86400"
    return "a text"
