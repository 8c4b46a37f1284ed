"""RelGNN over planted nights: killed runs, other hyperparameters, nobody to learn from, newcomers between trainings."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from feature_store import Table
from jobs.arrays import INDUCTIVE, TRAINED, Checkpoint, read_checkpoint
from jobs.embeddings import finetune_relgnn, publish_users
from jobs.program import FINAL, execute
from tests.jobs.embeddings.planted import write_config, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS

FAST = {"dimension": 8, "heads": 2, "attribute_width": 4, "epochs": 4, "batch_size": 64, "evaluate_every": 1}


def config_of(root: Path, **sections: object) -> Path:
    mine = {"relgnn": FAST, "publishing": {"models": ["relgnn"], "min_neighbour_overlap": 0.0}}
    return write_config(root, **mine | sections)


def base(config: Path, date: datetime.date, predecessor: datetime.date | None = None) -> list[str]:
    return ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]


def checkpoint_of(root: Path, date: datetime.date) -> Checkpoint:
    return read_checkpoint(Table(str(root / "data/checkpoints/relgnn")), str(date))


def test_a_killed_run_goes_on_and_a_damaged_state_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(root)
    assert execute(finetune_relgnn.run, base(config, DATES[0])) == 0
    table = Table(str(root / "data/checkpoints/relgnn"))
    whole = table.manifest(str(DATES[0])).content_hash

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune_relgnn.Tonight, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(finetune_relgnn.run, base(config, DATES[0]))
    state = root / f"data/checkpoints/relgnn/_scratch/{DATES[0]}.safetensors"
    good = state.read_bytes()
    state.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    assert execute(finetune_relgnn.run, base(config, DATES[0])) == FINAL
    assert "Delete the file: training then begins anew." in caplog.text
    state.write_bytes(good)
    assert execute(finetune_relgnn.run, base(config, DATES[0])) == 0
    assert table.manifest(str(DATES[0])).content_hash == whole and not state.exists()


def test_a_predecessor_of_other_hyperparameters_is_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert execute(finetune_relgnn.run, base(config_of(root), DATES[0])) == 0
    wider = config_of(root, relgnn=FAST | {"attribute_width": 6})
    assert execute(finetune_relgnn.run, base(wider, DATES[1], DATES[0])) == FINAL
    assert "Does not fit together" in caplog.text and f"dt={DATES[0]}" in caplog.text


def test_a_newcomer_between_trainings_is_inferred_and_the_others_stay_trained(root: Path) -> None:
    config = config_of(root, training={"train_every_days": 30})
    assert execute(finetune_relgnn.run, base(config, DATES[0])) == 0
    users, brands = [*USERS, "a900"], ["b0", "b1", "b2", "b3", "b9"]
    write_ledgers(root / "data", users, brands=brands)
    write_graph(root / "data", DATES[1], users, brands=brands)
    assert execute(finetune_relgnn.run, base(config, DATES[1], DATES[0])) == 0
    found = checkpoint_of(root, DATES[1])
    new = found.entity_id[found.entity_type == found.types.index("user")] == len(USERS)
    mine = found.source[found.entity_type == found.types.index("user")]
    np.testing.assert_array_equal(mine, np.where(new, INDUCTIVE, TRAINED))
    assert found.facts["trained_at"] == str(DATES[0]) and np.isfinite(found.entities).all()
    assert execute(publish_users.run, [*base(config, DATES[0]), "--model", "relgnn"]) == 0


def test_counts_that_are_asked_for_later_make_a_night_train_and_go_on_from_the_rest(root: Path) -> None:
    rare = {"train_every_days": 30}
    assert execute(finetune_relgnn.run, base(config_of(root, training=rare), DATES[0])) == 0
    counting = config_of(root, training=rare, relgnn=FAST | {"counts": True})
    assert execute(finetune_relgnn.run, base(counting, DATES[1], DATES[0])) == 0
    before, after = (checkpoint_of(root, date) for date in DATES[:2])
    assert "number of" not in before.facts["shape"] and '["number of purchase", "item"]' in after.facts["shape"]
    assert after.facts["trained_at"] == str(DATES[1]) and np.isfinite(after.entities).all()
    steps = [float(found.extra["relgnn.optimiser.inputs.tables.0.step"]) for found in (before, after)]
    assert 0 < steps[0] < steps[1], "the attribute that both nights have goes on"
    attributes = json.loads(after.facts["shape"])["attributes"]
    counts = [number for number, (name, _) in enumerate(attributes) if name.startswith("number of ")]
    anew = {float(after.extra[f"relgnn.optimiser.inputs.tables.{number}.step"]) for number in counts}
    assert len(counts) == 2 and anew == {steps[1] - steps[0]}, "counts begin anew"


def test_users_with_few_events_teach_nothing_and_are_inferred(root: Path) -> None:
    assert execute(finetune_relgnn.run, base(config_of(root, training={"min_train_events": 6}), DATES[0])) == 0
    found = checkpoint_of(root, DATES[0])
    graph = Table(str(root / "data/knowledge_graph")).read(str(DATES[0])).to_pylist()
    bought = Counter(edge["head"] for edge in graph if edge["relation"] == 0)
    users = found.entity_type == found.types.index("user")
    few = np.array([bought[int(user)] < 6 for user in found.entity_id[users]])
    np.testing.assert_array_equal(found.source[users], np.where(few, INDUCTIVE, TRAINED))
    assert few.any() and not few.all()
    figures = Table(str(root / "data/run_metrics/stage=finetune_relgnn")).read(str(DATES[0])).to_pylist()
    (learned_from,) = (row["value"] for row in figures if row["metric"] == "rows_in")
    from_few = sum(bought[int(user)] + 1 for user in found.entity_id[users][few])  # and their regions
    assert learned_from == len(graph) - from_few
