"""Check a configuration: `python -m jobs.configuration FILE` prints a line and ends with 0, or 2 if it is wrong.

With `--look-for URI…`, for whoever waits and has no client for an object store, it prints the first that is there, and
ends with 75 where none is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from feature_store.disk import open_disk
from feature_store.errors import StoreError
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.settings import Settings
from models.families import family_of

FAILED, NOT_YET = 1, 75  # as jobs/program.py has them


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    options = argparse.ArgumentParser(prog="python -m jobs.configuration", description=__doc__.split("\n")[0])
    options.add_argument("file", type=Path, metavar="FILE", help="the YAML file that the DAG or --config names")
    options.add_argument("--look-for", nargs="+", metavar="URI", help="files of which one is waited for")
    given = options.parse_args(argv)
    try:
        settings = load_settings(given.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if given.look_for:
        return look_for(given.look_for)
    for told in idle(settings):
        print(f"warning: {told}", file=sys.stderr)
    print(f"{given.file}: all is well; data root {settings.data_root}, models {', '.join(settings.publishing.models)}")
    return 0


def idle(settings: Settings) -> list[str]:
    """What the sections of published families hold that changes nothing, in sentences."""
    families = dict.fromkeys(family_of(model).name for model in settings.publishing.models)
    sections = [settings.families[name] for name in families]
    return [told for one in sections if hasattr(one, "idle") for told in one.idle(settings.publishing.models)]


def look_for(uris: list[str]) -> int:
    """The exit status. FAILED for a store that refuses."""
    try:
        found = next((uri for uri in uris if is_there(uri)), None)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    print(found or "none of them is there")
    return 0 if found else NOT_YET


def is_there(uri: str) -> bool:
    """Whether a file or a folder is there."""
    disk, path = open_disk(uri, None)
    return disk.exists(path)


if __name__ == "__main__":
    sys.exit(main())
