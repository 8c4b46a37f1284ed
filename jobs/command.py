"""One name for what a person runs: `nocturne COMMAND …` is `python -m MODULE …`, the same program with the same exit
status. Nothing of a program is read before it is the one that was asked for.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ("--config", str(ROOT / "jobs" / "configs" / "demo.yaml"), "--folder", str(ROOT / "demo"), "--generate")
OURS = {"dags", "feature_store", "jobs", "models"}
# Jobs that no model family names; a test compares them with what there is.
JOBS = (
    "audiences.find_audience", "audiences.resolve_request", "audiences.score_lookalike", "audiences.train_lookalike",
    "embeddings.publish_users", "embeddings.resolve_predecessor", "erase_users", "events.validate_events",
    "graphs.assign_ids", "graphs.build_attributes", "graphs.build_graphs", "graphs.build_interactions",
    "graphs.build_knowledge_graph",
    "graphs.build_sequences", "graphs.build_user_activity", "profiles.read_labels", "profiles.train_profiles",
    "prune_partitions", "recommendations.recommend_items", "report.write_report", "size_pods")  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A program, what it is given before the caller's own arguments, and what it does in a line."""

    module: str
    about: str
    given: tuple[str, ...] = ()


COMMANDS = {
    "demo": Command("jobs.run_nights", "the demo log, three nights a week apart, and what came out", DEMO),
    "nightly": Command("jobs.run_nights", "nights of a configuration, without a scheduler"),
    "audience": Command("jobs.audiences.find_audience", "the users who are most like a list of seeds, or a client's"),
    "configuration": Command("jobs.configuration", "check a configuration file"),
    "store": Command("feature_store", "list, describe, read, verify, roll back, prune, copy what a data root holds"),
    "import": Command("jobs.events.import_dataset", "bring a known data set, or any table, into the form of a source"),
    "look": Command("jobs.events.look", "what sources hold, how they are understood, what would be rejected"),
    "generate": Command("jobs.events.generate_demo", "the demo log alone"),
}
MORE = (
    ("job", "one task's program by its name, such as graphs.build_graphs; `nocturne job --help` lists them"),
    ("completion", 'what makes a shell complete these words: eval "$(nocturne completion bash)"'),
)
SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status where the program does not end the process itself."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        return complete()
    asked = list(sys.argv[1:] if argv is None else argv)
    found = program(asked)
    if found is not None:
        return run(*found)
    if asked[:1] == ["completion"]:
        print(completion(completion_parser().parse_args(asked[1:]).shell))
    elif asked[:1] == ["job"]:
        job_parser().parse_args(asked[1:])
    else:
        parser().parse_args(asked or ["--help"])
    return 0


def program(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """(module, arguments) of the program that the words name; None where they name none."""
    first, second = (*words, "", "")[:2]
    if first in COMMANDS:
        command = COMMANDS[first]
        return command.module, [*command.given, *words[1:]]
    if first == "job" and second in job_names():
        return f"jobs.{second}", list(words[2:])
    return None


def run(module: str, arguments: Sequence[str]) -> int:
    """The program as `python -m` would run it, in this process."""
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS or not package or importlib.util.find_spec(package):
            raise
        print(f"{module} needs the package {package}, which is not installed here. The base install brings the store "
              "alone; pip install 'nocturne[all]' brings the rest.", file=sys.stderr)  # fmt: skip
        return 2
    return 0


def job_names() -> tuple[str, ...]:
    """Every job below `jobs`, those of the model families with them."""
    from models.families import FAMILIES

    of_families = {job.program for family in FAMILIES for job in family.jobs}
    return tuple(sorted({*JOBS, *of_families}))


def parser() -> argparse.ArgumentParser:
    """The first word; what follows it is the program's own."""
    result = argparse.ArgumentParser(
        prog="nocturne", description="The pipeline's programs under one name.",
        epilog="nocturne COMMAND --help says more of a command.",
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=20))  # fmt: skip
    result.add_argument("--version", action="version", version=f"nocturne {installed_version()}")
    known = result.add_subparsers(required=True, metavar="COMMAND")
    for name, about in [*((name, command.about) for name, command in COMMANDS.items()), *MORE]:
        known.add_parser(name, help=about)
    return result


def job_parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="nocturne job", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the program of one task: `nocturne job NAME …` is `python -m jobs.NAME …`.",
        epilog="jobs:\n  " + "\n  ".join(job_names()))  # fmt: skip
    result.add_argument("name", metavar="NAME", choices=job_names())
    return result


def completion_parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="nocturne completion", description="Print what makes a shell complete nocturne's words and options.")
    result.add_argument("shell", choices=SHELLS)
    return result


def completion(shell: str) -> str:
    """Source text for the shell's start-up file."""
    import argcomplete

    return argcomplete.shellcode(["nocturne"], shell=shell)


def complete() -> int:
    """Answer the shell: of the program's own parser once one is named, else of the first words."""
    import argcomplete
    from argcomplete.lexers import split_line

    _, _, _, words, _ = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    before = words[1:]  # the word that is being typed is none of them
    first = {"job": job_parser, "completion": completion_parser}.get((*before, "")[0], parser)
    found = program(before)
    named = 0 if found is None and first is parser else 2 if found and before[0] == "job" else 1
    os.environ["_ARGCOMPLETE"] = str(1 + named)  # of the words, those that a parser does not see
    if found is None:
        argcomplete.autocomplete(first())
        return 0
    # every program parses its arguments with parse_args; in a process that exists to be asked, that is where it answers
    argparse.ArgumentParser.parse_args = lambda self, *_: argcomplete.autocomplete(self)
    return run(found[0], [])


def installed_version() -> str:
    """Of the package; `unknown` where it runs from its sources alone."""
    try:
        return version("nocturne")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
