"""Seconds of metrics, against plain code of the same definition.

Usage: python -m benchmarks.metrics [--size 640x480]

Every contest is held in a process of its own with one thread, in float64, by planes that remember
nothing. Seconds are the processor's, which other programs disturb least: the least of the
repetitions, of one where the plain code loops in Python. The images are a sample pair, enlarged,
and its average. The exit status is 1 if a value differs from that of the plain code.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks import baselines
from benchmarks.shared import alone, show, sources
from fusionlib.evaluation import levels
from fusionlib.metrics import METRICS
from fusionlib.metrics.plane import Plane

SIZE = (640, 480)
REPEATS = 5
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "VECLIB")}


class Contest(NamedTuple):
    """Metrics of ours, the same in plain code, and how near their values are."""

    names: tuple[str, ...]
    plain: tuple[Callable[..., float], ...]
    loops: bool  # whether the plain code loops in Python: measured once
    tolerance: float


CONTESTS = {
    "VIF": Contest(("VIF:cddfuse",), (baselines.vif,), False, 1e-8),
    "FMI_dct + FMI_w": Contest(
        ("FMI_dct:li", "FMI_w:li"),
        (partial(baselines.fmi, feature="dct"), partial(baselines.fmi, feature="w")),
        True,
        1e-9,
    ),
    "MS_SSIM": Contest(("MS_SSIM:li",), (baselines.ms_ssim,), True, 1e-9),
    "MI": Contest(("MI:standard",), (baselines.mi,), False, 1e-9),
}


def triple(size: tuple[int, int]) -> list[np.ndarray]:
    """Return gray levels of fused, infrared and visible image."""
    ir, vis = map(levels, sources(size))
    return [np.rint((ir.astype(float) + vis) / 2).astype(np.uint8), ir, vis]


def compute(name: str, images: Sequence[np.ndarray | Plane]) -> float:
    """Score by "metric:convention"."""
    metric, _, convention = name.partition(":")
    return METRICS[metric].compute(*images, convention)


def least(run: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Run it; return the processor's least time, and the result."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        result = run()
        times.append(time.process_time() - started)
    return min(times), result


def measure(name: str, size: tuple[int, int]) -> tuple[float, float, float]:
    """Return the seconds of the plain code and of ours, and how the values differ."""
    contest, images = CONTESTS[name], triple(size)
    plain_seconds = our_seconds = difference = 0.0
    for ours, plain in zip(contest.names, contest.plain, strict=True):
        compute(ours, images)  # warms up
        seconds, value = least(partial(compute, ours, images), REPEATS)
        our_seconds += seconds
        seconds, expected = least(partial(plain, *images), 1 if contest.loops else REPEATS)
        plain_seconds += seconds
        difference = max(difference, abs(value / expected - 1))
    return plain_seconds, our_seconds, difference


def table(size: tuple[int, int] = SIZE) -> pd.DataFrame:
    """Return a row per contest, with "equal" for whether the values are."""
    rows: list[dict[str, Any]] = []
    with mock.patch.dict(os.environ, ONE_THREAD):
        for name, contest in CONTESTS.items():
            plain, ours, difference = alone(measure, name, size)
            row = {"metrics": name, "size": "{}x{}".format(*size), "plain s": plain, "ours s": ours}
            row |= {"ratio": plain / ours, "difference": difference}
            rows.append(row | {"equal": difference <= contest.tolerance})
            show(rows)
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height")
    width, height = map(int, parser.parse_args().size.split("x"))
    return 0 if table((width, height))["equal"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
