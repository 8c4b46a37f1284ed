"""Three nights from a table that changes between them, and the first one run again: it reads its own version."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from feature_store import Table
from jobs.events import validate_events
from jobs.graphs import assign_ids, build_knowledge_graph
from jobs.graphs.ledgers import ITEM, attribute_relation
from jobs.program import execute
from tests.jobs.events.night import DATE, Sandbox
from tests.jobs.events.test_lake_tables import Delta, rows_of

JOBS = (validate_events.run, assign_ids.run, build_knowledge_graph.run)
TABLES = ("rejected_events", "knowledge_graph")


def items_of(**brands: str) -> pa.Table:
    return pa.table({"item_id": list(brands), "brand": list(brands.values())})


class Shop:
    """Its events and items as tables of Delta, and a configuration."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.root = sandbox.root
        (folder / "catalogue").mkdir()
        self.events, self.items = Delta(folder), Delta(folder / "catalogue")
        tree = yaml.safe_load(sandbox.config_file().read_text())
        tree["source"] = {name: {"path": str(lake.path), "format": "delta"}
                          for name, lake in (("events", self.events), ("items", self.items))}
        tree["graph"] |= {"behaviors": {"view": {}, "purchase": {}}, "item_attributes": {"brand": {}}}
        self.config = folder / "nights.yaml"
        self.config.write_text(yaml.safe_dump(tree))

    def night(self, later: int) -> dict[str, Any]:
        """What the night of so many days after the first leaves."""
        date = str(DATE + timedelta(days=later))
        for job in JOBS:
            assert execute(job, ["--date", date, "--config", str(self.config)]) == 0
        manifests = {name: Table(str(self.root / name)).existing_manifest(date) for name in TABLES}
        fields = manifests["rejected_events"].fields
        return {
            "versions": fields["versions"], "rows": fields["figures"]["rows_by_day"], "days": fields["days"],
            "sources": manifests["knowledge_graph"].fields["sources"],
            "graph": manifests["knowledge_graph"].content_hash}

    def brands(self) -> int:
        """Edges of items to brands, of the first night."""
        graph = Table(str(self.root / "knowledge_graph"))
        number = graph.existing_manifest(str(DATE)).fields["relations"][attribute_relation(ITEM, "brand")]
        return graph.read(str(DATE), ["relation"]).column("relation").to_pylist().count(number)


@pytest.fixture
def shop(sandbox: Sandbox, tmp_path: Path) -> Shop:
    return Shop(sandbox, tmp_path)


def test_a_night_that_runs_again_reads_its_own_version(shop: Shop, spark) -> None:
    for day in range(6, 11):
        shop.events.write(rows_of("uvw", day))
    shop.items.write(items_of(**{"0": "a", "1": "b"}))
    found = [shop.night(0)]
    shop.events.write(rows_of("uvx", 11))
    shop.events.write(rows_of("late" * 3, 9))
    shop.items.write(items_of(**{"2": "c"}))
    found.append(shop.night(1))
    shop.events.delete("u")
    shop.events.write(rows_of("y", 12))
    found.append(shop.night(2))
    assert [night["versions"]["source.events"] for night in found] == [4, 6, 8]
    assert [night["versions"]["source.items"] for night in found] == [0, 1, 1]
    assert [sum(night["rows"].values()) for night in found] == [15, 27, 21]
    assert len({night["graph"] for night in found}) == 3 and shop.brands() == 2
    assert shop.night(0) == found[0], "days and graph as they were"
