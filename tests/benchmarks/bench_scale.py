"""From events to published embeddings at the size of the KQGC paper's table 1, and at 1/4 and 1/2 of it.

`python -m tests.benchmarks.bench_scale`

The log (paper_sized_log.py) is generated: 85,402 users, 1,302,877 items, 2,360,012 purchases; users, items and edges
scale together. 20 of the 200 categories are clients. Every stage runs as its own process, as the DAG starts it; of the
clients the tiny log knows nothing. Seconds are wall clock, less those of the stage's run on a tiny log; memory is the
peak of the resident set of the process tree (pages that two processes share count twice). TransE trains one epoch; KQGC
(mean) 50 batches, scaled up to an epoch in the table, and infers everybody once. Medians of 3 at the small sizes, one
run at full size.

The last line reads `peak_mib: <figure> exponent: <figure>`: the highest peak of any stage at full size, and the largest
slope of log seconds over log size among stages of at least 5 seconds net at 1/4. Raw figures go to
tests/benchmarks/results/bench_scale.json. At most 12 GiB, and an exponent of 1.25.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import yaml

from feature_store import Table
from tests.benchmarks.paper_sized_log import WINDOW_DAYS, D, counts, generate, generate_items

EMPTY = 1 / 2000
SIZES = {"empty": EMPTY, "1/4": 0.25, "1/2": 0.5, "full": 1.0}
REPEATS = {"empty": 3, "1/4": 3, "1/2": 3, "full": 1}
MIN_SECONDS = 5.0  # net, at 1/4: below it noise decides a slope
KQGC_BATCHES = 50
CLIENTS = 20
SKIPPED = 99  # a stage's exit status where the tiny log has nothing for it
RESULTS = Path(__file__).parent / "results" / "bench_scale.json"
REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = {
    "validate_events": ["jobs.events.validate_events"],
    "assign_ids": ["jobs.graphs.assign_ids"],
    "build_knowledge_graph": ["jobs.graphs.build_knowledge_graph"],
    "build_interactions": ["jobs.graphs.build_interactions"],
    "build_user_activity": ["jobs.graphs.build_user_activity"],
    "pretrain_transe": ["jobs.embeddings.pretrain_transe"],
    "smooth_kqgc": ["jobs.embeddings.smooth_kqgc", "--model", "kqgc_mean"],
    "publish_transe": ["jobs.embeddings.publish_users", "--model", "transe"],
    "publish_kqgc_mean": ["jobs.embeddings.publish_users", "--model", "kqgc_mean"],
    "train_lookalike": ["jobs.audiences.train_lookalike"],
    "score_lookalike": ["jobs.audiences.score_lookalike"],
}


@dataclass
class Run:
    """One stage, once: wall clock, processor seconds of the tree (as far as sampled), peak MiB.

    `part`: seconds within it, by name.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    part: dict[str, float]

    @property
    def epoch_seconds(self) -> float:
        """Wall clock with KQGC's batches scaled up to an epoch."""
        return self.seconds + self.part.get("scaled_up", 0.0)


def write_configuration(folder: Path) -> Path:
    """The nightly configuration of the paper's dimension, for one night."""
    document = {
        "data_root": "data", "seed": 0,
        "source": {
            "events": {"path": "events.parquet", "constants": {"behavior": "purchase"}},
            "items": {"path": "items.parquet"}},
        "events": {"behaviors": ["purchase"]},
        "graph": {
            "window_days": WINDOW_DAYS, "behaviors": {"purchase": {}}, "item_attributes": {"category": {}}},
        "lookalike": {
            "label_window_days": 7, "active_days": 28,
            "clients": {f"client_{number}": {"category": f"c{5 * number}"} for number in range(CLIENTS)}},
        "transe": {"dimension": 100, "epochs": 1},
        "kqgc": {"learned": True, "epochs": 1, "max_batches_per_epoch": KQGC_BATCHES},
        "publishing": {"models": ["transe", "kqgc_mean"]},
        "spark": {"driver_memory": "2g", "shuffle_partitions": 4},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def measure(command: list[str]) -> Run:
    """Run a process to its end, looking at its tree ten times a second.

    Raises RuntimeError with its last words when it fails.
    """
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=said, stderr=said, env=environment)
        root, cpu, peak = psutil.Process(process.pid), {}, 0
        while process.poll() is None:
            resident = 0
            try:
                for member in [root, *root.children(recursive=True)]:
                    times = member.cpu_times()
                    cpu[member.pid], resident = times.user + times.system, resident + member.memory_info().rss
            except psutil.Error:
                pass  # it ended while it was looked at: the next look sees the rest
            peak = max(peak, resident)
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        if process.returncode not in (0, SKIPPED):
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-3000:]}")
    return Run(seconds, sum(cpu.values()), peak / 2**20, {})


def run_stage(name: str, config: Path) -> Run:
    """One stage as the DAG starts it."""
    module, *options = STAGES[name]
    run = measure([sys.executable, "-m", module, "--date", D.isoformat(), "--config", str(config), *options])
    if name in ("pretrain_transe", "smooth_kqgc"):
        run.part |= _training_seconds(config.parent / "data", name)
    return run


def _training_seconds(root: Path, name: str) -> dict[str, float]:
    """What a training stage says of itself: seconds of its epoch,
    and what a whole epoch would have taken beyond the batches seen."""
    stage = {"smooth_kqgc": "smooth_kqgc_kqgc_mean"}.get(name, name)
    rows = {r["metric"]: r for r in Table(f"{root}/run_metrics/stage={stage}").read(D.isoformat()).to_pylist()}
    history = json.loads(rows["history"]["detail"])
    seconds = sum(entry["seconds"] for entry in history)
    if name == "pretrain_transe":
        return {"epoch": seconds}
    pairs = rows["rows_in"]["value"] * 0.95  # less the held-out ones
    batches = math.ceil(pairs / 2048)
    seen = min(batches, KQGC_BATCHES)
    return {"batches": seconds, "epoch": seconds * batches / seen, "scaled_up": seconds * (batches / seen - 1)}


def run_night(source: Path, folder: Path) -> dict[str, Run]:
    """All stages of one night on a fresh data root."""
    folder.mkdir()
    (folder / "events.parquet").symlink_to(source)
    generate_items(folder / "items.parquet", source)
    config = write_configuration(folder)
    found = {}
    for name in STAGES:
        found[name] = run = run_stage(name, config)
        seconds = f"{run.seconds:7.1f} s {run.cpu_seconds:7.1f} s of processor"
        print(f"  {name:24} {seconds} {run.peak_mib:7.0f} MiB", file=sys.stderr, flush=True)
    return found


def median(runs: list[dict[str, Run]], stage: str, field: str) -> float:
    return statistics.median(getattr(run[stage], field) for run in runs)


def slope(pairs: list[tuple[float, float]]) -> float:
    """Least-squares slope of log value over log size; nan where a value is not above 0, or there is one size alone."""
    if len(pairs) < 2 or any(value <= 0 for _, value in pairs):
        return math.nan
    return float(np.polyfit([math.log(size) for size, _ in pairs], [math.log(value) for _, value in pairs], 1)[0])


def summarise(measured: dict[str, list[dict[str, Run]]]) -> list[dict[str, float | str]]:
    """One row per stage: net seconds by size, their slopes, peaks by size and theirs."""
    rows = []
    sizes = [size for size in SIZES if size != "empty" and size in measured]
    for stage in STAGES:
        empty = median(measured["empty"], stage, "epoch_seconds")
        net = {size: median(measured[size], stage, "epoch_seconds") - empty for size in sizes}
        peaks = {size: median(measured[size], stage, "peak_mib") for size in sizes}
        row: dict[str, float | str] = {"stage": stage, "empty": empty}
        row |= {f"net {size}": value for size, value in net.items()}
        row |= {f"peak {size}": value for size, value in peaks.items()}
        row["slope"] = slope([(SIZES[size], net[size]) for size in sizes])
        for a, b in zip(sizes, sizes[1:], strict=False):
            row[f"slope {a} to {b}"] = slope([(SIZES[a], net[a]), (SIZES[b], net[b])])
        cpu = {size: median(measured[size], stage, "cpu_seconds") for size in ("empty", *sizes)}
        row["processor slope"] = slope([(SIZES[size], cpu[size] - cpu["empty"]) for size in sizes])
        row["memory slope"] = slope([(SIZES[size], peaks[size]) for size in sizes])
        rows.append(row)
    return rows


def show(rows: list[dict[str, float | str]], measured: dict[str, list[dict[str, Run]]]) -> str:
    """The tables, and the last line."""
    sizes = [size for size in SIZES if size != "empty" and size in measured]
    largest = sizes[-1]
    total = sum(max(0.0, row[f"net {largest}"]) + row["empty"] for row in rows)
    lines = _seconds_lines(rows, sizes, total) + _memory_lines(rows, sizes)
    lines += ["", f"Where the time of the {largest} night goes ({total:.0f} s with start-up):"]
    for row in sorted(rows, key=lambda r: -r[f"net {largest}"])[:4]:
        lines.append(
            f"  {row['stage']}: {row['empty']:.1f} s start-up and {row[f'net {largest}']:.1f} s "
            f"work{_parts(row['stage'], measured[largest][0])}"
        )
    lines += _cache_lines(sizes, measured)
    counted = [row for row in rows if row[f"net {sizes[0]}"] >= MIN_SECONDS]
    exponent = max((row["slope"] for row in counted), default=math.nan)
    of = max(counted, key=lambda row: row["slope"])["stage"] if counted else "no stage"
    memory, peak = (max(row[name] for row in rows) for name in ("memory slope", f"peak {largest}"))
    among = f"of {len(counted)} stages with {MIN_SECONDS:g} s net at {sizes[0]}"
    lines += ["", f"The exponent is that of {of}, {among}; memory's exponent is {memory:.2f}."]
    lines += [f"peak_mib: {peak:.0f} exponent: {exponent:.3f}"]
    return "\n".join(lines)


def _seconds_lines(rows: list[dict[str, float | str]], sizes: list[str], total: float) -> list[str]:
    lines = [
        "",
        "seconds, less those of the empty run (median); KQGC's batches scaled up to an epoch; "
        "cpu: the slope of the tree's processor seconds (KQGC as run)",
        "",
        f"{'stage':22}{'empty':>8}" + "".join(f"{size:>9}" for size in sizes)
        + f"{'slope':>8}{'cpu':>8}{'share':>8}{'µs per purchase, by size':>30}",
    ]  # fmt: skip
    for row in rows:
        net = "".join(f"{row[f'net {size}']:9.1f}" for size in sizes)
        share = (row["empty"] + max(0.0, row[f"net {sizes[-1]}"])) / total
        per = "  ".join(f"{1e6 * row[f'net {size}'] / counts(SIZES[size])[2]:7.2f}" for size in sizes)
        slopes = f"{row['slope']:8.2f}{row['processor slope']:8.2f}"
        lines.append(f"{row['stage']:22}{row['empty']:8.1f}{net}{slopes}{share:8.0%}{per:>30}")
    return lines


def _memory_lines(rows: list[dict[str, float | str]], sizes: list[str]) -> list[str]:
    head = f"{'stage':22}" + "".join(f"{size:>9}" for size in sizes) + f"{'slope':>8}"
    lines = ["", "peak MiB of the process tree", "", head]
    for row in rows:
        peaks = "".join(f"{row[f'peak {size}']:9.0f}" for size in sizes)
        lines.append(f"{row['stage']:22}{peaks}{row['memory slope']:8.2f}")
    return lines


def _parts(stage: str, night: dict[str, Run]) -> str:
    part = night[stage].part
    if stage == "smooth_kqgc":
        return f", of it {part['batches']:.1f} s for {KQGC_BATCHES} batches, which make {part['epoch']:.1f} s an epoch"
    return f", of it {part['epoch']:.1f} s in the epoch itself" if part else ""


def _cache_lines(sizes: list[str], measured: dict[str, list[dict[str, Run]]]) -> list[str]:
    """Seconds per unit should not change with size;
    where they grow, the vectors have outgrown the processor's caches."""
    lines = ["", "Cache effects: per-unit time of the random gathers, with the size of the table of vectors"]
    for size in sizes:
        users, items, purchases = counts(SIZES[size])
        table = (users + items) * 100 * 4 / 2**20
        transe = statistics.median(run["pretrain_transe"].part["epoch"] for run in measured[size])
        kqgc = statistics.median(run["smooth_kqgc"].part["batches"] for run in measured[size])
        lines.append(
            f"  {size:>5}: {table:6.0f} MiB of vectors, TransE {1e6 * transe / purchases:6.2f} µs per edge, "
            f"KQGC {1e3 * kqgc / KQGC_BATCHES:6.1f} ms per batch"
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, help="of every size but the full one (default 3)")
    which = "which sizes, in this order (default all; the empty run is needed)"
    parser.add_argument("--sizes", default=",".join(SIZES), help=which)
    parser.add_argument("--shrink", type=float, default=1.0, help="all sizes times this, to try the benchmark itself")
    options = parser.parse_args(argv)
    measured: dict[str, list[dict[str, Run]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as scratch:
        for size in options.sizes.split(","):
            scale = SIZES[size] if size == "empty" else SIZES[size] * options.shrink
            source = Path(scratch) / f"events-{len(measured)}.parquet"
            generate(source, scale)
            measured[size] = []
            for repeat in range(REPEATS[size] if size == "full" else options.repeats or REPEATS[size]):
                load = os.getloadavg()[0]
                many = ", ".join(f"{n:,}" for n in counts(scale))
                said = f"{size}, run {repeat + 1} (load {load:.1f}): {many} users, items, purchases"
                print(said, file=sys.stderr, flush=True)
                folder = Path(scratch) / f"{len(measured)}-{repeat}"
                measured[size].append(run_night(source, folder))
                shutil.rmtree(folder)
                save(measured)
    rows = summarise(measured)
    save(measured, rows)
    print(show(rows, measured))


def save(measured: dict[str, list[dict[str, Run]]], rows: list[dict[str, float | str]] | None = None) -> None:
    """The raw figures so far: a run that is cut short leaves them."""
    RESULTS.parent.mkdir(exist_ok=True)
    raw = {}
    for size, nights in measured.items():
        raw[size] = [{stage: asdict(run) for stage, run in night.items()} for night in nights]
    RESULTS.write_text(json.dumps({"sizes": SIZES, "rows": rows, "raw": raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
