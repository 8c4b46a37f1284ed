"""What a campaign needs beside a ranking: who is in no audience (opt-outs), and who is in one and not mailed, so that
uplift can be measured.

Suppression lists are files of user ids, read like seeds (seeds.py). They change no score and no model: who is on one is
taken out before the best k are. A list that cannot be used stops the job: without it those would be mailed who must not
be. So does an empty file, which an export that broke off leaves; a CSV with its header alone, or Parquet without rows,
says that there is nobody.

The control group is drawn by a hash of the client and the user's id, like every draw (population.py): whatever the
score, and from night to night the same users. A larger share keeps who was in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Commit
from feature_store.spreadsheet import plain, to_csv
from jobs.audiences.population import uniform
from jobs.audiences.seeds import match, read_from, read_ids
from jobs.audiences.snapshot import Ledger
from jobs.configuration.sections import Lookalike
from jobs.program import Input, JobError, MayPass, is_final, log

MAILING, CONTROL = "mailing", "control"  # values of the column `group`
GROUP = pa.field("group", pa.string())
ALL_CLIENTS, PARAMETER = "lookalike.suppress", "the parameter suppress"
_NOBODY = pa.array([], pa.large_string())


@dataclass(frozen=True)
class Listed:
    """A suppression list.

    key: what names it, in messages. ids: unique, as they stand in the file; users: of these the known users (raw ids),
    once `known_among` has told. read: name, size and sha256 of the file.
    """

    key: str
    ids: pa.Array
    read: list[dict[str, Any]]
    users: pa.Array = field(default_factory=lambda: _NOBODY)

    def known_among(self, known: pa.Array) -> Listed:
        """Byte for byte; an id that nobody has is tried as a cell of our own CSVs. A warning where nobody is known."""
        found = match(self.ids, known, _NOBODY)
        if len(self.ids) and not len(found.known):
            log.warning(
                "%s: none of the %d ids of %s is a user of the event log; they must be the log's own, byte by byte",
                self.key, len(self.ids), self.read[0]["name"])  # fmt: skip
        return dataclasses.replace(self, users=found.known)

    @property
    def figures(self) -> dict[str, Any]:
        return {"key": self.key, "file": self.read[0]["name"], "listed": len(self.ids), "known": len(self.users)}


@dataclass(frozen=True)
class Campaign:
    """What the audiences of one client, or of a list of seeds by its name, keep to. users: raw ids of those in none."""

    name: str
    users: pa.Array
    control_share: float
    seed: int

    def may_be_in(self, raw: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """bool per user: on no suppression list."""
        listed = pc.is_in(raw.cast(pa.large_string()), value_set=self.users)
        return ~listed.to_numpy(zero_copy_only=False) if len(raw) else np.zeros(0, bool)

    def in_control(self, raw: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """bool per user: in the control group, if in the audience at all."""
        whole = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
        return uniform(self.seed, "control", self.name, whole) < self.control_share

    def grouped(self, audience: pa.Table) -> pa.Table:
        """The audience with the column `group`."""
        control = pa.array(self.in_control(audience.column("user_id")))
        return audience.append_column(GROUP, pc.if_else(control, CONTROL, MAILING))

    def files(self, commit: Commit, audience: pa.Table, hint: str) -> dict[str, str | None]:
        """Writes the audience's CSVs, one of those to be mailed and, where a share is set, one of the control group;
        names by what they are."""
        group, columns = audience.column("group"), audience.drop_columns("group")

        def write(which: str, ending: str) -> str:
            part = columns.filter(pc.equal(group, which))
            return commit.write_bytes(".csv", to_csv(part), hint=hint[: 64 - len(ending)] + ending)

        control = write(CONTROL, "-control") if self.control_share else None
        return {"file": write(MAILING, ""), "control_file": control}

    def figures(self, scored: pa.Array | pa.ChunkedArray, audience: pa.Table) -> dict[str, Any]:
        """Counts of an audience, told in the log as well; scored: raw ids of all who would be eligible."""
        suppressed = int((~self.may_be_in(scored)).sum())
        control = pc.sum(pc.equal(audience.column("group"), CONTROL)).as_py() or 0
        if len(self.users) or self.control_share:
            log.info(
                "%s: %d of %d eligible users are suppressed; of the %d in the audience %d are its control group",
                self.name, suppressed, len(scored), audience.num_rows, control)  # fmt: skip
        return {
            "client": self.name, "eligible": len(scored), "suppressed": suppressed, "k": audience.num_rows,
            "control": control, "control_share": self.control_share}


def read_lists(lookalike: Lookalike, clients: Iterable[str], given: Path | str | None = None) -> list[Listed]:
    """The list of all clients, those of these, and one that a request gives; each file is read once. JobError: one
    that cannot be used."""
    own = {key_of(client): lookalike.campaigns[client].suppress for client in clients if client in lookalike.campaigns}
    named = {ALL_CLIENTS: lookalike.suppress} | own | {PARAMETER: given}
    paths = {key: str(path) for key, path in named.items() if path}
    first: dict[str, Listed] = {}
    for key, path in paths.items():
        if path not in first:
            first[path] = _read(key, path)
    return [dataclasses.replace(first[path], key=key) for key, path in paths.items()]


def key_of(client: str) -> str:
    """The key of a client's own list."""
    return f"lookalike.campaigns.{client}.suppress"


def _read(key: str, path: str) -> Listed:
    try:
        ids, read = read_ids(path, key, may_be_empty=True), read_from(path)
    except (JobError, OSError) as error:
        kind = JobError if is_final(error) else MayPass
        raise kind(
            f"The suppression list that {key} names cannot be used: {str(error).rstrip('.')}. No audience is made "
            "without it. To have no such list, leave the key out.") from error
    if not len(ids):
        log.warning("%s: %s names nobody", key, path)
    return Listed(key, ids, read)


def known_among(
    lists: Sequence[Listed], entity_ids: Input, scored: Iterable[pa.Array | pa.ChunkedArray]
) -> list[Listed]:
    """The lists with their users: known are those of the ledger and all who were scored, some of whom have no event
    that the graph takes in."""
    if not lists:
        return []
    given = [one for listed in lists for one in listed.ids.to_pylist()]
    wanted = pa.array(list({*given, *map(plain, given)}), pa.large_string())  # of all users only these are held
    parts = (users.cast(pa.large_string()) for users in (Ledger.read(entity_ids.segments("user")).raw, *scored))
    found = [part.filter(pc.is_in(part, value_set=wanted)).to_pylist() for part in parts]
    known = pa.array(list(set().union(*found)), pa.large_string())
    return [listed.known_among(known) for listed in lists]


def campaign_of(
    lookalike: Lookalike, client: str | None, lists: Sequence[Listed], seed: int, name: str = "",
    share: float | None = None,
) -> Campaign:  # fmt: skip
    """Of a client; on demand without one, under the name of the audience; share: in place of the configured one."""
    own = lookalike.campaigns.get(client) if client else None
    if share is None:
        share = own.control_share if own and own.control_share is not None else lookalike.control_share
    keys = (ALL_CLIENTS, PARAMETER, key_of(client) if client else "")
    users = [listed.users.cast(pa.large_string()) for listed in lists if listed.key in keys]
    return Campaign(client or name, pc.unique(pa.chunked_array([_NOBODY, *users])), share, seed)


def provenance(campaigns: Mapping[str, Campaign], lists: Sequence[Listed]) -> dict[str, Any]:
    """For a manifest: the lists as they were read, and the shares of the control groups by client."""
    shares = {name: campaign.control_share for name, campaign in campaigns.items() if campaign.control_share}
    return {"sources": {listed.key: listed.read for listed in lists}, "control_share": shares}
