"""Time of fusing one rendered pair: the plain module called eagerly, and the execution engine.

Usage: python -m benchmarks.inference [--size 640x480] [--repeats 7] [--methods a,b]

Prints, per network and rule, the median time of both, their ratio and the largest
difference of the outputs relative to their range; then the engine's time over tile sizes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch import Tensor

import fusionlib as fl
from benchmarks.timing import difference, in_turn
from fusionlib.card import LEARNT, Configuration
from fusionlib.execution import TILE, run_network
from fusionlib.images import luminance
from fusionlib.methods import registry
from fusionlib.networks.network import FusionNetwork
from fusionlib.pipelines import Levels
from fusionlib.rules import get_rule
from fusionlib.scenes import render
from fusionlib.weights import load_state
from tests.recipe import GAINS, recipe_state


def networks(names: list[str]) -> dict[str, tuple[FusionNetwork, Levels]]:
    """Network and levels of each method's default configuration, and of Res2NetFuse's others."""
    chosen = {}
    for name in names:
        spec = registry()[name]
        for key, configuration in spec.configurations.items():
            if key != next(iter(spec.configurations)) and name != "res2netfuse":
                continue
            for rule in ("l1_norm", "mean") if name == "res2netfuse" else configuration.rules[:1]:
                label = f"{spec.title} {key}, {rule}"
                chosen[label] = trained(name, configuration, {spec.axis: key, "rule": rule})
            if not configuration.rules:
                chosen[f"{spec.title} {key}"] = trained(name, configuration, {spec.axis: key})
    return chosen


def with_a_network() -> list[str]:
    """Return the names of all methods but the classical ones."""
    configurations = {name: [*spec.configurations.values()] for name, spec in registry().items()}
    return [
        name for name, one in configurations.items() if one[0].rules or one[0].own_rule == LEARNT
    ]


def trained(
    name: str, configuration: Configuration, options: dict[str, str]
) -> tuple[FusionNetwork, Levels]:
    """Network with its weights; with those of `tests.recipe` or random ones where none are here."""
    try:
        return fl.create(name, **options).network, configuration.levels
    except fl.WeightsNotFound:
        torch.manual_seed(0)
        rules = [get_rule(options["rule"])] if configuration.rules else []
        network = configuration.build(*rules)
        if name in GAINS:  # random ones would leave nothing but zeros behind
            state = recipe_state(name)
            state = configuration.adapt(state) if configuration.adapt else state
            load_state(network, state, "tests.recipe")
        return network, configuration.levels


def compare(
    network: FusionNetwork, images: list[Tensor], repeats: int
) -> tuple[float, float, float]:
    """Median seconds of eager and engine, timed in turn, and the relative difference."""
    network.eval()

    def eager() -> Tensor:
        with torch.no_grad():
            return network(*images)

    def engine() -> Tensor:
        return run_network(network, images)

    seconds, outputs = in_turn({"eager": eager, "engine": engine}, repeats)
    far = difference(outputs["engine"], outputs["eager"])
    return seconds["eager"], seconds["engine"], far


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--methods", help="names separated by commas; default: all")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    names = options.methods.split(",") if options.methods else with_a_network()
    pair = render("day_street", size=(width, height))
    gray = [pair.ir, luminance(pair.vis)]
    print(f"{width}x{height}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'network':<32}{'eager s':>9}{'engine s':>10}{'ratio':>7}{'difference':>12}")
    for name, (network, levels) in networks(names).items():
        images = [torch.from_numpy(levels.scale(image))[None, None] for image in gray]
        eager, engine, difference = compare(network, images, options.repeats)
        print(
            f"{name:<32}{eager:9.3f}{engine:10.3f}{eager / engine:7.2f}{difference:12.1e}",
            flush=True,
        )
    if "res2netfuse" in names:
        print_tiles(gray, options.repeats)


def print_tiles(gray: list[np.ndarray], repeats: int) -> None:
    """Print the engine's time over tile sizes."""
    network, levels = next(iter(networks(["res2netfuse"]).values()))
    images = [torch.from_numpy(levels.scale(image))[None, None] for image in gray]
    print(f"\nengine by side of a tile (the default is {TILE}), Res2NetFuse released, l1_norm")
    for tile in (64, 96, 128, 160, 192, 256, 320, None):
        run_network(network, images, tile=tile)
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            run_network(network, images, tile=tile)
            times.append(time.perf_counter() - started)
        print(f"{tile or 'whole':>8}{statistics.median(times):9.3f} s")


if __name__ == "__main__":
    main()
