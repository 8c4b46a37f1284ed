"""`nocturne`: the same programs under one name, quick to ask, completed by a shell, told by its version."""

from __future__ import annotations

import configparser
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import command, run_nights

ROOT = Path(__file__).resolve().parents[2]
CALLS = [["demo"], ["nightly"], ["audience"], ["configuration"], ["import"], ["look"], ["generate"], ["store"],
         *(["store", verb] for verb in ("list", "describe", "read", "verify", "rollback", "delete", "prune")),
         ["job", "prune_partitions"]]  # fmt: skip


def told(*command: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"} | (environment or {}))  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_help_of_every_command_is_that_of_its_program(words: list[str]) -> None:
    module, arguments = command.program(words)
    called = told("-m", "jobs.command", *words, "--help")
    assert called == told("-m", module, *arguments, "--help")
    assert called[0] == 0 and called[1].startswith("usage: ")


def test_every_command_stands_in_the_calls_and_in_the_help() -> None:
    assert {words[0] for words in CALLS} == {*command.COMMANDS, "job"}
    status, help_text, _ = told("-m", "jobs.command", "--help")
    assert status == 0
    for name in [*command.COMMANDS, "job", "completion"]:
        assert re.search(rf"(?m)^    {name}\s", help_text), name
    assert told("-m", "jobs.command")[1] == help_text, "no word asks for the help"


def test_statuses_arguments_and_messages_are_the_programs_own(tmp_path: Path) -> None:
    for words in (["configuration", "nowhere.yaml"], ["store", "verify", f"--root={tmp_path}", "a table"]):
        module, arguments = command.program(words)
        called = told("-m", "jobs.command", *words)
        assert called == told("-m", module, *arguments)
        assert called[0] not in (0, None) and called[2]


def test_a_job_is_run_by_its_name_and_every_job_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [p for p in (ROOT / "jobs").rglob("*.py") if re.search(r"(?m)^    main\(run\b", p.read_text("utf-8"))]
    there = {".".join(p.relative_to(ROOT / "jobs").with_suffix("").parts) for p in files}
    assert set(command.job_names()) == there
    ran = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **how: ran.append((module, sys.argv[1:], how)))
    monkeypatch.setattr(sys, "argv", ["nocturne"])
    assert command.main(["job", "report.write_report", "--date=2026-01-05", "--config=x"]) == 0
    how = {"run_name": "__main__", "alter_sys": True}
    assert ran == [("jobs.report.write_report", ["--date=2026-01-05", "--config=x"], how)]


@pytest.mark.parametrize("words", [["nights"], ["job", "nights"], ["job"], ["completion", "csh"]])
def test_a_word_that_is_none_is_refused_with_those_that_would_do(words: list[str]) -> None:
    status, _, error = told("-m", "jobs.command", *words)
    assert status == 2 and "usage: nocturne" in error


def test_the_help_reads_no_library() -> None:
    code = "import sys; from jobs import command\ntry: command.main(['--help'])\nexcept SystemExit: pass\n" \
           "print(*sorted({m.partition('.')[0] for m in sys.modules}))"  # fmt: skip
    _, output, _ = told("-c", code)
    loaded = set(output.splitlines()[-1].split())
    heavy = {"numpy", "pandas", "pyarrow", "torch", "yaml", "pyspark", "airflow", "argcomplete", "feature_store"}
    assert "argparse" in loaded and not loaded & heavy


def completions(line: str, folder: Path) -> set[str]:
    """What a shell is told at the end of a line; argcomplete answers on descriptor 8, or into a named file."""
    answer = folder / "completions"
    asked = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}  # fmt: skip
    assert told("-m", "jobs.command", environment=asked)[0] == 0
    return {word.strip() for word in answer.read_text("utf-8").splitlines()}


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("nocturne ", {*command.COMMANDS, "job", "completion", "--help"}),
        ("nocturne st", {"store"}),
        ("nocturne store ver", {"verify"}),
        ("nocturne store verify --r", {"--root"}),
        ("nocturne job report.", {"report.write_report"}),
        ("nocturne job prune_partitions --da", {"--date"}),
        ("nocturne completion ", {"bash", "zsh", "fish"}),
        ("nocturne nowhere ", set()),
    ],
)
def test_a_shell_completes_words_and_options(line: str, some: set[str], tmp_path: Path) -> None:
    found = completions(line, tmp_path)
    assert some <= found and (len(some) != 1 or found == some), found


@pytest.mark.parametrize("shell", command.SHELLS)
def test_the_shells_code_names_the_command(shell: str) -> None:
    status, code, _ = told("-m", "jobs.command", "completion", shell)
    assert status == 0 and "nocturne" in code
    if shell == "bash":
        script = code + "\ncomplete -p nocturne"
        assert subprocess.run(["bash", "-c", script], capture_output=True, check=False).returncode == 0


def test_the_entry_point_and_the_version() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    name, _, target = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert (name, module) == ("nocturne", command.__name__) and getattr(command, function) is command.main
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
    assert heading == f"## {setup['metadata']['version']}"


def test_a_missing_package_is_named_and_a_missing_module_of_ours_is_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wants_more.py").write_text("import package_that_is_not_there.part\n", encoding="utf-8")
    (tmp_path / "wants_ours.py").write_text("import jobs.nowhere\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nocturne"])
    assert command.run("wants_more", []) == 2
    assert "package_that_is_not_there" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="jobs.nowhere"):
        command.run("wants_ours", [])


def test_nights_without_the_dag_files_say_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_nights, "PLAY_NIGHTS", tmp_path / "dags" / "dagkit" / "play_nights.py")
    monkeypatch.setattr(sys, "argv", ["run_nights", "--config", "nowhere.yaml"])
    assert run_nights.main() == 1
    assert "pip install -e '.[all]'" in capsys.readouterr().err


def test_the_demo_is_that_of_the_makefile() -> None:
    line = re.search(r"python (-m jobs\.run_nights .*--generate)", (ROOT / "Makefile").read_text("utf-8"))[1]
    module, arguments = command.program(["demo"])
    relative = [a.removeprefix(f"{ROOT}/") for a in arguments]
    assert ["-m", module, *relative] == shlex.split(line)
