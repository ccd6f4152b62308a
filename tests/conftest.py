"""What all tests share: where real data and weights are, and how their absence is said."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from fusionlib.executors import has_processes
from fusionlib.memory import glibc

pytest_plugins = ["tests.line"]

# Times are for benchmarks: on a busy machine an example may take long.
settings.register_profile("fusionlib", deadline=None)
settings.load_profile("fusionlib")


def _place(variable: str) -> Callable[[], Path]:
    """Make a fixture of a folder that a variable names; tests that use it are marked realdata."""

    @pytest.fixture(scope="session")
    def place() -> Path:
        value = os.environ.get(variable)
        if not value or not Path(value).is_dir():
            pytest.skip(f"${variable} does not name a folder")
        return Path(value)

    return place


data_root = _place("FUSIONLIB_DATA")
weights_root = _place("FUSIONLIB_WEIGHTS")


@pytest.fixture(scope="session")
def golden_root(data_root: Path) -> Path:
    """Reference outputs of the authors' code, kept beside the real data sets."""
    folder = data_root.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no reference outputs in {folder}")
    return folder


@pytest.fixture(scope="session")
def processes() -> None:
    """Processes that share work; where there are no semaphores, tests of them are skipped."""
    with warnings.catch_warnings(action="ignore"):
        if not has_processes():
            pytest.skip("no semaphores (on Linux they need /dev/shm)")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On small images, threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """What a file of tests left is collected with it, and its pages are free for the next."""
    yield
    gc.collect()
    if (libc := glibc()) is not None:
        libc.malloc_trim(0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say on one line how many tests were skipped for want of real data."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "realdata" in r.keywords]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests need real data or weights and were skipped: set FUSIONLIB_DATA "
            "and FUSIONLIB_WEIGHTS"
        )
