"""The link from a task to the night's report, in Airflow's UI.

Airflow asks for it when the task has ended, on the machine that ran it, and keeps it with the task: it needs no plugin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from dagkit import datasets
from dagkit.settings import Settings

WRITER = "write_report"  # the task whose result names the page


class ReportLink(BaseOperatorLink):
    """The page that the task's `report` names: the partition's folder, and where a browser finds it."""

    name = "Report of the night"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Empty where no report of that night is published. Of `ti_key` Airflow hands over the task instance itself."""
        folder, address = operator.report
        page = page_of(folder, ti_key)
        return f"{address.rstrip('/')}/{page}" if page else ""


def page_of(folder: str, task_instance: Any) -> str:
    """The page's name: as the disk has it, else as its writer told; an object store is not asked, for which Airflow
    needs no client and no credentials. Empty where there is none."""
    if "://" not in folder:
        return committed_page(Path(folder))
    told = task_instance.xcom_pull(task_ids=WRITER)
    return str(told.get("page") or "") if isinstance(told, dict) else ""


def committed_page(partition: Path) -> str:
    """The name of the committed page; empty where none is."""
    try:
        manifest = json.loads((partition / "_manifest.json").read_text(encoding="utf-8"))
        return next((file["name"] for file in manifest["files"] if file["name"].endswith(".html")), "")
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def report_of(settings: Settings, night: str) -> tuple[str, str]:
    """(folder of the report's partition, its address): under `dag.reports_url`, else where it lies.

    A browser opens no `file:` link of a page from a server, but lets it be copied.
    """
    folder = datasets.uri(settings, "reports").removeprefix("file://")
    address = settings.reports_url or (folder if "://" in folder else f"file://{folder}")
    return f"{folder}/dt={night}", f"{address.rstrip('/')}/dt={night}"


class NightComplete(BaseOperator):
    """The run's verdict, a task that only its place in the DAG says anything about: it comes where all went well."""

    template_fields = ("report",)
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, report: tuple[str, str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.report = report

    def execute(self, context: Any) -> None:
        folder, _ = self.report
        page = page_of(folder, context["ti"]) or "none"
        self.log.info("The night is complete; its report: %s/%s", folder, page)
