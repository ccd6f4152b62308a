"""RefineFuse: a training step, fusing 640x480 and 2048x1536, against the plain eager module.

Usage: python -m benchmarks.refinefuse [--repeats 5]

The plain module is the paper's text written down as it stands: SFIM interleaves the channels of
both modalities for one grouped convolution, PSIM makes whole attention maps, tensors lie
channel after channel, and images are fused at once. Same weights, same images; beside every
ratio the largest difference. Then the most memory that a process holds which fuses 2048x1536.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import difference, in_turn
from fusionlib.losses import FusionLoss
from fusionlib.networks.refinefuse import PSIM, SFIM, RefineFuse
from fusionlib.tiles import has_bfloat16, run_network

BATCH, SIDE = 8, 64
LARGE = (2048, 1536)


def interleave(module: SFIM, ir: Tensor, vis: Tensor) -> Tensor:
    """Compute SFIM as equations 1 and 2 have it."""
    both = torch.cat([ir, vis], dim=1)
    pooled = torch.cat([both.amax(1, keepdim=True), both.mean(1, keepdim=True)], dim=1)
    maps = torch.sigmoid(module.attention(pooled))
    ir, vis = ir + ir * maps[:, :1], vis + vis * maps[:, 1:]
    weight = torch.cat([module.fuse_ir.weight, module.fuse_vis.weight], dim=1)
    pairs = torch.stack([ir, vis], dim=2).flatten(1, 2)
    fused = F.conv2d(pairs, weight, module.fuse_ir.bias, padding=1, groups=len(weight))
    return F.relu(fused)


def attend(module: PSIM, query: Tensor, key: Tensor, value: Tensor, like: Tensor) -> Tensor:
    """Compute equation 4 with the whole attention map."""
    q, k, v = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
    context = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v
    context = context.transpose(1, 2).unflatten(2, query.shape[-2:])
    return F.interpolate(context, like.shape[-2:], mode="bilinear")


def plain(network: RefineFuse) -> RefineFuse:
    """Return a network of the same weights that computes as the text does."""
    copy = RefineFuse()
    copy.load_state_dict(network.state_dict())
    for join in copy.joins:
        if isinstance(join, SFIM):
            join.forward = lambda ir, vis, join=join: interleave(join, ir, vis)
        else:
            join._context = lambda *given, join=join: attend(join, *given)
    return copy


def step(network: nn.Module, images: Tensor, *, mixed: bool = False) -> Callable[[], Tensor]:
    """Return a function that computes loss and gradients and returns the first layer's."""
    loss = FusionLoss()
    ir, vis = images
    objects = torch.zeros_like(ir, dtype=torch.bool)

    def run() -> Tensor:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            fused = network(ir, vis)
        loss(fused, ir, vis, objects).total.backward()
        gradient = next(network.parameters()).grad
        assert gradient is not None
        return gradient.clone()

    return run


def contest(runs: dict[str, Callable[[], Tensor]], repeats: int) -> None:
    """Time functions in turn; print medians, ratios to the first, largest differences from it."""
    seconds, results = in_turn(runs, repeats)
    first = next(iter(runs))
    for name in runs:
        ratio, far = seconds[first] / seconds[name], difference(results[name], results[first])
        print(f"{name:<34}{seconds[name]:8.3f} s  ratio {ratio:5.2f}  difference {far:.1e}")


def fuse_large() -> None:
    """Fuse two images of noise in this process and print the most memory that it held."""
    import resource

    torch.manual_seed(0)
    width, height = LARGE
    images = list(torch.rand(2, 1, 1, height, width))
    started = time.perf_counter()
    fused = run_network(RefineFuse(), images)
    assert fused.isfinite().all()
    unit = 2**30 if sys.platform == "darwin" else 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    seconds = time.perf_counter() - started
    print(f"\n{width}x{height}: {seconds:.1f} s, {peak:.2f} GiB at most, everything included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.large:
        fuse_large()
        return
    torch.manual_seed(0)
    network = RefineFuse()
    baseline = plain(network)
    squares = torch.rand(2, BATCH, 1, SIDE, SIDE)
    ours = RefineFuse().to(memory_format=torch.channels_last)
    ours.load_state_dict(network.state_dict())
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"\na training step on {BATCH} squares of {SIDE}x{SIDE}; difference: of a gradient")
    steps = {
        "plain": step(baseline, squares),
        "ours, single precision": step(ours, squares),
    }
    if has_bfloat16("cpu"):
        steps["ours, mixed precision"] = step(ours, squares, mixed=True)
    else:
        print("without mixed precision: this processor has no bfloat16 arithmetic")
    contest(steps, options.repeats)
    print("\nfusing 640x480; difference: of the image, to its range")
    images = list(torch.rand(2, 1, 1, 480, 640))

    def eager() -> Tensor:
        with torch.no_grad():
            return baseline(*images)

    contest({"plain": eager, "ours": lambda: run_network(network, images)}, options.repeats)
    subprocess.run([sys.executable, "-m", "benchmarks.refinefuse", "--large"], check=True)


if __name__ == "__main__":
    main()
