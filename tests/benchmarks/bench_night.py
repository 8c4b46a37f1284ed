"""Seconds of a demo night, stage by stage, beside those of former runs: `python -m tests.benchmarks.bench_night`.

The shipped demo's log and its three nights through Airflow, as `make demo` runs them, in a folder of their own. A
night's seconds are those of the clock from its date's start to its run's end; a stage's are its own, from run_metrics:
start-up of its process and Airflow's share come on top. Means of the second and third night: the first one compiles,
begins cold and has Airflow's own start.

Every run is appended to tests/benchmarks/results/night.json, oldest first; what it is held against is the first of all.
The last line reads `night: <seconds, mean of the second and third night of the shipped demo>`.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import yaml

from jobs.configuration.load import load_settings
from jobs.run_nights import airflow_process, generate_demo, prepare, run_night
from jobs.summarise_nights import grid, number, read_night

RESULTS = Path(__file__).parent / "results" / "night.json"
DEMO = Path(__file__).resolve().parents[2] / "jobs" / "configs" / "demo.yaml"


def configuration(folder: Path) -> Path:
    """The shipped demo's, with its log and its tables in `folder`."""
    tree = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    tree["data_root"] = str(folder / "data")
    for table in tree["source"].values():
        table["path"] = str(folder / "source" / Path(table["path"]).name)
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def measure(folder: Path) -> dict[str, Any]:
    """Seconds of every night and of its stages."""
    path = configuration(folder)
    settings = load_settings(path)
    generate_demo(settings)
    prepare(folder / "airflow", path, folder / "airflow.log")
    dates = settings.dag.dates
    with airflow_process(folder / "airflow", path) as airflow:
        nights = {str(date): run_night(date, airflow, folder / f"{date}.log") for date in dates}
    figures = [read_night(settings.data_root, date).values for date in dates[1:]]
    stages = {name: statistics.fmean(night[name]["seconds"] for night in figures) for name in figures[0]}
    return {
        "run_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} at the end",
        "seconds": statistics.fmean(list(nights.values())[1:]),
        "nights": nights,
        "stages": stages,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Stages by seconds: the first run of all, and the newest."""
    shown = runs[:1] if len(runs) == 1 else [runs[0], runs[-1]]
    names = dict.fromkeys(name for run in reversed(shown) for name in run["stages"])
    rows = [[name, *(number(run["stages"].get(name), 1) for run in shown)] for name in names]
    rows.append(["the night, by the clock", *(number(run["seconds"], 1) for run in shown)])
    return grid(["seconds", *(run["run_at"] for run in shown)], rows)


def main() -> None:
    runs = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    with tempfile.TemporaryDirectory(prefix="bench-night-") as folder:
        runs.append(measure(Path(folder)))
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    print("\n" + table(runs))
    print(f"night: {runs[-1]['seconds']:.1f}")


if __name__ == "__main__":
    main()
