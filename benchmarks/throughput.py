"""Pairs per second over 1, 2 and more workers: fusing a folder, and a benchmark on Dask.

Pairs are scenes of the sample, enlarged to 640x480, in PNG files. Every worker has one thread, and
is at work when the clock starts: the workers of a service are not started for each folder. Fusing
reads, fuses and writes; the benchmark fuses and computes RefineFuse's metrics, on a local cluster
of processes that talk over TCP as machines do. Training is Res2NetFuse's on many images, in
batches of four, under torchrun; 1, 2 and 4 processes share a batch. Beside the rates whether the
results are those of one worker.

Usage: python -m benchmarks --only workers
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fusionlib as fl
from benchmarks.shared import alone, enlarged
from fusionlib.commands.fuse import fuse_folders
from fusionlib.evaluation import benchmark
from fusionlib.images import write_image
from fusionlib.tiles import Execution

SIZE = (640, 480)
METHOD = "res2netfuse"


def make_pairs(folder: Path, count: int) -> None:
    """Enlarge some scenes and write each as often as it takes; a few levels tell copies apart."""
    scenes = [enlarged(name, SIZE) for name in fl.load_dataset("sample").names[:4]]
    for number in range(count):
        pair, darker = scenes[number % len(scenes)], np.float32(1 - number / 500)
        write_image(folder / "ir" / f"{number:03}.png", pair.ir * darker)
        write_image(folder / "vis" / f"{number:03}.png", pair.vis * darker)


def fuse_rate(folder: Path, workers: int) -> float:
    """Fuse the folder on so many processes; return pairs per second from the first image on.

    The processes start and load the method while the first images are awaited.
    """
    output = folder / f"fused_{workers}"
    ready = fl.create(METHOD, execution=Execution(threads=1))
    count = len([*(folder / "ir").iterdir()])
    fuse_folders(ready, folder / "ir", folder / "vis", output, jobs=workers, progress=False)
    written = sorted(path.stat().st_mtime for path in output.iterdir())
    # What the workers had in hand when the first images came is not counted.
    return (count - workers) / (written[-1] - written[workers - 1])


def benchmark_rate(folder: Path, workers: int) -> tuple[float, pd.DataFrame]:
    """Fuse and score the folder on a cluster; return pairs per second, and the rows."""
    from distributed import Client, LocalCluster

    pairs = fl.read_pairs(folder / "ir", folder / "vis")
    settings = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **settings) as cluster, Client(cluster) as client:
        options = {"metrics": "refinefuse", "jobs": workers, "progress": False}
        options["executor"] = client.get_executor(pure=False)
        benchmark(METHOD, pairs[: 2 * workers], **options)  # warms up
        started = time.perf_counter()
        rows = benchmark(METHOD, pairs, **options)
        return len(pairs) / (time.perf_counter() - started), rows


def train_rate(folder: Path, workers: int) -> tuple[float, list[float]]:
    """Train on the visible images under torchrun; return iterations per second, and the losses.

    The time of a short run, with all that starting takes, is taken off that of a longer one.
    """
    seconds, short, long = [], 4, 24
    for iterations in (short, long):
        output = folder / f"trained_{workers}_{iterations}.safetensors"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(workers), "-m", "reproduction", "train", METHOD]
        command += [str(folder / "vis"), "-o", str(output), "--iterations", str(iterations)]
        started = time.perf_counter()
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=variables)
        seconds.append(time.perf_counter() - started)
    losses = pd.read_csv(output.with_suffix(".losses.csv"))["total"]
    return (long - short) / (seconds[1] - seconds[0]), losses.tolist()


def table(count: int = 48, numbers: Sequence[int] = (1, 2, 4)) -> pd.DataFrame:
    """Measure, print and return pairs per second over the numbers of workers."""
    print(f"{count} pairs of {SIZE[0]}x{SIZE[1]}, {METHOD}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pairs(folder, count)
        first: Any = None
        rows: list[dict[str, Any]] = []

        for workers in numbers:
            fused = alone(fuse_rate, folder, workers)
            images = [path.read_bytes() for path in sorted((folder / f"fused_{workers}").iterdir())]
            scored, found = alone(benchmark_rate, folder, workers)
            trained, losses = train_rate(folder, workers)
            first = first or (images, found, losses)
            row = {"workers": workers, "fused pairs/s": fused, "scored pairs/s": scored}
            row["training iterations/s"] = trained
            for rate in [*row][1:]:
                row[f"{rate.split()[0]} ratio"] = row[rate] / (rows or [row])[0][rate]
            row |= {"images equal": images == first[0], "rows equal": found.equals(first[1])}
            row["losses differ %"] = 100 * float(np.abs(np.divide(losses, first[2]) - 1).max())
            hours = 1e6 / 3600 * min(workers, os.cpu_count() or workers)
            row["core hours per million pairs, fused"] = hours / fused
            row["core hours per million pairs, scored too"] = hours / scored
            rows.append(row)
            print(pd.DataFrame(rows[-1:]).T.to_string(header=False), "\n", flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit("use: python -m benchmarks --only workers")
