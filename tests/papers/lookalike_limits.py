"""How much there is to gain for who foretells a user's next purchases: `make paper-lookalike-limits`.

The pooled classifier of `make paper-lookalike` on the day on which its choices are made, with a column more that no
model can know: whether the user buys of the client on his next one, two or four days with a purchase. Beside it
HUGT's probabilities of the next event alone. What perfect knowledge of the next purchases gains is the most that
foretelling them can; a label asks for 45 days. The test is not touched. The figures go to
results/lookalike_limits.json; the last line reads `next: <percent over pooled> two: <percent> four: <percent>`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from jobs.audiences.item_sets import ItemSets
from jobs.audiences.pooled import Columns
from jobs.audiences.set_columns import Past
from jobs.configuration.load import config_hash
from tests.papers.gains import Scored, gain, interval
from tests.papers.lookalike_cache import SEPARATOR, Arrays, cached, code_of
from tests.papers.lookalike_figures import Results, figures_of, mean_gain, mean_of
from tests.papers.lookalike_frames import ALL_MODELS, Frame
from tests.papers.lookalike_rows import pooled_part
from tests.papers.paper_lookalike import EARLIER, Scores, prepare, say
from tests.papers.shops import SHOPS, Nights

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "lookalike_limits.json"
BASKETS = {"next": 1, "two": 2, "four": 4}  # days with a purchase that are known
MODULES = ("lookalike_limits", "lookalike_frames", "lookalike_rows")


def next_baskets(past: Past, days: int, number: int) -> sparse.csr_array:
    """float32 (u, n): 1 for what an eligible user buys on his first so many days with a purchase, of the `days` from
    the past's own on."""
    rows = past.log.behaviors[past.purchase]
    chosen = np.flatnonzero(rows.within(past.today, past.today + days))
    user, day = rows.user[chosen], rows.day[chosen]
    new_user = np.diff(user, prepend=-1) != 0
    basket = np.cumsum(new_user | (np.diff(day, prepend=-1) != 0))  # rows are in the order of user and day
    first = basket[np.flatnonzero(new_user)][np.cumsum(new_user) - 1]
    kept = basket - first < number
    shape = len(past.log.users), len(past.log.items)
    ones = np.ones(int(kept.sum()), np.float32)
    bought = sparse.csr_array((ones, (user[kept], rows.item[chosen[kept]])), shape=shape)
    return sparse.csr_array(bought[past.eligible])


def told(frame: Frame, number: int) -> Frame:
    """With a column more: whether one of the next baskets holds an item of the set."""
    days = frame.settings.lookalike.label_window_days

    def with_future(columns: Columns, sets: ItemSets) -> Columns:
        known: dict[int, sparse.csr_array] = {}

        def of(past: Past, place: int, rows: np.ndarray) -> np.ndarray:
            if past.today not in known:
                known[past.today] = next_baskets(past, days, number)
            holds = known[past.today] @ sets.mask(place).astype(np.float32) > 0
            return np.concatenate([columns(past, place, rows), holds[rows, None].astype(np.float32)], axis=1)

        return of

    names = [*frame.names, f"told:{number}"]
    lessons = dataclasses.replace(
        frame.lessons, columns=with_future(frame.lessons.columns, frame.lessons.sets), names=names
    )
    return dataclasses.replace(frame, lessons=lessons, columns=with_future(frame.columns, frame.sets), names=names)


def rows_of(scores: Scores) -> Arrays:
    """Margins by `row <tab> client` of the day: bare, with HUGT's column, and told what comes."""
    frame = scores.frame
    bare, parts = frame.with_models([], 3), {"pooled+hugt": frame.with_models(["hugt"], 3)}
    parts |= {"pooled": bare} | {f"pooled+{name}": told(bare, number) for name, number in BASKETS.items()}
    return {
        f"{name}{SEPARATOR}{client}": row.margins
        for name, part in parts.items()
        for (kind, client), row in pooled_part(part, "").items() if kind == "pooled"}  # fmt: skip


def results_of(nights: Nights, seeds: int) -> Results:
    found = Results([], [])
    for seed in range(seeds):
        scores = Scores(nights, EARLIER, seed)
        key = config_hash(scores.settings), str(scores.date), code_of(*MODULES)
        kept = cached(nights.root / "scores", ("limits", key), lambda scores=scores: rows_of(scores))
        for name, margins in kept.items():
            row, client = name.split(SEPARATOR)
            found.add(Scored(client, seed, row, scores.labels()[client], margins))
    return found


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data, work = HERE.parents[2] / "shared" / "data", HERE.parents[1] / "build" / "paper_lookalike"
    options.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    options.add_argument("--work", type=Path, default=work, help="where `make paper-lookalike` keeps its vectors")
    options.add_argument("--seeds", type=int, default=1)
    given = options.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    shops: list[dict[str, Any]] = []
    of_shops = []
    for shop in SHOPS:
        nights = Nights(shop, given.data, given.work / shop.config, {}, EARLIER, ALL_MODELS)
        prepare(nights, given.seeds)
        results = results_of(nights, given.seeds)
        figures, draws = figures_of(results), results.draws(results.rows)
        of_shops.append(figures)
        shops.append({"shop": shop.name, "seeds": given.seeds, "rows": [
            {"row": row, "pr_auc": mean_of(figures, row), "over_pooled": float(gain(figures, row, "pooled")),
             "interval": interval(gain(draws, row, "pooled"))} for row in results.rows]})  # fmt: skip
        say(json.dumps(shops[-1], indent=1))
    means = {name: float(mean_gain([(one, f"pooled+{name}", "pooled") for one in of_shops]))
             for name in ("hugt", *BASKETS)}  # fmt: skip
    RESULTS.write_text(json.dumps({**means, "shops": shops}, indent=1) + "\n", encoding="utf-8")
    say(" ".join(f"{name}: {means[name]:.2f}" for name in BASKETS))


if __name__ == "__main__":
    main()
