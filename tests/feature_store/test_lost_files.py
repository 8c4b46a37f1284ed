"""Files that are gone or changed stop neither a publish nor a rollback, and what was lost is said."""

import logging

import pytest

from feature_store import Table
from feature_store.errors import DataDamaged, NothingToRollBackTo
from tests.feature_store.places import Place, at
from tests.feature_store.samples import embeddings, names_in, publish

DATE = "2026-01-05"


@pytest.fixture
def table(place: Place) -> Table:
    """Two versions kept, and a current one."""
    table = Table(str(place / "user_embeddings" / "model=my_model"))
    for seed in range(3):
        with table.replace(DATE, keep_versions=2) as commit:
            commit.write_table(embeddings(seed), sorted_by=["user_id"])
    return table


def _retired(table: Table) -> list[Place]:
    """Files of the versions that are kept, oldest first."""
    if "://" not in table.uri:
        return sorted(at(table.path(DATE), "_retired").glob("*/*.retired"))
    return [at(table.path(DATE), file.name) for version in table.versions(DATE) for file in version.files]


def _kept_manifest(table: Table, nth: int) -> Place:
    return sorted(at(table.path(DATE), "_retired").glob("*/_manifest.json"))[nth]


def test_a_publish_goes_on_where_a_file_of_the_current_version_is_gone(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    gone = at(table.files(DATE)[0])
    gone.unlink()
    with pytest.raises(DataDamaged, match=gone.name):
        table.read(DATE)
    with table.replace(DATE, keep_versions=2) as commit:
        commit.write_table(embeddings(7))
    assert table.read(DATE).equals(embeddings(7)) and table.verify(DATE) == []
    assert gone.name in caplog.text and "is lost, and cannot be kept for a rollback" in caplog.text
    assert [version.row_count for version in table.versions(DATE)] == [embeddings(0).num_rows] * 2
    table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(1))


def test_a_rollback_goes_on_where_a_file_of_the_current_version_is_gone(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    gone = at(table.files(DATE)[0])
    gone.unlink()
    table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(1)) and table.verify(DATE) == []
    assert gone.name in caplog.text and "_manifest.json" in names_in(table, DATE)


def test_a_rollback_passes_over_a_version_that_is_not_whole(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    oldest, newest = _retired(table)
    newest.unlink()
    with caplog.at_level(logging.WARNING):
        table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(0)) and newest.name in caplog.text
    assert table.verify(DATE) == [f for f in table.verify(DATE) if newest.name in f]


def test_without_a_whole_version_a_rollback_says_so_and_changes_nothing(table: Table) -> None:
    for path in _retired(table):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    said = "None of the 2 replaced versions .* is whole: .*(retired|parquet) was changed"
    with pytest.raises(NothingToRollBackTo, match=said):
        table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(2))


def test_verify_names_what_is_wrong_with_replaced_versions(table: Table) -> None:
    assert table.verify(DATE) == []
    _, newer = _retired(table)
    content = newer.read_bytes()
    newer.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    (problem,) = table.verify(DATE)
    assert str(newer) in problem and "replaced version" in problem and "Rolling back to it is not possible" in problem
    _kept_manifest(table, 0).write_bytes(b"{}")
    found = table.verify(DATE)
    assert len(found) == 2 and str(_kept_manifest(table, 0)) in found[0]
    publish(table, DATE, embeddings(5))
    assert table.read(DATE).equals(embeddings(5)) and table.verify(DATE) == []


def test_equal_rows_are_published_anew_where_the_current_file_is_damaged_or_gone(table: Table) -> None:
    def again() -> str:
        with table.replace(DATE, only_if_changed=True) as commit:
            commit.write_table(embeddings(2), sorted_by=["user_id"])
        assert table.read(DATE).equals(embeddings(2)) and table.verify(DATE) == []
        return table.files(DATE)[0]

    first = table.files(DATE)[0]
    assert again() == first
    content = at(first).read_bytes()
    at(first).write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    second = again()
    assert second != first
    at(second).unlink()
    assert again() != second
