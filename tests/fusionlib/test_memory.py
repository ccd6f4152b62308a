"""memory: pages are kept for the next layer and given back; its lack is told in one way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from fusionlib import memory
from fusionlib.tiles import run_network


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
    ],
)
def test_not_enough_memory(error):
    class Full(nn.Module):
        def forward(self, *images):
            raise error

    with pytest.raises(MemoryError, match="not enough memory for Full on 30x20 pixels; give smal"):
        run_network(Full(), [torch.zeros(1, 1, 20, 30)] * 2)


def test_other_errors_stay():
    with pytest.raises(RuntimeError, match="sizes differ"), memory.memory_errors("a", "b"):
        raise RuntimeError("sizes differ")


# Blocks of so many MiB one after the other, and what each run fetched and added, in MiB.
PAGES = """
import ctypes, os, resource, torch
from concurrent.futures import ThreadPoolExecutor
from torch import nn
from fusionlib import memory
from fusionlib.tiles import run_network

memory.LIMIT = {kept}

class Layers(nn.Module):
    def forward(self, image):
        for _ in range({layers}):
            image = torch.zeros({block} << 18).add_(1)[:1] + image
        return image

def megabytes(pages):
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20

def used():
    return megabytes(int(open("/proc/self/statm").read().split()[1]))

def run():
    run_network(Layers(), [torch.zeros(1, 1, 1, 1)])

PR_SET_THP_DISABLE = 41  # or one fault may be a page of 2 MiB
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
thread = ThreadPoolExecutor(1)
for _ in range({runs}):
    before, has = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, used()
    thread.submit(run).result() if {threaded} else run()
    print(megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before), used() - has)
"""


def pages(**settings):
    """Return what each run fetched, and by how much the process has grown then."""
    code = PAGES.format(**settings)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return zip(*([*map(int, line.split())] for line in run.stdout.splitlines()), strict=True)


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_pages_are_kept_between_layers_and_given_back(kept):
    """Thirty blocks of 64 MiB one after the other: the pages of a few, not of thirty.

    What is kept is fetched once; else every run fetches its own, and gives them back.
    """
    fetched, grown = pages(layers=30, block=64, runs=3, kept=kept, threaded=False)
    assert 32 < fetched[0] < 640
    if kept:
        assert grown[0] > 32 and abs(sum(fetched) - sum(grown)) < 32
    else:
        assert max(grown[1:]) < 32 and min(fetched[1:]) > 32


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_pages_are_kept_in_threads():
    """Blocks of 16 MiB: a thread that keeps its heaps fetches no page of them twice."""
    fetched, grown = pages(layers=4, block=16, runs=20, kept=1 << 30, threaded=True)
    assert fetched[0] > 16 and abs(sum(fetched) - sum(grown)) < 16


def test_another_c_library_is_not_asked(monkeypatch):
    def asked(*_):
        raise AssertionError("there is no mallopt")

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", asked)
    with memory.keep_pages():
        assert not memory._keeping
