"""executors: results in order, whatever becomes of processes, workers and schedulers; costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest import mock

import dask
import pytest
from distributed import LocalCluster

from fusionlib.errors import FusionError
from fusionlib.executors import checked_jobs, dask_workers, in_order, measure, processes

pytestmark = pytest.mark.usefixtures("processes")
kills = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")


def cluster(workers):
    settings = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return LocalCluster(n_workers=workers, **settings)


@pytest.fixture(scope="module")
def workers():
    with cluster(2) as two, dask_workers(two.scheduler_address) as (executor, threads):
        assert threads == 2
        yield executor


def calls(function, numbers):
    return ((number, partial(function, number)) for number in numbers)


def double(number):
    return 2 * number


def late(number):
    """The first is the last."""
    time.sleep(0.2 * (number == 0))
    return number


def fails_at_2(number):
    if number == 2:
        time.sleep(0.3)
        raise TimeoutError("its own")
    return number


def deadly(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def large(number):
    return b"x" * (number << 20)


# ---------------------------------------------------------------- any executor


@pytest.fixture(params=["here", "threads", "loky", "dask", "Dask's own"])
def anywhere(request):
    if request.param == "threads":
        with ThreadPoolExecutor(3) as executor:
            yield executor
    elif request.param == "dask":
        yield request.getfixturevalue("workers")
    elif request.param == "Dask's own":
        yield request.getfixturevalue("workers").client.get_executor()
    else:
        yield processes(2) if request.param == "loky" else None


def test_results_in_order(anywhere):
    found = list(in_order(calls(late, range(20)), anywhere, 8))
    assert found == [(number, number) for number in range(20)]
    assert list(in_order([], anywhere, 8)) == []


def test_calls_are_read_as_they_are_needed(anywhere):
    read = []
    results = in_order(calls(double, (read.append(n) or n for n in range(1000))), anywhere, 4)
    assert [next(results)[1] for _ in range(3)] == [0, 2, 4]
    assert len(read) <= 3 + 4
    results.close()


def test_what_a_call_raises_comes_after_what_is_finished(anywhere):
    results, got = in_order(calls(fails_at_2, range(6)), anywhere, 6), []
    with pytest.raises(TimeoutError, match="its own"):
        got.extend(number for number, _ in results)
    assert got == [0, 1] if anywhere is None else got[:2] == [0, 1] and {*got} <= {0, 1, 3, 4, 5}
    if isinstance(anywhere, ThreadPoolExecutor):  # another thread is free
        assert got == [0, 1, 3, 4, 5]


@kills
def test_a_process_that_is_killed():
    with pytest.raises(FusionError, match=r"a process was killed.*fewer jobs.*--csv"):
        list(in_order(calls(deadly, range(9)), processes(2), 4))
    # The next work has other processes.
    assert dict(in_order(calls(double, range(9)), processes(2), 4)) == {n: 2 * n for n in range(9)}


def test_an_executor_that_has_gone():
    executor = ThreadPoolExecutor(1)
    results = in_order(calls(late, [1, 0, 2, 3]), executor, 4)
    with pytest.raises(FusionError, match=r"executor, .* has gone.*What is finished is kept"):
        for _ in results:
            executor.shutdown(wait=False, cancel_futures=True)


def test_number_of_jobs(monkeypatch, recwarn):
    monkeypatch.setattr("loky.cpu_count", lambda: 2)
    with pytest.raises(FusionError, match="jobs must be at least 1, not 0"):
        checked_jobs(0)
    assert checked_jobs(None) == checked_jobs(2) == 2
    assert not recwarn.list
    with pytest.warns(UserWarning, match="3 jobs for 2 cores.*give 2 or fewer"):
        assert checked_jobs(3) == 3


# ---------------------------------------------------------------- Dask


def use(calls, address, **patience):
    with dask_workers(address, **patience) as (executor, _):
        return list(in_order(calls, executor, 4))


def test_large_arguments_are_sent_without_advice(workers, recwarn):
    images = [(0, partial(len, b"x" * (12 << 20)))]
    assert list(in_order(images, workers, 1)) == [(0, 12 << 20)]
    assert not [w for w in recwarn if "large graph" in str(w.message)]


@kills
def test_a_call_that_kills_every_worker():
    few = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    message = r"killed 2 workers .*more memory.*What is finished is kept"
    with few, cluster(1) as one, pytest.raises(FusionError, match=message):
        use(calls(deadly, [2]), one.scheduler_address)


def test_no_scheduler():
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(FusionError, match=f"no Dask scheduler answers at {address}"):
            use([], address, timeout=0.5)


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(FusionError, match=r"Dask is not installed.*irvis-fusionlib\[scale\]"):
        use([], "tcp://127.0.0.1:9")


SCHEDULER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    {before}
    options = dict(threads_per_worker=1, dashboard_address=None, protocol="tcp://")
    cluster = LocalCluster(n_workers={workers}, processes={processes}, **options)
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def scheduler(tmp_path):
    """Start a scheduler in a process of its own, with workers; they end with the test."""
    started = []

    def start(workers=1, *, processes=True, before=""):
        script = tmp_path / "scheduler.py"
        script.write_text(SCHEDULER.format(workers=workers, processes=processes, before=before))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        quiet = {"stderr": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen([sys.executable, script], **pipes, **quiet)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        end(process)


def end(process):
    """Kill it with its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_scheduler_that_goes_away(scheduler):
    process, address = scheduler()
    numbers = (number if number != 9 else end(process) for number in range(1000))
    with pytest.raises(FusionError, match=r"its scheduler, has gone.*What is finished is kept"):
        use(calls(late, numbers), address)


def test_no_workers(scheduler):
    _, address = scheduler(workers=0)
    with pytest.raises(FusionError, match=r"has no workers; start some: 'dask worker tcp://"):
        use([], address, patience=0.5)


@pytest.mark.parametrize(
    "before, message",
    [
        ("sys.modules['fusionlib'] = None", "has no module 'fusionlib.*: install this"),
        ("import fusionlib; fusionlib.__version__ = '0.0'", "has fusionlib 0.0, this is"),
    ],
)
def test_workers_of_another_installation(scheduler, before, message):
    _, address = scheduler(processes=False, before=before)
    with pytest.raises(FusionError, match=message):
        use([], address)


# ---------------------------------------------------------------- cost


def test_seconds_and_no_peak_where_the_system_does_not_tell(monkeypatch):
    now = iter([3.0, 3.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    monkeypatch.setattr("pathlib.Path.write_text", mock.Mock(side_effect=PermissionError))
    assert measure(lambda: "done") == ("done", (0.25, None))


# What 512 MiB of fresh pages add to the peak of a process of its own, and what is left after it.
PEAKS = """
import mmap, os
from fusionlib.executors import measure

def touch():
    with mmap.mmap(-1, 1 << 29) as pages:
        for page in range(0, 1 << 29, mmap.PAGESIZE):
            pages[page] = 1

os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
before, big, after = (measure(call)[1].peak for call in (int, touch, int))
print(*([] if before is None else (big - before, after - before)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_peak_is_of_the_call_alone():
    """Half a GiB that is touched shows; once it is gone, the next call does not inherit it.

    Each difference is of one process that does nothing else, on one core: Linux counts pages per
    core in lots, and adds them up late. 64 MiB are for that.
    """
    output = subprocess.check_output([sys.executable, "-c", PEAKS], text=True)
    if not output.strip():
        pytest.skip("this container forbids to begin a record of the peak")
    big, after = map(float, output.split())
    assert big == pytest.approx(0.5, abs=1 / 16)
    assert after == pytest.approx(0, abs=1 / 16)
