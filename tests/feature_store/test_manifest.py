"""What a manifest may say: newer versions are told from broken manifests, and a broken one can be repaired."""

import dataclasses
import json

import pytest

from feature_store import Manifest, Table, content_hash
from feature_store.errors import ManifestBroken, SchemaTooNew
from tests.feature_store.places import Place, at
from tests.feature_store.samples import embeddings, publish

DATE = "2026-01-05"


@pytest.fixture
def table(place: Place) -> Table:
    return Table(str(place / "user_embeddings" / "model=transe"))


def _rewrite(table: Table, **changes: object) -> None:
    """A manifest with other contents, checksum and all, as another version of the code would write it."""
    path = at(table.path(DATE), "_manifest.json")
    tree = json.loads(path.read_bytes())
    known = {k: v for k, v in changes.items() if k in Manifest.__dataclass_fields__}
    manifest = Manifest.from_bytes(path.read_bytes(), "x")
    path.write_bytes(dataclasses.replace(manifest, **known, written=b"").to_bytes())
    assert tree["checksum"] != json.loads(path.read_bytes())["checksum"]


def test_a_newer_minor_version_is_read_and_a_newer_major_says_what_to_install(table: Table) -> None:
    publish(table, DATE, embeddings(0))
    _rewrite(table, schema_version=(1, 7))
    assert table.read(DATE).equals(embeddings(0))
    _rewrite(table, schema_version=(2, 0))
    for call in (table.read, table.manifest, lambda value: publish(table, value, embeddings(1))):
        said = r"schema version 2.0; this code reads .*1\.x.*pip install --upgrade 'nocturne>=2'"
        with pytest.raises(SchemaTooNew, match=said):
            call(DATE)


def test_a_newer_manifest_format_is_not_taken_for_a_broken_manifest(table: Table) -> None:
    publish(table, DATE, embeddings(0))
    path = at(table.path(DATE), "_manifest.json")
    path.write_text('{"format": 2, "parts": []}')
    for call in (table.read, lambda value: publish(table, value, embeddings(1)), table.rollback):
        with pytest.raises(SchemaTooNew, match="manifest format 2.*nocturne>=2"):
            call(DATE)
    assert path.read_text().rstrip() == '{"format": 2, "parts": []}' and len(list(path.parent.glob("*.parquet"))) == 1


def test_a_manifest_can_not_point_out_of_its_folder(table: Table) -> None:
    publish(table, DATE, embeddings(0))
    manifest = table.manifest(DATE)
    _rewrite(table, files=(type(manifest.files[0])("../../secret", 1, "x", 1),))
    with pytest.raises(ManifestBroken, match="plain name in its own folder"):
        table.read(DATE)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"not json", b"\xff"])
def test_a_broken_manifest_is_named_and_the_next_publish_repairs_it(table: Table, content: bytes) -> None:
    publish(table, DATE, embeddings(0))
    at(table.path(DATE), "_manifest.json").write_bytes(content)
    with pytest.raises(ManifestBroken, match="_manifest.json is no manifest.*publish it again"):
        table.read(DATE)
    with pytest.raises(ZeroDivisionError), table.replace(DATE) as one:
        one.write_table(embeddings(1))
        raise ZeroDivisionError
    # nothing of a partition that may be saved by hand is removed
    assert len(list(at(table.path(DATE)).glob("*.parquet"))) == 1
    publish(table, DATE, embeddings(2))
    assert table.read(DATE).equals(embeddings(2)) and table.verify(DATE) == [] and table.orphans(DATE) == []


def test_a_broken_manifest_can_be_rolled_back_and_a_broken_replaced_one_stops_nothing(table: Table) -> None:
    for seed in range(2):
        publish(table, DATE, embeddings(seed))
    at(table.path(DATE), "_manifest.json").write_bytes(b"{}")
    table.rollback(DATE)
    assert table.read(DATE).equals(embeddings(0)) and table.verify(DATE) == [] and table.orphans(DATE) == []
    publish(table, DATE, embeddings(1))
    (kept,) = at(table.path(DATE), "_retired").glob("*/_manifest.json")
    kept.write_bytes(b"{}")
    assert table.versions(DATE) == []
    publish(table, DATE, embeddings(2))
    assert [version.content_hash for version in table.versions(DATE)] == [content_hash([embeddings(1)])]
