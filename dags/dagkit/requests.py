"""What a run is asked for by `--conf` or the form: keys that nobody reads are refused, before the first task starts."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowFailException


def check_keys(conf: Mapping[str, Any] | None, known: Collection[str]) -> None:
    """AirflowFailException, which is not tried again, for a key that is none of the DAG's parameters."""
    unknown = [str(key) for key in conf or {} if key not in known]
    if not unknown:
        return
    meant = difflib.get_close_matches(unknown[0], known, 1)
    guess = f" Did you mean {meant[0]!r}?" if meant else ""
    raise AirflowFailException(
        f"Found {', '.join(repr(key[:50]) for key in unknown[:5])} in what the run was given (--conf); expected "
        f"some of {', '.join(sorted(known))}.{guess} Trigger it again.")


def until(params: Any, dag_run: Any, known: Collection[str]) -> str:
    """The request's date; without one the day on which it is asked for, up to which the newest night is looked for.

    For the first task, as a macro: it checks the keys.
    """
    check_keys(dag_run.conf, known)
    if params.get("date"):
        return datetime.date.fromisoformat(params["date"]).isoformat()
    return (dag_run.logical_date or dag_run.run_after).astimezone(datetime.UTC).date().isoformat()
