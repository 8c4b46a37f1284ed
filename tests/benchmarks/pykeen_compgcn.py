"""PyKEEN's CompGCN, timed epoch by epoch. Runs in a virtual environment of its own and imports nothing of this project
but the stopwatch.

Reads an npz with `triples` (int64, head relation tail); prints what `timed` gives as JSON. A batch is all triples: one
update an epoch.
"""

from __future__ import annotations

import argparse
import itertools
import json

import numpy as np
import torch
from pykeen.models import CompGCN
from pykeen.sampling import BasicNegativeSampler
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from stopwatch import timed  # the file beside this one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triples", required=True)
    for name in ("dimension", "layers", "negatives", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    stored = np.load(options.triples)
    sizes = {"num_entities": int(stored["n_entities"]), "num_relations": int(stored["n_relations"])}
    factory = CoreTriplesFactory(torch.from_numpy(stored["triples"]), **sizes, create_inverse_triples=True)
    layers = {"num_layers": options.layers, "layer_kwargs": {"composition": "CircularCorrelation"}}
    model = CompGCN(triples_factory=factory, embedding_dim=options.dimension, encoder_kwargs=layers, random_seed=0)
    loop = SLCWATrainingLoop(
        model=model, triples_factory=factory, optimizer=torch.optim.Adam(model.parameters()),
        negative_sampler=BasicNegativeSampler, negative_sampler_kwargs={"num_negs_per_pos": options.negatives},
    )  # fmt: skip
    quiet = {"use_tqdm": False, "use_tqdm_batch": False}
    trained = itertools.count(1)

    def epoch() -> None:
        """One more: what `num_epochs` counts from the beginning."""
        number = next(trained)
        loop.train(
            triples_factory=factory, num_epochs=number, batch_size=factory.num_triples, continue_training=number > 1,
            **quiet)

    print(json.dumps(timed(epoch, options.repeats)))


if __name__ == "__main__":
    main()
