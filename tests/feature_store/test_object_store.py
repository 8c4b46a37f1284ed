"""Data roots on a real S3 server: what the disk's suite does not see, since a local disk has none of it."""

import subprocess
import sys

import obstore
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from feature_store import Segments, Table
from feature_store.disk import open_disk
from feature_store.errors import BadName, CannotWrite, ManifestBroken, StorageRefused
from feature_store.storage import Storage
from feature_store.tree import DataRoot
from tests.faulty_proxy import proxy_before
from tests.feature_store.samples import embeddings, publish
from tests.s3_server import BUCKET, KEY, SECRET, S3Server

DATE = "2026-01-05"


@pytest.fixture
def table(bucket: str, storage: Storage) -> Table:
    return Table(f"{bucket}/data/user_embeddings/model=transe", filesystem=storage)


def test_publishes_rollbacks_and_prunes_leave_what_readers_need_and_nothing_else(table: Table) -> None:
    for number in range(4):
        publish(table, DATE, embeddings(number))
        assert table.read(DATE).equals(embeddings(number)) and table.verify(DATE) == []
        assert len(table.versions(DATE)) == min(number, 1) and table.orphans(DATE) == []
    parts = [entry.name for entry in table.disk.list(table.path(DATE)) if entry.name.startswith("part-")]
    assert len(parts) == 2, "the version that is read, and the one that a rollback brings back"
    before = table.manifest(DATE)
    table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(2))
    table.rollback(DATE)
    assert table.manifest(DATE) == before and table.manifest(DATE).hash == before.hash


def test_a_ledgers_number_is_given_once(bucket: str, storage: Storage) -> None:
    ledger = Segments(f"{bucket}/ids/user", storage)
    first, second = embeddings(1), embeddings(2)
    assert ledger.append(1, first) and not ledger.append(1, second) and ledger.append(2, second)
    assert not ledger.disk.put_if_absent(ledger.files()[1], b"other")
    assert ledger.read().num_rows == first.num_rows + second.num_rows and ledger.verify() == []


def test_paths_are_whole_uris_however_the_root_is_spelt(storage: Storage) -> None:
    for spelt in ("s3://bucket/a/b", "s3a://bucket/a/b/", "s3://bucket//a//b"):
        assert open_disk(spelt, storage)[1] == "s3://bucket/a/b"
    assert open_disk("s3://bucket", storage)[1] == open_disk("s3://bucket/", storage)[1] == "s3://bucket"


def test_arrow_reads_datasets_on_it(table: Table) -> None:
    rows = embeddings(1)
    publish(table, DATE, rows)
    (path,) = table.files(DATE)
    for spelt in (path, path.removeprefix("s3://")):
        assert pq.read_table(spelt, filesystem=table.disk.arrow).equals(rows)
        found = ds.dataset(spelt.rpartition("/")[0], format="parquet", filesystem=table.disk.arrow)
        assert found.to_table().equals(rows)
    missing = table.disk.arrow.get_file_info(f"{table.uri}/none")
    assert missing.type == fs.FileType.NotFound
    with pytest.raises(CannotWrite, match="only reads"):
        table.disk.arrow.create_dir(f"{table.uri}/new")


def test_folder_markers_of_consoles_are_no_names(table: Table, s3_server: S3Server) -> None:
    publish(table, DATE, embeddings(1))
    name = table.uri.removeprefix("s3://")
    s3_server.arrow().create_dir(f"{name}/dt={DATE}/_empty", recursive=True)
    s3_server.arrow().create_dir(f"{name}/dt=2026-01-06", recursive=True)
    assert table.values() == [DATE] and table.strays() == [] and table.unfinished() == []
    names = [entry.name for entry in table.disk.list(table.path(DATE))]
    assert "" not in names and len(names) == len(set(names))


def test_other_engines_read_the_paths_that_files_gives(table: Table, s3_server: S3Server) -> None:
    import polars

    publish(table, DATE, embeddings(1))
    publish(table, DATE, embeddings(2))
    options = {
        "aws_endpoint_url": s3_server.endpoint, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET,
        "aws_region": "us-east-1", "aws_allow_http": "true"}  # fmt: skip
    found = polars.read_parquet(table.files(DATE), storage_options=options)
    assert found["user_id"].to_list() == embeddings(2).column("user_id").to_pylist()


def test_dates_are_listed_in_few_requests(bucket: str, s3_server: S3Server) -> None:
    dates = [f"2026-01-{day:02d}" for day in range(1, 25)]
    table = Table(f"{bucket}/t", filesystem=s3_server.storage())
    for date in dates:
        with table.replace(date) as commit:
            commit.write_bytes(".txt", b"x")
    with proxy_before(s3_server.endpoint) as proxy:
        slow = Table(table.uri, filesystem=s3_server.storage(endpoint=proxy.endpoint))
        assert slow.values() == dates and DataRoot(bucket, slow.disk).tables["t"].values() == dates
        assert len(proxy.requests) < 10


def test_a_process_that_was_forked_too_late_is_told_and_does_not_hang(bucket: str) -> None:
    code = (
        "import os, sys\n"
        "from feature_store.disk import open_disk\n"
        f"disk, path = open_disk('{bucket}/x')\n"
        "disk.put_atomic(path, b'1')\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        f"        open_disk('{bucket}/x')[0].read_bytes(path)\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.startswith("StorageRefused This process was forked from one that had used an object store")


def test_a_large_segment_goes_in_one_conditional_request(bucket: str, storage: Storage) -> None:
    disk, path = open_disk(f"{bucket}/large", storage)
    content = bytes(20 << 20)
    assert disk.put_if_absent(path, content) and not disk.put_if_absent(path, content)
    assert len(disk.read_bytes(path)) == len(content)


@pytest.mark.parametrize("name", ["a//b", "a/../b", "./b", "tab\tb", "line\nb", "\x7f"])
def test_a_path_that_names_no_object_is_refused_by_name(bucket: str, storage: Storage, name: str) -> None:
    disk, path = open_disk(bucket, storage)
    for ask in (disk.read_bytes, disk.list, disk.open, disk.exists, lambda path: disk.put_atomic(path, b"x")):
        with pytest.raises(BadName, match="expected names between single slashes"):
            ask(f"{path}/{name}")


ODD = ["a b", "p%20q", "p%2Fq", "ü", "u\u0308", "q?x#y", "*[1]", "t~+&", "😀", "..a", "a:b", '"']


@pytest.mark.parametrize("name", ODD)
def test_any_other_name_is_a_name(bucket: str, storage: Storage, name: str) -> None:
    disk, path = open_disk(bucket, storage)
    disk.put_atomic(f"{path}/{name}/{name}", b"x")
    assert [entry.name for entry in disk.list(path)] == [entry.name for entry in disk.list(f"{path}/{name}")] == [name]
    assert disk.read_bytes(f"{path}/{name}/{name}") == b"x" and disk.statuses(path).keys() == {f"{path}/{name}/{name}"}
    disk.delete_folder(f"{path}/{name}")
    assert disk.statuses(path) == {}


def test_anothers_object_that_spoils_a_list_is_told_by_its_name(table: Table, s3_server: S3Server) -> None:
    publish(table, DATE, embeddings(1))
    with s3_server.arrow().open_output_stream(f"{table.uri.removeprefix('s3://')}/line\nb") as sink:
        sink.write(b"x")
    with pytest.raises(StorageRefused, match=r"Found an object named '[^']*line\\nb' while .*Rename or delete"):
        table.values()
    s3_server.arrow().delete_file(f"{table.uri.removeprefix('s3://')}/line\nb")
    assert table.values() == [DATE]


def test_a_manifest_that_lost_its_content_stays_broken_and_is_not_taken_for_withdrawn(table: Table) -> None:
    publish(table, DATE, embeddings(1))
    manifest = f"{table.path(DATE)}/_manifest.json"
    for content in (b"", b" \n"):
        table.disk.put_atomic(manifest, content)
        table.disk.fence(manifest)
        with pytest.raises(ManifestBroken):
            table.manifest(DATE)


def test_of_many_objects_one_that_is_missing_keeps_no_other(
    bucket: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clouds answer that have no deletion of many at once."""
    disk, path = open_disk(bucket, storage)
    delete = obstore.delete

    def one_by_one(client: object, keys: list[str]) -> None:
        for key in keys:
            obstore.head(client, key)
            delete(client, key)

    monkeypatch.setattr(obstore, "delete", one_by_one)
    for name in ("a", "c"):
        disk.put_atomic(f"{path}/{name}", b"x")
    disk.delete_all(f"{path}/{name}" for name in "abc")
    disk.delete(f"{path}/b")
    assert disk.statuses(path) == {}


def test_what_goes_in_one_large_request_waits_longer_for_its_answer(
    bucket: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, path = open_disk(bucket, storage)
    waits = {id(client): client.client_options["timeout"] for client in (disk.bucket, disk.patient)}
    put, asked = obstore.put, []
    monkeypatch.setattr(obstore, "put", lambda client, *what, **how: asked.append(client) or put(client, *what, **how))
    for size in (1, 17 << 20):
        assert disk.put_if_absent(f"{path}/{size}", bytes(size))
    assert asked == [disk.bucket, disk.patient] and len(set(map(str, waits.values()))) == 2


def test_a_bucket_is_no_object(s3_server: S3Server, storage: Storage) -> None:
    disk, path = open_disk(f"s3://{BUCKET}", storage)
    with pytest.raises(FileNotFoundError):
        disk.status(path)
    assert disk.exists(path) and disk.arrow.get_file_info(path).type == fs.FileType.Directory
