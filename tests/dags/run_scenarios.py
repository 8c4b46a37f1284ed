"""A program for test_flow.py and test_pod_sizes.py: runs DAGs in this process, one scenario after the other (starting
Airflow takes longer than a run).

Scenarios come as JSON lines on standard input: dag, date (or null), conf, endings, retries, notes. Per scenario
one JSON line is written to the file named by the first argument: the run's state, its tasks' states and their links.
"""

import datetime
import json
import os
import sys
import time

from airflow.dag_processing.dagbag import DagBag


def main() -> None:
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    sys.path.insert(0, folder)  # as the airflow command does
    nap = time.sleep  # a second between two looks for tasks that are ready, or at a pod
    time.sleep = lambda seconds: nap(min(seconds, 0.05))
    for line in sys.stdin:
        scenario = json.loads(line)
        os.environ["PRETEND_NOTES"] = scenario["notes"]
        os.environ["PRETEND_ENDINGS"] = json.dumps(scenario["endings"])
        date = scenario["date"] and datetime.datetime.fromisoformat(scenario["date"]).replace(tzinfo=datetime.UTC)
        print(f"\nscenario {scenario['name']}", flush=True)
        bag = DagBag(dag_folder=folder)  # anew: a run's parameters stay in the DAG object
        dag = bag.dags[scenario["dag"]]
        for task in dag.tasks:
            task.retries, task.retry_delay = scenario.get("retries", 0), datetime.timedelta(seconds=0.1)
            if hasattr(task, "startup_check_interval_seconds"):  # of a pod
                task.startup_check_interval_seconds = 0.05
        run = dag.test(logical_date=date, run_conf=scenario["conf"])
        states = {t.task_id: str(t.state) for t in run.get_task_instances()}
        links = {t.task_id: t.xcom_pull(task_ids=t.task_id, key="_link_ReportLink") for t in run.get_task_instances()}
        with open(sys.argv[1], "a", encoding="utf-8") as sink:
            found = {"name": scenario["name"], "state": str(run.state), "tasks": states, "links": links}
            sink.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
