"""An upgrade: tonight's night on a data root that the former version wrote.

`former/0.1.0.tar.xz` is what the first night of nights_anywhere.py left under 0.1.0, by that version's own programs,
without `reports`, which nothing reads, and without the lock files, which say who had them last. Who makes the version
after this one adds the root of this one beside it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store import FeatureStore, Segments
from feature_store.__main__ import main as store_command
from jobs.tables import TABLES
from tests.jobs.nights_anywhere import NIGHTS, configured, content_of, run_night

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FORMER = Path(__file__).with_name("former")
FIRST, SECOND = map(str, NIGHTS)


@pytest.mark.parametrize("version", sorted(path.name.removesuffix(".tar.xz") for path in FORMER.glob("*.tar.xz")))
def test_tonights_night_goes_on_from_what_the_former_version_left(
    version: str, tmp_path: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    config, root = configured(tmp_path), tmp_path / "data"
    with tarfile.open(FORMER / f"{version}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    before, users = content_of(str(root)), Segments(str(root / "entity_ids/user")).read()
    assert ("feature_store/user_embeddings/model=transe", FIRST) in before and len(before) > 15
    run_night(config, 1)
    after = content_of(str(root))
    assert {key: after.get(key) for key in before} == before, "nothing of it was written anew"
    assert Segments(str(root / "entity_ids/user")).read().slice(0, users.num_rows).equals(users)
    assert store_command(["verify", "--root", str(root)]) == 0, capsys.readouterr().out
    store = FeatureStore(str(root / "feature_store"))
    both = store.read("user_embeddings", model="transe", dt=[FIRST, SECOND])
    former, tonight = both.manifests
    assert tonight.fields["predecessor"]["content_hash"] == former.content_hash, "a warm start, in the same space"
    assert tonight.schema_version == TABLES["user_embeddings"].schema_version > former.schema_version
    new = {field.name for field in TABLES["user_embeddings"].fields} - set(
        store.read("user_embeddings", model="transe", dt=FIRST).table.column_names)  # fmt: skip
    assert new == {"first_event", "last_event", "n_days"}
    for name in new:
        column = both.table.column(name)
        assert column.slice(0, former.row_count).null_count == former.row_count
        assert column.slice(former.row_count).null_count < tonight.row_count
