"""RecBole's SASRec, timed. Runs in a virtual environment of its own and imports nothing of this project but the
stopwatch.

Reads an npz of `items` (int64, from 1, 0 is padding; a row for each history), `lengths` and `targets`, as RecBole's
data loader makes them: a row learns its last event alone. Prints what `timed` gives of so many updates, and of the
scores of all rows, as JSON.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from recbole.model.sequential_recommender.sasrec import SASRec
from stopwatch import timed  # the file beside this one


class Items:
    """What the model asks of a data set."""

    def __init__(self, number: int) -> None:
        self.number = number

    def num(self, _: str) -> int:
        return self.number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", required=True)
    names = ("items", "width", "layers", "heads", "length", "batch", "updates", "threads", "repeats")
    for name in names:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--dropout", type=float, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = {
        "USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "length",
        "NEG_PREFIX": "neg_", "MAX_ITEM_LIST_LENGTH": options.length, "device": "cpu", "n_layers": options.layers,
        "n_heads": options.heads, "hidden_size": options.width, "inner_size": options.width, "hidden_act": "relu",
        "hidden_dropout_prob": options.dropout, "attn_dropout_prob": 0.0, "layer_norm_eps": 1e-5,
        "initializer_range": 0.02, "loss_type": "CE"}  # fmt: skip
    model = SASRec(config, Items(options.items + 1))
    stored = np.load(options.histories)
    rows = {name: torch.from_numpy(stored[kept]) for name, kept in (
        ("item_list", "items"), ("length", "lengths"), ("item", "targets"))}  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters())

    def train() -> None:
        model.train()
        for number in range(options.updates):
            chosen = slice(number * options.batch, (number + 1) * options.batch)
            optimiser.zero_grad()
            model.calculate_loss({name: values[chosen] for name, values in rows.items()}).backward()
            optimiser.step()

    @torch.no_grad()
    def infer() -> None:
        model.eval()
        for first in range(0, options.updates * options.batch, options.batch):
            chosen = slice(first, first + options.batch)
            model.full_sort_predict({name: values[chosen] for name, values in rows.items()})

    print(json.dumps({"training": timed(train, options.repeats), "inference": timed(infer, options.repeats)}))


if __name__ == "__main__":
    main()
