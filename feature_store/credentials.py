"""AWS credentials from the usual files, which obstore does not read: a section of ~/.aws/credentials or ~/.aws/config.

All else (environment, a pod's service account, a machine's role) is obstore's own.
"""

import configparser
import datetime
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feature_store.errors import StorageRefused

_FRESH_SECONDS = 60  # files are read again, since somebody may have put new credentials there
_OTHER_SOURCES = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                  "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SKIP_SIGNATURE")  # fmt: skip
Provider = Callable[[], dict[str, Any]]


def aws_provider(profile: str | None) -> Provider | None:
    """What reads a section's credentials whenever they are needed; None where obstore finds them by itself.

    A section that is named, here or by AWS_PROFILE, is what counts; `default` counts where nothing else does.
    StorageRefused for a section that is not there, or that holds no credentials.
    """
    profile = profile or os.environ.get("AWS_PROFILE")
    if profile is None:
        if any(os.environ.get(name) for name in _OTHER_SOURCES) or not _section("default"):
            return None
        profile = "default"
    section = _section(profile)
    if not section:
        there = ", ".join(sorted(_sections())) or "none"
        raise StorageRefused(
            f"Found no section {profile!r} in {_path('credentials')} and {_path('config')}; there are: {there}. "
            "Name one that is there (`profile`, AWS_PROFILE), or add it."
        )
    if not {"aws_access_key_id", "credential_process"} & set(section):
        return _by_boto3(profile)

    def read() -> dict[str, Any]:
        return _credentials(profile, _section(profile))

    read()
    return read


def _credentials(profile: str, section: dict[str, str]) -> dict[str, Any]:
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=_FRESH_SECONDS)
    if "aws_access_key_id" in section:
        return {
            "access_key_id": section["aws_access_key_id"],
            "secret_access_key": section.get("aws_secret_access_key", ""),
            "token": section.get("aws_session_token") or None,
            "expires_at": until,
        }
    try:
        command = shlex.split(section.get("credential_process", ""))
        found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        if expires := found.get("Expiration"):
            until = datetime.datetime.fromisoformat(expires).astimezone(datetime.UTC)
        return {
            "access_key_id": found["AccessKeyId"],
            "secret_access_key": found["SecretAccessKey"],
            "token": found.get("SessionToken"),
            "expires_at": until,
        }
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise StorageRefused(
            f"The credential_process of the section {profile!r} gave no credentials ({type(error).__name__}). "
            "Run it by hand to see why."
        ) from None


def _by_boto3(profile: str) -> Provider:
    """For sections with roles and single sign-on."""
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError as error:
        raise StorageRefused(
            f"The section {profile!r} of the AWS files holds no keys but a role or a sign-on, which boto3 resolves, "
            "and boto3 is not installed here: pip install boto3, or name a section that has keys."
        ) from error
    return Boto3CredentialProvider(boto3.Session(profile_name=profile))


def _path(name: str) -> Path:
    variable = {"credentials": "AWS_SHARED_CREDENTIALS_FILE", "config": "AWS_CONFIG_FILE"}[name]
    return Path(os.environ.get(variable) or Path.home() / ".aws" / name)


def _sections() -> dict[str, dict[str, str]]:
    """By name; what both files say of one is put together, the credentials' file first."""
    found: dict[str, dict[str, str]] = {}
    for name in ("config", "credentials"):
        parser = configparser.RawConfigParser(strict=False, default_section="\0")
        try:
            parser.read_string(_path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        except configparser.Error as error:
            raise StorageRefused(
                f"{_path(name)} is no file of AWS settings ({type(error).__name__}). Mend it: [section], then "
                "lines like `aws_access_key_id = …`."
            ) from None
        for section in parser.sections():
            found.setdefault(section.removeprefix("profile "), {}).update(parser.items(section))
    return found


def _section(profile: str) -> dict[str, str]:
    return _sections().get(profile, {})
