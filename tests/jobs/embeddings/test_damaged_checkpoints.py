"""A checkpoint that is not what was committed: each job that reads it refuses it, with one message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Table
from jobs.embeddings import pretrain_transe, publish_users, smooth_kqgc
from jobs.embeddings.space import Former
from jobs.program import FINAL, JobError, execute
from models.learning.training import from_bytes, to_bytes
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night

READERS = {
    "its own of the predecessor": (pretrain_transe.run, DATES[1], []),
    "what it starts from": (smooth_kqgc.run, DATES[0], ["--model", "kqgc_mean"]),
    "what is published": (publish_users.run, DATES[0], ["--model", "transe"]),
}


@pytest.fixture
def config(root: Path) -> Path:
    config = write_config(root)
    night(config, DATES[0])
    return config


def _refused(name: str, config: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The message with which the job ends."""
    run, date, model = READERS[name]
    predecessor = DATES[0] if date == DATES[1] else None
    caplog.clear()
    options = ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor), *model]
    assert execute(run, options) == FINAL
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    return said


@pytest.mark.parametrize("name", READERS)
def test_one_changed_bit_is_refused_by_every_job(
    root: Path, config: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = map(Path, Table(str(root / "data/checkpoints/transe")).files(str(DATES[0])))
    content = path.read_bytes()
    for bit in np.random.default_rng(0).choice(len(content) * 8, 5, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        said = _refused(name, config, caplog)
        assert f"{path} was changed after it was published" in said and "publish it again" in said


def _rewrite(root: Path, change: Callable[[dict, dict], None], model: str = "transe") -> Path:
    """The checkpoint of the first date with other arrays or facts, committed as a job would: no hash tells."""
    table = Table(str(root / f"data/checkpoints/{model}"))
    fields = table.manifest(str(DATES[0])).fields
    ((_, content),) = table.blobs(str(DATES[0])).items()
    arrays, facts = from_bytes(content)
    change(arrays, facts)
    with table.replace(str(DATES[0])) as commit:
        commit.fields |= fields
        commit.write_bytes(".safetensors", to_bytes(arrays, facts))
    return Path(table.files(str(DATES[0]))[0])


def _nan(arrays: dict, facts: dict) -> None:
    arrays["entities"][3, 1] = np.nan


def _infinite_accumulator(arrays: dict, facts: dict) -> None:
    arrays["extra.relation_accumulators"][:] = np.inf


def _fewer_entities(arrays: dict, facts: dict) -> None:
    arrays["entities"] = arrays["entities"][:-1]


def _other_axes(arrays: dict, facts: dict) -> None:
    arrays["entities"] = arrays["entities"][0]


def _no_source(arrays: dict, facts: dict) -> None:
    del arrays["source"]


def _no_types(arrays: dict, facts: dict) -> None:
    del facts["types"]


def _types_are_no_list(arrays: dict, facts: dict) -> None:
    facts["types"] = "[" * 100_000


def _no_date(arrays: dict, facts: dict) -> None:
    facts["trained_at"] = "yesterday"


def _other_types(arrays: dict, facts: dict) -> None:
    facts["types"] = json.dumps(["user"])


DAMAGES = {
    _nan: "1 of the 848 numbers of array 'entities' are not finite; expected all finite",
    _infinite_accumulator: "array 'extra.relation_accumulators' are not finite",
    _fewer_entities: "'entities' is of shape (105, 8), 'entity_type' of (106,)",
    _other_axes: "'entities' is float32 of shape (8,); expected floats of 2 axes",
    _no_source: "it lacks array 'source'",
    _no_types: "it lacks fact 'types'",
    _types_are_no_list: "expected a JSON list of entity types",
    _no_date: "trained_at is 'yesterday'; expected a date",
    _other_types: "expected 0 to 0",
}


@pytest.mark.parametrize("name", READERS)
def test_what_no_job_can_go_on_with_is_refused_with_one_message(
    root: Path, config: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (before,) = map(Path, Table(str(root / "data/checkpoints/transe")).files(str(DATES[0])))
    sound, _ = from_bytes(before.read_bytes())
    for damage, expected in DAMAGES.items():
        path = _rewrite(root, damage)
        said = _refused(name, config, caplog)
        assert str(path) in said and expected in said and "again" in said and "\n" not in said
        _rewrite(root, lambda arrays, facts: (arrays.clear(), arrays.update(sound), facts.update(_facts(facts))))


def _facts(facts: dict) -> dict:
    return {"types": json.dumps(["brand", "item", "region", "user"]), "trained_at": str(DATES[0])}


@pytest.mark.parametrize("name", READERS)
def test_a_truncated_checkpoint_of_a_right_hash_is_named(
    root: Path, config: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(str(root / "data/checkpoints/transe"))
    ((_, content),) = table.blobs(str(DATES[0])).items()
    for wrong in (content[: len(content) // 2], b"", b"{}"):
        with table.replace(str(DATES[0])) as commit:
            commit.write_bytes(".safetensors", wrong)
        said = _refused(name, config, caplog)
        assert table.files(str(DATES[0]))[0] in said and f"{len(wrong)} bytes that are no readable" in said
    with table.replace(str(DATES[0])) as commit:
        commit.write_bytes(".safetensors", content)
        commit.write_bytes(".safetensors", content)
    assert "holds 2 files" in _refused(name, config, caplog)


def test_missing_and_foreign_parts_of_a_family_are_named(
    root: Path, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def without_accumulators(arrays: dict, facts: dict) -> None:
        del arrays["extra.entity_accumulators"]

    def short_accumulators(arrays: dict, facts: dict) -> None:
        arrays["extra.entity_accumulators"] = np.ones(3, np.float32)

    def other_dimension(arrays: dict, facts: dict) -> None:
        for name in ("entities", "relations"):
            arrays[name] = np.hstack([arrays[name], arrays[name]])

    ((_, content),) = Table(str(root / "data/checkpoints/transe")).blobs(str(DATES[0])).items()
    for change, expected in (
        (without_accumulators, "'extra.entity_accumulators' is missing; expected (106,)"),
        (short_accumulators, "'extra.entity_accumulators' is of shape (3,); expected (106,)"),
        (other_dimension, "warm start entities have shape (106, 16); expected (106, 8)"),
    ):
        path = _rewrite(root, change)
        said = _refused("its own of the predecessor", config, caplog)
        assert str(path) in said and expected in said and "\n" not in said
        with Table(str(root / "data/checkpoints/transe")).replace(str(DATES[0])) as commit:
            commit.write_bytes(".safetensors", content)


def test_a_checkpoint_of_another_graph_is_refused(root: Path, config: Path, caplog: pytest.LogCaptureFixture) -> None:
    def other_ids(arrays: dict, facts: dict) -> None:
        arrays["entity_id"] += 1

    path = _rewrite(root, other_ids)
    said = _refused("what it starts from", config, caplog)
    assert f"{path} is of another graph: 106 entities and 3 relations" in said


def test_a_job_commits_nothing_that_is_not_finite(
    root: Path, config: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = pretrain_transe.learn

    def collapsed(*arguments: object) -> object:
        outcome = learn(*arguments)
        outcome.entities[0, 0] = np.inf
        return outcome

    monkeypatch.setattr(pretrain_transe, "learn", collapsed)
    before = Table(str(root / "data/checkpoints/transe")).manifest(str(DATES[0]))
    assert "Not committed" in (said := _refused("its own of the predecessor", config, caplog))
    assert "1 of the 848 numbers of array 'entities' are not finite" in said
    table = Table(str(root / "data/checkpoints/transe"))
    assert table.values() == [str(DATES[0])] and table.manifest(str(DATES[0])) == before


def test_a_predecessor_published_with_nan_is_refused(root: Path, config: Path) -> None:
    table = Table(str(root / "data/feature_store/user_embeddings/model=transe"))
    rows = table.read(str(DATES[0]))
    wrong = np.array(rows.column("embedding").combine_chunks().values)
    wrong[5] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(wrong), 8)
    with table.replace(str(DATES[0])) as commit:
        commit.write_table(rows.set_column(rows.column_names.index("embedding"), "embedding", column))
    with pytest.raises(JobError, match="1 of the 60 vectors in .*dt=2026-01-05 are not finite"):
        Former.read(table, DATES[0])
