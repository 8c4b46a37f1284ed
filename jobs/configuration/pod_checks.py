"""Rules of the section `pods` that reach into others: what a pod finds, and no key in plain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jobs.command import job_names
from jobs.configuration.messages import expect, joined
from jobs.configuration.pods import FOLDER, NAME
from jobs.configuration.ranges import is_far

if TYPE_CHECKING:
    from jobs.configuration.settings import Settings

SCRATCH = "/tmp"
SECRET_KEY = re.compile(
    r"(secret|passw(or)?d|passphrase|token|credential|(access|private|api|account|sas)[._-]?key|[._-]sas([._-]|$))",
    re.IGNORECASE)
# settings that say where a secret is, or how one is got, and hold none
NO_SECRET = re.compile(
    r"(file|path|ref(\.\w+)?|provider|providers|class|enabled|renewal\.\w+)$|^spark\.kubernetes\.(driver|executor)"
    r"\.secret(s|KeyRef)\.", re.IGNORECASE)
WITH_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]*@")
REFERENCE = re.compile(r"\$\{env[.:]\w+\}")
# options of Java and addresses that hold one among other things: …password=…, user:password@host
SECRET_WITHIN = re.compile(
    r"(secret|passw(or)?d|passphrase|token|(access|private|api|account)[._-]?key|[?&]sig)"
    r"\s*=\s*[\"']?(?!\$\{env[.:])[^\s;&\"']"
    r"|://[^/\s:@]+:(?!\$\{env[.:])[^/\s@]+@", re.IGNORECASE)


def check_pods(settings: Settings) -> None:
    """ConfigError for what a pod would not find, and a job that there is none of."""
    pods = settings.pods
    if pods is None:
        return
    names = sorted({name.rpartition(".")[2] for name in job_names()})
    for name in pods.jobs:
        expect(name in names, name, f"pods.jobs.{name}", f"a job's name: {', '.join(names)}")
    for key in ("secrets", "pull_secrets"):
        for i, name in enumerate(getattr(pods, key)):
            expect(NAME.holds(name), name, f"pods.{key}[{i}]", f"the name of a Secret: {NAME.wanted}")
    outside = f"a folder outside {SCRATCH}, which is a pod's own"
    expect(not is_below(pods.mount, SCRATCH), pods.mount, "pods.mount", outside)
    for folder, claim in pods.lakes.items():
        expect(FOLDER.holds(folder), folder, f"pods.lakes.{folder}", FOLDER.wanted)
        expect(not is_below(folder, pods.mount), folder, f"pods.lakes.{folder}", f"a folder outside {pods.mount}")
        expect(not is_below(folder, SCRATCH), folder, f"pods.lakes.{folder}", outside)
        expect(NAME.holds(claim), claim, f"pods.lakes.{folder}", f"a claim's name: {NAME.wanted}")
    seen = [*([pods.mount] if pods.claim else []), *pods.lakes]
    root = settings.data_root.removeprefix("file://")
    if not is_far(root):
        wanted = "a claim that holds the data root; without one that is on an object store"
        expect(pods.claim is not None, None, "pods.claim", wanted)
        expect(is_below(root, pods.mount), root, "data_root", f"pods.mount ({pods.mount}) or a folder below it")
    for path, place in _read_by_jobs(settings):
        if is_far(place):
            continue
        wanted = f"an absolute path in what a pod mounts: {', '.join(seen)}"
        expect(any(is_below(place, folder) for folder in seen), place, path, wanted)


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path is the folder, or lies in it, also after its `..` are followed."""
    inside = path == folder or path.startswith(f"{folder}/")
    return inside and ".." not in path.split("/")


def _read_by_jobs(settings: Settings) -> Iterator[tuple[str, str]]:
    """(dotted key, path) of every file that the configuration names."""
    source, lookalike = settings.source, settings.lookalike
    yield from ((f"{setting}.path", table.path) for setting, table in source.tables.items())
    named: Mapping[str, str | None] = {
        "source.ready_marker": source.ready_marker, "lookalike.suppress": lookalike.suppress,
        **{f"lookalike.campaigns.{name}.suppress": one.suppress for name, one in lookalike.campaigns.items()}}
    yield from ((key, path) for key, path in named.items() if path)


def check_addresses(value: Any, path: str = "") -> None:
    """ConfigError, which does not repeat it, for an address anywhere in the document that holds a password. Spark's
    own settings are looked at below."""
    if isinstance(value, dict):
        for key, one in value.items():
            check_addresses(one, joined(path, key))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            check_addresses(one, f"{path}[{i}]")
    elif isinstance(value, str) and not path.startswith("spark.conf."):
        wanted = "an address without a key: credentials come from the environment, ~/.aws/credentials or the pod's role"
        expect(not WITH_PASSWORD.search(value), "…", path, wanted)


def check_no_key_in_plain(settings: Settings) -> None:
    """ConfigError for a setting of Spark that holds a secret itself: the file is read by many and lies in logs."""
    for key, value in settings.spark.conf.items():
        named = SECRET_KEY.search(key) and not NO_SECRET.search(key) and value and not REFERENCE.fullmatch(value)
        plain = named or SECRET_WITHIN.search(value)
        expect(not plain, "…", f"spark.conf.{key}", "no key in plain: name an environment variable, ${env.NAME} in "
               "Hadoop's settings, ${env:NAME} in Spark's own, which a Secret fills (pods.secrets)")  # fmt: skip
