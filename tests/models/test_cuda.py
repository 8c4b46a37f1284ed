"""What a GPU computes is what the CPU computes. Skipped, and says so, where there is no GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_training import train_hugt
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs
from models.ram_gnn_interactions_training import train_interactions
from models.ram_gnn_training import train_ram_gnn, vectors_of
from models.transe import Triples
from models.transe_training import train_transe
from tests.models import test_hugt_training as hugt
from tests.models.contract import planted as planted_graph
from tests.models.contract import same_taste_share
from tests.models.ram_gnn_worlds import side_of_planted
from tests.models.test_ram_gnn_interactions import LEARNS, planted_pair

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def planted(n: int = 3000, edges: int = 40_000, relations: int = 4, seed: int = 0) -> Triples:
    """Relation r leads from entity e to one of ten entities near e + 100 r."""
    random = np.random.default_rng(seed)
    heads, kinds = random.integers(n, size=edges), np.sort(random.integers(relations, size=edges))
    tails = (heads + 100 * (kinds + 1) + random.integers(10, size=edges)) % n
    keys = random.integers(1 << 62, size=n + relations).astype(np.uint64)
    types = (np.zeros(size, np.int64) for size in (n, relations, relations))
    return Triples(heads, kinds, tails, *types, keys[:n], keys[n:])


@pytest.mark.parametrize(("norm", "loss"), [("l1", "margin"), ("l2", "self_adversarial")])
def test_transe_on_a_gpu_is_transe_on_a_cpu(norm: str, loss: str) -> None:
    small = {"dimension": 32, "epochs": 5, "negatives": 16, "negatives_shared_by": 8, "evaluate_every": 5}
    hyper = TransEHyperparameters(engine="torch", norm=norm, loss=loss, **small)

    def on_both(hyper: TransEHyperparameters) -> dict[str, list[dict[str, float]]]:
        return {
            device: train_transe(planted(), dataclasses.replace(hyper, device=device), seed=1).history
            for device in ("cpu", "cuda")
        }

    # the loss before any update: later ones add up rounding
    first = on_both(dataclasses.replace(hyper, epochs=1, batch_size=40_000))
    assert first["cpu"][0]["loss"] == pytest.approx(first["cuda"][0]["loss"], rel=1e-5)
    histories = on_both(hyper)
    seconds = {device: sum(entry["seconds"] for entry in history) for device, history in histories.items()}
    print({device: f"{5 * 40_000 / taken:,.0f} triples/s" for device, taken in seconds.items()})
    figures = {device: history[-1] for device, history in histories.items()}
    assert figures["cuda"]["validation_mrr"] == pytest.approx(figures["cpu"]["validation_mrr"], abs=0.02)


@pytest.mark.parametrize("aggregator", ["mean", "attention1", "attention2"])
def test_kqgc_on_a_gpu_is_kqgc_on_a_cpu(aggregator: str) -> None:
    pytest.importorskip("dgl")
    from models.graph import KnowledgeGraph
    from models.kqgc import KQGC, infer_kqgc

    triples, random = planted(), np.random.default_rng(2)
    graph = KnowledgeGraph(*triples.edges, n_entities=triples.n_entities, n_relations=triples.n_relations)
    sizes = triples.n_entities, triples.n_relations
    entities, relations = (random.normal(size=(n, 32)).astype(np.float32) for n in sizes)
    hyper = KQGCHyperparameters(learned=True, aggregator=aggregator, layers=2)
    parameters = {name: values.detach().numpy() for name, values in KQGC(32, hyper, 3).named_parameters()}
    cpu, gpu = (
        infer_kqgc(graph, entities, relations, parameters, dataclasses.replace(hyper, device=device))
        for device in ("cpu", "cuda")
    )
    for mine, theirs in zip(cpu, gpu, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_rhgn_on_a_gpu_is_rhgn_on_a_cpu(softmax_over: str) -> None:
    pytest.importorskip("dgl")
    from models.graph import KnowledgeGraph
    from models.rhgn import infer_rhgn
    from models.rhgn_training import train_rhgn

    triples, random = planted(), np.random.default_rng(2)
    graph = KnowledgeGraph(*triples.edges, n_entities=triples.n_entities, n_relations=triples.n_relations)
    types = np.zeros(triples.n_entities, np.int64)
    features = random.normal(size=(triples.n_entities, 32)).astype(np.float32)
    users, labels = np.arange(1000), np.arange(1000)[:, None] // 100 % 4
    learned = np.arange(triples.n_entities) % 2 == 0
    exact = {"fanout": 1000, "dropout": 0, "mixed_precision": False}  # all neighbours: no draw differs
    hyper = RHGNHyperparameters(softmax_over=softmax_over, epochs=5, **exact)
    given, found = (graph, types, features, users, labels, [4]), {}
    for device in ("cpu", "cuda"):
        on_device = dataclasses.replace(hyper, device=device)
        result = train_rhgn(*given, on_device, seed=1, learned=learned)
        inferred = infer_rhgn(graph, types, result.features, result.parameters, on_device, attention_of=users[:50])
        found[device] = (result, inferred)
    (cpu, (cpu_vectors, cpu_table)), (gpu, (gpu_vectors, gpu_table)) = found["cpu"], found["cuda"]
    assert cpu.history[0]["loss"] == pytest.approx(gpu.history[0]["loss"], rel=1e-4)
    assert cpu.history[-1]["validation_loss"] == pytest.approx(gpu.history[-1]["validation_loss"], rel=0.02)
    np.testing.assert_allclose(cpu_vectors, gpu_vectors, rtol=0.1, atol=0.1 * cpu_vectors.std())
    np.testing.assert_allclose(cpu_table.weights.sum(), gpu_table.weights.sum(), rtol=1e-2)
    mixed = train_rhgn(*given, dataclasses.replace(hyper, device="cuda", mixed_precision=True), seed=1, learned=learned)
    assert mixed.history[-1]["validation_loss"] == pytest.approx(gpu.history[-1]["validation_loss"], rel=0.1)


def test_ram_gnn_on_a_gpu_is_ram_gnn_on_a_cpu() -> None:
    data = planted_graph()
    sides = {"all": side_of_planted(data)}
    hyper = RAMGNNHyperparameters(dimension=16, composition="add", epochs=30, validation_share=0)
    arrays = train_ram_gnn(sides, hyper, seed=1).arrays
    on = {device: dataclasses.replace(hyper, device=device) for device in ("cpu", "cuda")}
    found = {device: vectors_of(sides, arrays, one)["all"] for device, one in on.items()}
    np.testing.assert_allclose(found["cpu"], found["cuda"], atol=1e-4)
    trained = train_ram_gnn(sides, on["cuda"], seed=1).arrays
    users = vectors_of(sides, trained, on["cuda"])["all"][data.users]
    assert same_taste_share(users, data.tastes[data.users]) > 0.8


def test_the_interaction_network_on_a_gpu_is_that_on_a_cpu() -> None:
    users, items, pairs = planted_pair(planted_graph())
    losses = []
    for device in ("cpu", "cuda"):
        hyper = dataclasses.replace(LEARNS, device=device, recent=4)
        network = InteractionNetwork(users, items, hyper).to(device)
        x_users, x_items = network(Pairs.of(*pairs, len(users.entities), len(items.entities), device))
        losses.append((x_users.sum() + (x_items * x_items).sum()).item())
        history = train_interactions(users, items, pairs, hyper, seed=1, times=np.arange(len(pairs[0])) // 3).history
        assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_interaction_network_goes_on_on_a_gpu_warm_and_after_a_kill(tmp_path: Path) -> None:
    """Its fused Adam counts its steps there: beside the parameters, where a checkpoint's have to be put too."""
    users, items, pairs = planted_pair(planted_graph())
    given = {"seed": 1, "deterministic": True}
    hyper = dataclasses.replace(LEARNS, device="cuda", epochs=6, evaluate_every=2, validation_share=0.5, patience=0)
    first = train_interactions(users, items, pairs, hyper, **given)
    second = train_interactions(users, items, pairs, hyper, initial=first.arrays, **given)
    assert second.history[0]["loss"] < first.history[0]["loss"]

    def kill(entry: dict[str, float]) -> None:
        if entry["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_interactions(users, items, pairs, hyper, resume=tmp_path / "run", progress=kill, **given)
    again = train_interactions(users, items, pairs, hyper, resume=tmp_path / "run", **given)
    losses = [[entry["loss"] for entry in one.history] for one in (first, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("change", [{"sequence_heads": 4}, {"variant": "mp"}, {"variant": "se"}, {"candidates": 20}])
def test_hugt_on_a_gpu_is_hugt_on_a_cpu(change: dict[str, object]) -> None:
    """Padded batches by torch's fused attention there, compiled attention without padding here."""
    hyper = HUGTHyperparameters(width=16, epochs=1, batch_size=200, neighbours=4, svd_rank=8, dropout=0.0, **change)
    histories = [train_hugt(hugt.world(), dataclasses.replace(hyper, device=device), seed=1, held_out=hugt.held_out())
                 .history[0] for device in ("cpu", "cuda")]  # fmt: skip
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-4)
    assert histories[0]["validation_ndcg"] == pytest.approx(histories[1]["validation_ndcg"], abs=0.05)
