"""What a forked job says and how it ends, held against the same job as a process; and what becomes of it when the
process that forks, or the one that asks, is ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from dagkit import forked, tasks

Start = Callable[..., "forked.ForkedJob | subprocess.Popen[str]"]
SLEEPS = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with forked.forks(sys.executable) as start:
        yield start


def told(statement: str) -> list[str]:
    return [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", statement]


def outcome(process: forked.ForkedJob | subprocess.Popen[str]) -> tuple[str, int]:
    said = process.stdout.read()
    return re.sub(r"1 loop, best of 1.*\n", "", said), process.wait(60)


def ended(pid: int) -> bool:
    """Within some seconds; who was orphaned stays a zombie where nobody reaps."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # it was gone, or went between the opening and the reading
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def as_a_process(command: list[str], environment: Mapping[str, str]) -> tuple[str, int]:
    return outcome(tasks.start(command, environment))


@pytest.mark.parametrize(
    "statement",
    [
        "import os; os.write(1, b'x' * 300_000 + b'\\n' + b'y' * 300_000); os._exit(5)",
        "import sys; sys.stdout.write('a line that does not end')",
        "import os; os.write(1, bytes(range(256)) * 3 + b'\\xff\\xc3')",
        "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(4)",
        "import os; os.kill(os.getpid(), 9)",
        "import sys; sys.exit('the reason')",
        "import sys; sys.exit(300)",
        "import threading; threading.Timer(0.3, print, ['at the end']).start()",
        "import atexit; atexit.register(print, 'at exit')",
        "import os, sys; print(os.getcwd(), sys.path[0], sys.flags.optimize, __import__('__main__').__file__)",
        "import os; print(oct(os.umask(0)), os.readlink('/proc/self/fd/0'), os.getsid(0) == os.getpid())",
        "import os; links = [os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')];"
        " print(sum('socket' in one or 'pipe' in one for one in links))",
    ],
)
def test_it_says_and_ends_as_the_same_process(start: Start, statement: str) -> None:
    given = tasks.environment()
    said, status = outcome(start(told(statement), given))
    wanted, its_status = as_a_process(told(statement), given)
    assert status == its_status and said == wanted


def test_it_sees_the_given_environment_and_no_other(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is no UTF-8, and an argument that is empty."""
    monkeypatch.setenv("ODD", "a\udcff\udc80=b\n")
    given = {name: os.environ[name] for name in ("ODD", "PATH")}
    command = [*told("import os, sys; print(sorted(os.environb.items()), sys.argv)"), ""]
    said, status = outcome(start(command, given))
    ours, wanted = (re.sub(r"\(b'(LC_CTYPE|KMP_\w+|OMP_\w+|TORCH\w+)', b'[^']*'\)(, )?", "", s)
                    for s in (said, as_a_process(command, given)[0]))  # fmt: skip
    assert status == 0 and ours == wanted and r"a\xff\x80=b\n" in ours


def test_forks_draw_uuids_and_random_numbers_of_their_own(start: Start) -> None:
    draw = told("import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())")
    first, second = (outcome(start(draw, {}))[0].split() for _ in range(2))
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_a_fork_has_the_threads_of_its_libraries(start: Start) -> None:
    """OpenBLAS has its own before the fork; a library that did not start them anew would wait for ever."""
    counts = (
        "import numpy, pyarrow, pyarrow.compute as pc, torch; a = numpy.ones((900, 900)); t = torch.ones(900, 900);"
        " print((a @ a).sum(), (t @ t).sum().item(), pc.sum(pyarrow.array(range(100_000))).as_py())")
    for _ in range(2):
        assert outcome(start(told(counts), tasks.environment())) == ("729000000.0 729000000.0 4999950000\n", 0)


def test_two_that_fork_do_not_meet(start: Start) -> None:
    with forked.forks(sys.executable) as other:
        asks = "import time; time.sleep(0.5); print('{}')"
        both = [start(told(asks.format("a")), {}), other(told(asks.format("b")), {})]
        assert [outcome(job) for job in both] == [("a\n", 0), ("b\n", 0)]


def test_an_environment_that_no_message_holds_goes_to_a_process(start: Start) -> None:
    large = {f"LARGE_{n}": "x" * 100_000 for n in range(5)}
    assert outcome(start(told("import os; print(len(os.environ['LARGE_4']))"), large)) == ("100000\n", 0)


def forker_of(start: Start) -> int:
    return int(outcome(start(told("import os; print(os.getppid())"), {}))[0])


def test_where_the_one_that_forks_is_killed_the_job_ends_and_the_next_is_a_process() -> None:
    with forked.forks(sys.executable) as start:
        server = forker_of(start)
        operator = tasks.JobOperator(task_id="sleeps", command=[])
        operator.process = start(told(SLEEPS), {})
        sleeper = int(operator.process.stdout.readline())
        os.kill(server, signal.SIGKILL)
        assert ended(server)
        with pytest.raises(ConnectionError, match="was ended, and the job with it"):
            operator.process.wait()
        assert ended(sleeper) and ended(operator.process.pid)
        operator.on_kill()  # finds nothing left to do
        assert outcome(start(told("print('again')"), {})) == ("again\n", 0)


# who was started in the background, as by nohup, ignores SIGINT, and so does all that it starts
ASKS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, "dags")
from dagkit import forked
with forked.forks(sys.executable) as start:
    job = start([sys.executable, "-m", "timeit", "-n", "1", "-r", "1", sys.argv[1]], {})
    print(job.pid, job.stdout.readline(), flush=True)
    job.wait()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_where_the_one_that_asks_is_killed_the_job_ends_with_all_it_started(how: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", ASKS, SLEEPS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment, start_new_session=True,
    ) as asking:  # fmt: skip
        job, sleeper = map(int, asking.stdout.readline().split())
        server = int(Path(f"/proc/{job}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        os.killpg(asking.pid, how)
    assert ended(job) and ended(sleeper) and ended(server)
