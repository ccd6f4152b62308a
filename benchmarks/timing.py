"""Timing what is compared side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def in_turn(
    runs: Mapping[str, Callable[[], Tensor]], repeats: int
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Call functions one after the other, again and again.

    Returns
    -------
    seconds : dict of str to float
        Medians, without the first round, which warms up.
    results : dict of str to Tensor
        Of the last round.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    results = {}
    for i in range(repeats + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            results[name] = run()
            if i:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(some) for name, some in times.items()}, results


def difference(result: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the range of what is expected."""
    return float((result - expected).abs().max() / (expected.max() - expected.min()))


def alone(function: Callable[..., T], *args: object) -> T:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
