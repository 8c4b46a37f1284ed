"""Object stores in the configuration: where they are, and never a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feature_store import known_stores
from feature_store.known_stores import storage_of
from feature_store.storage import Storage
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from tests.dags import small_log

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYab"
EVENTS = {"path": "s3://lake/events/*.csv", "format": "csv"}


def _written(folder: Path, **sections: Any) -> Path:
    return small_log.write(folder, **sections)


def _source(**events: Any) -> dict[str, Any]:
    return small_log.configuration(())["source"] | {"events": EVENTS | events}


def test_a_source_has_a_store_of_its_own_or_the_roots(tmp_path: Path) -> None:
    own, roots = {"endpoint": "https://lake.example.com"}, {"region": "eu-central-1", "profile": "nightly"}
    sections = {"data_root": "s3://shop/nights/", "storage": roots}
    settings = load_settings(_written(tmp_path / "a", source=_source(storage=own), **sections))
    assert settings.data_root == "s3://shop/nights" and settings.storage == Storage(**roots)
    assert settings.source.events.storage == Storage(**own)
    assert settings.source.items.storage == settings.storage
    assert storage_of("s3://shop/nights/clean_events/day=2026-01-05") == settings.storage
    assert storage_of("s3://lake/events/a.csv") == Storage(**own)
    assert storage_of("s3://elsewhere/x") == settings.storage
    settings = load_settings(_written(tmp_path / "b", source=_source(), **sections))
    assert settings.source.events.storage == Storage(**roots)
    others = {"endpoint": "https://orders.example.com"}
    two = _source() | {"events": [EVENTS, EVENTS | {"path": "s3://orders/*.csv", "storage": others}]}
    settings = load_settings(_written(tmp_path / "c", source=two, **sections))
    assert [one.storage for one in settings.source.events] == [Storage(**roots), Storage(**others)]
    assert storage_of("s3://orders/a.csv") == Storage(**others) and settings.source.events[1].record


def test_a_root_that_would_be_taken_for_the_store_of_another_is_refused(tmp_path: Path) -> None:
    """Programs that are given it look at the folder around it, where nothing is."""
    for root, folder in (("feature_store/", "a"), ("nights/../feature_store", "b"), (".", "feature_store"),
                         ("s3://shop/feature_store/", "c")):  # fmt: skip
        path = _written(tmp_path / folder, data_root=root)
        said = r"^data_root is '.*/feature_store' \(str\); expected a folder of another name, such as .*/nights"
        with pytest.raises(ConfigError, match=said):
            load_settings(path)
    for root in ("feature_store/nights", "my_feature_store"):
        assert load_settings(_written(tmp_path / root, data_root=root)).data_root == str(tmp_path / root / root)


def test_a_store_is_known_however_its_scheme_is_spelt_and_the_nearest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_stores, "_known", {})
    stores = {uri: Storage(region=name) for name, uri in (
        ("all", ""), ("lake", "s3a://lake/a"), ("below", "s3://lake/a/b"), ("azure", "abfss://box/x"))}  # fmt: skip
    for uri, storage in stores.items():
        known_stores.know(uri, storage)
    for uri, region in (
        ("s3://lake/a/x", "lake"), ("s3a://lake/a", "lake"), ("s3a://lake/a/b/*.csv", "below"),
        ("s3://lake/ab", "lake"), ("s3://lake/a/bc", "lake"),
        ("s3://lake/other", "lake"), ("az://box/x/y", "azure"), ("s3://lakes/a", "all"),
    ):  # fmt: skip
        assert storage_of(uri).region == region, uri


KEYS = {
    "of the root": ({"storage": {"secret_access_key": SECRET}}, "storage"),
    "of a source": ({"source": _source(storage={"aws_secret_access_key": SECRET})}, "source.events.storage"),
    "a token": ({"storage": {"token": SECRET}}, "storage"),
    "as a profile": ({"storage": {"profile": SECRET}}, "storage"),
    "within the endpoint": ({"storage": {"endpoint": f"http://key:{SECRET}@127.0.0.1:9"}}, "storage.endpoint"),
    "within the root": ({"data_root": f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/x"}, "data_root"),
    "within a source": ({"source": _source(path=f"s3://key:{SECRET}@lake/x.csv")}, "source.events.path"),
    "within a link": ({"dag": {"reports_url": f"https://me:{SECRET}@example.com"}}, "dag.reports_url"),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_in_plain_is_refused_and_not_repeated(case: str, tmp_path: Path) -> None:
    sections, path = KEYS[case]
    with pytest.raises(ConfigError) as error:
        load_settings(_written(tmp_path, **sections))
    said = str(error.value)
    assert said.startswith(path) and SECRET not in said
    assert "environment" in said and "~/.aws/credentials" in said


WRONG = {
    "no mapping": ("s3", "storage is 's3'"),
    "an unknown setting": ({"end_point": "http://x"}, "storage: Found the setting 'end_point'"),
    "no address": ({"endpoint": "minio"}, "storage: Found the endpoint 'minio'"),
    "no number": ({"lease_seconds": "long"}, "storage: Found 'long' as the object store's lease_seconds"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_store_has_is_named(case: str, tmp_path: Path) -> None:
    storage, said = WRONG[case]
    with pytest.raises(ConfigError) as error:
        load_settings(_written(tmp_path, storage=storage))
    assert str(error.value).startswith(said)
