#!/usr/bin/env python3
"""Stands in for the jobs' interpreter: notes what it is asked to run, and ends as PRETEND_ENDINGS says: with a status,
or as the job itself does (`real`)."""

import json
import os
import sys

module, arguments = sys.argv[2], sys.argv[3:]
model = next((a.split("=")[1] for a in arguments if a.startswith("--model=")), "")
name = module.rsplit(".", 1)[-1] + (f"_{model}" if model and "jobs." in module else "")
with open(os.environ["PRETEND_NOTES"], "a", encoding="utf-8") as notes:
    notes.write(
        json.dumps({"name": name, "arguments": arguments, "airflow": sorted(k for k in os.environ if "AIRFLOW__" in k)})
        + "\n"
    )
if name == "resolve_predecessor":
    print(json.dumps({"transe": "2026-01-05", "kqgc_mean": None}), flush=True)
if module.endswith("resolve_request"):
    print(json.dumps({"date": "2026-01-09"}), flush=True)
if name == "write_report":
    print(json.dumps({"page": "part-0.html"}), flush=True)
print(f"12:00:00,000 {name} 2026-01-12: said by {name}", file=sys.stderr)
ending = json.loads(os.environ.get("PRETEND_ENDINGS", "{}")).get(name, 0)
if ending == "real":
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
sys.exit(ending)
