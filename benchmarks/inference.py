"""Time of fusing one pair: the plain module called eagerly, and `fusionlib.tiles`.

Usage: python -m benchmarks.inference [--size 640x480] [--rounds 2] [--methods a,b] [--tiles]

Every figure comes from processes of their own, which do nothing else: what an earlier run leaves
in memory would change the times of the next. They take turns, `--rounds` times; the median counts.
Per network: seconds of the plain module, ratios of the engine as it is by default, with
channels-last memory and in bfloat16, and the largest difference of their outputs from the plain
module's, to its range; for bfloat16 also which metric of RefineFuse's tables changes most. Weights
are the method's, or where none are here those of `tests.recipe` or random ones, whose metrics would
say nothing. `--tiles` prints the engine's time over sides of tiles instead.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

import fusionlib as fl
from benchmarks.refinefuse import plain as plain_refinefuse
from benchmarks.sample import enlarged
from benchmarks.timing import alone
from fusionlib.card import Configuration
from fusionlib.images import luminance
from fusionlib.methods import registry
from fusionlib.networks.aefusion import AEFusion, AxialAttention
from fusionlib.networks.mufusion import MUFusion
from fusionlib.networks.network import FusionNetwork
from fusionlib.pipelines import Levels
from fusionlib.rules import get_rule
from fusionlib.tiles import TILE, Execution, check_execution, run_network
from fusionlib.weights import load_state
from reproduction.latency import RANDOM, RECIPE, UNTRAINED
from tests.recipe import GAINS, recipe_state

#: How a network is run -> the engine's settings; None is the plain module.
MODES: dict[str, Execution | None] = {
    "plain": None,
    "ours": Execution(),
    "channels last": Execution(channels_last=True),
    "bfloat16": Execution(channels_last=True, precision="bfloat16"),
}
#: A process repeats a run until it has so many seconds, at least and at most so many times.
SECONDS, FEWEST, MOST = 6.0, 2, 9


class Contestant(NamedTuple):
    """A network that is measured: a method with options for `fusionlib.create`."""

    label: str
    method: str
    options: dict[str, str]


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


def configuration_of(who: Contestant) -> Configuration:
    """Return what the options choose."""
    spec = registry()[who.method]
    key = who.options.get(spec.axis)
    return spec.configurations[key] if key else spec.default


def build(who: Contestant) -> tuple[FusionNetwork, Configuration, str]:
    """Return the network with weights, its configuration, and what weights these are."""
    configuration = configuration_of(who)
    for weights in (None, *(file.name for file in configuration.weights if file.packaged)):
        try:
            method = fl.create(who.method, weights=weights, **who.options)
        except fl.WeightsNotFound:
            continue
        assert method.network is not None
        return method.network, configuration, method.card.weights
    torch.manual_seed(0)
    rule = who.options.get("rule") or next(iter(configuration.rules), None)
    network = configuration.build(*([get_rule(rule)] if rule else []))
    assert isinstance(network, FusionNetwork)
    if who.method not in GAINS:
        return network, configuration, RANDOM
    state = recipe_state(who.method)  # random ones would leave nothing but zeros behind
    load_state(network, configuration.adapt(state) if configuration.adapt else state, "recipe")
    return network, configuration, RECIPE


class PlainMUFusion(MUFusion):
    """MUFusion as its text reads: each layer pads for itself, bicubic by `F.interpolate`."""

    together = 1

    def __init__(self) -> None:
        super().__init__()
        self.decoder[-1] = torch.nn.Conv2d(64, 1, 3)

    def fuse_patches(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse patches, see `MUFusion.fuse_patches`."""

        def use(layer: torch.nn.Module, *features: Tensor) -> Tensor:
            return layer(F.pad(torch.cat(features, dim=1), (1, 1, 1, 1), mode="reflect"))

        first, second, third, fourth, fifth, sixth = self.encoder
        e1 = torch.relu(use(first, ir, vis))
        e2 = torch.relu(use(second, e1))
        e3 = torch.relu(use(third, e1, e2))
        e4 = torch.relu(use(fourth, e3))
        e5 = torch.relu(use(fifth, e3, e4))
        e6 = torch.relu(use(sixth, e3, e4, e5))
        deepest, *middle, shallow, last = self.decoder
        x = torch.relu(use(deepest, e6))
        for layer, skip in zip(middle, (e5, e4, e3), strict=True):
            x = torch.relu(use(layer, skip, x))
        x = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        x = torch.relu(use(shallow, e2, x))
        return torch.tanh(use(last, e1, x))


def plain_mufusion(network: MUFusion) -> MUFusion:
    """Return a network of the same weights that computes as the text does."""
    plain = PlainMUFusion()
    plain.load_state_dict(network.state_dict())
    return plain


class PlainAttention(AxialAttention):
    """Axial attention as its text reads: three maps, normalised, added; all lines at once."""

    def forward(self, lines: Tensor) -> Tensor:
        """Map lines (N, C, length) to (N, C, length)."""
        half = self.channels // 2
        parts = [half, half, self.channels]
        q, k, v = self.qkv_norm(self.qkv(lines)).split(parts, dim=1)
        table = self.relative.unfold(1, self.length, 1).flip(-1)
        q_place, k_place, v_place = table.split(parts, dim=0)
        content = torch.einsum("nci,ncj->nij", q, k)
        query = torch.einsum("nci,cij->nij", q, q_place)
        key = torch.einsum("ncj,cji->nij", k, k_place)
        maps = self.similarity_norm(torch.stack([content, query, key], dim=1))
        weights = maps.sum(dim=1).softmax(dim=-1)
        values = torch.einsum("nij,ncj->nci", weights, v)
        place = torch.einsum("nij,cij->nci", weights, v_place)
        both = self.output_norm(torch.stack([values, place], dim=2).flatten(1, 2))
        return both.unflatten(1, (self.channels, 2)).sum(dim=2)


def plain_aefusion(network: AEFusion) -> AEFusion:
    """Return a network of the same weights that computes as the text does."""
    plain = copy.deepcopy(network).eval()
    for module in plain.modules():
        if type(module) is AxialAttention:
            module.__class__ = PlainAttention
    return plain


#: Networks whose module is already written for speed -> the same as its text reads.
PLAIN: dict[str, Callable[[Any], FusionNetwork]] = {
    "refinefuse": plain_refinefuse,
    "mufusion": plain_mufusion,
    "aefusion": plain_aefusion,
}


class Run(NamedTuple):
    """What a process measured."""

    seconds: list[float]
    output: np.ndarray  # (H, W), as the network gives it
    weights: str


def sources(size: tuple[int, int]) -> list[np.ndarray]:
    """Return the infrared image and the luminance of the visible one."""
    pair = enlarged("day_street", size)
    return [pair.ir, luminance(pair.vis)]


def measure(who: Contestant, how: Execution | None, size: tuple[int, int]) -> Run:
    """Run a network again and again in this process."""
    network, configuration, weights = build(who)
    images = tensors(configuration.levels, size)
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


def tensors(levels: Levels, size: tuple[int, int]) -> list[Tensor]:
    """Return both images (1, 1, H, W) as a network takes them."""
    return [torch.from_numpy(levels.scale(image))[None, None] for image in sources(size)]


def compare(who: Contestant, modes: list[str], size: tuple[int, int], rounds: int) -> pd.Series:
    """Measure a network in all modes, in turn."""
    runs: dict[str, list[Run]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode in modes:
            runs[mode].append(alone(measure, who, MODES[mode], size))
    seconds = {
        mode: statistics.median(t for run in some for t in run.seconds)
        for mode, some in runs.items()
    }
    plain = runs["plain"][0].output
    row: dict[str, Any] = {
        "method": who.label,
        "weights": runs["plain"][0].weights,
        "plain s": seconds["plain"],
        "ours s": seconds["ours"],
    }
    for mode in modes[1:]:
        row[f"{mode} ratio"] = seconds["plain"] / seconds[mode]
        far = np.abs(runs[mode][0].output - plain).max() / (plain.max() - plain.min())
        row[f"{mode} difference"] = far
    if "bfloat16" in modes and row["weights"] not in UNTRAINED:
        change = metric_changes(who, plain, runs["bfloat16"][0].output, size)
        worst = max(change, key=lambda name: abs(change[name]))
        row["metric most changed"], row["change %"] = worst, 100 * change[worst]
    return pd.Series(row)


def metric_changes(
    who: Contestant, plain: np.ndarray, other: np.ndarray, size: tuple[int, int]
) -> dict[str, float]:
    """Return by which share each metric of RefineFuse's tables changes."""
    levels = configuration_of(who).levels
    before, after = (
        fl.evaluate(np.clip(levels.unscale(image), 0, 1), *sources(size), metrics="refinefuse")
        for image in (plain, other)
    )
    return {name: after[name] / value - 1 for name, value in before.items() if value}


def table(names: list[str], size: tuple[int, int], rounds: int) -> pd.DataFrame:
    """Measure all networks of these methods, and print a line for each."""
    modes = list(MODES)
    try:
        check_execution(Execution(precision="bfloat16"), "cpu")
    except fl.FusionError as error:
        print(f"without bfloat16: {error}")
        modes.remove("bfloat16")
    print(
        f"{size[0]}x{size[1]}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        "ratios to the plain module, largest differences to its range"
    )
    print(
        f"{'network':<24}{'plain s':>9}{'ours s':>8}"
        + "".join(f"{mode:>15}{'differs':>9}" for mode in modes[1:])
        + "  metric most changed"
    )
    rows = []
    for who in contestants(names):
        row = compare(who, modes, size, rounds)
        text = f"{who.label:<24}{row['plain s']:9.3f}{row['ours s']:8.3f}"
        for mode in modes[1:]:
            text += f"{row[f'{mode} ratio']:15.2f}{row[f'{mode} difference']:9.1e}"
        if "metric most changed" in row:
            text += f"  {row['metric most changed']} {row['change %']:+.2f} %"
        print(text, flush=True)
        rows.append(row)
    return pd.DataFrame(rows)


def print_tiles(size: tuple[int, int], rounds: int) -> None:
    """Print the engine's time over tile sizes."""
    who = contestants(["res2netfuse"])[0]
    print(f"engine by side of a tile (the default is {TILE}), {who.label}")
    for tile in (96, 128, 160, 192, 256, 320, 480, None):
        runs = [alone(measure, who, Execution(tile=tile), size) for _ in range(rounds)]
        seconds = statistics.median(t for run in runs for t in run.seconds)
        print(f"{tile or 'whole':>8}{seconds:9.3f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--methods", help="names separated by commas; default: all")
    parser.add_argument("--tiles", action="store_true", help="time over tile sizes")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    if options.tiles:
        print_tiles((width, height), options.rounds)
        return
    names = options.methods.split(",") if options.methods else with_a_network()
    table(names, (width, height), options.rounds)


if __name__ == "__main__":
    main()
