"""Training Res2NetFuse_1: seconds, and whether the loss goes the same way.

The plain loop is the published recipe as one writes it down: the module, the loss with
two-dimensional windows, Adam, one image of 256x256. Ours are `reproduction.training.train` in
single precision, and in mixed: with gradients of convolutions in bfloat16, where the processor has
it. Every loop runs in a process of its own, with the same initial weights.
After a few dozen iterations rounding alone leads loops to other weights; how far is shown by the
plain loop in channels-last memory. So curves are compared by medians over 100 iterations: the
largest and the mean distance of their logarithms after the first 100.

Usage: python -m benchmarks --only training
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.shared import alone, enlarged, show
from fusionlib.images import luminance, quantise
from fusionlib.losses import MS_SSIM_WEIGHTS, SIGMA, WINDOW
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.tiles import has_bfloat16
from reproduction.training import Config, find_recipe, train

#: The published schedule for one image.
(ONE_IMAGE,) = find_recipe("res2netfuse").stages
#: Curves are compared by medians over so many iterations.
SPAN = 100


def picture() -> np.ndarray:
    """Return the gray levels (256, 256) to learn from."""
    return quantise(luminance(enlarged("day_street", (ONE_IMAGE.size, ONE_IMAGE.size)).vis))


def window(dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the Gaussian window (1, 1, 11, 11)."""
    offsets = torch.arange(WINDOW, dtype=dtype) - WINDOW // 2
    taps = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    taps = taps / taps.sum()
    return (taps[:, None] * taps)[None, None]


def dissimilarity(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """1 - MS-SSIM as released, with two-dimensional windows; see `losses.ms_ssim_released`."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    product = x.new_ones(())
    for level, share in enumerate(MS_SSIM_WEIGHTS):
        mx, my = F.conv2d(x, weight), F.conv2d(y, weight)
        xx = F.conv2d(x * x, weight) - mx * mx
        yy = F.conv2d(y * y, weight) - my * my
        xy = F.conv2d(x * y, weight) - mx * my
        contrast = (2 * xy + c2) / (xx + yy + c2)
        if level == len(MS_SSIM_WEIGHTS) - 1:
            similarity = (2 * mx * my + c1) / (mx * mx + my * my + c1) * contrast
            return 1 - product * ((similarity.mean() + 1) / 2) ** (share * level)
        product = product * ((contrast.mean() + 1) / 2) ** share
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    raise AssertionError("unreachable")


def plain_loop(
    levels: np.ndarray, iterations: int, memory: torch.memory_format
) -> tuple[float, list[float]]:
    """Train as one writes it down; return seconds and the loss of each iteration."""
    torch.manual_seed(0)
    network = Res2NetFuse("released").to(memory_format=memory)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=ONE_IMAGE.rates["network"])
    image, weight = torch.from_numpy(levels.astype(np.float32))[None, None], window()
    losses = []
    started = time.perf_counter()
    for _ in range(iterations):
        output = network(image)
        pixel = F.mse_loss(output, image) / image[0].numel()
        loss = pixel + dissimilarity(output, image, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return time.perf_counter() - started, losses


def our_loop(levels: np.ndarray, iterations: int, precision: str) -> tuple[float, list[float]]:
    """Train with the engine."""
    config, options = Config(iterations=iterations), {"precision": precision}
    started = time.perf_counter()
    history = train("res2netfuse", [levels], config, options=options, progress=False).history
    return time.perf_counter() - started, history["total"].tolist()


def distances(losses: list[float], reference: list[float]) -> tuple[float, float]:
    """Return the largest and the mean distance of two curves, as said above, in percent."""
    curves = [
        np.log(pd.Series(some).rolling(SPAN).median().to_numpy()[2 * SPAN - 1 :])
        for some in (losses, reference)
    ]
    far = 100 * np.expm1(np.abs(curves[0] - curves[1]))
    return float(far.max()), float(far.mean())


def table(iterations: int = ONE_IMAGE.iterations) -> pd.DataFrame:
    """Measure all loops, print and return how they compare."""
    levels = picture()
    loops = {
        "plain loop": (plain_loop, torch.contiguous_format),
        "plain loop, other rounding": (plain_loop, torch.channels_last),
        "ours, single precision": (our_loop, "single"),
    }
    if has_bfloat16("cpu"):
        loops["ours, mixed precision"] = (our_loop, "mixed")
    else:
        print("without mixed precision: this processor has no bfloat16 arithmetic")
    rows: list[dict[str, Any]] = []
    plain: list[float] = []
    for label, (loop, setting) in loops.items():
        seconds, losses = alone(loop, levels, iterations, setting)
        plain = plain or losses
        largest, mean = distances(losses, plain) if iterations > 2 * SPAN else (np.nan, np.nan)
        early = max(abs(a / b - 1) for a, b in zip(losses[:10], plain, strict=False))
        rows.append(
            {
                "loop": label,
                "seconds": seconds,
                "ratio": (rows[0]["seconds"] if rows else seconds) / seconds,
                "first 10 %": 100 * early,
                "largest %": largest,
                "mean %": mean,
                "last loss": float(np.median(losses[-SPAN:])),
            }
        )
        show(rows)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit("use: python -m benchmarks --only training")
