"""RefineFuse's channel widths and grid: which of them have the size and the cost of Table 11.

Usage: python -m benchmarks.refinefuse_widths [--step 16]

The paper prints 2.21 M parameters and 12.73 G and 48.11 G multiply-accumulates for 256x256 and
512x512 pixels, and no widths. Four times the first cost exceeds the second by 2.81 G, three times
a part of 0.94 G that does not grow with the image: PSIM's projections, on a fixed grid. All
widths of multiples of the step, not falling from scale to scale, are tried with

- several grids of the third and the fourth scale;
- a last decoder whose channels are kept, halved, or halved and quartered;
- decoders whose 1x1 convolution changes the number of channels, or whose 3x3 does.

Prints those within 3 % of all three figures, nearest first, and what
`reproduction.cost.count_macs` counts of the library's network, as Table 11 does.
"""

from __future__ import annotations

import argparse
from functools import cache
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.networks.refinefuse import GRIDS, WIDTHS, RefineFuse
from reproduction.cost import count_macs

LARGEST = 256
WITHIN = 0.03
GRID_CHOICES = ((16, 8), (16, 16), (20, 20), (24, 24), (28, 28), (32, 16), (32, 32), (64, 32))
#: Parts of the first width that the second and the third convolution of the last decoder give.
LAST = {"kept": (1, 1), "halved": (2, 2), "halved at the end": (1, 2), "quartered": (2, 4)}
CHANGES = ("1x1", "3x3")


class Reading(NamedTuple):
    """What the paper leaves open; ``change`` is the convolution that changes the width."""

    widths: tuple[int, ...]
    grids: tuple[int, int]
    last: str
    change: str


#: Parameters, and multiply-accumulates at 256x256 and 512x512.
Size = tuple[float, float, float]


@cache
def printed() -> Size:
    """Return the row of Table 11."""
    table = pd.read_csv(package_data("paper_tables/refinefuse_table_11_efficiency.csv"))
    row = table.set_index("method").loc["RefineFuse"]
    p, m256, m512 = (float(row[name]) for name in ("params_m", "flops_g_256", "flops_g_512"))
    return 1e6 * p, 1e9 * m256, 1e9 * m512


def size(reading: Reading) -> Size:
    """Count what the layers of a reading have, from its numbers alone."""
    parameters = per_pixel = fixed = 0.0

    def convolution(
        channels_in: int, channels_out: int, area: float, *, kernel: int = 3, groups: int = 1
    ) -> None:
        nonlocal parameters, per_pixel
        products = channels_in // groups * channels_out * kernel**2
        parameters += products + channels_out
        per_pixel += products * area

    c1, c2, c3, c4 = reading.widths
    for _ in ("infrared", "visible"):
        for level, (before, after) in enumerate(((1, c1), (c1, c2), (c2, c3), (c3, c4))):
            convolution(before, after, 4.0**-level)
    for level, width in enumerate((c1, c2)):  # SFIM
        convolution(2, 2, 4.0**-level)
        convolution(2 * width, width, 4.0**-level, groups=width)
    for level, (width, grid) in enumerate(zip((c3, c4), reading.grids, strict=True), 2):  # PSIM
        projections = 6 * 9 * width**2  # two keys, two values, a query of both
        parameters += projections + 5 * width
        fixed += projections * grid**2
        convolution(2 * width, width, 4.0**-level)
    for before, after, level in ((c4, c3, 3), (2 * c3, c2, 2), (c2, c1, 1)):  # decoders
        between = after if reading.change == "1x1" else before
        convolution(before, between, 4.0**-level, kernel=1)
        convolution(between, after, 4.0**-level)
    a, b = (c1 // part for part in LAST[reading.last])
    for before, after in ((2 * c1, c1), (c1, a), (a, b), (b, 1)):
        convolution(before, after, 1)
    return parameters, fixed + per_pixel * 256**2, fixed + per_pixel * 512**2


def readings(step: int) -> list[tuple[float, Reading]]:
    """Return the readings that come near the print, with how far, nearest first."""
    widths = combinations_with_replacement(range(step, LARGEST + 1, step), 4)
    every = [*map(Reading._make, product(widths, GRID_CHOICES, LAST, CHANGES))]
    far = np.abs(np.array([*map(size, every)]) / printed() - 1).max(axis=1)
    return sorted((float(f), one) for f, one in zip(far, every, strict=True) if f <= WITHIN)


#: What the library's network is.
CHOSEN = Reading(WIDTHS[:4], (GRIDS[2], GRIDS[3]), "quartered", "3x3")


def counted() -> Size:
    """Count the library's network itself."""
    network = RefineFuse()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    small, large = (count_macs(network, side, side, convention="thop") for side in (256, 512))
    return parameters, small, large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=16)
    for far, reading in readings(parser.parse_args().step):
        p, m256, m512 = size(reading)
        mark = " <- chosen" if reading == CHOSEN else ""
        print(
            f"{far:6.2%}  {p / 1e6:.3f} M  {m256 / 1e9:.2f} G  {m512 / 1e9:.2f} G  widths "
            f"{reading.widths}, grids {reading.grids}, last decoder {reading.last}, width changed "
            f"by the {reading.change}{mark}"
        )
    print("\nprinted", printed())
    print("counted", counted())


if __name__ == "__main__":
    main()
