"""Time of fusing one rendered pair: the plain module called eagerly, and the execution engine.

Usage: python -m benchmarks.inference [--size 640x480] [--repeats 7]

Prints, per network and rule, the median time of both, their ratio and the largest
difference of the outputs relative to their range; then the engine's time over tile sizes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import fusionlib as fl
from fusionlib.execution import TILE, run_network
from fusionlib.images import luminance
from fusionlib.networks.autoencoder import AutoEncoder
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.msdnet import MSDNet
from fusionlib.scenes import render

NETWORKS: dict[str, Callable[[], AutoEncoder]] = {
    "Res2NetFuse released, l1_norm": lambda: trained("res2netfuse", rule="l1_norm"),
    "Res2NetFuse released, mean": lambda: trained("res2netfuse", rule="mean"),
    "Res2NetFuse paper, l1_norm": lambda: trained("res2netfuse", variant="paper"),
    "DenseFuse tensorflow, addition": lambda: trained("densefuse"),
    "MSDNet, l1_norm": lambda: trained("msdnet"),
}


def trained(method: str, **options: str) -> AutoEncoder:
    """Network of a method; with random weights (seed 0) where the authors' are not here."""
    try:
        return fl.create(method, **options).network
    except fl.WeightsNotFound:
        torch.manual_seed(0)
        return DenseFuse() if method == "densefuse" else MSDNet()


def compare(network: AutoEncoder, images: list[Tensor], repeats: int) -> tuple[float, float, float]:
    """Median seconds of eager and engine, timed in turn, and the relative difference."""
    network.eval()

    def eager() -> Tensor:
        with torch.no_grad():
            return network(*images)

    def engine() -> Tensor:
        return run_network(network, images)

    times: dict[str, list[float]] = {"eager": [], "engine": []}
    outputs = {}
    for i in range(repeats + 1):
        for name, run in (("eager", eager), ("engine", engine)):
            started = time.perf_counter()
            outputs[name] = run()
            if i:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    a, b = outputs["eager"], outputs["engine"]
    difference = float((a - b).abs().max() / (a.max() - a.min()))
    return statistics.median(times["eager"]), statistics.median(times["engine"]), difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    pair = render("day_street", size=(width, height))
    images = [torch.from_numpy(image * 255)[None, None] for image in (pair.ir, luminance(pair.vis))]
    print(f"{width}x{height}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'network':<32}{'eager s':>9}{'engine s':>10}{'ratio':>7}{'difference':>12}")
    for name, build in NETWORKS.items():
        eager, engine, difference = compare(build(), images, options.repeats)
        print(f"{name:<32}{eager:9.3f}{engine:10.3f}{eager / engine:7.2f}{difference:12.1e}")
    network = trained("res2netfuse")
    print(f"\nengine by side of a tile (the default is {TILE}), Res2NetFuse released, l1_norm")
    for tile in (64, 96, 128, 160, 192, 256, 320, None):
        run_network(network, images, tile=tile)
        times = []
        for _ in range(options.repeats):
            started = time.perf_counter()
            run_network(network, images, tile=tile)
            times.append(time.perf_counter() - started)
        print(f"{tile or 'whole':>8}{statistics.median(times):9.3f} s")


if __name__ == "__main__":
    main()
