"""`python -m feature_store`: what it prints, what it writes, how it exits."""

import datetime
import json
import subprocess
import sys

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from feature_store import FeatureStore, Leases, Segments, Table
from feature_store.__main__ import main
from tests.feature_store.places import Place, at, copy_folder, on_disk
from tests.feature_store.samples import embeddings, publish
from tests.s3_server import S3Server

NAME = "feature_store/user_embeddings/model=transe"
DATES = ["2026-01-05", "2026-01-12"]


@pytest.fixture
def root(place: Place) -> Place:
    table = FeatureStore(str(place / "feature_store")).table("user_embeddings", "transe")
    for date in DATES:
        publish(table, date, embeddings(0, dt=date), space_id="a")
    publish(
        table,
        DATES[1],
        embeddings(1, dt=DATES[1]),
        space_id="a",
        predecessor={"table": NAME, "dt": DATES[0], "content_hash": table.manifest(DATES[0]).content_hash},
    )
    Segments(str(place / "entity_ids" / "user")).append(1, embeddings(0).select(["user_id"]))
    return place


def _run(root: Place, capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> tuple[int, str]:
    status = main([command, "--root", str(root), *arguments])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def _program(*command: str) -> subprocess.CompletedProcess[str]:
    """Run in the repository's folder."""
    return subprocess.run(command, capture_output=True, text=True, cwd=at(__file__).parents[2], check=True)


def test_list_and_describe(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = _run(root, capsys, "list")
    rows = [line.split() for line in text.splitlines()]
    assert status == 0 and [NAME, "dt", "2", *DATES, "32"] == rows[1][:6]
    assert ["entity_ids/user", "segment", "1", "1", "1", "32"] == rows[2][:6]
    status, text = _run(root, capsys, "describe", NAME)
    assert status == 0 and "dt=2026-01-12" in text and "fixed_size_list<element: float>[4]" in text
    assert "replaced version 1: 32 rows" in text and '"a"' in text


def test_where_the_object_store_is_may_be_told(
    bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(Table(f"{bucket}/t", filesystem=s3_server.storage()), DATES[0], embeddings(0))
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    settings = {"endpoint": s3_server.endpoint, "region": "us-east-1"}
    assert main(["list", "--root", bucket, "--storage", json.dumps(settings)]) == 0
    assert DATES[0] in capsys.readouterr().out
    for wrong, said in (
        ('{"endpont": "x"}', "'endpont'"), ("[]", "JSON list"), ("s3", "no JSON"),
        ('{"secret_key": "hushhush"}', "Credentials come from the environment"),
    ):  # fmt: skip
        assert main(["list", "--root", bucket, "--storage", wrong]) == 2
        told = capsys.readouterr().err
        assert said in told and "hushhush" not in told


def test_list_and_describe_for_programs(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = _run(root, capsys, "list", "--json")
    found = [tuple(row[name] for name in ("table", "partitions", "last", "size of last")) for row in json.loads(text)]
    size = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe").manifest(DATES[1]).size
    assert status == 0 and found == [(NAME, 2, DATES[1], size), ("entity_ids/user", 1, "1", None)]
    status, text = _run(root, capsys, "describe", NAME, DATES[0], "--json")
    assert status == 0 and text.rstrip() == (root / NAME / f"dt={DATES[0]}" / "_manifest.json").read_text().rstrip()


def test_a_reader_that_has_seen_enough_is_no_error(root: Place) -> None:
    command = f"{sys.executable} -m feature_store describe --root {root} {NAME} --json | true; echo ${{PIPESTATUS[0]}}"
    ended = _program("bash", "-c", command)
    assert (ended.stdout.strip(), ended.stderr) == ("0", "")


def test_read_prints_hostile_ids_on_one_line_each(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("--model", "transe", "--as-of", "2026-01-13", "--columns", "user_id,n_events")
    status, text = _run(root, capsys, "read", *chosen, "--head", "40")
    assert status == 0 and len(text.splitlines()) == 1 + 32 + 1 and r"line\nend" in text
    assert r"\u202eright-to-left" in text and "\u202e" not in text
    assert text.splitlines()[-1] == "32 of 32 rows of user_embeddings model=transe dt=2026-01-12"


@on_disk
def test_read_writes_files_that_hold_the_same(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    expected = embeddings(0, dt=DATES[0])
    whole = ("read", "--model", "transe", "--dt", DATES[0], "--output")
    assert _run(root, capsys, *whole, str(root / "x.parquet"))[0] == 0
    assert pq.read_table(root / "x.parquet", partitioning=None).equals(expected)
    assert _run(root, capsys, *whole, str(root / "x.csv"), "--user-id", "u00001")[0] == 0
    row = pyarrow.csv.read_csv(root / "x.csv").to_pylist()[0]
    position = expected.column("user_id").to_pylist().index("u00001")
    assert [float(number) for number in row["embedding"].split()] == expected.column("embedding")[position].as_py()
    status, text = _run(root, capsys, "read", "--model", "transe", "--output", "x.xlsx")
    assert status == 2 and ".parquet or .csv" in text


def test_verify_exits_with_one_and_names_the_file_or_the_command(
    root: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = _run(root, capsys, "verify")
    assert status == 0 and "2 partitions of 1 tables verified: 0 problems, 0 notes" in text
    table = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe")
    publish(table, DATES[0], embeddings(5, dt=DATES[0]), space_id="a")
    at(table.path(DATES[0]), "part-00000-orphan.parquet").write_bytes(b"")
    status, text = _run(root, capsys, "verify")
    assert status == 1 and "note" in text and "part-00000-orphan" in text
    command = "airflow backfill create --dag-id nightly_user_embeddings --from-date 2026-01-12 --to-date 2026-01-12"
    first, second = text.splitlines()[:2]
    assert first == f"Run this date again: {command} --max-active-runs 1 --reprocess-behavior completed"
    former = f"built on a former version of its predecessor {NAME} 2026-01-05"
    assert second.startswith(f"PROBLEM 2026-01-12: {NAME}: {former}")
    assert _run(root, capsys, "verify", NAME, DATES[0])[0] == 0
    path = at(table.files(DATES[1])[0])
    path.write_bytes(path.read_bytes()[:-1])
    status, text = _run(root, capsys, "verify", NAME, DATES[1])
    assert status == 1 and f"PROBLEM {path}" in text


def test_verify_tells_what_a_first_publish_that_crashed_left(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    # a date, and a table without any other
    for folder in (root / NAME / "dt=2026-01-19", root / "reports" / "dt=2026-01-19"):
        folder.mkdir(parents=True)
        (folder / "_lock").write_bytes(b"")
        (folder / "part-00000-crashed.parquet").write_bytes(b"half")
    copy_folder(folder, root / NAME / "dt=__HIVE_DEFAULT_PARTITION__")  # not ours
    status, text = _run(root, capsys, "verify")
    assert status == 0 and text.count("was never committed and holds 1 files") == 2
    assert "2 partitions of 2 tables verified: 0 problems, 3 notes" in text and "__HIVE_DEFAULT" in text


@on_disk
def test_a_root_that_holds_nothing_is_no_root_without_problems(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("list", "verify"):
        status, text = _run(place / "typo", capsys, command)
        assert status == 2 and "Nothing is committed under" in text
    (place / "file").write_bytes(b"")
    status, text = _run(place / "file", capsys, "verify")
    assert status == 2 and "Not a directory" in text


def test_rollback_and_prune(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    table = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe")
    status, text = _run(root, capsys, "prune", "--retention", '{"feature_store": 3}', "--dry-run")
    assert status == 0 and "kept: the predecessor of" in text and "0 partitions" in text
    status, text = _run(root, capsys, "rollback", NAME, DATES[1])
    assert status == 0 and table.read(DATES[1]).equals(embeddings(0, dt=DATES[1]))
    status, text = _run(root, capsys, "prune", "--dry-run", "--days", "3")  # of every table
    assert status == 0 and f"{NAME} {DATES[0]}" in text and "1 partitions" in text
    assert "0 partitions" in _run(root, capsys, "prune", "--dry-run")[1]
    older = ("prune", "--table", "feature_store", "--days", "3")
    assert "would go" in _run(root, capsys, *older, "--dry-run")[1]
    assert table.values() == DATES
    assert "label window" in _run(root, capsys, *older, "--keep", DATES[0])[1]
    assert table.values() == DATES
    assert "deleted" in _run(root, capsys, *older)[1]
    assert table.values() == DATES[1:]


def test_delete(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """One partition, whatever its age; what another was built on goes after that one."""
    store = FeatureStore(str(root / "feature_store"))
    table = store.table("user_embeddings", "transe")
    status, text = _run(root, capsys, "delete", NAME, DATES[0])
    assert status == 2 and f"was not deleted: the predecessor of {NAME} {DATES[1]}" in text
    status, text = _run(root, capsys, "delete", NAME, "2026-01-06")
    assert status == 2 and "No committed partition dt=2026-01-06" in text
    nights = Leases(str(root / "nights"))
    nights.write(DATES[1], datetime.timedelta(hours=1))
    status, text = _run(root, capsys, "delete", NAME, DATES[1])
    assert status == 2 and f"the night of {DATES[1]}, which is under way, may read it" in text
    nights.end(DATES[1])
    assert table.values() == DATES
    for left, date in ([DATES[:1], DATES[1]], [[], DATES[0]]):
        assert _run(root, capsys, "delete", NAME, date) == (0, f"{NAME} dt={date} is deleted\n")
        assert table.values() == left


def test_prune_knows_a_table_of_the_store_by_its_name_and_may_let_one_be_that_is_not_written_yet(
    root: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    table = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe")
    table.rollback(DATES[1])  # which is built on none
    days = {"user_embeddings": 3, "user_tables": 5}
    status, text = _run(root, capsys, "prune", "--retention", json.dumps(days))
    assert status == 2 and "['user_tables'], which is no table" in text and "--allow-missing" in text
    status, text = _run(root, capsys, "prune", "--retention", json.dumps(days | {"user_tables": 0}), "--allow-missing")
    assert status == 2 and "0 for user_tables" in text
    for longer in ({"feature_store/user_embeddings": 30}, {"user_embeddings/model=transe": 30}):
        status, text = _run(root, capsys, "prune", "--retention", json.dumps({"user_embeddings": 3} | longer))
        assert status == 0 and "0 partitions" in text
    nearer = {"feature_store": 30, "user_embeddings": 3, "user_tables": 5}
    assert table.values() == DATES
    status, text = _run(root, capsys, "prune", "--retention", json.dumps(nearer), "--allow-missing")
    assert status == 0 and "user_tables: no table under" in text and f"{NAME} {DATES[0]}" in text
    assert table.values() == DATES[1:]


def test_prune_by_a_name_takes_nothing_of_the_store_where_a_table_has_that_name(
    root: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    table = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe")
    table.rollback(DATES[1])
    for date in DATES:
        publish(Table(str(root / "user_embeddings")), date, embeddings(0, dt=date))
    status, text = _run(root, capsys, "prune", "--table", "user_embeddings", "--days", "3")
    assert status == 0 and f"user_embeddings {DATES[0]}" in text and "1 partitions" in text
    assert table.values() == DATES and Table(str(root / "user_embeddings")).values() == DATES[1:]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["describe", "nix"], "no table 'nix'.*there are: feature_store"),
        (["read", "--model", "../x"], "BadName.*lower-case"),
        (["read", "--model", "kqgc"], "Nothing is committed"),
        (["rollback", NAME, "2026-01-05"], "No replaced version"),
        (["rollback", NAME, "2027-01-05"], "No committed partition dt=2027-01-05.*There are 2"),
        (["prune"], "Expected either --table"),
        (["prune", "--days", "3"], "Expected either --table"),
        (["prune", "--retention", "{"], "no JSON"),
        (["verify", NAME, "x"], "expected a date"),
    ],
)
def test_refusals_are_one_message_and_exit_with_two(
    root: Place, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    import re

    status, text = _run(root, capsys, *arguments)
    assert status == 2 and re.search(expected, text) and len(text.splitlines()) == 1
    # nor is anything made
    assert sorted(path.name for path in (root / NAME).iterdir()) == [f"dt={date}" for date in DATES]


def test_it_starts_as_a_module_and_imports_neither_pandas_nor_engines(root: Place) -> None:
    assert NAME in _program(sys.executable, "-m", "feature_store", "list", "--root", str(root)).stdout
    heavy = ("pandas", "pyspark", "torch", "airflow", "yaml")
    everything = "import sys, feature_store, feature_store.__main__, feature_store.join"
    code = f"{everything}; print([m for m in {heavy} if m in sys.modules])"
    assert _program(sys.executable, "-c", code).stdout.strip() == "[]"


@on_disk
def test_the_exit_status_tells_what_another_try_may_change(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """As those of the jobs do."""
    table = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe")
    with table.replace(DATES[0]) as commit:
        commit.write_table(embeddings(0, dt=DATES[0]))
        status, text = _run(root, capsys, "rollback", NAME, DATES[0], "--wait-seconds", "0")
    assert status == 1 and text.startswith("LockHeld")
    (root / "file").write_bytes(b"")
    for output, expected, said in (("none/x.csv", 1, "No such file"), ("file/x.csv", 2, "Not a directory")):
        status, text = _run(root, capsys, "read", "--model", "transe", "--output", str(root / output))
        assert status == expected and said in text
    path = at(table.files(DATES[0])[0])
    path.write_bytes(path.read_bytes()[:-1])
    for broken in ("DataDamaged", "ManifestBroken"):
        status, text = _run(root, capsys, "read", "--model", "transe", "--dt", DATES[0])
        assert status == 3 and text.startswith(broken) and len(text.splitlines()) == 1
        at(table.path(DATES[0]), "_manifest.json").write_bytes(b"{")
