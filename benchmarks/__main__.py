"""The table of ratios: networks, metrics, training, workers, each beside its plain baseline.

Usage: python -m benchmarks [--save FOLDER] [--only networks,metrics,training,workers,memory]

Half an hour and more on a machine that does nothing else. `--save` writes one CSV file for each
part and the provenance; the repository's are in results/paper/speed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks import inference, memory, metrics, throughput, training
from fusionlib.files import check_writable, write_text
from fusionlib.results import provenance


def networks() -> pd.DataFrame:
    """Plain module and engine, bfloat16 too."""
    return inference.table(inference.with_a_network(), (640, 480), rounds=2)


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
    """Plain loop and engine; the losses are another part of what is saved."""
    return training.table(training.picture(None), training.ONE_IMAGE.iterations)


def workers() -> pd.DataFrame:
    """Pairs per second."""
    return throughput.table("res2netfuse", 24, [1, 2, 4])


def of_memory() -> pd.DataFrame:
    """Peak memory of large images."""
    return memory.table(memory.SIDES)


PARTS: dict[str, Callable[[], pd.DataFrame]] = {
    "networks": networks,
    "metrics": of_metrics,
    "training": of_training,
    "workers": workers,
    "memory": of_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write CSV files there")
    parser.add_argument("--only", help=f"parts separated by commas: {', '.join(PARTS)}")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.save:
        check_writable(options.save / "provenance.json")
    for name in chosen:
        print(f"\n## {name}\n", flush=True)
        frame = PARTS[name]()
        if options.save:
            text = frame.to_csv(index=False, float_format="%.6g")
            write_text(options.save / f"{name}.csv", text)
            facts = provenance(threads=torch.get_num_threads(), load=os.getloadavg()[0])
            path = options.save / "provenance.json"
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            write_text(path, json.dumps(known | {name: facts}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
