"""What each date was built on, held against what is published now.

A manifest's `fields["predecessor"]` and each of `fields["inputs"]` say {"table", "dt", "content_hash"}; an input of
a span of days is a dict day → content hash, under the table's name. Table names are paths below the data root.

Two more fields say what was wanting. A partition with `space_id`, `family` and `max_gap_days` and without a predecessor
opened a space, since none of its family was near enough. `wanted` lists the partitions {"table", "dt"} for want of
which a stage was skipped, each with `same_space_as`, the date whose space it has to be in, where that matters.
"""

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from feature_store.errors import StoreError
from feature_store.layout import rerun_command
from feature_store.manifest import ERASED_FROM, Manifest
from feature_store.table import Table
from feature_store.tree import DataRoot


@dataclass(frozen=True)
class BuiltOn:
    """One edge: `table` at `value` had `content_hash` when it was read, alone or with all days about it (of_span)."""

    table: str
    value: str
    content_hash: str
    is_predecessor: bool
    of_span: bool = False


@dataclass(frozen=True)
class Finding:
    """`kind`: what sort of thing was found, and of what a date's line tells first; `rerun` is the date that must be run
    again, or None where it is for information only."""

    table: str
    value: str
    text: str
    rerun: str | None
    kind: int = 0

    def __str__(self) -> str:
        advice = f"Run it again: {rerun_command(self.rerun, self.rerun)}\n" if self.rerun else ""
        return f"{advice}{self.table} {self.value}: {self.text}"


OPENED, WANTED, CHANGED, SINCE, NEARER, GONE = range(6)  # kinds of findings
ON_DEMAND = "requested_audiences/"  # no night writes these again


def told_by_date(found: Iterable[Finding]) -> list[str]:
    """A line a date, ascending: of each kind of finding what it says of one table, and how many others there are."""
    by_date: dict[str, dict[int, list[Finding]]] = {}
    for one in sorted(found, key=lambda one: (one.value, one.kind)):
        by_date.setdefault(one.value, {}).setdefault(one.kind, []).append(one)
    return [f"{value}: {'; '.join(map(_together, kinds.values()))}" for value, kinds in by_date.items()]


def _together(found: list[Finding]) -> str:
    more = len({one.table for one in found}) - 1
    return f"{found[0].table}{f' and {more} more' if more else ''}: {found[0].text}"


def built_on(manifest: Manifest) -> list[BuiltOn]:
    """All edges that a manifest records."""
    predecessor, inputs = manifest.fields.get("predecessor"), manifest.fields.get("inputs") or {}
    edges = [_edge(predecessor, True)] if predecessor else []
    listed = inputs if isinstance(inputs, list) else []
    named = inputs.items() if isinstance(inputs, dict) else ((None, one) for one in listed)
    for name, one in named:
        if isinstance(one, dict) and "table" in one:
            edges.append(_edge(one, False))
        elif isinstance(one, dict):
            days = [(day, digest) for day, digest in sorted(one.items()) if isinstance(digest, str)]
            edges += [BuiltOn(name, day, digest, False, of_span=True) for day, digest in days]
        elif isinstance(one, list):
            edges += [_edge(each, False) for each in one if isinstance(each, dict) and "table" in each]
    return [edge for edge in edges if edge]


def _edge(entry: object, is_predecessor: bool) -> BuiltOn | None:
    """None where the entry is none: `fields` are the publisher's, and may say anything."""
    if not isinstance(entry, dict):
        return None
    value = next((entry[key] for key in ("dt", "day", "value") if entry.get(key)), None)
    table, digest = entry.get("table"), entry.get("content_hash")
    if not all(isinstance(one, str) and one for one in (table, value, digest)):
        return None
    return BuiltOn(table, value, digest, is_predecessor)


def findings(root: DataRoot, only: str | None = None) -> Iterator[Finding]:
    """Every date that was built on something that is published otherwise now. `only` names one table."""
    current = _Current(root)
    for name, table in root.tables.items():
        if only not in (None, name):
            continue
        for value in table.values():
            manifest = current.manifest(name, value)
            if manifest is not None:
                yield from _check(current, name, table, value, manifest)


def hanging_on(root: DataRoot, found: Iterable[Finding]) -> list[str]:
    """Dates to run again, ascending: those of the findings, and every date that was built on one of them,
    or on one that was built on it, ..."""
    stale = {(one.table, one.value) for one in found if one.rerun}
    current, sources = _Current(root), {}
    for name in root.tables if stale else ():
        for value in current.values(name):
            manifest = current.manifest(name, value)
            sources[name, value] = {(edge.table, edge.value) for edge in built_on(manifest)} if manifest else set()
    while more := {node for node, its in sources.items() if node not in stale and its & stale}:
        stale |= more
    return sorted({value for name, value in stale if _rerun(name, root.tables[name], value)})


def _rerun(name: str, table: Table, value: str) -> str | None:
    """The night that writes a partition again."""
    return value if table.key == "dt" and not name.startswith(ON_DEMAND) else None


def _check(current: "_Current", name: str, table: Table, value: str, manifest: Manifest) -> Iterator[Finding]:
    edges = built_on(manifest)
    rerun = _rerun(name, table, value)
    gone: dict[str, list[str]] = {}
    changed: dict[str, list[str]] = {}
    for edge in edges:
        found = current.manifest(edge.table, edge.value)
        source = f"its {'predecessor' if edge.is_predecessor else 'input'} {edge.table}"
        if found is None:
            gone.setdefault(source, []).append(edge.value)
        elif edge.content_hash not in (found.content_hash, *found.fields.get(ERASED_FROM, ())):
            changed.setdefault(source, []).append(edge.value)
        nearer = [other for other in current.values(edge.table) if edge.value < other < value]
        if nearer and edge.is_predecessor:
            said = f"{source} is {edge.value}; {nearer[-1]} is nearer and was filled in since (for information)"
            yield Finding(name, value, said, None, NEARER)
    for source, values in changed.items():
        said = f"built on a former version of {source} {_listed(values)}, published anew since with other content"
        again = ": ask for it again" if name.startswith(ON_DEMAND) else ""
        yield Finding(name, value, said + again, rerun, CHANGED)
    for source, values in gone.items():
        yield Finding(name, value, f"{source} {_listed(values)} is no longer there (pruned?)", None, GONE)
    yield from _days_since(current, name, value, edges, rerun)
    yield from _opened(current, name, value, manifest, rerun)
    yield from _come(current, name, value, manifest, rerun)


def _opened(
    current: "_Current", name: str, value: str, manifest: Manifest, rerun: str | None
) -> Iterator[Finding]:
    """A space that was opened although, as it is now, there was one to go on from."""
    fields = manifest.fields
    family, most = fields.get("family"), fields.get("max_gap_days")
    is_vectors = fields.get("space_id") is not None and isinstance(family, dict)
    if not is_vectors or fields.get("predecessor") is not None or not isinstance(most, int) or not rerun:
        return
    near = [other for other in current.values(name) if other < value and _days(other, value) <= most]
    same = [other for other in near if _fields(current, name, other).get("family") == family]
    if same:
        said = f"opened a space of its own, though {same[-1]} is published, {_days(same[-1], value)} days before it"
        yield Finding(name, value, f"{said} (training.max_gap_days is {most})", rerun, OPENED)


def _come(current: "_Current", name: str, value: str, manifest: Manifest, rerun: str | None) -> Iterator[Finding]:
    """A stage that was skipped for want of something, all of which has come since."""
    listed = manifest.fields.get("wanted")
    wanted = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if wanted and rerun and all(_is_there(current, one) for one in wanted):
        dates = sorted({str(one.get("dt")) for one in wanted})
        said = f"{name.rpartition('stage=')[2]} was skipped for want of {_listed(dates)}, which has come since"
        yield Finding(name, value, said, rerun, WANTED)


def _is_there(current: "_Current", wanted: dict) -> bool:
    table, dt, other = (wanted.get(key) for key in ("table", "dt", "same_space_as"))
    if not isinstance(table, str) or not isinstance(dt, str) or current.manifest(table, dt) is None:
        return False
    if not isinstance(other, str):
        return other is None
    spaces = [_fields(current, table, one).get("space_id") for one in (dt, other)]
    return spaces[0] is not None and spaces[0] == spaces[1]


def _fields(current: "_Current", name: str, value: str) -> dict:
    manifest = current.manifest(name, value)
    return manifest.fields if manifest else {}


def _days(first: str, last: str) -> int:
    return (datetime.date.fromisoformat(last) - datetime.date.fromisoformat(first)).days


def _listed(values: list[str]) -> str:
    if len(values) <= 4:
        return ", ".join(values)
    return f"{', '.join(values[:3])}, ... {values[-1]} ({len(values)} in all)"


def _days_since(
    current: "_Current", name: str, value: str, edges: list[BuiltOn], rerun: str | None
) -> Iterator[Finding]:
    """Days within the span that was read that were committed only after it was read."""
    by_table: dict[str, set[str]] = {}
    for edge in edges:
        if edge.of_span:
            by_table.setdefault(edge.table, set()).add(edge.value)
    for other, days in by_table.items():
        new = [day for day in current.values(other) if min(days) < day < max(days) and day not in days]
        if new:
            yield Finding(name, value, f"built without {other} {_listed(new)}, committed since", rerun, SINCE)


class _Current:
    """Manifests as they are now, each read once. A broken one is verify's to report, here it is absent."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._manifests: dict[tuple[str, str], Manifest | None] = {}
        self._values: dict[str, list[str]] = {}

    def values(self, name: str) -> list[str]:
        if name not in self._values:
            self._values[name] = self._root.tables[name].values() if name in self._root.tables else []
        return self._values[name]

    def manifest(self, name: str, value: str) -> Manifest | None:
        if (name, value) not in self._manifests:
            table = self._root.tables.get(name)
            try:
                self._manifests[name, value] = table.manifest(value) if table else None
            except StoreError:
                self._manifests[name, value] = None
        return self._manifests[name, value]
