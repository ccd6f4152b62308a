"""Time of fusing one pair: the plain module called eagerly, and `fusionlib.tiles`.

Usage: python -m benchmarks.inference [--size 640x480]

That prints the engine's time over sides of tiles; ``python -m benchmarks --only networks`` has the
networks. Every figure comes from processes of their own, which do nothing else: what an earlier
run leaves in memory would change the times of the next. They take turns, twice; the median counts.
Per network: seconds of the plain module, ratios of the engine as it is by default, with
channels-last memory and in bfloat16, and the largest difference of their outputs from the plain
module's, to its range; for bfloat16 also which metric of RefineFuse's tables changes most. Weights
are the method's, or where none are here those of `tests.recipe` or random ones, whose metrics would
say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import fusionlib as fl
from benchmarks.plain import PLAIN
from benchmarks.shared import alone, difference, show, sources
from fusionlib.card import Configuration
from fusionlib.methods import registry
from fusionlib.networks.network import FusionNetwork
from fusionlib.rules import get_rule
from fusionlib.tiles import TILE, Execution, check_execution, run_network
from fusionlib.weights import load_state
from reproduction.latency import RANDOM, RECIPE, UNTRAINED
from tests.recipe import GAINS, recipe_state

SIZE = (640, 480)
ROUNDS = 2
#: How a network is run -> the engine's settings; None is the plain module.
MODES: dict[str, Execution | None] = {
    "plain": None,
    "ours": Execution(),
    "channels last": Execution(channels_last=True),
    "bfloat16": Execution(channels_last=True, precision="bfloat16"),
}
SECONDS, FEWEST, MOST = 6.0, 2, 9  # a process repeats a run until it has so many seconds


class Contestant(NamedTuple):
    """A network that is measured: a method with options for `fusionlib.create`."""

    label: str
    method: str
    options: dict[str, str]

    @property
    def configuration(self) -> Configuration:
        """What the options choose."""
        spec = registry()[self.method]
        key = self.options.get(spec.axis)
        return spec.configurations[key] if key else spec.default


def contestants(names: list[str]) -> list[Contestant]:
    """Return each method's default configuration, and more of Res2NetFuse."""
    chosen = [Contestant(registry()[name].title, name, {}) for name in names]
    if "res2netfuse" in names:
        chosen.append(Contestant("Res2NetFuse, mean", "res2netfuse", {"rule": "mean"}))
        chosen.append(Contestant("Res2NetFuse as printed", "res2netfuse", {"variant": "paper"}))
    return chosen


def with_a_network() -> list[str]:
    """Return the names of all methods but the classical ones."""
    return [name for name, spec in registry().items() if spec.default.has_network]


def build(who: Contestant) -> tuple[FusionNetwork, str]:
    """Return the network with weights, and what weights these are."""
    with contextlib.suppress(fl.WeightsNotFound):
        method = fl.create(who.method, retrained=True, **who.options)
        assert method.network is not None
        return method.network, method.card.weights
    torch.manual_seed(0)
    rules = who.configuration.rules[:1]
    network = who.configuration.build(*(get_rule(who.options.get("rule", r)) for r in rules))
    assert isinstance(network, FusionNetwork)
    if who.method not in GAINS:
        return network, RANDOM
    state, adapt = recipe_state(who.method), who.configuration.adapt
    load_state(network, adapt(state) if adapt else state, "recipe")  # random ones leave only zeros
    return network, RECIPE


class Run(NamedTuple):
    """What a process measured."""

    seconds: list[float]
    output: np.ndarray  # (H, W), as the network gives it
    weights: str


def tensors(who: Contestant, size: tuple[int, int]) -> list[Tensor]:
    """Return both images (1, 1, H, W) as a network takes them."""
    scale = who.configuration.levels.scale
    return [torch.from_numpy(scale(image))[None, None] for image in sources(size)]


def measure(who: Contestant, how: Execution | None, size: tuple[int, int]) -> Run:
    """Run a network again and again in this process."""
    network, weights = build(who)
    images = tensors(who, size)
    if how is None:
        network = PLAIN.get(who.method, lambda same: same)(network).eval()

    def fuse() -> Tensor:
        if how is not None:
            return run_network(network, images, how)
        with torch.no_grad():
            return network(*images)

    output = fuse()  # warms up
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < SECONDS and len(times) < MOST):
        started = time.perf_counter()
        output = fuse()
        times.append(time.perf_counter() - started)
    return Run(times, output[0, 0].numpy(), weights)


def compare(who: Contestant, modes: list[str], size: tuple[int, int]) -> dict[str, Any]:
    """Measure a network in all modes, in turn."""
    runs: dict[str, list[Run]] = {mode: [] for mode in modes}
    for _ in range(ROUNDS):
        for mode in modes:
            runs[mode].append(alone(measure, who, MODES[mode], size))
    seconds = {mode: median(some) for mode, some in runs.items()}
    plain = runs["plain"][0]
    row: dict[str, Any] = {"method": who.label, "weights": plain.weights}
    row |= {"plain s": seconds["plain"], "ours s": seconds["ours"]}
    for mode in modes[1:]:
        row[f"{mode} ratio"] = seconds["plain"] / seconds[mode]
        row[f"{mode} difference"] = difference(runs[mode][0].output, plain.output)
    if "bfloat16" in modes and plain.weights not in UNTRAINED:
        change = metric_changes(who, plain.output, runs["bfloat16"][0].output, size)
        worst = max(change, key=lambda name: abs(change[name]))
        row["metric most changed"], row["change %"] = worst, 100 * change[worst]
    return row


def median(runs: Sequence[Run]) -> float:
    """Return the median of the seconds of all runs."""
    return statistics.median(t for run in runs for t in run.seconds)


def metric_changes(
    who: Contestant, plain: np.ndarray, other: np.ndarray, size: tuple[int, int]
) -> dict[str, float]:
    """Return by which share each metric of RefineFuse's tables changes."""
    unscale = who.configuration.levels.unscale
    before, after = (
        fl.evaluate(np.clip(unscale(image), 0, 1), *sources(size), metrics="refinefuse")
        for image in (plain, other)
    )
    return {name: after[name] / value - 1 for name, value in before.items() if value}


def table(names: list[str] | None = None, size: tuple[int, int] = SIZE) -> pd.DataFrame:
    """Measure all networks of these methods, by default of all, and print a line for each."""
    modes = list(MODES)
    try:
        check_execution(Execution(precision="bfloat16"), "cpu")
    except fl.FusionError as error:
        print(f"without bfloat16: {error}")
        modes.remove("bfloat16")
    rows: list[dict[str, Any]] = []
    for who in contestants(names or with_a_network()):
        rows.append(compare(who, modes, size))
        show(rows)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height")
    width, height = map(int, parser.parse_args().size.split("x"))
    who = contestants(["res2netfuse"])[0]
    print(f"engine by side of a tile (the default is {TILE}), {who.label}")
    for tile in (96, 128, 160, 192, 256, 320, 480, None):
        runs = [alone(measure, who, Execution(tile=tile), (width, height)) for _ in range(ROUNDS)]
        print(f"{tile or 'whole':>8}{median(runs):9.3f} s", flush=True)


if __name__ == "__main__":
    main()
