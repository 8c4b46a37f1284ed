"""Starts every program of an image with `--help`, in that image: `make check-images` runs this text there.

`python - IMAGE < docker/start_programs.py` prints a line and ends with 1 if one does not start.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

VERBS = ("list", "describe", "read", "verify", "rollback", "delete", "prune", "copy")
READER = [["store"], *(["store", verb] for verb in VERBS), ["configuration"]]


def programs(image: str) -> list[list[str]]:
    """Command lines of the image, without `--help`."""
    if image == "reader":
        return [["nocturne", *words] for words in READER]
    if image == "airflow":
        return [["airflow"], ["nocturne", "configuration"], ["nocturne", "store", "describe"]]
    from jobs.command import COMMANDS, job_names

    known = [[name] for name in COMMANDS] + [["job", name] for name in job_names()]
    return [["nocturne", *words] for words in known] + ([["airflow"]] if image == "laptop" else [])


def started(command: list[str]) -> str | None:
    """None where it starts; else what it said."""
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, cwd="/tmp")
    fine = done.returncode == 0 and "usage" in done.stdout.lower()
    return None if fine else f"{' '.join(command)}: exit status {done.returncode}: {done.stderr[-500:]}"


def main() -> int:
    image = sys.argv[1]
    commands = programs(image)
    with ThreadPoolExecutor(2) as pool:
        wrong = [said for said in pool.map(started, commands) if said]
    if os.getuid() == 0:
        wrong.append("it runs as root")
    unwanted = {"airflow": ("pyspark", "torch"), "jobs": ("nvidia",), "laptop": ("nvidia",)}.get(image, ())
    wrong += [f"{name} is in it" for name in unwanted if importlib.util.find_spec(name)]
    print("\n".join([*wrong, f"{image}: {len(commands)} programs start, {len(wrong)} faults"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
