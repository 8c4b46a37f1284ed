"""Data roots copied between a disk and a bucket, both ways: whole, resumable, and each partition's manifest last."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import FeatureStore, Segments, Table, copying
from feature_store.__main__ import main
from feature_store.copying import copy_root
from feature_store.disk import open_disk
from feature_store.errors import CannotWrite, StoreError
from feature_store.tree import DataRoot
from tests.feature_store.places import ObjectPath, Place, at
from tests.feature_store.samples import embeddings, publish
from tests.s3_server import S3Server

DATES = ["2026-01-05", "2026-01-12"]


@pytest.fixture(params=["to a bucket", "to a disk"])
def roots(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> tuple[Place, Place]:
    """(from, to)."""
    disk, store = tmp_path / "data", ObjectPath(bucket, "data")
    return (disk, store) if request.param == "to a bucket" else (store, disk)


@pytest.fixture
def source(roots: tuple[Place, Place]) -> Place:
    root = roots[0]
    for date in DATES:
        publish(FeatureStore(f"{root}/feature_store").table("user_embeddings", "a"), date, embeddings(0, dt=date))
        publish(FeatureStore(f"{root}/feature_store").table("user_embeddings", "a"), date, embeddings(1, dt=date))
    with Table(f"{root}/reports").replace(DATES[0]) as commit:
        commit.write_bytes(".html", b"<html>")
    ledger = Segments(f"{root}/entity_ids/user")
    assert ledger.append(1, pa.table({"id": [0]})) and ledger.append(2, pa.table({"id": [1]}))
    return root


def _manifests(root: Place) -> dict[tuple[str, str], bytes]:
    tables = DataRoot(str(root)).tables.items()
    return {(name, value): table.manifest(value).to_bytes() for name, table in tables for value in table.values()}


def test_a_copy_is_what_the_source_is_and_a_second_one_brings_what_is_new(
    roots: tuple[Place, Place], source: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    target = roots[1]
    command = ["copy", "--from", str(source), "--to", str(target)]
    assert main(command) == 0
    assert "5 partitions and segments" in capsys.readouterr().out
    assert _manifests(target) == _manifests(source)
    assert Segments(f"{target}/entity_ids/user").read().equals(Segments(f"{source}/entity_ids/user").read())
    assert main(["verify", "--root", str(target)]) == 0
    assert "0 problems, 0 notes" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 partitions and segments, 0 B, copied" in capsys.readouterr().out
    table = FeatureStore(f"{source}/feature_store").table("user_embeddings", "a")
    publish(table, DATES[1], embeddings(7, dt=DATES[1]))
    assert main(command) == 0
    assert "1 partitions and segments" in capsys.readouterr().out
    copied = FeatureStore(f"{target}/feature_store").table("user_embeddings", "a")
    assert copied.read(DATES[1]).equals(embeddings(7, dt=DATES[1])) and copied.orphans(DATES[1]) == []
    publish(copied, DATES[1], embeddings(8))
    assert copied.read(DATES[1]).equals(embeddings(8)), "a copy is a root like any other"


def test_a_copy_that_was_broken_off_goes_on_and_shows_no_partition_that_is_not_whole(
    roots: tuple[Place, Place], source: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, data = roots[1], DataRoot(str(source))
    honest, copied = copying._copy_file, []

    def breaks(*what: object) -> int:
        copied.append(what[-1])
        if len(copied) == 2:
            raise CannotWrite("the line is cut")
        return honest(*what)

    monkeypatch.setattr(copying, "_copy_file", breaks)
    with pytest.raises(CannotWrite):
        list(copy_root(data, *open_disk(str(target))))
    assert len(_manifests(target)) == 1 and Segments(f"{target}/entity_ids/user").next_number() == 3
    monkeypatch.undo()
    done = list(copy_root(data, *open_disk(str(target))))
    assert [one.was_there for one in done] == [True, True, True, False, False]
    assert _manifests(target) == _manifests(source)


def test_what_is_damaged_is_told_and_the_rest_is_copied(
    roots: tuple[Place, Place], source: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    table = FeatureStore(f"{source}/feature_store").table("user_embeddings", "a")
    path = at(table.files(DATES[0])[0])
    content = path.read_bytes()
    path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    assert main(["copy", "--from", str(source), "--to", str(roots[1])]) == 1
    assert f"PROBLEM {path} was changed after it was published" in capsys.readouterr().out
    assert {value for name, value in _manifests(roots[1]) if "model=a" in name} == {DATES[1]}


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_ledger_is_told_and_the_rest_is_copied(
    roots: tuple[Place, Place], source: Place, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Segments(f"{source}/relations").append(1, pa.table({"id": [0]}))
    ledger, path = Segments(f"{source}/entity_ids/user"), at(source, "entity_ids", "user", "segment-00000001.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:-1]) if damage == "cut" else path.unlink()
    command = ["copy", "--from", str(source), "--to", str(roots[1])]
    assert main(command) == 1
    text = capsys.readouterr().out
    assert text.count("PROBLEM") == 1 and "entity_ids/user segments: PROBLEM" in text and path.name in text
    assert "run no night on the copy" in text
    assert _manifests(roots[1]) == _manifests(source) and Segments(f"{roots[1]}/relations").next_number() == 2
    assert Segments(f"{roots[1]}/entity_ids/user").next_number() == 1, "nor the whole ones after it"
    path.write_bytes(content)
    assert main(command) == 0
    assert Segments(f"{roots[1]}/entity_ids/user").read().equals(ledger.read())


def test_ids_that_a_night_gave_meanwhile_are_in_the_copy(
    roots: tuple[Place, Place], source: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a ledger that was there, and of one that it began: a partition with them may have been copied."""
    honest, ledgers = copying._copy_partition, ("entity_ids/user", "entity_ids/brand")

    def night_commits(name: str, *what: object) -> copying.Copied:
        if name == "reports":
            for ledger in ledgers:
                segments = Segments(f"{source}/{ledger}")
                assert segments.append(segments.next_number(), pa.table({"id": [2]}))
        return honest(name, *what)

    monkeypatch.setattr(copying, "_copy_partition", night_commits)
    assert main(["copy", "--from", str(source), "--to", str(roots[1])]) == 0
    text = capsys.readouterr().out
    assert "7 partitions and segments" in text and "0 were there" in text
    for ledger in ledgers:
        assert Segments(f"{roots[1]}/{ledger}").read().equals(Segments(f"{source}/{ledger}").read())


def test_a_damaged_copy_is_brought_anew(roots: tuple[Place, Place], source: Place) -> None:
    data, target = DataRoot(str(source)), open_disk(str(roots[1]))
    list(copy_root(data, *target))
    copied = Table(f"{target[1]}/reports", filesystem=target[0])
    at(copied.files(DATES[0])[0]).write_bytes(b"<HTML>")
    assert sum(one.size for one in copy_root(data, *target)) == len(b"<html>")
    assert list(copied.blobs(DATES[0]).values()) == [b"<html>"]


def test_ledgers_that_were_written_apart_are_refused(roots: tuple[Place, Place], source: Place) -> None:
    Segments(f"{roots[1]}/entity_ids/user").append(1, pa.table({"id": [9]}))
    with pytest.raises(StoreError, match="gave their ids apart.*Copy to an empty root|copy to an empty root"):
        list(copy_root(DataRoot(str(source)), *open_disk(str(roots[1]))))


def test_after_an_erasure_in_both_ledgers_they_go_on_together(roots: tuple[Place, Place], source: Place) -> None:
    """Also where another release wrote the other's bytes."""
    data, target = DataRoot(str(source)), open_disk(str(roots[1]))
    list(copy_root(data, *target))
    ours, theirs = (Segments(f"{root}/entity_ids/user") for root in (source, roots[1]))
    first = ours.segment(ours.files()[0])
    new = first.set_column(0, "id", pa.array([7], pa.int64())).replace_schema_metadata(None)
    ours.rewrite(1, new)
    with pytest.raises(StoreError, match="If users were erased of one since, erase them of the other too"):
        list(copy_root(data, *target))
    sink = pa.BufferOutputStream()
    pq.write_table(new, sink, compression="none")
    at(theirs.files()[0]).write_bytes(sink.getvalue().to_pybytes())
    assert all(one.was_there for one in copy_root(data, *target))


def test_a_root_is_not_copied_onto_itself_nor_out_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(Table(str(tmp_path / "t")), DATES[0], embeddings(0))
    for arguments, said in (
        ([str(tmp_path), str(tmp_path)], "expected two"),
        ([str(tmp_path), str(tmp_path / "copy")], "lies in the other"),
        ([str(tmp_path), str(tmp_path.parent)], "lies in the other"),
        ([str(tmp_path / "x"), str(tmp_path)], "Nothing is committed"),
        ([str(tmp_path), f"{tmp_path}-b/feature_store/"], f"Name {tmp_path}-b itself"),
    ):
        assert main(["copy", "--from", arguments[0], "--to", arguments[1]]) == 2
        assert said in capsys.readouterr().err
    assert json.loads(Path(Table(str(tmp_path / "t")).path(DATES[0]), "_manifest.json").read_bytes())


def test_buckets_of_one_name_on_two_servers_are_two(bucket: str, s3_server: S3Server) -> None:
    """Here it is one server under two addresses: all is there already."""
    publish(Table(f"{bucket}/t"), DATES[0], embeddings(0))
    other = s3_server.endpoint.replace("127.0.0.1", "localhost")
    command = ["copy", "--from", bucket, "--to", bucket]
    assert main([*command, "--to-endpoint", other]) == 0 and main(command) == 2
