"""The lease of the night that a job belongs to: renewed while the job runs, ended with the night's last one.

Which nights wait for which stands in jobs/nights.py.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from feature_store import Leases
from feature_store.errors import StoreError

log = logging.getLogger("nocturne")
RENEWALS = 4  # in the time of a lease, so that one that comes late is no harm
PUT_OFF_FOR = "put_off_for"  # what a lease says of a night that waits with its run given up: for which date
RUN = "run"  # ... and which run of the scheduler that is


@contextmanager
def renewed(leases: Leases, date: datetime.date, length: datetime.timedelta) -> Iterator[None]:
    """Renew the lease of D now and again while the block runs; there is none where no first task wrote one."""
    over = threading.Event()
    _renew(leases, date, length)
    keeper = threading.Thread(target=_keep, args=(leases, date, length, over), name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _keep(leases: Leases, date: datetime.date, length: datetime.timedelta, over: threading.Event) -> None:
    while not over.wait(length.total_seconds() / RENEWALS):
        _renew(leases, date, length)


def _renew(leases: Leases, date: datetime.date, length: datetime.timedelta) -> None:
    """A disk that refuses stops no job for that: the lease has some time left."""
    try:
        leases.renew(date.isoformat(), length)
    except StoreError as error:
        log.warning("The lease of the night of %s could not be renewed: %s", date, error)


def end_night(leases: Leases, date: datetime.date) -> list[str]:
    """End the lease of D; the scheduler's runs that were put off for D, to be run again now.

    A night that was itself put off has not been: its lease stays.
    """
    dt = date.isoformat()
    try:
        own = leases.get(dt)
        if own is not None and PUT_OFF_FOR in own.said:
            return []
        leases.end(dt)
        waiting = [lease.said for lease in leases.holding() if lease.said.get(PUT_OFF_FOR) == dt]
    except StoreError as error:  # it runs out by itself
        log.error("The lease of the night of %s could not be ended: %s", date, error)
        return []
    return [said[RUN] for said in waiting if isinstance(said.get(RUN), str)]
