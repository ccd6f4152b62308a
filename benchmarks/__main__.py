"""The table of ratios: networks, metrics, training, workers, each beside its plain baseline.

Usage: python -m benchmarks [--save FOLDER] [--only networks,metrics,training,workers,memory]
                            [--methods a,b]

An hour and a half on a machine that does nothing else, half of it for the networks. `--save` writes
one CSV file for each part and the provenance; the repository's are in results/paper/speed.
`--methods` measures some networks only, and replaces their rows; each row names its commit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks import inference, memory, metrics, throughput, training
from benchmarks.shared import save, what_decides
from fusionlib.files import check_writable

#: Part -> how it is measured, each row printed.
PARTS: dict[str, Callable[[], pd.DataFrame]] = {
    "networks": inference.table,
    "metrics": metrics.table,
    "training": training.table,
    "workers": throughput.table,
    "memory": memory.table,
}
#: These parts' processes have one thread each.
SINGLE = ("metrics", "workers")


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
        facts = what_decides(1 if name in SINGLE else torch.get_num_threads())
        frame = inference.table(some) if some else PARTS[name]()
        if options.save:
            save(options.save, name, frame, facts, replace=some is not None)


if __name__ == "__main__":
    main()
