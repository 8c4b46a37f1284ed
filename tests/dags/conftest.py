"""The DAGs of a small configuration, parsed once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.run_nights import DAGS_FOLDER, environment
from tests.dags import small_log

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

MODELS = ("transe", "kqgc_mean", "kqgc_attention2", "rhgn")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log's configuration file."""
    return small_log.write(tmp_path_factory.mktemp("parsed"), MODELS, profiles=small_log.PROFILES)


@pytest.fixture(scope="session")
def dagbag(small: Path, tmp_path_factory: pytest.TempPathFactory) -> DagBag:
    """The DAG files as the small configuration shapes them. Airflow reads its environment when first imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(tmp_path_factory.mktemp("airflow_home"), small).items():
            patch.setenv(name, value)
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(dag_folder=str(DAGS_FOLDER))
