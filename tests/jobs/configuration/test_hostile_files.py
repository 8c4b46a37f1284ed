"""What YAML allows and no configuration means: one line, the dotted path, nothing expanded."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from jobs.configuration.document import MOST_BYTES, read_document
from jobs.configuration.load import load_settings
from jobs.configuration.messages import MOST_OF_VALUE, ConfigError

HEAD = """data_root: data
source: {events: {path: e.parquet}, items: {path: i.parquet}}
events: {behaviors: [purchase]}
graph: {behaviors: {purchase: {}}, item_attributes: {brand: {}}}
"""
NINES, LONG = "9" * 5000, "x" * 100_000


def bomb(levels: int = 9) -> str:
    """Nine times as much on every line."""
    names = "abcdefghijklmnop"[:levels]
    lines = ["z: &z [" + ", ".join(["lol"] * 9) + "]"]
    for before, name in zip("z" + names, names, strict=False):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    return "\n".join([*lines, ""])


def refused(folder: Path, text: str) -> str:
    """The message for a file with this text."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_settings(path)
    message = str(error.value)
    assert message.isprintable(), "one line, and nothing that a terminal would obey"
    assert len(message) <= MOST_OF_VALUE + 500
    return message


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("seed: 1\nseed: 2", "seed stands twice, in lines 5 and 6"),
        ("dag: {retries: 1, 'retries': 2}", "dag.retries stands twice"),
        ("lookalike: {clients: {x: {brand: a, brand: b}}}", "lookalike.clients.x.brand stands twice"),
        ("retention:\n  reports: 90\n  attention: 9\n  reports: 91", "retention.reports stands twice, in lines 6"),
        ("data_root: other", "data_root stands twice, in lines 1 and 5"),
        ("lookalike: &a {clients: {x: *a}}", "lookalike.clients.x is *a, within &a itself"),
        ("x: &a [1, [*a]]", "x[1][0] is *a, within &a itself"),
        ("dag: &d {<<: *d}", "dag.<< is *d, within &d itself"),
        ("seed: *nobody", "seed is *nobody, and nothing above it is called &nobody"),
        ("lookalike: {clients: {x: " + "[" * 5000 + "]" * 5000 + "}}", "lookalike.clients.x[0]"),
        ("lookalike: {clients: {x: " + "{not: " * 900 + "1" + "}" * 900 + "}}", "lookalike.clients.x.not"),
        ("x:\n" + "\n".join(" " * n + "- " for n in range(300)), "x[0]"),
        ("seed: " + NINES, "seed is '999"),
        ("transe: {epochs: -" + NINES + "}", "transe.epochs is '-999"),
        ("seed: 0x" + "f" * 5000, "seed is '0xff"),
        ("seed: 1" + ":59" * 2000, "seed is '1:59"),
        ("publishing: {min_coverage: 0." + NINES + "}", "publishing.min_coverage is '0.99"),
        ("lookalike: {clients: {x: {brand: " + NINES + "}}}", "lookalike.clients.x.brand is '999"),
        ("dag: {start_date: 2026-02-30}", "dag.start_date is '2026-02-30'; expected a date that exists"),
        ("dag: {dates: [2026-02-28, 2026-13-01]}", "dag.dates[1] is '2026-13-01'"),
        ("events: {earliest_event_time: 2026-00-10}".replace("events", "x"), "x.earliest_event_time is '2026-00-10'"),
        ("dag: {start_date: 2026-01-01T00:00:00+99:99}", "dag.start_date is '2026-01-01T00:00:00+99:99'"),
        ("seed: !!python/object/apply:os.system [x]", "seed has the tag"),
        ("seed: !!int abc", "seed is 'abc'; expected a whole number"),
        ("seed: !!int ''", "seed is ''; expected a whole number"),
        ("deterministic: !!bool perhaps", "deterministic is 'perhaps'; expected true or false"),
        ("seed: !!binary abcd", "seed has the tag"),
        ("dag: !!set {a, b}", "dag has the tag"),
        ("1: 2", "1 is 1 (int); expected a text as key"),
        ("dag: {yes: 2}", "dag.yes is True (bool); expected a text as key"),
        ("dag: {? [a] : 2}", "dag: a key in line 5"),
        ("dag: {<<: 3}", "dag.<< is 3"),
        ("---\nseed: 1", "second document in line 5"),
        ("seed: '" + LONG + "'", "seed is 'xxx"),
        ("transe: {norm: " + LONG + "}", "transe.norm is 'xxx"),
        ("transe: {device: " + LONG + "}", "transe.device is 'xxx"),
        ("kqgc: {device: cudda}", "kqgc.device is 'cudda'; expected a device such as cpu"),
        ("rhgn: {device: 'cuda:x'}", "rhgn.device is 'cuda:x'; expected a device"),
        ("spark: {master: 'locl[2]'}", "spark.master is 'locl[2]' (str); expected a master such as"),
        ("dag: {owner: 'a, b'}", "dag.owner is 'a, b' (str); expected a name without a comma"),
        ("dag: {reports_url: 'javascript:x'}", "dag.reports_url is 'javascript:x' (str); expected an address"),
        (LONG[:900] + ": 1", "Unknown key 'xxx"),
        ('"a\\nb\\e[31m": 1', "Unknown key 'a\\nb\\x1b[31m'"),
        ("lookalike: {clients: {x: {any: " + LONG + "}}}", "lookalike.clients.x.any is 'xxx"),
        ("lookalike: {clients: {x: {brand: [" + LONG + ", [1]]}}}", "lookalike.clients.x.brand is ['xxx"),
        ("lookalike: {score_with: " + LONG + "}", "lookalike.score_with is 'xxx"),
        ("seed: [" + "a," * 50_000 + "]", "seed is ['a', 'a'"),
        ("seed: 'a\0b'", "is not YAML"),
        ("seed: 'open", "is not YAML"),
        ("#" + "x" * MOST_BYTES, "has more than"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_file_that_means_nothing_is_one_line_with_its_place(tmp_path: Path, more: str, said: str) -> None:
    assert said in refused(tmp_path, HEAD + more + "\n")


BOMBS = {"above": bomb() + HEAD, "longer": HEAD + bomb(16), "used": HEAD + bomb() + "seed: *i\n"}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_aliases_are_counted_and_not_written_out(tmp_path: Path, text: str) -> None:
    tracemalloc.start()
    message = refused(tmp_path, text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "aliases written out" in message and message.startswith("e["), "the sixth line is one too many"
    assert peak < 2 * 2**20, "bytes"


def test_a_bomb_below_the_bound_is_cut_where_it_is_shown(tmp_path: Path) -> None:
    head = HEAD.replace("data_root: data", "data_root:\n" + "".join(f"  {line}\n" for line in bomb(4).splitlines()))
    assert refused(tmp_path, head).startswith("data_root is {'z': ['lol', 'lol'")


def test_a_chain_of_aliases_is_as_deep_as_what_it_stands_for(tmp_path: Path) -> None:
    links = "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))
    assert "is nested more than" in refused(tmp_path, f"a0: &a0 [1]\n{links}\n")


def test_aliases_and_merged_mappings_are_what_yaml_says(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = "a: &a {x: 1, y: [1, ~]}\nb: {<<: *a, x: 2}\nc: {<<: [{x: 3}, *a]}\nd: *a\n'e': .5\n"
    path.write_text(text, encoding="utf-8")
    x = {"x": 1, "y": [1, None]}
    assert read_document(path) == {"a": x, "b": x | {"x": 2}, "c": x | {"x": 3}, "d": x, "e": 0.5}


def test_nobody_waits_for_a_file_without_an_end() -> None:
    with pytest.raises(ConfigError, match="has more than"):
        load_settings("/dev/zero")


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "jobs.configuration", str(path)], capture_output=True, text=True)


def test_the_command_prints_one_line_and_its_status_tells(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEAD, encoding="utf-8")
    well = check(path)
    assert (well.returncode, well.stderr, well.stdout.count("\n")) == (0, "", 1) and str(path) in well.stdout
    path.write_text(HEAD + bomb(), encoding="utf-8")
    wrong = check(path)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1) and "aliases" in wrong.stderr
    assert check(tmp_path / "none.yaml").returncode == 2
