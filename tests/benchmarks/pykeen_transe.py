"""PyKEEN's TransE, timed epoch by epoch. Runs in a virtual environment of its own and imports nothing of this project.

Reads an npz with `triples` (int64, head relation tail),
writes an npz with the seconds of each epoch and the trained vectors.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from pykeen.losses import MarginRankingLoss
from pykeen.models import TransE
from pykeen.sampling import BasicNegativeSampler
from pykeen.training import SLCWATrainingLoop, TrainingCallback
from pykeen.triples import CoreTriplesFactory


class EpochClock(TrainingCallback):
    """Notes the time at which each epoch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [time.perf_counter()]

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: object) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triples", required=True)
    parser.add_argument("--output", required=True)
    for name in ("entities", "relations", "dimension", "epochs", "batch-size"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("negatives", "threads", "seed", "norm"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("margin", "rate"):
        parser.add_argument(f"--{name}", type=float, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    triples = torch.from_numpy(np.load(options.triples)["triples"])
    factory = CoreTriplesFactory(triples, num_entities=options.entities, num_relations=options.relations)
    model = TransE(
        triples_factory=factory, embedding_dim=options.dimension, scoring_fct_norm=options.norm,
        loss=MarginRankingLoss(margin=options.margin), random_seed=options.seed,
    )  # fmt: skip
    loop = SLCWATrainingLoop(
        model=model, triples_factory=factory, optimizer=torch.optim.Adagrad(model.parameters(), lr=options.rate),
        negative_sampler=BasicNegativeSampler, negative_sampler_kwargs={"num_negs_per_pos": options.negatives},
    )  # fmt: skip
    clock = EpochClock()
    loop.train(
        triples_factory=factory, num_epochs=options.epochs, batch_size=options.batch_size, use_tqdm=False,
        use_tqdm_batch=False, callbacks=[clock],
    )  # fmt: skip
    np.savez(
        options.output,
        seconds=np.diff(clock.ends),
        entities=model.entity_representations[0]().detach().numpy(),
        relations=model.relation_representations[0]().detach().numpy(),
    )


if __name__ == "__main__":
    main()
