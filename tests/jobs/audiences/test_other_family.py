"""A family declared here alone goes through lookalike by its comparison, with vectors of relations or without."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.audiences import feature_sets
from jobs.audiences.nights import Tables
from jobs.audiences.snapshot import Ledger
from jobs.audiences.vectors import Vectors, read_vectors
from jobs.configuration.sections import Publishing
from jobs.program import JobError
from models import families
from models.family import Family, Job
from tests.jobs.audiences.worlds import BRANDS, DATE, DIMENSION, ITEMS, START, config, planted, reads, score, train
from tests.jobs.report.tables_by_hand import write_vectors

TOY = Family(
    name="toy", title="Toy", hyperparameters="models.hyperparameters.TransEHyperparameters", triage=("", ""),
    jobs=(Job(program="embeddings.train_toy", models=("toy",), doc=""),), compared="dot",
    dimension="toy.dimension", norm="l2", learns_from="events", measure="joy", measured="{}")  # fmt: skip
TASTE = np.random.default_rng(0).integers(0, BRANDS, 800)  # as the planted world has it


def declare(patch: pytest.MonkeyPatch, **changes: object) -> None:
    patch.setattr(families, "FAMILIES", (*families.FAMILIES, dataclasses.replace(TOY, **changes)))


def write_toy(root: Path, relation: bool) -> None:
    """Vectors whose product is high where a user likes a brand; with a vector of the purchase or without."""
    random, centres = np.random.default_rng(1), 2 * np.eye(BRANDS, DIMENSION)
    users = {f"u{u:05d}": centres[taste] + 0.5 * random.normal(size=DIMENSION) for u, taste in enumerate(TASTE)}
    items = {f"i{i}": centres[i % BRANDS] + 0.1 * random.normal(size=DIMENSION) for i in range(ITEMS)}
    for date in (START, DATE):
        write_vectors(root, "toy", date, users, items, np.ones(DIMENSION) if relation else None)


def read(root: Path, model: str = "toy") -> Vectors:
    tables = reads(root)
    ledger = Ledger.read(tables["entity_ids"].segments("user"))
    return read_vectors(model, DATE, tables["user_embeddings"], tables["entity_embeddings"], ledger, "purchase")


@pytest.mark.parametrize("compared", ["dot", "softmax", "cosine"])
def test_its_affinities_say_who_buys_though_relations_have_no_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: str
) -> None:
    declare(monkeypatch, compared=compared)
    planted(tmp_path, users=800)
    write_toy(tmp_path, relation=False)
    settings = config(feature_sets=None, min_positives=40)
    settings = dataclasses.replace(settings, publishing=Publishing(models=["toy"]))
    found = pd.DataFrame(train(tmp_path, settings)["pr_auc"])
    means = found.groupby("feature_set")["pr_auc_population"].mean()
    assert set(means.index) == {"baseline", "strong", "strong+toy:affinity"}, "as its record says"
    assert means["strong+toy:affinity"] > means["strong"] + 0.05
    scored = score(tmp_path, settings)
    assert len(scored["audiences"]) == BRANDS


def test_probabilities_are_summed_over_all_items_of_a_client_however_few_distances_are_taken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path, users=800)
    write_toy(tmp_path, relation=False)
    settings, nobody = config(), np.zeros(0, np.int64)
    for compared in ("softmax", "dot"):
        with monkeypatch.context() as patch:
            declare(patch, compared=compared)
            tables = Tables(**{field.name: reads(tmp_path)[field.name] for field in dataclasses.fields(Tables)})
            source = tables.source(DATE, ["toy"], settings.graph, settings.lookalike, settings.seed)
            client = source.of_items("", np.arange(len(source.snapshot.items)) % 2 == 0)
            found = client.as_client("toy", nobody, most_items=2)
            assert len(found.items) == 2 and found.n_items == int(client.items.sum()) > 4
            if compared == "dot":
                assert found.summed is None
                continue
            np.testing.assert_array_equal(found.summed, client.as_client("toy", nobody, most_items=ITEMS).items)
            patch.setattr(feature_sets, "MOST_OF_CLIENT", 3)
            assert len(client.as_client("toy", nobody).summed) == 3


def test_a_relations_vector_is_read_where_the_comparison_takes_it_and_missed_there_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path, users=800)
    write_toy(tmp_path, relation=True)
    for compared, takes in (("translation", True), ("diagonal", True), ("dot", False), ("cosine", False)):
        with monkeypatch.context() as patch:
            declare(patch, compared=compared)
            found = read(tmp_path)
            assert found.comparer.kind == compared and (found.native_purchase is not None) == takes
    write_toy(tmp_path, relation=False)
    with monkeypatch.context() as patch:
        declare(patch, compared="dot")
        assert read(tmp_path).purchase is None
    declare(monkeypatch, compared="diagonal")
    with pytest.raises(JobError, match=r"toy/dt=2026-03-09 has no vector of relation 'purchase': nothing had it"):
        read(tmp_path)
