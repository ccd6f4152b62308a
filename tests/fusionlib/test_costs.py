"""costs: seconds and memory of calls that are known."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fusionlib.executors import measure


def test_result_and_seconds(monkeypatch):
    now = iter([3.0, 3.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    result, cost = measure(lambda: "done")
    assert (result, cost.seconds) == ("done", 0.25)


@pytest.mark.parametrize("function", ["read_text", "write_text"])
def test_peak_where_the_system_does_not_tell(monkeypatch, function):
    def forbidden(*_, **__):
        raise PermissionError

    monkeypatch.setattr(f"pathlib.Path.{function}", forbidden)
    assert measure(lambda: 1)[1].peak is None


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
