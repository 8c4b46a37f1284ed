"""Nights of the DAG in one Airflow process, without a scheduler: `play_nights.py WORD` reads a date a line from
standard input and plays it as `airflow dags test nightly_user_embeddings D` would.

Airflow's start takes longer than most stages do; here it happens once, and so does the reading of what jobs import
(forked.py). After each night a line on standard output,
`WORD D: STATE`, says how it ended. jobs/run_nights.py starts this program and gives it one date after the other.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

FILE = Path(__file__).resolve().parents[1] / "nightly_user_embeddings.py"


@providers_configuration_loaded
def main() -> None:
    sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])  # as the airflow command does
    from dagkit import forked, tasks

    own = os.environ["NOCTURNE_PYTHON"] == sys.executable
    with forked.forks(sys.executable) if own else contextlib.nullcontext(tasks.start) as tasks.start:
        for line in sys.stdin:
            date = datetime.date.fromisoformat(line.strip())
            bag = DagBag(dag_folder=str(FILE))  # anew: a run's parameters stay in the DAG object
            if FILE.stem not in bag.dags:
                raise SystemExit(f"{FILE.name} has no DAG: {bag.import_errors}")
            run = bag.dags[FILE.stem].test(logical_date=datetime.datetime.combine(date, datetime.time(), datetime.UTC))
            print(f"{sys.argv[1]} {date}: {run.state}", flush=True)


if __name__ == "__main__":
    main()
