"""Names on disk, and the checks that no name can leave its folder.

<uri>/<key>=<value>/part-00000-<unique>.parquet      data, immutable
                    _manifest.json                   the commit: what it names is the partition
                    _SUCCESS                         for engines that look for it; says nothing to us
                    _lock                            flock + who holds it
                    _retired/0001-<hash>/            replaced versions, for rollback
<uri>/segment-00000001.parquet                       ledgers (segments.py)
"""

import datetime
import re
import uuid

from feature_store.errors import BadName

MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
LOCK = "_lock"
RETIRED = "_retired"
# Retired files carry it, so that no recursive glob for *.parquet ever finds them.
RETIRED_SUFFIX = ".retired"
TEMPORARY_PREFIX = ".tmp-"
DATE_KEYS = ("dt", "day")

_MODEL = re.compile(r"[a-z0-9_]{1,100}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
_HINT = re.compile(r"[A-Za-z0-9_-]{0,64}")
_PART = re.compile(r"part-\d{5}-((?P<hint>[A-Za-z0-9_-]{1,64})-)?[0-9a-f]{32}(?P<suffix>(\.[A-Za-z0-9]{1,16}){1,2})")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16}){1,2}")


def root_meant_by(path: str) -> str:
    """Whoever names the feature store itself means the root around it: lineage reaches beyond the store. So no root may
    be called that: configurations and copies refuse it."""
    return path.removesuffix("/feature_store")


def check_model(name: str) -> str:
    """A model or view name: `[a-z0-9_]+`."""
    if not isinstance(name, str) or not _MODEL.fullmatch(name):
        raise BadName(
            f"Found the model or view name {name!r}; expected lower-case letters, digits and _ only, like 'my_model'."
        )
    return name


def is_model(name: str) -> bool:
    """Whether a folder found on the disk may be a model's or a view's."""
    return bool(_MODEL.fullmatch(name))


def check_key(key: str) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise BadName(f"Found the partition key {key!r}; expected lower-case letters, digits and _, like 'dt'.")
    return key


def check_value(key: str, value: str) -> str:
    """A partition value; under `dt` and `day` an ISO date. Refuses everything that could leave the folder."""
    if key in DATE_KEYS:
        return check_date(key, value)
    if not isinstance(value, str) or not _VALUE.fullmatch(value) or ".." in value:
        raise BadName(
            f"Found the value {value!r} for {key}; expected letters, digits and _.+- (no slash, no '..'), at most 128."
        )
    return value


def is_partition(name: str) -> bool:
    """Whether a folder's name is `<key>=<value>`, both as ours are."""
    key, _, value = name.partition("=")
    return bool(_KEY.fullmatch(key)) and is_value(key, value)


def is_value(key: str, value: str) -> bool:
    """Whether a folder found on the disk may be one of ours."""
    try:
        return bool(check_value(key, value))
    except BadName:
        return False


def check_date(key: str, value: str) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    try:
        if isinstance(value, str) and datetime.date.fromisoformat(value).isoformat() == value:
            return value
    except ValueError:
        pass  # said below, with what was expected
    raise BadName(f"Found the value {value!r} for {key}; expected a date that exists, written like '2026-01-05'.")


def part_name(number: int, suffix: str, hint: str = "") -> str:
    """A unique file name; sorts by `number`, so that a glob finds the rows in their order."""
    if not _SUFFIX.fullmatch(suffix) or suffix in (RETIRED_SUFFIX, ".crc"):
        raise BadName(f"Found the file suffix {suffix!r}; expected a dot and letters or digits, like '.safetensors'.")
    if not _HINT.fullmatch(hint):
        raise BadName(f"Found the name hint {hint!r}; expected at most 64 letters, digits, _ and -.")
    return f"part-{number:05d}-{hint + '-' if hint else ''}{uuid.uuid4().hex}{suffix}"


def part_hint(name: str) -> tuple[str, str]:
    """(hint, suffix) of a name that `part_name` made. BadName."""
    found = _PART.fullmatch(name)
    if not found:
        raise BadName(f"Found the file name {name!r}; expected one like 'part-00000-<hint>-<unique>.csv'.")
    return found["hint"] or "", found["suffix"]


def is_plain_name(name: str) -> bool:
    """True for a file name that a manifest may hold: no folder, not hidden, not one of ours."""
    return bool(name) and not name.startswith((".", "_")) and "/" not in name and "\\" not in name and "\0" not in name


def rerun_command(first: str, last: str) -> str:
    """What runs the nights from `first` to `last` again, one at a time, oldest first, whatever started them before."""
    return (
        f"airflow backfill create --dag-id nightly_user_embeddings --from-date {first} --to-date {last} "
        "--max-active-runs 1 --reprocess-behavior completed"
    )
