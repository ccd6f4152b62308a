"""How many processes run tests or notebooks at once; a plugin of pytest."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """A worker takes up to 3 GiB, with the processes that it starts: fewer than cores may fit."""
    from distributed.system import MEMORY_LIMIT  # knows the limits of a container

    cores = yield
    return max(1, min(cores, MEMORY_LIMIT // (3 << 30)))
