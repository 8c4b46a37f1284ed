"""Every number of the configuration has a range; places and tables that cannot be are named when the file is read."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import StoreError
from feature_store.storage import Storage
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.ranges import Range
from jobs.configuration.settings import settings_class
from models import families
from models.hyperparameters import HyperparameterError, PooledTreeHyperparameters, TreeHyperparameters
from tests.jobs.embeddings.planted import write_config

OWN_RULES = ("lease_seconds", "timeout_seconds", "retry_seconds")  # of the store's settings, which look after these
PLACES = ("", "source.events.", "source.items.", "source.users.")
PURCHASES = {"behaviors": {"purchase": {}}}


def refused(folder: Path, **sections: object) -> str:
    with pytest.raises(ConfigError) as error:
        load_settings(write_config(folder, **sections))
    message = str(error.value)
    assert message.isprintable() and len(message) < 800
    return message


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("publishing", "min_coverage"), ("publishing", "min_norm"), ("publishing", "max_norm"),
        ("publishing", "min_neighbour_overlap"), ("publishing", "carry_days"), ("training", "max_gap_days"),
        ("lookalike", "top_k"), ("transe", "learning_rate"), ("rhgn", "dropout"), ("dag", "retries"),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_everywhere(tmp_path: Path, section: str, key: str, wrong: float) -> None:
    assert refused(tmp_path, **{section: {key: wrong}}).startswith(f"{section}.{key} is ")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"publishing": {"min_coverage": -1}}, "publishing.min_coverage is -1.0"),
        ({"publishing": {"min_coverage": 1.01}}, "publishing.min_coverage is 1.01"),
        ({"publishing": {"min_neighbour_overlap": -0.1}}, "publishing.min_neighbour_overlap is -0.1"),
        ({"publishing": {"min_norm": 10, "max_norm": 1}}, "publishing.min_norm is 10.0 (float); expected less than"),
        ({"publishing": {"keep_versions": -1}}, "publishing.keep_versions is -1"),
        ({"publishing": {"models": []}}, "publishing.models is []"),
        ({"graph": PURCHASES | {"window_days": 999_999_999}}, "graph.window_days is 999999999"),
        ({"graph": PURCHASES | {"window_days": 0}}, "graph.window_days is 0"),
        ({"graph": {"behaviors": {"purchase": {"window_days": -3}}}}, "graph.behaviors.purchase.window_days is -3"),
        ({"lookalike": {"trees": {"rounds": 10**12}}}, "lookalike.trees.rounds is 1000000000000"),
        ({"lookalike": {"bootstrap_draws": -1}}, "lookalike.bootstrap_draws is -1"),
        ({"profiles": {"cross_validation": 10**6}}, "profiles.cross_validation is 1000000"),
        ({"profiles": {"labels": {"age": {"bounds": [1, math.nan]}}}}, "profiles.labels.age.bounds[1] is nan"),
        ({"retention": {"reports": 999_999_999}}, "retention.reports is 999999999"),
        ({"retention": {"reports": -1}}, "retention.reports is -1"),
        ({"spark": {"shuffle_partitions": 0}}, "spark.shuffle_partitions is 0"),
        ({"spark": {"driver_memory": "-1g"}}, "spark.driver_memory is '-1g'"),
        ({"dag": {"task_timeout_minutes": 0}}, "dag.task_timeout_minutes is 0"),
        ({"dag": {"start_date": "0001-01-01"}}, "dag.start_date is "),
        ({"dag": {"dates": ["2026-02-02", "2026-02-01"]}}, "dag.dates[1] is "),
        ({"dag": {"dates": ["2026-02-02", "2026-02-02"]}}, "dag.dates[1] is "),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"data_root": ""}, "data_root is ''"),
        ({"data_root": "  "}, "data_root is '  '"),
        ({"data_root": "a\0b"}, "data_root is 'a\\x00b'"),
        ({"data_root": "a\nb"}, "data_root is 'a\\nb'"),
        ({"data_root": "ftp://bucket/data"}, "data_root is 'ftp://bucket/data'"),
        ({"data_root": "s3://bucket/../data"}, "data_root is 's3://bucket/../data'"),
        ({"data_root": "s3:/bucket/data"}, "data_root is 's3:/bucket/data'"),
        ({"data_root": "s3://"}, "data_root is 's3://'"),
        ({"data_root": "hdfs:/data"}, "data_root is 'hdfs:/data'"),
        ({"data_root": "file://data"}, "data_root is 'file://data'"),
        ({"data_root": "d" * 5000}, "data_root is 'ddd"),
        ({"data_root": 5}, "data_root is 5 (int)"),
        ({"source": {"events": {"path": ""}}}, "source.events.path is ''"),
        ({"source": {"events": {"path": "gs://b/e.parquet"}}}, "source.events.path is 'gs://b/e.parquet'"),
        ({"source": {"events": {"path": "x"}, "users": {"path": "a\0"}}}, "source.users.path is 'a\\x00'"),
        ({"source": {"events": {"path": "x"}, "ready_marker": "ftp://{ds}"}}, "source.ready_marker is 'ftp://{ds}'"),
        (
            {"source": {"events": {"path": "x"}}, "graph": PURCHASES | {"item_attributes": {"brand": {}}}},
            "graph.item_attributes is ['brand'] (list); expected none without source.items",
        ),
        (
            {"source": {"events": {"path": "x"}}, "graph": PURCHASES | {"user_attributes": {"region": {}}}},
            "graph.user_attributes is ['region'] (list); expected none without source.users",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_is_read(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, **sections)


def test_a_data_root_may_be_a_file_uri(tmp_path: Path) -> None:
    config = write_config(tmp_path, data_root=f"file://{tmp_path}/data")
    assert load_settings(config).data_root == f"file://{tmp_path}/data"


HINTS = typing.get_type_hints(settings_class())
TREES = {TreeHyperparameters, PooledTreeHyperparameters}
HYPERPARAMETERS = {HINTS[family.name] for family in families.FAMILIES} | TREES


def numbers(cls: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted path and type of every field below a class that is a number; hyperparameters check themselves."""
    arguments = typing.get_args(cls)
    if cls in (int, float) or (arguments and arguments[0] in (int, float) and typing.get_origin(cls) is not list):
        yield path, cls
    elif dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls, include_extras=True)
        for name, kind in hints.items() if cls not in HYPERPARAMETERS else ():
            yield from numbers(kind, f"{path}.{name}")
    else:
        for argument in arguments if typing.get_origin(cls) is not list else ():
            yield from numbers(argument, path)


def test_every_number_has_a_range() -> None:
    found = dict(numbers(settings_class(), ""))
    assert {".seed", ".graph.behaviors.window_days", ".retention", ".profiles.folds.a"} <= set(found)
    without = {path for path, kind in found.items() if not any(isinstance(a, Range) for a in typing.get_args(kind))}
    assert without == {f".{place}storage.{name}" for place in PLACES for name in OWN_RULES}
    for name in OWN_RULES:
        for wrong in (math.nan, math.inf, -1):
            with pytest.raises(StoreError, match=f"object store's {name}; expected"):
                Storage(**{name: wrong})


@pytest.mark.parametrize("cls", sorted(HYPERPARAMETERS, key=lambda c: c.__name__), ids=lambda c: c.__name__)
def test_every_hyperparameter_that_is_a_number_has_a_range(cls: type) -> None:
    kinds = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if kinds[field.name] in (int, float)]
    assert names
    for name in names:
        for wrong in (math.nan, math.inf, -math.inf, -1, 10**12):
            with pytest.raises(HyperparameterError, match=f"^{name} is "):
                cls(**{name: wrong})
