"""One classifier for all clients against one for each, on two public shops: `make paper-lookalike`.

Per shop (shops.py) two days are looked at: T1, with the labels of [T1, T2), is validation, where every choice is made;
T2, with the labels of [T2, T3), is the test, scored by what was learned from labels before T2 alone. Rows: today's two
classifiers, the columns of the pooled model with a model for each client, popularity, ALS and item co-purchase
(lookalike_peers.py), the pooled model bare, with each family's affinities and with all, and its mean with the clients'
own; then clients of whom 0, 5, 20 or 100 buyers are known (cold_clients.py), and lists of 5, 20 or 100 seeds
(seed_lists.py). Families are set as the shops' configurations ship them. Vectors are trained once for each seed and are
kept, as all scores are, under --work: a run that broke off goes on.

PR-AUC at 1:3 (20 fixed draws, gains.py); intervals by a bootstrap over users. `--validation` stops before the test and
writes nothing; tests/papers/results/paper_lookalike.json counts how often the test was scored, by other code each time.
The last line reads `over_strong: <percent> low: <percent> cold: <percent>`.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.configuration.load import config_hash
from jobs.configuration.sections import Spark
from jobs.spark import session
from models.families import trained_models
from tests.papers import cold_clients, lookalike_rows, seed_lists
from tests.papers.cold_clients import KNOWN
from tests.papers.gains import Scored, gain, interval
from tests.papers.lookalike_cache import SEPARATOR, Arrays, cached, code_of, hash_of
from tests.papers.lookalike_figures import (
    PLACES,  # fmt: skip
    Figures,
    Results,
    best,
    by_thirds,
    few_of,
    figures_of,
    mean_gain,
    mean_log_loss,
    mean_of,
    precision,
)
from tests.papers.lookalike_frames import ALL_MODELS, Frame, Logs, families_of, frame_of, read_logs
from tests.papers.lookalike_peers import PEERS, peers
from tests.papers.lookalike_rows import one_window, variants
from tests.papers.shops import SHOPS, Nights, Shop

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paper_lookalike.json"
SEEDS, EARLIER = 3, 1  # one window before T1: today's classifiers and the affinities of validation learn from it
MODULES = ("lookalike_frames", "lookalike_rows", "lookalike_peers", "item_peers", "cold_clients", "seed_lists")
COLD_COUNTED = (0, 5, 20)  # of the buyers known, in the last line
COLD_PEERS = [f"{peer} of {target}" for peer in PEERS for target in cold_clients.TARGETS]


@dataclass(frozen=True)
class Day:
    """One day of one shop: the rows of all clients, those of cold clients by number of known buyers, and those of lists
    by number of seeds; and how much is known of each user."""

    warm: Results
    cold: dict[int, Results]
    lists: dict[int, Results]
    events: np.ndarray  # int64 (u,): of each user, before the day


def prepare(nights: Nights, seeds: int) -> None:
    """Graphs and vectors, where they are not there yet under these settings."""
    for seed in [None, *range(seeds)]:
        settings = nights.settings(seed or 0)
        of_families = [getattr(settings, family) for family in families_of(nights.models)]
        parts = [config_hash(one) for one in (settings.events, settings.graph, settings.sequences, *of_families)]
        mark = nights.root / f"done-{'graphs' if seed is None else seed}-{hash_of(parts, nights.dates, nights.models)}"
        if mark.exists():
            continue
        if seed is None:
            with session(Spark(driver_memory="1500m", shuffle_partitions=2), "paper-lookalike"):
                nights.build_graphs()
        else:
            nights.train(seed)
        mark.touch()
        say(f"{nights.shop.name}: {'graphs' if seed is None else f'vectors of seed {seed}'}; {nights.seconds}")


class Scores:
    """The scores of one day of one shop under one seed, computed or as they were kept."""

    def __init__(self, nights: Nights, number: int, seed: int) -> None:
        self.nights, self.date = nights, nights.dates[number]
        self.seed, self.settings = seed, nights.settings(seed)
        self.test = number == len(nights.dates) - 2

    @functools.cached_property
    def frame(self) -> Frame:
        return frame_of(self.nights, self.settings, self.date)

    @functools.cached_property
    def logs(self) -> Logs:
        return read_logs(self.nights, self.settings, self.date)

    def _kept(self, what: str, modules: tuple[str, ...], compute) -> Arrays:
        def computed() -> Arrays:
            started = time.perf_counter()
            found = compute()
            spent = time.perf_counter() - started
            say(f"  {self.nights.shop.name} {self.date} seed {self.seed}: {what}, {spent:.0f} s")
            return found

        key = config_hash(self.settings), self.date, self.seed, what, code_of(*modules)
        return cached(self.nights.root / "scores", key, computed)

    def labels(self) -> Arrays:
        return self._kept("labels", ("lookalike_frames",), lambda: self.frame.labels)

    def events(self) -> np.ndarray:
        return self._kept("events", ("lookalike_frames",), lambda: {"events": self.frame.events})["events"]

    def warm(self) -> Arrays:
        """margins and probabilities by `row <tab> client`."""
        of_rows = ("lookalike_frames", "lookalike_rows")
        found = self._kept("alone", of_rows, lambda: _arrays(lookalike_rows.alone(self.nights, self.frame)))
        found |= self._kept("peers", ("lookalike_frames", "lookalike_peers", "item_peers"), self._peers)
        models = self.nights.models
        for variant, parts in (variants(models) | ({} if self.test else one_window(models))).items():
            rows = self._kept(f"pooled{variant}", of_rows, lambda v=variant, p=parts: _arrays(
                lookalike_rows.pooled(self.frame, v, *p)))
            found |= {name: values for name, values in rows.items() if not name.startswith("own") or variant == ""}
        return found

    def _peers(self) -> Arrays:
        frame = self.frame
        targets = np.stack([frame.sets.mask(frame.sets.place(client)) for client in frame.clients])
        scored = peers(frame.past, targets, self.seed)
        return {
            f"{name}{SEPARATOR}{client}": np.asarray(scored[name][k])
            for name in PEERS for k, client in enumerate(frame.clients)}  # fmt: skip

    def cold(self) -> Arrays:
        """margins by `row <tab> buyers known <tab> client`; our model's on the test alone, since nothing of it is
        chosen."""
        modules = ("cold_clients", "lookalike_frames", "lookalike_peers", "item_peers")
        return self._in_groups("cold", modules, functools.partial(cold_clients.scores_of, with_pool=self.test))

    def lists(self) -> Arrays:
        """margins by `row <tab> seeds <tab> client`."""
        return self._in_groups("seeds of", ("seed_lists", "cold_clients", "lookalike_frames"), seed_lists.scores_of)

    def _in_groups(self, what: str, modules: tuple[str, ...], scores_of: Callable[..., cold_clients.Scores]) -> Arrays:
        """Of clients that share no item at once."""
        clients, found = self.nights.shop.clients(), {}
        together = self._kept("groups", ("cold_clients",), lambda: {
            str(k): np.array(names) for k, names in enumerate(cold_clients.groups(self.logs.sets, clients))})
        for names in together.values():
            part = [str(name) for name in names]
            found |= self._kept(f"{what} {', '.join(part)}", modules, lambda p=part: {
                SEPARATOR.join(map(str, key)): margins for key, margins in scores_of(
                    self.nights, self.settings, self.date, self.logs, p).items()})
        return found


def _arrays(rows: lookalike_rows.Rows) -> Arrays:
    margins = {f"{name}{SEPARATOR}{client}": row.margins for (name, client), row in rows.items()}
    return margins | {
        f"{name}{SEPARATOR}{client}{SEPARATOR}p": row.probabilities for (name, client), row in rows.items()}


def day_of(nights: Nights, number: int, seeds: range, with_few: bool) -> Day:
    """All that was scored on a day; with_few: also cold clients and lists."""
    events = Scores(nights, number, 0).events()
    day = Day(Results([], []), _by_number(KNOWN), _by_number(seed_lists.SIZES), events)
    for seed in seeds:
        scores = Scores(nights, number, seed)
        labels, found = scores.labels(), scores.warm()
        for key, margins in found.items():
            row, client, *probability = key.split(SEPARATOR)
            if not probability:
                day.warm.add(Scored(client, seed, row, labels[client], margins), found.get(f"{key}{SEPARATOR}p"))
        if not with_few:
            continue
        for of_number, scored in ((day.cold, scores.cold()), (day.lists, scores.lists())):
            for key, margins in scored.items():
                row, known, client = key.split(SEPARATOR)
                of_number[int(known)].add(Scored(client, seed, row, labels[client], margins))
    return day


def _by_number(numbers: tuple[int, ...]) -> dict[int, Results]:
    return {number: Results([], []) for number in numbers}


def assess(shop: Shop, models: list[str], before: Day, day: Day, on_test: bool) -> tuple[dict[str, Any], Draws]:
    """All figures of a shop, and the bootstrap of what the last lines tell. Choices are made on the day before."""
    known, at = figures_of(before.warm), day if on_test else before
    ours = [f"{name}{variant}" for variant in variants(models) for name in ("pooled", "blend")]
    chosen, shown = best(known, ours), at.warm
    figures, draws = figures_of(shown), shown.draws(shown.rows)
    cold = few_of(before.cold, at.cold, "pooled", lambda _: COLD_PEERS)
    lists = few_of(before.lists, at.lists, seed_lists.OURS, functools.partial(seed_lists.peers_of, models))
    found = {
        "shop": shop.name, "chosen": chosen, "over_strong": float(gain(figures, chosen, "strong")),
        "eligible": len(shown.scored[0].labels), "buyers": _buyers(shown),
        "validation_only": {row: mean_of(known, row) for row in before.warm.rows if row not in shown.rows},
        "rows": [_row(row, known, figures, draws, shown, before.warm if on_test else None) for row in shown.rows],
        "by_events": by_thirds(shown, at.events, [f"pooled+{family}" for family in families_of(models)], "pooled"),
        "cold": cold.rows("buyers"), "lists": lists.rows("seeds")}
    return found, Draws((figures, draws), (cold.figures, cold.draws), chosen, cold.chosen)


@dataclass(frozen=True)
class Draws:
    """(figures, their bootstrap) of a shop's rows, the same by number of known buyers, and what was chosen."""

    warm: tuple[Figures, Figures]
    cold: tuple[dict[int, Figures], dict[int, Figures]]
    chosen: str
    chosen_cold: dict[int, str]


def _buyers(shown: Results) -> dict[str, int]:
    return {one.client: int(one.labels.sum()) for one in shown.scored}


def _row(
    row: str, known: Figures, figures: Figures, draws: Figures, shown: Results, before: Results | None
) -> dict[str, Any]:
    low, high = interval(gain(draws, row, "strong"))
    clients = [client for name, client in figures if name == row]
    return {
        "row": row, "validation": mean_of(known, row), "pr_auc": mean_of(figures, row),
        "over_strong": float(gain(figures, row, "strong")), "interval": [low, high],
        **{f"precision_at_{place}": precision(shown, row, place) for place in PLACES},
        "log_loss": mean_log_loss(shown, row, before), "by_client": {c: float(figures[row, c]) for c in clients}}


def last_lines(shops: list[Draws], models: list[str]) -> tuple[list[str], dict[str, float]]:
    """A line for each family, and the last; beside them the figures of the last."""

    def of(which: int, row: str | None, over: str) -> Any:
        return mean_gain([(one.warm[which], row or one.chosen, over) for one in shops])

    lines = []
    for family in families_of(models):
        value, draws = (of(which, f"pooled+{family}", "pooled") for which in (0, 1))
        lines.append(f"{family}_over_pooled: {value:.2f} low: {interval(draws)[0]:.2f}")
    found = {"over_strong": float(of(0, None, "strong")), "low": interval(of(1, None, "strong"))[0]}
    cold = [
        (one.cold[0][number], "pooled", one.chosen_cold[number])
        for one in shops for number in COLD_COUNTED if one.chosen_cold]  # fmt: skip
    if cold and "pooled" in {row for row, _ in cold[0][0]}:
        found["cold"] = float(mean_gain(cold))
    shown = f"{found['cold']:.2f}" if "cold" in found else "-"
    lines.append(f"over_strong: {found['over_strong']:.2f} low: {found['low']:.2f} cold: {shown}")
    return lines, found


def show(found: dict[str, Any]) -> None:
    """The shop's tables."""
    say(f"\n{found['shop']}: {len(found['buyers'])} clients, {found['eligible']} eligible; chosen: {found['chosen']}")
    say(f"{'row':<28} valid.  PR-AUC  over strong [95 %]         P@100  P@1000  log loss")
    for row in found["rows"]:
        loss = "-" if row["log_loss"] is None else f"{row['log_loss']:.4f}"
        say(
            f"{row['row']:<28} {row['validation'] or np.nan:.4f} {row['pr_auc']:.4f} {row['over_strong']:+7.2f} "
            "[{:+6.2f}, {:+6.2f}]  ".format(*row["interval"])
            + f"{row['precision_at_100']:.3f}  {row['precision_at_1000']:.3f}  {loss}")
    for row, value in found["validation_only"].items():
        say(f"{row:<28} {value:.4f}")
    for part in found["by_events"]:
        of_rows = (f"{row} {one['gain']:+.2f} [{one['interval'][0]:+.2f}, {one['interval'][1]:+.2f}]"
                   for row, one in part["over"].items())  # fmt: skip
        say("users of {} to {} events, over pooled: ".format(*part["events"]) + ", ".join(of_rows))
    for row in [*found["cold"], *found["lists"]]:
        what = f"{row['buyers']} buyers known" if "buyers" in row else f"{row['seeds']} seeds"
        against = "{gain:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}] over".format(**row) if "gain" in row else ""
        say(f"{what}: {against} {row['peer']}")
        say("   " + ", ".join(f"{name} {value:.3f}" for name, value in row["pr_auc"].items()))


def say(text: str) -> None:
    print(text, flush=True)


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data, work = HERE.parents[2] / "shared" / "data", HERE.parents[1] / "build" / "paper_lookalike"
    options.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    options.add_argument("--work", type=Path, default=work, help="where graphs, vectors and scores are kept")
    options.add_argument("--seeds", type=int, default=SEEDS)
    fewer = "and what they start from; fewer than all have vectors and a file of results of their own"
    options.add_argument("--models", nargs="+", choices=ALL_MODELS, default=ALL_MODELS, help=fewer)
    options.add_argument("--validation", action="store_true", help="stop before the test, without cold clients")
    arguments = options.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    models = list(trained_models(arguments.models, {}))
    work = arguments.work / named(models)
    shops = [Nights(shop, arguments.data, work / shop.config, {}, EARLIER, models) for shop in SHOPS]
    for nights in shops:
        prepare(nights, arguments.seeds)
    started, found, draws = time.perf_counter(), [], []
    for nights in shops:
        seeds, with_test = range(arguments.seeds), not arguments.validation
        before = day_of(nights, EARLIER, seeds, with_test)
        day = day_of(nights, EARLIER + 1, seeds, True) if with_test else before
        one, parts = assess(nights.shop, nights.models, before, day, not arguments.validation)
        found.append(one)
        draws.append(parts)
        show(one)
    lines, last = last_lines(draws, models)
    if not arguments.validation:
        told = last | {"families": lines[:-1], "models": models, "seeds": arguments.seeds}
        write(found, told, round(time.perf_counter() - started))
    say("\n" + "\n".join(lines))


def named(models: list[str]) -> str:
    """Where their vectors, scores and results lie apart: those of some models alone are of other trainings than all."""
    return "" if models == ALL_MODELS else "_".join(models)


def results_file(models: list[str], seeds: int) -> Path:
    """Runs of some models alone, or of fewer seeds, have a file of their own."""
    of_models = f"_{named(models)}".rstrip("_")
    return RESULTS.with_stem(RESULTS.stem + of_models + (f"_{seeds}_of_{SEEDS}_seeds" if seeds < SEEDS else ""))


def write(shops: list[dict[str, Any]], told: dict[str, Any], seconds: int) -> None:
    """The results, and how often the test was scored so far by other code, for other models or under other seeds,
    whichever file that went to."""
    files = RESULTS.parent.glob(f"{RESULTS.stem}*.json")
    before = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    scored_by = " ".join([code_of(*MODULES), str(told["seeds"]), *told["models"]])
    is_new = all(one["scored_by"] != scored_by for one in before)
    runs = max((one["test_runs"] for one in before), default=0) + is_new
    report = {**told, "seconds": seconds, "test_runs": runs, "scored_by": scored_by, "shops": shops}
    results = results_file(told["models"], told["seeds"])
    results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
