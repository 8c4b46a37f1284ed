"""Great Expectations evaluates a suite on a pandas, Arrow or Spark table (the only import of great_expectations).

    results = check(table, suites.knowledge_graph())    # one dict per claim: counts, and no value of the table
    metrics.put("checks", detail=results)
    require(results)                                     # QualityError: not to be published

Importing Great Expectations takes seconds: it happens at the first check, or in `prepare()`'s thread while Spark is
busy.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.disk import open_disk
from feature_store.errors import explain_os_errors
from jobs.late_imports import postpone
from jobs.program import JobError
from jobs.quality.suites import Expectation, Suite

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

    Frame = pd.DataFrame | pa.Table | DataFrame

PYSPARK = ("pyspark.sql.functions", "pyspark.ml.feature")  # what Great Expectations imports of it, with all they import
ROWS_AT_ONCE = 1 << 16  # vectors are looked at a piece at a time: what is derived takes several times their memory
COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}  # rows are personal data: no samples of them


class QualityError(JobError):
    """A table failed its checks and was not committed."""


def prepare() -> None:
    """Start importing Great Expectations in the background.

    It imports PySpark, as the caller does for its session. Two threads in the midst of packages that import each other
    may find one half made (ImportError), so PySpark is read before.
    """
    for name in PYSPARK:
        importlib.import_module(name)
    threading.Thread(target=library, daemon=True).start()


def check(frame: Frame, suite: Suite, page: str | None = None) -> list[dict[str, Any]]:
    """One dict per expectation: table, expectation, column, success, rows, unexpected, unexpected_share.

    `page`: where to write Great Expectations' own page on the outcome (`quality.data_docs`), whether the checks hold or
    not.

    Raises QualityError when an expectation could not be evaluated at all (e.g. its column is missing from the frame
    in a way that Great Expectations reports as an exception).
    """
    gx = library()
    if isinstance(frame, pa.Table):
        frame = _pandas(frame, suite)
    elif suite.vectors:
        frame = _derived_on_spark(frame, suite) if _is_spark(frame) else _derived_on_pandas(frame, suite)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_spark("frames") if _is_spark(frame) else context.data_sources.add_pandas("frames")
    batch = (
        source.add_dataframe_asset(suite.table)
        .add_batch_definition_whole_dataframe("whole")
        .get_batch({"dataframe": frame})
    )
    claims = [getattr(gx.expectations, claim.name)(**claim.arguments) for claim in suite.expectations]
    outcome = batch.validate(gx.ExpectationSuite(name=suite.table, expectations=claims), result_format=COUNTS_ONLY)
    if page:
        _write_page(outcome, page)
    return _rows(suite, outcome.results)


def require(results: list[dict[str, Any]]) -> None:
    """QualityError naming what failed, with counts."""
    failed = [r for r in results if not r["success"]]
    if failed:
        claims, table = "; ".join(_sentence(r) for r in failed), failed[0]["table"]
        found = f"{table} failed {len(failed)} of {len(results)} checks and was not committed: {claims}."
        raise QualityError(f"{found} Mend the input or the job, and run the date again.")


def _sentence(result: dict[str, Any]) -> str:
    where = f" on {result['column']}" if result["column"] else ""
    counts = "" if result["unexpected"] is None else f" ({result['unexpected']} of {result['rows']} rows)"
    return f"{result['expectation']}{where}{counts}"


def library() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    postpone("altair")
    gx = importlib.import_module("great_expectations")
    importlib.import_module("great_expectations.expectations")
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.NOTSET)  # it sets one of its own
    return gx


def _write_page(outcome: Any, page: str) -> None:
    """The page that Data Docs have of one validation, without its logo, whose server would learn of every reader."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    text = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))
    disk, path = open_disk(page, None)
    with explain_os_errors("writing the page of the checks", path):
        disk.make_folder(path.rpartition("/")[0])
        disk.put_atomic(path, re.sub(r"<img\b[^>]*>", "", text).encode())


def _rows(suite: Suite, results: list[Any]) -> list[dict[str, Any]]:
    """Great Expectations may group results by column: each is matched to its claim by type and arguments."""
    found = []
    for result in results:
        config = result.expectation_config
        claim = next(c for c in suite.expectations if _same(c, config))
        if result.exception_info and result.exception_info.get("raised_exception", _any_raised(result.exception_info)):
            broken = f"{suite.table}: {claim.name} on {claim.column} could not be evaluated"
            raise QualityError(f"{broken}. Expected the columns of jobs/tables.py; check the job that made the table.")
        counts = result.result
        rows = counts.get(
            "element_count", counts.get("observed_value") if claim.name == "ExpectTableRowCountToBeBetween" else None
        )
        found.append(
            {
                "table": suite.table,
                "expectation": _snake(claim.name),
                "column": claim.column,
                "success": bool(result.success),
                "rows": rows,
                "unexpected": counts.get("unexpected_count"),
                "unexpected_share": _share(counts.get("unexpected_percent")),
            }
        )
    return found


def _same(claim: Expectation, config: Any) -> bool:
    given = {k: v for k, v in config.kwargs.items() if k != "batch_id"}
    return _snake(claim.name) == config.type and given.get("column") == claim.arguments.get("column")


def _any_raised(info: dict[str, Any]) -> bool:
    """Exceptions of single metrics come one level deeper, by metric."""
    return any(isinstance(one, dict) and one.get("raised_exception") for one in info.values())


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def _share(percent: float | None) -> float | None:
    return None if percent is None or percent != percent else percent / 100


def _is_spark(frame: Frame) -> bool:
    return type(frame).__module__.startswith("pyspark")


def _pandas(table: pa.Table, suite: Suite) -> pd.DataFrame:
    """An Arrow table with its vectors replaced by derived columns, without copying the vectors."""
    columns = {name: table.column(name) for name in table.column_names if name not in suite.vectors}
    for name in suite.vectors:
        columns |= _derived(name, table.column(name))
    return pa.table(columns).to_pandas()


def _derived(name: str, vectors: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Length, finite and norm of lists of float32, of fixed size or not; null vectors have length 0 and no norm."""
    lengths, finite, norms = [], [], []
    for chunk in (c.slice(first, ROWS_AT_ONCE) for c in vectors.chunks for first in range(0, len(c), ROWS_AT_ONCE)):
        length = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        values = chunk.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        starts = np.concatenate([[0], np.cumsum(length)])
        squares = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(values), values.astype(np.float64) ** 2, 0.0))])
        broken = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
        bad = broken[starts[1:]] - broken[starts[:-1]] > 0
        norm = np.sqrt(np.maximum(squares[starts[1:]] - squares[starts[:-1]], 0.0))
        lengths.append(length)
        finite.append(~bad)
        norms.append(np.where(bad | (length == 0), np.nan, norm))
    parts = {"length": lengths, "finite": finite, "norm": norms}
    return {
        f"{name}_{part}": pa.array(np.concatenate(arrays) if arrays else np.empty(0), from_pandas=True)
        for part, arrays in parts.items()
    }


def _derived_on_pandas(frame: pd.DataFrame, suite: Suite) -> pd.DataFrame:
    table = pa.table({name: pa.array(frame[name], pa.list_(pa.float32())) for name in suite.vectors})
    derived = {
        key: values.to_pandas().to_numpy()
        for name in suite.vectors
        for key, values in _derived(name, table.column(name)).items()
    }
    return frame.drop(columns=list(suite.vectors)).assign(**derived)


def _derived_on_spark(frame: DataFrame, suite: Suite) -> DataFrame:
    from pyspark.sql import functions as F

    for name in suite.vectors:
        vector = F.col(name)
        finite = F.forall(vector, lambda x: ~F.isnan(x) & (F.abs(x) < float("inf")))
        squares = F.aggregate(vector, F.lit(0.0), lambda total, x: total + x.cast("double") * x.cast("double"))
        length, norm = F.coalesce(F.size(vector), F.lit(0)), F.when(finite, F.sqrt(squares))
        frame = frame.withColumns({f"{name}_length": length, f"{name}_finite": finite, f"{name}_norm": norm})
    return frame.drop(*suite.vectors)
