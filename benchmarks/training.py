"""Training Res2NetFuse_1: iterations per second, and whether the loss goes the same way.

Usage: python -m benchmarks.training [--iterations 2000] [--image FILE] [--save FOLDER]

The plain loop is the published recipe as one writes it down: the module, the loss with
two-dimensional windows, Adam, one image of 256x256. Ours are
`reproduction.training.train` in single precision, and in mixed: with gradients of
convolutions in bfloat16, where the processor has it. Every loop runs in a process of its own, with
the same initial weights.
After a few dozen iterations rounding alone leads loops to other weights; how far is shown by the
plain loop in channels-last memory. So curves are compared by medians over 100 iterations: the
largest and the mean distance of their logarithms after the first 100.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.sample import enlarged
from benchmarks.saving import save, what_decides
from benchmarks.timing import alone
from fusionlib.files import check_writable, write_text
from fusionlib.losses import MS_SSIM_WEIGHTS, SIGMA, WINDOW
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.tiles import has_bfloat16
from reproduction.training import Config, find_recipe, train
from reproduction.training.samples import resized, samples

#: The published schedule for one image.
(ONE_IMAGE,) = find_recipe("res2netfuse").stages
#: Curves are compared by medians over so many iterations.
SPAN = 100


def picture(file: Path | None) -> np.ndarray:
    """Return the gray levels (256, 256) to learn from: of a file, or of a scene of the sample."""
    scene = enlarged("day_street", (ONE_IMAGE.size, ONE_IMAGE.size)).vis
    (levels,) = samples([scene if file is None else file], "images")[0].read()
    return resized(levels, ONE_IMAGE.size)


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


def table(levels: np.ndarray, iterations: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure all loops; return the comparison, and the losses of each."""
    loops = {
        "plain loop": (plain_loop, torch.contiguous_format),
        "plain loop, other rounding": (plain_loop, torch.channels_last),
        "ours, single precision": (our_loop, "single"),
    }
    if has_bfloat16("cpu"):
        loops["ours, mixed precision"] = (our_loop, "mixed")
    else:
        print("without mixed precision: this processor has no bfloat16 arithmetic")
    rows, curves = [], {}
    for label, (loop, setting) in loops.items():
        seconds, losses = alone(loop, levels, iterations, setting)
        curves[label] = losses
        plain = curves["plain loop"]
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
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows), pd.DataFrame(curves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=ONE_IMAGE.iterations)
    parser.add_argument("--image", type=Path, help="default: a scene of the sample")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="table and curves as CSV")
    options = parser.parse_args()
    if options.save:
        check_writable(options.save / "training.csv")
    facts = what_decides(torch.get_num_threads())
    rows, curves = table(picture(options.image), options.iterations)
    if options.save:
        save(options.save, "training", rows, facts)
        losses = curves.to_csv(index=False, float_format="%.6g")
        write_text(options.save / "training_losses.csv", losses)


if __name__ == "__main__":
    main()
