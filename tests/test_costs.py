"""costs: seconds and memory of calls that are known."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from fusionlib.costs import measure, peak_memory


def test_result_and_seconds():
    result, cost = measure(lambda: time.sleep(0.05) or "done")
    assert result == "done"
    assert 0.05 <= cost.seconds < 1


def test_peak_where_the_system_does_not_tell(monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.write_text", forbidden)
    assert measure(lambda: 1)[1].peak is None


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_peak_is_of_the_call_alone():
    """Half a GiB that is touched shows; once it is gone, the next call does not inherit it."""

    def touch():
        return float(np.ones(2**26).sum())

    _, before = measure(lambda: None)
    total, big = measure(touch)
    _, after = measure(lambda: None)
    assert total == 2**26
    # The allocator returns large blocks at once; libraries may take a few MiB more.
    assert 0.45 < big.peak - before.peak < 0.6
    assert after.peak - before.peak < 0.05


def test_no_peak_where_there_is_no_proc(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert peak_memory() is None
