"""The table of ratios: networks, metrics, training, workers, each beside its plain baseline.

Usage: python -m benchmarks [--save FOLDER] [--only networks,metrics,training,workers,memory]
                            [--methods a,b]

An hour and a half on a machine that does nothing else, half of it for the networks. `--save` writes
one CSV file for each part and the provenance; the repository's are in results/paper/speed.
`--methods` measures some networks only, and replaces their rows; each row names its commit.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from benchmarks import inference, memory, metrics, throughput, training
from benchmarks.saving import save, what_decides
from fusionlib.files import check_writable


def networks(methods: list[str] | None = None) -> pd.DataFrame:
    """Plain module and engine, bfloat16 too."""
    names = methods or inference.with_a_network()
    return inference.table(names, (640, 480), rounds=2)


def of_metrics() -> pd.DataFrame:
    """Plain code and ours, on one thread."""
    before = dict(os.environ)
    metrics.one_thread()
    try:
        return metrics.print_contests(5, metrics.WIDTH, metrics.HEIGHT)
    finally:
        os.environ.clear()
        os.environ.update(before)


def of_training() -> pd.DataFrame:
    """Plain loop and engine."""
    rows, _ = training.table(training.picture(None), training.ONE_IMAGE.iterations)
    return rows


def workers() -> pd.DataFrame:
    """Pairs per second."""
    return throughput.table("res2netfuse", 48, [1, 2, 4])


def of_memory() -> pd.DataFrame:
    """Peak memory of large images."""
    return memory.table(memory.SIDES)


class Part(NamedTuple):
    """What is measured, and on how many threads a process."""

    measure: Callable[[], pd.DataFrame]
    threads: int


PARTS: dict[str, Part] = {
    "networks": Part(networks, torch.get_num_threads()),
    "metrics": Part(of_metrics, 1),
    "training": Part(of_training, torch.get_num_threads()),
    "workers": Part(workers, 1),
    "memory": Part(of_memory, torch.get_num_threads()),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write CSV files there")
    parser.add_argument("--only", help=f"parts separated by commas: {', '.join(PARTS)}")
    parser.add_argument("--methods", help="networks: names separated by commas; default: all")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(PARTS)
    some = options.methods.split(",") if options.methods else None
    known = {"part": (chosen, list(PARTS)), "network": (some or [], inference.with_a_network())}
    for what, (names, there) in known.items():
        if wrong := [name for name in names if name not in there]:
            parser.error(f"no {what} {wrong[0]!r}; there are {', '.join(there)}")
    if some and chosen != ["networks"]:
        parser.error("--methods goes with --only networks")
    if options.save:
        check_writable(options.save / "provenance.json")
    for name in chosen:
        print(f"\n## {name}\n", flush=True)
        facts = what_decides(PARTS[name].threads)
        frame = networks(some) if some else PARTS[name].measure()
        if options.save:
            save(options.save, name, frame, facts, replace=some is not None)


if __name__ == "__main__":
    main()
