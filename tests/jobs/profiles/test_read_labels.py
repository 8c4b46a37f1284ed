"""The table of labels: what is known at D of whom, read back as Spark read it."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from feature_store import Manifest
from feature_store.errors import PartitionMissing
from jobs.configuration.profiles import Label, Profiles
from jobs.configuration.sections import Graph, Publishing, Relation, Source, SourceTable, Spark
from jobs.profiles import read_labels
from jobs.profiles.labels import Known, read_known, read_rows
from jobs.program import JobError, MayPass, Output, Skip, metrics
from tests.jobs.embeddings.planted import write_day
from tests.jobs.report.tables_by_hand import table_input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DATE, GRAPH = datetime.date(2026, 3, 2), Graph({"purchase": Relation()})
LABELS = {"gender": Label(), "age_band": Label("years", [30, 50]), "colour": Label("hue")}
IDS = ["b", "é", "a", "e\u0301", "<b>x</b>", "Z"]  # by their bytes: <b>x</b>, Z, a, b, e + accent, é


def source() -> pd.DataFrame:
    """Six users; `b` contradicts itself on the years, `Z` has no gender; every row is valid since long ago."""
    return pd.DataFrame({
        "user_id": [*IDS, "b"], "gender": ["f", "m", "f", "m", "f", "", "f"], "years": [20.0, 31, 30, 50, 51, None, 40],
        "valid_from": pd.Timestamp("2020-01-01", tz="UTC")})  # fmt: skip


def write(root: Path, rows: pd.DataFrame, labels: dict[str, Label] | None = None) -> read_labels.Config:
    rows.to_parquet(root / "users.parquet", index=False)
    users = SourceTable(str(root / "users.parquet"))
    profiles = Profiles(labels=LABELS if labels is None else labels)
    write_day(root, DATE - datetime.timedelta(days=1), [*IDS, *rows["user_id"]])
    return read_labels.Config(Source(SourceTable("none"), users=users), GRAPH, Publishing(), profiles, Spark())


def run(root: Path, config: read_labels.Config) -> Manifest:
    metrics.rows.clear()
    days, labels = table_input(root, "clean_events"), table_input(root, "user_labels", Output)
    read_labels.run(date=DATE, clean_events=days, user_labels=labels, config=config)
    return table_input(root, "user_labels").table().existing_manifest(DATE.isoformat())


def plain(known: dict[str, Known]) -> dict[str, tuple]:
    lists = {name: (one.user_id.to_pylist(), one.classes.to_pylist()) for name, one in known.items()}
    return {name: (*lists[name], one.contradicting, one.problem) for name, one in known.items()}


def test_whoever_comes_from_d_on_is_not_in_the_table(spark: SparkSession, tmp_path: Path) -> None:
    """A label without validity says nothing of when its user came: the events before D do."""
    config = write(tmp_path, source())
    write_day(tmp_path, DATE - datetime.timedelta(days=1), ["a"])
    write_day(tmp_path, DATE - datetime.timedelta(days=120), ["b"])
    write_day(tmp_path, DATE - datetime.timedelta(days=500), ["Z"])
    write_day(tmp_path, DATE, ["é"])
    run(tmp_path, config)
    known = read_known(table_input(tmp_path, "user_labels"), DATE, config.profiles)
    assert known["gender"].user_id.to_pylist() == ["a", "b"], (
        "of the window, or as long before it as vectors are carried"
    )


def test_without_a_day_of_events_it_stops_and_writes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    config = write(tmp_path, source())
    shutil.rmtree(tmp_path / "clean_events")
    with pytest.raises(JobError, match=r"clean_events has no day from 20.* until before 2026-03-02.*validate_events"):
        run(tmp_path, config)
    assert table_input(tmp_path, "user_labels").table().values() == []


def test_what_is_read_back_is_what_spark_read(spark: SparkSession, tmp_path: Path) -> None:
    config = write(tmp_path, source())
    run(tmp_path, config)
    known = read_known(table_input(tmp_path, "user_labels"), DATE, config.profiles)
    of_source = read_rows(spark, config.source.users, config.profiles, DATE)
    assert plain(known) == plain({name: Known.of(*found) for name, found in of_source.items()})
    assert list(known) == ["gender", "age_band", "colour"], "in the configuration's order"
    sexes = {"<b>x</b>": "f", "a": "f", "b": "f", "e\u0301": "m", "é": "m"}
    assert list(zip(*plain(known)["gender"][:2], strict=True)) == list(sexes.items())
    ages = ["3: above 50", "1: up to 30", "2: above 30 up to 50", "2: above 30 up to 50"]
    assert plain(known)["age_band"] == (["<b>x</b>", "a", "e\u0301", "é"], ages, 1, "")
    assert plain(known)["colour"][:3] == ([], [], 0) and "has no column 'hue'" in known["colour"].problem


def test_rows_are_sorted_by_their_bytes_and_contradictions_stand_as_nulls(spark: SparkSession, tmp_path: Path) -> None:
    config = write(tmp_path, source())
    manifest = run(tmp_path, config)
    rows = table_input(tmp_path, "user_labels").table().read(DATE.isoformat())
    assert rows.schema.equals(table_input(tmp_path, "user_labels").contract.arrow_schema())
    found = rows.to_pylist()
    keys = [(row["label"].encode(), row["user_id"].encode()) for row in found]
    assert keys == sorted(keys) and len(set(keys)) == len(keys) == 10
    assert [row for row in found if row["class"] is None] == [{"label": "age_band", "user_id": "b", "class": None}]
    assert {name: fact["contradicting"] for name, fact in manifest.fields["labels"].items()} == {
        "gender": 0, "age_band": 1, "colour": 0}  # fmt: skip
    details = {name: json.loads(detail) for name, _, detail in metrics.rows if detail}
    assert details["labels"] == manifest.fields["labels"]
    (read,) = manifest.fields["sources"]["source.users"]
    assert (read["name"], len(read["sha256"])) == ("users.parquet", 64)


def test_nothing_from_the_date_on_is_read(spark: SparkSession, tmp_path: Path) -> None:
    """A world whose rows of D and later differ has the same table; an hour earlier they would have counted."""
    midnight = pd.Timestamp(DATE, tz="UTC")
    later = source().assign(gender="unborn", years=99.0, valid_from=midnight)
    newcomer = later.iloc[:1].assign(user_id="new")
    before = run(tmp_path, write(tmp_path, source())).content_hash
    assert run(tmp_path, write(tmp_path, pd.concat([newcomer, later, source()]))).content_hash == before
    earlier = later.assign(valid_from=midnight - pd.Timedelta(hours=1))
    assert run(tmp_path, write(tmp_path, pd.concat([source(), earlier]))).content_hash != before


def test_a_label_that_has_changed_since_is_not_taken_for_the_same(spark: SparkSession, tmp_path: Path) -> None:
    run(tmp_path, write(tmp_path, source()))
    table = table_input(tmp_path, "user_labels")
    for label in ({"age_band": Label("years", [40])}, {"gender": Label("years")}, {"height": Label()}):
        with pytest.raises(JobError, match=r"now says .*Run jobs\.profiles\.read_labels"):
            read_known(table, DATE, Profiles(labels=label))
    assert list(read_known(table, DATE, Profiles(labels={"gender": Label()}))) == ["gender"]
    with pytest.raises(PartitionMissing):
        read_known(table, datetime.date(2026, 1, 1), Profiles(labels=LABELS))


def test_a_table_that_changes_while_it_is_read_leaves_no_labels(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, read = write(tmp_path, source()), read_labels.read_rows

    def meanwhile(*arguments: object) -> object:
        found = read(*arguments)
        source().head(2).to_parquet(tmp_path / "users.parquet", index=False)
        return found

    monkeypatch.setattr(read_labels, "read_rows", meanwhile)
    with pytest.raises(MayPass, match="users.parquet was changed while it was read"):
        run(tmp_path, config)
    assert table_input(tmp_path, "user_labels").table().values() == []


def test_without_a_label_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(Skip, match="No label is configured"):
        run(tmp_path, write(tmp_path, source(), {}))
    assert table_input(tmp_path, "user_labels").table().values() == []


def test_where_no_label_can_be_read_the_table_says_so_of_each(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = write(tmp_path, source(), {"colour": Label("hue")})
    assert run(tmp_path, config).row_count == 0
    assert "label colour: nothing could be read: " in caplog.text
    assert plain(read_known(table_input(tmp_path, "user_labels"), DATE, config.profiles))["colour"][0] == []
