"""Links, pipes and folders in the place of the store's files: not followed, not waited for, and named."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from feature_store import Table
from feature_store.__main__ import main
from feature_store.errors import CannotWrite, DataDamaged, ManifestBroken, StoreError
from tests.feature_store.samples import embeddings, publish

DATE = "2026-01-05"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    table = Table(str(tmp_path / "user_tables"))
    publish(table, DATE, embeddings(0))
    return table


def _link(path: Path) -> None:
    moved = path.parent.parent.parent / f"moved-{path.name}"
    path.rename(moved)
    path.symlink_to(moved)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


KINDS = [_link, _pipe, _folder]


def _in_time(call: Callable[[], object]) -> BaseException | None:
    """What the call raises; it must not wait for the other end of a pipe."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    return raised[0] if raised else None


@pytest.mark.parametrize("put", KINDS)
def test_a_lock_that_is_no_regular_file_is_refused_and_a_links_target_stays(table: Table, put: Callable) -> None:
    lock, precious = Path(table.path(DATE), "_lock"), Path(table.uri).parent / "precious"
    if put is _link:
        precious.write_text("precious")
        lock.unlink()
        lock.symlink_to(precious)
    else:
        put(lock)
    refused = _in_time(lambda: publish(table, DATE, embeddings(1)))
    assert isinstance(refused, CannotWrite) and str(lock) in str(refused) and "Delete it" in str(refused)
    assert put is not _link or precious.read_text() == "precious"
    assert table.read(DATE).equals(embeddings(0))


@pytest.mark.parametrize("put", KINDS)
def test_a_data_file_that_is_no_regular_file_is_named(table: Table, put: Callable) -> None:
    path = Path(table.files(DATE)[0])
    put(path)
    for filter in (None, pc.field("user_id") == "u00001"):
        refused = _in_time(lambda filter=filter: table.read(DATE, filter=filter))
        assert isinstance(refused, DataDamaged) and path.name in str(refused)
    problems: list[str] = []
    assert _in_time(lambda: problems.extend(table.verify(DATE))) is None
    assert len(problems) == 1 and str(path) in problems[0]
    assert _in_time(lambda: publish(table, DATE, embeddings(1))) is None
    assert table.read(DATE).equals(embeddings(1)) and table.verify(DATE) == [] and table.orphans(DATE) == []


@pytest.mark.parametrize("put", KINDS)
def test_a_manifest_that_is_no_regular_file_is_named(
    table: Table, put: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(table.path(DATE), "_manifest.json")
    put(path)
    assert isinstance(refused := _in_time(lambda: table.read(DATE)), ManifestBroken) and str(path) in str(refused)
    assert _in_time(lambda: main(["verify", "--root", str(tmp_path)])) is None
    assert f"PROBLEM {path}" in capsys.readouterr().out


def test_a_partition_that_is_a_link_is_a_stray(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(table.path("2026-01-06")).symlink_to(table.path(DATE))
    assert table.values() == [DATE]
    with pytest.raises(StoreError, match="dt=2026-01-06/_manifest.json .*folder is a symbolic link"):
        table.read("2026-01-06")
    with pytest.raises(StoreError, match="symbolic link"):
        publish(table, "2026-01-06", embeddings(1))
    assert table.read(DATE).equals(embeddings(0))
    assert main(["verify", "--root", str(tmp_path)]) == 0
    assert "holds 'dt=2026-01-06', which is none of its partitions" in capsys.readouterr().out


def test_a_data_root_may_be_a_link(table: Table, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path / "user_tables")
    linked = Table(str(tmp_path / "linked"))
    publish(linked, "2026-01-07", embeddings(2))
    assert linked.read("2026-01-07").equals(embeddings(2)) and linked.verify("2026-01-07") == []
