"""Which night waits for which, and until when."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import pytest

from feature_store import Leases
from feature_store.errors import CannotWrite
from jobs import nights
from jobs.configuration.sections import Training
from jobs.night_lease import end_night, renewed
from jobs.nights import NOTHING, PATIENCE, Turn, states_of
from jobs.program import JobError, NotYet, PutOff

MINUTE = datetime.timedelta(minutes=1)
DAY = [datetime.date(2026, 1, 1) + datetime.timedelta(days=n) for n in range(60)]


class World:
    """The nights of one data root, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.datetime(2026, 2, 1, 3, tzinfo=datetime.UTC)
        self.leases = Leases(str(folder / "nights"), clock=lambda: self.now)

    def turn(self, day: int, gap: int = 30) -> Turn:
        return Turn(DAY[day], self.leases, Training(max_gap_days=gap, lease_minutes=10))

    def looks(self, day: int, *runs: str, gap: int = 30) -> str:
        """What a look for a scheduler says; nothing where the night goes on."""
        try:
            self.turn(day, gap).expect(",".join(runs) or NOTHING, f"run-{day}")
        except NotYet as reason:
            return str(reason)
        except PutOff as reason:
            return f"PUT OFF {reason}"
        return ""

    def end(self, day: int) -> list[str]:
        return end_night(self.leases, DAY[day])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run(day: int, state: str) -> str:
    return f"{DAY[day]}={state}"


def test_a_night_waits_for_an_earlier_one_until_its_last_task(world: World) -> None:
    world.turn(5).begin()
    said = world.looks(7)
    assert f"The night of {DAY[7]} waits for dt={DAY[5]} (its lease holds until 2026-02-01 03:10 UTC" in said
    assert world.end(5) == [] and world.looks(7) == ""


def test_nobody_waits_for_a_later_night_or_for_his_own(world: World) -> None:
    world.turn(5).begin()
    world.turn(6).begin()
    assert world.looks(5) == "" and f"dt={DAY[5]}" in world.looks(6)
    assert f"dt={DAY[5]}" in world.looks(7) and f"dt={DAY[6]}" in world.looks(7)


def test_a_dead_nights_lease_runs_out_and_a_working_ones_does_not(world: World) -> None:
    world.turn(5).begin()
    world.now += 9 * MINUTE
    with renewed(world.leases, DAY[5], 10 * MINUTE):
        pass
    world.now += 9 * MINUTE
    assert world.looks(6), "a task has renewed it"
    world.now += MINUTE
    assert world.looks(6) == ""


def test_a_long_task_renews_the_lease_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals, enough = [], threading.Event()

    def renew(value: str, length: datetime.timedelta) -> None:
        renewals.append(value)
        if len(renewals) == 3:
            enough.set()
            raise CannotWrite("the disk refuses, once")

    monkeypatch.setattr(world.leases, "renew", renew)
    with renewed(world.leases, DAY[5], datetime.timedelta(seconds=0.02)):
        assert enough.wait(20)
        while len(renewals) < 5:
            threading.Event().wait(0.005)
    assert set(renewals) == {"2026-01-06"}


def test_only_what_it_could_start_from_is_waited_for(world: World) -> None:
    world.turn(5).begin()
    assert world.looks(12, gap=7) and not world.looks(13, gap=7)
    assert world.looks(20, run(12, "running"), gap=8) and not world.looks(20, run(11, "running"), gap=8)


def test_runs_of_the_scheduler_count_without_a_lease(world: World) -> None:
    assert f"dt={DAY[5]} (its run is queued)" in world.looks(7, run(5, "queued"))
    assert f"dt={DAY[5]} (its run is running)" in world.looks(7, run(5, "running"))
    assert world.looks(7, run(8, "running")) == "", "whatever the scheduler calls earlier"


def test_of_many_the_nearest_are_named(world: World) -> None:
    said = world.looks(20, *(run(day, "queued") for day in range(10, 20)))
    assert f"dt={DAY[17]}" in said and f"dt={DAY[19]}" in said and f"dt={DAY[16]}" not in said and "7 before" in said


def test_a_night_that_has_the_place_of_an_earlier_one_is_put_off_and_started_again(world: World) -> None:
    world.turn(7).begin()
    assert not world.looks(7, run(6, "behind")).startswith("PUT OFF"), "it may be about to start"
    world.now += PATIENCE + MINUTE
    assert world.looks(7, run(6, "behind")).startswith(f"PUT OFF The night of {DAY[7]} is put off")
    assert world.end(7) == [], "its report comes all the same, and ends nothing"
    assert f"dt={DAY[7]}" in world.looks(8, run(6, "running")), "it is still to come"
    world.turn(6).begin()
    assert world.end(6) == ["run-7"]
    world.turn(7).begin()
    assert world.looks(7) == "" and f"dt={DAY[7]} (its lease" in world.looks(8)
    assert world.end(7) == [] and world.looks(8) == ""


def test_a_backfill_that_runs_newest_first_one_at_a_time_ends_in_order(world: World) -> None:
    """A scheduler with one place, which always takes the newest queued run."""
    queued, done = [1, 2, 3, 4, 5], []
    for _ in range(40):
        if not queued:
            break
        day = queued.pop()
        world.turn(day).begin()
        others = [run(other, "behind") for other in queued if other < day]
        while said := world.looks(day, *others):
            if said.startswith("PUT OFF"):
                break
            world.now += MINUTE
        else:
            done.append(day)
        queued = sorted([*queued, *(int(name.removeprefix("run-")) for name in world.end(day))])
    assert done == [1, 2, 3, 4, 5] and world.leases.holding() == []


def test_nobody_is_put_off_while_an_earlier_night_is_at_work(world: World) -> None:
    world.turn(7).begin()
    for _ in range(5):
        world.now += MINUTE
        assert world.looks(7, run(5, "running"), run(6, "behind")).startswith("The night")
    assert world.looks(7, run(6, "behind")).startswith("The night"), "from now on patience counts"
    world.now += 2 * MINUTE
    assert world.looks(7, run(6, "behind")).startswith("PUT OFF")


def test_nobody_is_put_off_for_a_run_that_has_another_place(world: World) -> None:
    world.turn(7).begin()
    for _ in range(30):
        world.now += MINUTE
        assert world.looks(7, run(6, "queued")).startswith("The night")


def test_a_night_put_off_counts_only_as_long_as_the_one_it_waits_for(world: World) -> None:
    world.turn(7).begin()
    world.looks(7, run(6, "behind"))
    world.now += 2 * MINUTE
    assert world.looks(7, run(6, "behind")).startswith("PUT OFF")
    assert f"dt={DAY[7]} (it is put off until dt={DAY[6]} has ended)" in world.looks(8, run(6, "queued"))
    assert world.looks(8) == "", "the run of the 7th that it waited for was deleted"


def test_a_program_without_a_scheduler_waits_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            world.end(5)

    monkeypatch.setattr(nights.time, "sleep", sleep)
    world.turn(5).begin()
    with caplog.at_level("INFO", logger="nocturne"):
        world.turn(6).wait()
    assert len(looks) == 3 and [r.getMessage() for r in caplog.records if f"dt={DAY[5]}" in r.getMessage()]


def test_what_a_scheduler_says_is_read_or_refused() -> None:
    assert states_of(NOTHING) == {}
    assert states_of("2026-01-05=behind,2026-01-06=queued,2026-01-05=running") == {
        DAY[4]: "running", DAY[5]: "queued"}
    with pytest.raises(JobError, match="Found '2026-01-05=done' among the earlier runs"):
        states_of("2026-01-05=done")
