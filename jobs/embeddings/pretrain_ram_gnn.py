"""Pretrain RAM-GNN on who shares which attribute with whom (RAM-GNN paper, sections III-A to III-D).

Reads: attributes, knowledge_graph, entity_ids, relations of D; the predecessor's checkpoint. Writes:
checkpoints/ram_gnn of D. Guarantees: items and users are learned apart, each from its own attributes, whatever events
there are, so that a newcomer with attributes has a vector that was trained; who has none is placed by those who had
events with the same, and counts as inductive; values and relations have vectors of half the length, which stand in the
checkpoint alone. A relation type's threshold goes on from the predecessor's. A night without training places newcomers
among those who share an attribute with them; an attribute that is new makes it train. A killed run goes on where it
was.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.arrays import as_extra
from jobs.embeddings import training
from jobs.embeddings.ram_gnn_sides import NightSide, sides_of, vectors_of_night
from jobs.embeddings.scratch import forget, scratch_of
from jobs.embeddings.training import Outcome, Tonight, last_trained
from jobs.program import Input, Output, Skip, main, metrics
from jobs.progress import Progress
from models.learning.determinism import deterministic_kernels
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_training import train_ram_gnn, vectors_of
from models.ram_gnn_warm_start import Places, brought_forward

CARRIED = (".thresholds", ".fixed")  # of the sampler


@dataclass(frozen=True)
class Config(training.Config):
    ram_gnn: RAMGNNHyperparameters


def nothing_shared(date: datetime.date) -> Skip:
    """Why nothing can be learned."""
    return Skip(
        f"The graph of {date} has no attribute that items or users could share, and nothing else is learned from. "
        "Name attributes under graph.item_attributes or graph.user_attributes, or leave the model out of "
        "publishing.models.")


def kept(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the next night goes on from: of the sampler the thresholds, and which of them are found. That of a type by
    which nobody had a neighbour is not: its search begins when there are some."""
    found = {n: a for n, a in arrays.items() if not n.startswith("sampler.") or n.endswith(CARRIED)}
    for name, distances in arrays.items():
        if name.startswith("sampler.") and name.endswith(".before"):
            fixed = f"{name.removesuffix('.before')}.fixed"
            found[fixed] = found[fixed] & ~np.isnan(distances)
    return found


def learn(tonight: Tonight, sides: Mapping[str, NightSide], config: Config, scratch: Path) -> Outcome:
    """Train, or carry over what was trained, and compute everybody's vector."""
    night, former, hyper = tonight.night, tonight.former, config.ram_gnn
    of_models, initial = {kind: side.side for kind, side in sides.items()}, None
    places: dict[str, Places] = {}
    if former is not None:
        places = {kind: side.places(night, kind, former) for kind, side in sides.items()}
        initial = brought_forward(former.parameters("ram_gnn"), of_models, places, hyper, config.seed)
    history, best, trained_at = [], None, tonight.date
    if tonight.trains or any((place.types < 0).any() for place in places.values()):
        with Progress("RAM-GNN", hyper.epochs) as progress:
            result = train_ram_gnn(
                of_models, hyper, seed=config.seed, deterministic=config.deterministic, initial=initial,
                resume=scratch, progress=progress)  # fmt: skip
        arrays, history, best = result.arrays, result.history, result.best_epoch
    else:
        arrays, trained_at = initial, last_trained(former)
    with deterministic_kernels(config.deterministic):
        entities, source = vectors_of_night(night, sides, vectors_of(of_models, arrays, hyper))
    extra = as_extra("ram_gnn", kept(arrays))
    for kind, side in sides.items():
        extra |= side.extra(night, kind)
    n_rows = sum(side.side.rows.n_rows for side in sides.values())
    return Outcome(entities, None, source, extra, trained_at, history, best, learned_from=n_rows)


def picture(sides: Mapping[str, NightSide], arrays: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """For the report: each relation type with how much is shared by it, and its threshold."""
    found = []
    for kind, side in sides.items():
        rows, (thresholds, fixed) = side.side.rows, (arrays[f"ram_gnn.sampler.{kind}{name}"] for name in CARRIED)
        sizes = np.bincount(rows.values.numpy(), minlength=rows.n_values)
        for number, name in enumerate(side.side.names):
            mine = sizes[rows.value_types.numpy() == number]
            found.append({
                "type": name, "entity_type": kind, "threshold": int(thresholds[number]), "found": bool(fixed[number]),
                "rows": int(mine.sum()), "values": len(mine),
                "largest": int(mine.max()), "alone": int((mine == 1).sum())})  # fmt: skip
    return found


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, attributes: Input,
    checkpoints: Output, config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train (or carry over) and commit the checkpoint of D."""
    named = [*config.graph.item_attributes, *config.graph.user_attributes]
    if not named or attributes.table().manifest(date.isoformat()) is None:
        raise nothing_shared(date)
    tonight = Tonight.read(date, "ram_gnn", predecessor, config, knowledge_graph, entity_ids, relations, checkpoints)
    sides = sides_of(tonight.night, attributes.table().read(tonight.dt))
    if not sides:
        raise nothing_shared(date)
    with scratch_of(tonight) as scratch:
        outcome = learn(tonight, sides, config, scratch)
    outcome.fields["inputs"] = tonight.lineage()["inputs"] | {"attributes": attributes.lineage(tonight.dt)}
    metrics.put("thresholds", detail=picture(sides, outcome.extra))
    tonight.commit(outcome)
    forget(tonight)


if __name__ == "__main__":
    main(run)
