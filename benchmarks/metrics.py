"""Time and memory of the metrics: the papers' columns, against plain code, over sizes of image.

Usage: python -m benchmarks.metrics [--repeats 5] [--loops 640x480] [--large]

Every table is made in processes of their own with one thread, in float64, from planes that
remember nothing. Seconds are the processor's, which other programs disturb least. The images are
the first sample pair and its average, scaled to 640x480; larger ones repeat it mirrored. `--loops`
is the size on which loops in Python are measured, the middle of the image if it is smaller;
`--large` adds 2048x2048 and 4096x4096 (minutes). The exit status is 1 if a value differs from that
of the plain code.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd

import fusionlib as fl
from fusionlib.evaluation import levels
from fusionlib.metrics import METRICS, SELECTIONS
from fusionlib.metrics.plane import Plane

from . import baselines
from .timing import alone

T = TypeVar("T")
Images = Sequence[np.ndarray]

WIDTH, HEIGHT = 640, 480
SIZES, LARGE = [(WIDTH, HEIGHT), (1280, 960)], [(2048, 2048), (4096, 4096)]
SETS = {"papers": SELECTIONS["res2netfuse"] + SELECTIONS["refinefuse"], "all": SELECTIONS["all"]}

TARGET_SECONDS = 4.0  # for the papers' columns on 640x480
TARGET_GROWTH = 1.5  # seconds per megapixel, largest image over smallest
TARGET_GIB = 4.0


class Contest(NamedTuple):
    """Metrics of ours, the same in plain code, and what is promised about them."""

    names: tuple[str, ...]
    plain: tuple[Callable[..., float], ...]
    loops: bool  # whether the plain code loops in Python: measured once, perhaps on less
    ratio: float
    tolerance: float


CONTESTS = {
    "VIF": Contest(("VIF:cddfuse",), (baselines.vif,), False, 10, 1e-8),
    "FMI_dct + FMI_w": Contest(
        ("FMI_dct:li", "FMI_w:li"),
        (partial(baselines.fmi, feature="dct"), partial(baselines.fmi, feature="w")),
        True,
        80,
        1e-9,
    ),
    "MS_SSIM": Contest(("MS_SSIM:li",), (baselines.ms_ssim,), True, 100, 1e-9),
    "MI": Contest(("MI:standard",), (baselines.mi,), False, 15, 1e-9),
}


def triple(width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """Return gray levels of fused, infrared and visible image."""
    pair = fl.load_dataset("sample")[0]
    images = []
    for image in (pair.ir, pair.vis):
        image = levels(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))
        more = [(0, max(0, wanted - has)) for wanted, has in ((height, HEIGHT), (width, WIDTH))]
        image = np.pad(image, more, mode="symmetric")
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        images.append(image[top : top + height, left : left + width].copy())
    ir, vis = images
    return [np.rint((ir.astype(float) + vis) / 2).astype(np.uint8), ir, vis]


def compute(name: str, images: Sequence[np.ndarray | Plane]) -> float:
    """Score by "metric:convention"."""
    metric, _, convention = name.partition(":")
    return METRICS[metric].compute(*images, convention)


def seconds(run: Callable[[], T], repeats: int = 1) -> tuple[list[float], T]:
    """Run it, and return the processor's time for each repetition and the last result."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        result = run()
        times.append(time.process_time() - started)
    return times, result


def set_of_metrics(names: Sequence[str], images: Images) -> dict[str, float]:
    """Compute metrics on planes that they share, and return the seconds of each."""
    planes = [Plane(image) for image in images]
    return {name: seconds(lambda name=name: compute(name, planes))[0][0] for name in names}


# ---------------------------------------------------------------- the three measurements


def measure_columns(repeats: int) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
    """Return the times of every column by itself, and those within the set, per repetition."""
    images, names = triple(), SETS["papers"]
    set_of_metrics(names, images)  # warms up
    by_itself = {name: seconds(partial(compute, name, images), repeats)[0] for name in names}
    return by_itself, [set_of_metrics(names, images) for _ in range(repeats)]


def measure_contest(name: str, width: int, height: int, repeats: int) -> tuple[float, float, float]:
    """Return the least seconds of the plain code and of ours, and how the values differ."""
    contest, images = CONTESTS[name], triple(width, height)
    plain_seconds = our_seconds = difference = 0.0
    for ours, plain in zip(contest.names, contest.plain, strict=True):
        compute(ours, images)  # warms up
        times, value = seconds(partial(compute, ours, images), repeats)
        plain_times, expected = seconds(partial(plain, *images), 1 if contest.loops else repeats)
        our_seconds += min(times)
        plain_seconds += min(plain_times)
        difference = max(difference, abs(value / expected - 1))
    return plain_seconds, our_seconds, difference


def measure_size(which: str, width: int, height: int) -> tuple[float, float]:
    """Return the seconds of a set of metrics, and the peak memory of this process in GiB."""
    import resource

    images = triple(width, height)
    set_of_metrics(SETS[which], triple(176, 176))  # warms up
    total = sum(set_of_metrics(SETS[which], images).values())
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# ---------------------------------------------------------------- the three tables


def verdict(good: bool) -> str:
    return "pass" if good else "MISSED"


def print_columns(repeats: int) -> None:
    by_itself, within = alone(measure_columns, repeats)
    print(f"Columns of both papers, {WIDTH}x{HEIGHT}: seconds, {repeats} repetitions each")
    print(f"{'':<20}{'by itself':>18}{'in the set':>18}")
    print(f"{'metric:convention':<20}{'median':>9}{'least':>9}{'median':>9}{'least':>9}")
    for name, times in by_itself.items():
        times = [times, [run[name] for run in within]]
        row = "".join(f"{statistics.median(t):9.4f}{min(t):9.4f}" for t in times)
        print(f"{name:<20}{row}")
    totals = [[sum(t[i] for t in by_itself.values()) for i in range(repeats)]]
    totals.append([sum(run.values()) for run in within])
    row = "".join(f"{statistics.median(t):9.4f}{min(t):9.4f}" for t in totals)
    good = statistics.median(totals[1]) < TARGET_SECONDS
    print(f"{'all of them':<20}{row}   target {TARGET_SECONDS:g} s in the set: {verdict(good)}")


def print_contests(repeats: int, width: int, height: int) -> pd.DataFrame:
    """Return a row per contest, with "equal" for whether the values are."""
    rows = []
    print(f"\nAgainst plain code: least seconds of {repeats} repetitions, of one where it loops")
    print(
        f"{'metrics':<17}{'size':>9}{'plain s':>10}{'ours s':>9}{'ratio':>8}{'target':>8}        "
        f"{'difference':>12}{'allowed':>9}"
    )
    for name, contest in CONTESTS.items():
        size = (width, height) if contest.loops else (WIDTH, HEIGHT)
        plain, ours, difference = alone(measure_contest, name, *size, repeats)
        good, same = plain / ours >= contest.ratio, difference <= contest.tolerance
        rows.append(
            {
                "metrics": name,
                "size": f"{size[0]}x{size[1]}",
                "plain s": plain,
                "ours s": ours,
                "ratio": plain / ours,
                "difference": difference,
                "equal": same,
            }
        )
        print(
            f"{name:<17}{f'{size[0]}x{size[1]}':>9}{plain:10.3f}{ours:9.4f}{plain / ours:8.1f}"
            f"{contest.ratio:8.0f} {verdict(good):<7}{difference:12.1e}{contest.tolerance:9.0e}"
            f" {'equal' if same else 'DIFFERENT'}",
            flush=True,
        )
    return pd.DataFrame(rows)


def print_sizes(large: bool) -> None:
    print("\nGrowth: least seconds and most memory of some processes, one set of metrics in each")
    print(f"{'metrics':<9}{'size':>11}{'runs':>6}{'s':>9}{'s/MP':>8}{'growth':>8}{'GiB':>7}")
    for which in SETS:
        first = 0.0
        for width, height in SIZES + LARGE * large:
            runs = 3 if width * height < 2e6 else 1
            measured = [alone(measure_size, which, width, height) for _ in range(runs)]
            total, peak = min(each[0] for each in measured), max(each[1] for each in measured)
            rate = total / (width * height / 1e6)
            first = first or rate
            print(
                f"{which:<9}{f'{width}x{height}':>11}{runs:6}{total:9.2f}{rate:8.2f}"
                f"{rate / first:8.2f}{peak:7.2f}",
                flush=True,
            )
        if large:
            print(
                f"{which:<9}{'at most':>11}{TARGET_GROWTH:31.2f}{TARGET_GIB:7.2f}   growth "
                f"{verdict(rate / first <= TARGET_GROWTH)}, memory {verdict(peak < TARGET_GIB)}"
            )


def one_thread() -> None:
    """Let the processes that are started from here have one thread each."""
    for library in ("OMP", "OPENBLAS", "MKL", "VECLIB"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loops", default=f"{WIDTH}x{HEIGHT}", help="width x height")
    parser.add_argument("--large", action="store_true", help="also 2048x2048 and 4096x4096")
    options = parser.parse_args()
    one_thread()
    print(
        f"numpy {np.__version__}, Python {platform.python_version()}, one thread of "
        f"{os.cpu_count()} CPUs, float64, processor seconds\n",
        flush=True,
    )
    print_columns(options.repeats)
    contests = print_contests(options.repeats, *map(int, options.loops.split("x")))
    print_sizes(options.large)
    return 0 if contests["equal"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
