"""Nights in order: a night goes on only when no earlier one that it could start from is under way (DESIGN, section 2).

A night D is under way while its lease holds (`nights/dt=D`: its first task writes it, every task renews it, the last
one ends it, and it runs out by itself) or, inside a scheduler, while a run of D is queued or running: the scheduler
says which are. Only later nights wait for earlier ones, so no two wait for each other.

A scheduler may hold a queued run back until a running one has ended (so many runs at a time; newest first). Then the
night that waits has the place of the one it waits for: it is **put off**. Its run fails without another try, its lease
says so, and the end of the night that it waited for names it to the scheduler, to be run again. A night that is put off
is under way for as long as the one that it waits for.
"""

from __future__ import annotations

import datetime
import re
import time
from dataclasses import dataclass

from feature_store import Lease, Leases
from jobs.configuration.sections import Training
from jobs.night_lease import PUT_OFF_FOR, RUN
from jobs.program import Input, JobError, NotYet, PutOff, log

RUNNING, QUEUED, BEHIND = "running", "queued", "behind"  # behind: queued, maybe for the place of the run that asks
STATE = re.compile(rf"(\d{{4}}-\d\d-\d\d)=({RUNNING}|{QUEUED}|{BEHIND})")
NOTHING = "nothing"  # what a scheduler says that has no earlier run
PATIENCE = datetime.timedelta(seconds=60)  # what a scheduler may start, it starts within seconds
PUT_OFF = datetime.timedelta(days=7)  # a night put off is not forgotten before
BEHIND_SINCE = "behind_since"  # what a waiting night's lease says: since when nobody earlier has been at work
LOOK_SECONDS = 5.0  # between the looks of a program that waits by itself
MOST_NAMED = 3


@dataclass(frozen=True)
class Earlier:
    """A night before D that is under way, and what of it says so; `works`: it needs nobody's place to go on."""

    date: datetime.date
    how: str
    works: bool

    def __str__(self) -> str:
        return f"dt={self.date} ({self.how})"


@dataclass(frozen=True)
class Turn:
    """The place of the night of `date` among the others."""

    date: datetime.date
    leases: Leases
    training: Training

    @classmethod
    def of(cls, date: datetime.date, nights: Input, training: Training) -> Turn:
        return cls(date, Leases(nights.uri), training)

    @property
    def length(self) -> datetime.timedelta:
        return datetime.timedelta(minutes=self.training.lease_minutes)

    def begin(self) -> None:
        """Write the night's lease: it is under way from now on."""
        found = self._own()
        kept = found.said if found and PUT_OFF_FOR not in found.said else {}
        self.leases.write(self.date.isoformat(), self.length, **kept)

    def wait(self) -> None:
        """Return when no earlier night is under way; says for which it waits."""
        told = ""
        while waiting := self._waiting(self.under_way({})):
            if waiting != told:
                log.info("%s", waiting)
            told = waiting
            time.sleep(LOOK_SECONDS)

    def expect(self, said: str, run: str | None) -> None:
        """One look for a scheduler, which looks again later and does other work meanwhile.

        said: its earlier runs that are queued or running, `2026-01-05=running,2026-01-12=behind` or `nothing`; run: its
        name of this one. NotYet: an earlier night is under way; PutOff: and waits for the place of this one.
        """
        states = states_of(said)
        earlier = self.under_way(states)
        waiting = self._waiting(earlier)
        if not waiting:
            self._note_behind(None)
            return
        behind = [one.date for one in earlier if states.get(one.date) == BEHIND]
        if not behind or any(one.works for one in self.under_way(states, everything=True)):
            self._note_behind(None)
        elif run and self.leases.clock() - self._behind_since() > PATIENCE:
            self._put_off(behind[-1], run)
        raise NotYet(waiting)

    def under_way(self, states: dict[datetime.date, str], everything: bool = False) -> list[Earlier]:
        """Earlier nights under way, oldest first: those that D could start from, or `everything`."""
        found = {
            date: Earlier(date, f"its run is {QUEUED if state == BEHIND else state}", state == RUNNING)
            for date, state in states.items() if date < self.date}
        for lease in self.leases.holding():
            date, awaited = datetime.date.fromisoformat(lease.value), lease.said.get(PUT_OFF_FOR)
            if date >= self.date:
                continue
            if awaited is None:
                how = f"its lease holds until {lease.until:%Y-%m-%d %H:%M} UTC, {self.leases.path(lease.value)}"
                found[date] = found[date] if date in found and found[date].works else Earlier(date, how, True)
            elif any(awaited == other.isoformat() for other in found):
                found.setdefault(date, Earlier(date, f"it is put off until dt={awaited} has ended", False))
        first = datetime.date.min if everything else self.date - datetime.timedelta(days=self.training.max_gap_days)
        return [found[date] for date in sorted(found) if date >= first]

    def _waiting(self, earlier: list[Earlier]) -> str:
        """What is said of a wait; nothing where there is none."""
        if not earlier:
            return ""
        named = ", ".join(str(one) for one in earlier[-MOST_NAMED:])
        more = f" and {len(earlier) - MOST_NAMED} before" if len(earlier) > MOST_NAMED else ""
        return f"The night of {self.date} waits for {named}{more}: it may start from what an earlier one publishes."

    def _own(self) -> Lease | None:
        """The night's lease, while it holds."""
        found = self.leases.get(self.date.isoformat())
        return found if found and found.until > self.leases.clock() else None

    def _behind_since(self) -> datetime.datetime:
        """Since when only runs that are held back have been waited for: from now on, where that is new."""
        own = self._own()
        since = own and own.said.get(BEHIND_SINCE)
        return datetime.datetime.fromisoformat(since) if since else self._note_behind(self.leases.clock())

    def _note_behind(self, since: datetime.datetime | None) -> datetime.datetime | None:
        own = self._own()
        if since or (own and BEHIND_SINCE in own.said):
            said = {BEHIND_SINCE: since.isoformat()} if since else {}
            self.leases.write(self.date.isoformat(), self.length, **said)
        return since

    def _put_off(self, awaited: datetime.date, run: str) -> None:
        self.leases.write(self.date.isoformat(), PUT_OFF, **{PUT_OFF_FOR: awaited.isoformat(), RUN: run})
        raise PutOff(
            f"The night of {self.date} is put off: it has to wait for dt={awaited}, which is queued and does not start "
            "while this run has its place (newest first, or too few runs at a time). This run is started again when "
            "that one has ended; if that one is not to run at all, clear this one then.")


def states_of(said: str) -> dict[datetime.date, str]:
    """State of each run that a scheduler tells of; of two runs of one date the one that is further on."""
    found: dict[datetime.date, str] = {}
    for part in said.split(",") if said != NOTHING else ():
        one = STATE.fullmatch(part)
        if one is None:
            raise JobError(
                f"Found {part!r} among the earlier runs; expected e.g. 2026-01-05={RUNNING}, or {NOTHING} alone.")
        date = datetime.date.fromisoformat(one[1])
        order = (RUNNING, QUEUED, BEHIND)
        found[date] = min(found.get(date, BEHIND), one[2], key=order.index)
    return found
