"""Two nights with the data root on an S3 server: every job, and what one does with a root by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store import FeatureStore, Leases, Segments, Table
from feature_store.__main__ import main as store_command
from feature_store.tree import DataRoot
from jobs import erase_users
from jobs.audiences import find_audience
from jobs.configuration.load import load_settings
from jobs.embeddings import publish_users
from jobs.events import validate_events
from jobs.program import execute
from jobs.summarise_nights import summary
from tests.jobs.nights_anywhere import NIGHTS, configured, content_of, run_night
from tests.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST, SECOND = map(str, NIGHTS)
DATA_DOCS = {"data_docs": "data_docs"}


@pytest.fixture(scope="module")
def far(s3_server: S3Server, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of two nights that have run."""
    spark.sparkContext.environment.update(s3_server.environment)  # of Spark's workers: it started before the server
    folder = tmp_path_factory.mktemp("far")
    storage = {"endpoint": s3_server.endpoint, "region": "us-east-1"}
    root = f"s3://{BUCKET}/{folder.name}/shop nights"
    config = configured(folder, data_root=root, storage=storage, quality=DATA_DOCS)
    for number in range(len(NIGHTS)):
        run_night(config, number)
    return config


@pytest.fixture(scope="module")
def root(far: Path) -> str:
    return load_settings(far).data_root


def test_every_table_is_the_one_that_a_local_disk_gets(
    far: Path, root: str, spark: SparkSession, tmp_path: Path
) -> None:
    near = configured(tmp_path)
    run_night(near, 0)
    expected = {key: value for key, value in content_of(str(tmp_path / "data")).items() if key[1] <= FIRST}
    found = content_of(root)
    assert len(expected) > 15
    assert {key: found.get(key) for key in expected} == expected


def test_all_is_found_whole_and_read_by_hand(far: Path, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_command(["verify", "--root", root]) == 0, capsys.readouterr().out
    assert "0 problems" in capsys.readouterr().out
    assert store_command(["read", "--root", root, "--model", "transe", "--dt", SECOND, "--head", "1"]) == 0
    features = FeatureStore(f"{root}/feature_store").read("user_embeddings", model="transe", as_of=SECOND)
    assert features.table.num_rows > 50 and features.manifest.fields["predecessor"]["dt"] == FIRST
    page = next(iter(Table(f"{root}/reports").blobs(SECOND).values()))
    assert b"<html" in page
    leases = Leases(f"{root}/nights")
    assert leases.holding() == []
    assert leases.disk.exists(f"{root}/data_docs/{FIRST}/clean_events.html")
    settings = load_settings(far)
    assert f"Embeddings  {root}/feature_store/user_embeddings/model=transe/dt={SECOND}/" in summary(settings, NIGHTS)


def test_a_date_is_run_again_and_rolled_back(
    far: Path, root: str, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(root)
    base = ["--date", SECOND, "--config", str(far)]
    assert execute(validate_events.run, base) == 0
    assert execute(publish_users.run, [*base, "--model", "transe", "--predecessor", FIRST]) == 0
    assert content_of(root) == before
    name = "feature_store/user_embeddings/model=transe"
    table = Table(f"{root}/{name}")
    newest = table.existing_manifest(SECOND).created_timestamp
    assert store_command(["rollback", "--root", root, name, SECOND]) == 0
    assert table.existing_manifest(SECOND).created_timestamp < newest
    assert table.verify(SECOND) == [] and table.orphans(SECOND) == []


def test_an_audience_is_found_for_a_list_of_seeds(far: Path, root: str, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("\n".join(f"u{n}" for n in range(0, 80, 2)))
    asked = ["--seeds", str(seeds), "--model", "transe", "--k", "10", "--name", "asked"]
    assert execute(find_audience.run, ["--date", SECOND, "--config", str(far), *asked]) == 0
    found = Table(f"{root}/requested_audiences/asked")
    assert found.read(SECOND).num_rows == 10
    assert any(name.endswith(".csv") for name in found.blobs(SECOND))


def test_partitions_beyond_their_retention_go(far: Path, root: str) -> None:
    table = Table(f"{root}/clean_events", "day")
    before = table.values()
    assert store_command(["prune", "--root", root, "--table", "clean_events", "--days", "3"]) == 0
    assert table.values() == before[-4:] and len(before) > 4
    rows = [name for name in table.disk.statuses(table.uri) if name.endswith(".parquet")]  # of the others, a lease
    left = {name.removeprefix(table.uri).split("/")[1] for name in rows}
    assert left and left <= {f"day={day}" for day in before[-4:]}


def test_a_user_is_erased_and_his_pages_are_written_anew(
    far: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(erase_users.People, "named_in", lambda *_: True)  # these pages name nobody
    users = Table(f"{root}/audiences").read(SECOND).column("user_id")
    gone, before = users[0].as_py(), Table(f"{root}/reports").existing_manifest(SECOND).created_timestamp
    (tmp_path / "ids.txt").write_text(gone)
    base = ["--date", SECOND, "--config", str(far)]
    assert execute(erase_users.run, [*base, "--user-ids", str(tmp_path / "ids.txt")]) == 0
    named = [
        (name, value) for name, table in DataRoot(root).tables.items() for value in table.values()
        if table.existing_manifest(value).row_count and "user_id" in (rows := table.read(value)).column_names
        and gone in rows.column("user_id").to_pylist()]  # fmt: skip
    assert named == []
    assert gone not in Segments(f"{root}/entity_ids/user").read().column("raw").to_pylist()
    assert b"<html" in next(iter(Table(f"{root}/reports").blobs(SECOND).values()))
    assert Table(f"{root}/reports").existing_manifest(SECOND).created_timestamp > before
    assert store_command(["verify", "--root", root]) == 0, capsys.readouterr().out
