"""Leases: they hold for their time, are renewed and ended, and what lies beside them is none."""

import datetime
import json
import os
import threading
from collections.abc import Callable

import pytest

from feature_store import Lease, Leases
from feature_store.errors import BadName, CannotWrite
from feature_store.tree import DataRoot
from tests.feature_store.places import Place, on_disk

DATE, NEXT = "2026-01-05", "2026-01-12"
HOUR = datetime.timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 1, 5, 3, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(place: Place, clock: Clock) -> Leases:
    return Leases(str(place / "nights"), clock=clock)


def test_a_lease_holds_until_its_time_and_is_one_file(leases: Leases, clock: Clock, place: Place) -> None:
    assert leases.holding() == [] and leases.get(DATE) is None
    leases.write(DATE, HOUR, task="a")
    (lease,) = leases.holding()
    assert (lease.value, lease.until, lease.said) == (DATE, clock.now + HOUR, {"task": "a"})
    assert sorted(path.name for path in (place / "nights").iterdir()) == ["_lock", f"dt={DATE}"]
    clock.now += HOUR
    assert leases.holding() == [] and leases.get(DATE) == lease, "run out, and still there to be read"


def test_a_renewal_lengthens_and_never_shortens(leases: Leases, clock: Clock) -> None:
    leases.write(DATE, 3 * HOUR, task="a")
    clock.now += HOUR
    assert leases.renew(DATE, HOUR)
    assert leases.get(DATE).until == clock.now + 2 * HOUR
    clock.now += 2 * HOUR
    assert leases.renew(DATE, HOUR), "one that has run out comes to life: its night was only slow"
    assert leases.holding()[0].said == {"task": "a"}


def test_an_ended_lease_is_not_renewed(leases: Leases) -> None:
    leases.write(DATE, HOUR)
    leases.end(DATE)
    leases.end(DATE)
    assert not leases.renew(DATE, HOUR) and leases.holding() == []


def test_a_renewal_brings_back_nothing_that_another_wrote_or_ended_meanwhile(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal of one program in the midst of another's: it waits for that one's end."""
    leases.write(DATE, HOUR, task="a")
    put, others = leases._put, Leases(leases.uri, clock=leases.clock)
    other = threading.Thread(target=lambda: others.write(DATE, HOUR, task="b"))

    def slowly(lease: Lease, confirm: Callable[[], None]) -> Lease:
        other.start()
        other.join(0.2)
        return put(lease, confirm)

    monkeypatch.setattr(leases, "_put", slowly)
    assert leases.renew(DATE, HOUR)
    other.join(20)
    assert leases.get(DATE).said == {"task": "b"}


def test_they_come_by_value(leases: Leases) -> None:
    for value in (NEXT, DATE):
        leases.write(value, HOUR)
    assert [lease.value for lease in leases.holding()] == [DATE, NEXT]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"until": 3, "said": {}}', b'{"until": "9", "said": {}}', b"\xff" * 9,
                json.dumps({"until": "2026-01-05T09:00:00+00:00", "said": 3}).encode(), b"[" * 9999])  # fmt: skip
def test_what_is_no_lease_holds_up_nobody(leases: Leases, place: Place, content: bytes) -> None:
    leases.write(NEXT, HOUR)
    (place / "nights" / f"dt={DATE}").write_bytes(content)
    assert [lease.value for lease in leases.holding()] == [NEXT] and leases.get(DATE) is None


@on_disk
def test_strangers_beside_them_are_none(leases: Leases, place: Place) -> None:
    leases.write(DATE, HOUR)
    folder = place / "nights"
    (folder / f"dt={DATE}.bak").write_bytes((folder / f"dt={DATE}").read_bytes())
    (folder / "dt=2026-01-06").symlink_to(folder / f"dt={DATE}")
    (folder / "dt=2026-01-07").mkdir()
    os.mkfifo(folder / "dt=2026-01-08")
    assert [lease.value for lease in leases.holding()] == [DATE]
    with pytest.raises(BadName):
        leases.get("../x")


def test_a_disk_that_refuses_is_said(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(leases.disk, "put_atomic", refuse)
    with pytest.raises(CannotWrite, match=f"writing the lease at .*dt={DATE}"):
        leases.write(DATE, HOUR)


def test_leases_are_no_table(leases: Leases, place: Place) -> None:
    leases.write(DATE, HOUR)
    assert DataRoot(str(place)).tables == {}
