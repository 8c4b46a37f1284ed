"""TransE's triples per second against PyKEEN's on FB15k-237: `python -m tests.benchmarks.bench_transe`.

Both: the same norm, margin, dimension, batch, one uniform negative that may be true (PyKEEN's default), Adagrad
at one learning rate for both, 2 threads, no evaluation while training, 50 epochs; entities on the unit sphere.
The rate is PyKEEN's best: `--choose-rate` trains PyKEEN at every one of RATES, takes the highest MRR on the
validation split, and keeps the figures in results/transe_rate.json, which a plain run reads; without that file
(or with one of other settings) it takes 0.1 and says that nobody chose it. Timed are epochs 2-6 and 46-50 of
the first seed's run, ours including what each epoch plans and draws; the first epochs hold what both set up.
MRR: filtered, on the test split, mean of 3 seeds, by the same code for both.
The last line reads `ratio: <ours / PyKEEN, epochs 46-50> early: <the same, epochs 2-6>`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from models.hyperparameters import TransEHyperparameters
from models.transe_training import train_transe
from models.vectors.ranking import filtered_ranks, mean_reciprocal_rank
from tests.papers.fb15k import N_ENTITIES, N_RELATIONS, all_known, as_graph, read_split

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-pykeen" / "bin" / "python"
RESULTS = Path(__file__).parent / "results" / "transe.json"
RATE = Path(__file__).parent / "results" / "transe_rate.json"
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
THREADS, EPOCHS, SEEDS = 2, 50, (0, 1, 2)
EARLY, LATE = slice(1, 6), slice(45, 50)  # epochs 2-6 and 46-50
SETTINGS = TransEHyperparameters(
    dimension=100, norm="l1", loss="margin", margin=1.0, unit_norm=True, learning_rate=0.1,
    negatives=1, negatives_shared_by=1, filtered=False, type_constrained=False,
    batch_size=10_000, epochs=EPOCHS, threads=THREADS, validation_share=0, evaluate_every=EPOCHS,
)  # fmt: skip

Run = tuple[np.ndarray, np.ndarray, np.ndarray]  # seconds of each epoch, entities, relations


def run_ours(seed: int, rate: float) -> Run:
    """One training by this project's compiled engine."""
    result = train_transe(as_graph(read_split("train")), replace(SETTINGS, learning_rate=rate), seed=seed)
    return np.array([record["seconds"] for record in result.history]), result.state.entities, result.state.relations


def run_peer(seed: int, rate: float) -> Run:
    """One training by PyKEEN, in its own environment and process."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/in.npz", triples=np.stack(read_split("train"), 1))
        options = {
            "triples": f"{folder}/in.npz", "output": f"{folder}/out.npz",
            "entities": N_ENTITIES, "relations": N_RELATIONS, "dimension": SETTINGS.dimension,
            "epochs": EPOCHS, "batch-size": SETTINGS.batch_size, "negatives": SETTINGS.negatives,
            "threads": THREADS, "seed": seed, "norm": 1, "margin": SETTINGS.margin, "rate": rate,
        }  # fmt: skip
        command = [str(PEER), str(Path(__file__).with_name("pykeen_transe.py"))]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"PyKEEN's run failed:\n{done.stderr[-2000:]}\nIs .venv-pykeen complete? `make bench-transe` makes it"
            )
        out = np.load(f"{folder}/out.npz")
        return out["seconds"], out["entities"], out["relations"]


def mrr(run: Run, split: str) -> float:
    """Filtered MRR of one split, by this project's ranking for both."""
    _, entities, relations = run
    ranks = filtered_ranks(entities, relations, read_split(split), all_known(), SETTINGS.norm, threads=THREADS)
    return mean_reciprocal_rank(ranks)


def rate_of(seconds: np.ndarray, epochs: slice) -> float:
    """Triples per second over some epochs."""
    return len(read_split("train")[0]) * len(seconds[epochs]) / float(seconds[epochs].sum())


def choose_rate() -> None:
    """PyKEEN's MRR on the validation split at each rate; kept, with the settings that they hold for."""
    figures = {}
    for rate in RATES:
        figures[str(rate)] = mrr(run_peer(0, rate), "valid")
        print(f"PyKEEN, learning rate {rate}: validation MRR {figures[str(rate)]:.4f}", flush=True)
    RATE.parent.mkdir(exist_ok=True)
    kept = {"pykeen_validation_mrr": figures, "seed": 0, "settings": settings_of_choice()}
    RATE.write_text(json.dumps(kept, indent=1) + "\n")
    print(chosen_rate()[1])


def settings_of_choice() -> dict[str, object]:
    """What PyKEEN ran with: at other settings another rate may be best."""
    names = ("dimension", "norm", "margin", "negatives", "batch_size", "epochs")
    return {name: getattr(SETTINGS, name) for name in names}


def chosen_rate(path: Path = RATE) -> tuple[float, str]:
    """(learning rate of both, how it came to be),
    from the kept figures of the choice if they are there and of these settings."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("settings") != settings_of_choice():
        why = f"{path.name} is of other settings" if kept else f"there is no {path.name}"
        rate = SETTINGS.learning_rate
        return rate, f"learning rate {rate}: NOT chosen for PyKEEN yet ({why}; --choose-rate writes it)"
    figures = {float(rate): figure for rate, figure in kept["pykeen_validation_mrr"].items()}
    best = max(figures, key=lambda rate: figures[rate])
    listed = ", ".join(f"{rate} {figure:.4f}" for rate, figure in figures.items())
    end = "; at the end of the range: a still better one may lie beyond" if best in (min(figures), max(figures)) else ""
    run = f"{SETTINGS.epochs} epochs, seed {kept['seed']}"
    return best, f"learning rate {best}: chosen for PyKEEN by its validation MRR after {run} ({listed}){end}"


def compare(rate: float, how: str) -> None:
    """Three runs of each, taking turns."""
    figures: dict[str, dict[str, list[float]]] = {}
    for name in ("pykeen", "nocturne"):
        figures[name] = {"early": [], "late": [], "mrr": []}
    for seed in SEEDS:
        for name, run in (("pykeen", run_peer(seed, rate)), ("nocturne", run_ours(seed, rate))):
            own = figures[name]
            own["early"].append(rate_of(run[0], EARLY))
            own["late"].append(rate_of(run[0], LATE))
            own["mrr"].append(mrr(run, "test"))
            early, late, ours = (own[part][-1] for part in ("early", "late", "mrr"))
            speed = f"{early / 1e6:7.3f} M triples/s early {late / 1e6:7.3f} late"
            print(f"seed {seed} {name:9s} {speed}  mrr {ours:.4f}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    settings = asdict(replace(SETTINGS, learning_rate=rate))
    kept = {"triples_per_second_and_mrr": figures, "rate": how, "settings": settings}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    means = {name: float(np.mean(own["mrr"])) for name, own in figures.items()}
    print(f"mrr, mean of {len(SEEDS)} seeds: nocturne {means['nocturne']:.4f} pykeen {means['pykeen']:.4f}")
    late, early = (figures["nocturne"][part][0] / figures["pykeen"][part][0] for part in ("late", "early"))
    print(f"ratio: {late:.1f} early: {early:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choose-rate", action="store_true")
    options = parser.parse_args()
    rate, how = chosen_rate()
    print(
        f"both: norm {SETTINGS.norm}, margin {SETTINGS.margin}, dimension {SETTINGS.dimension}, "
        f"batch {SETTINGS.batch_size}, {SETTINGS.negatives} negative, Adagrad, {THREADS} threads, {EPOCHS} epochs\n"
        "nocturne updates after each triple, on two threads without locks; PyKEEN after each batch",
        flush=True,
    )
    if options.choose_rate:
        choose_rate()
    else:
        print(how, flush=True)
        compare(rate, how)


if __name__ == "__main__":
    main()
