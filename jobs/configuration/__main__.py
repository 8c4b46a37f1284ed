"""Check a configuration: `python -m jobs.configuration FILE` prints a line and ends with 0, or 2 if it is wrong."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    options = argparse.ArgumentParser(prog="python -m jobs.configuration", description=__doc__.split("\n")[0])
    options.add_argument("file", type=Path, metavar="FILE", help="the YAML file that the DAG or --config names")
    given = options.parse_args(argv)
    try:
        settings = load_settings(given.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.file}: all is well; data root {settings.data_root}, models {', '.join(settings.publishing.models)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
