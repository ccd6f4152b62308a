"""What a call costs: seconds and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

__all__ = ["COSTS", "Cost", "measure", "peak_memory"]

Result = TypeVar("Result")

#: What `measure` measures -> how, for tables.
COSTS = {"seconds": "wall clock", "peak GiB": "resident memory"}


class Cost(NamedTuple):
    """What one call took: seconds of wall time, and what `peak_memory` says of that while."""

    seconds: float
    peak: float | None


def measure(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """Run a call and return its result and its cost."""
    try:
        # Linux, proc(5): lets the record of the peak begin anew. A container may forbid it.
        Path("/proc/self/clear_refs").write_text("5")
        known = True
    except OSError:
        known = False
    started = time.perf_counter()
    result = call()
    return result, Cost(time.perf_counter() - started, peak_memory() if known else None)


def peak_memory() -> float | None:
    """Return the most memory that this process held, in GiB, Python and libraries included.

    None where the system does not tell; on Linux, proc(5), it usually does. What
    `resource.getrusage` says would include the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    held = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(held[0]) / 2**20 if held else None
