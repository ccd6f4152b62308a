"""MUFusion: an encoder-decoder on both images at once, trained with a memory of its own results.

3x3 convolutions with reflect padding, half the size in the middle, skip connections; 554,721
parameters. The network sees patches of 128x128: an image is cut into patches that overlap by four
pixels or more, and the results are averaged. The authors computed in float64; float32 differs by
5e-7 of the range. The memory serves training only.

The released script saves with SciPy, which stretches every image to 0..255. The published row of
Res2NetFuse comes from saving as imageio once did: only an image that leaves 0..1 is stretched.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..card import Configuration, MethodSpec
from ..errors import ImageTooSmall
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, Names, rename

__all__ = ["METHOD", "MUFusion"]

PATCH, STRIDE = 128, 124
ROWS = 26  # of an interpolation that are computed together


class _ToOneChannel(nn.Conv2d):
    """3x3, a product for each tap and sums: usual kernels have a twentieth of their speed here."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H + 2, W + 2) to (B, 1, H, W)."""
        assert self.bias is not None
        height, width = x.shape[-2] - 2, x.shape[-1] - 2
        taps = F.conv2d(x, self.weight[0].flatten(1).T[..., None, None]).split(1, dim=1)
        total = self.bias.view(1, 1, 1, 1)
        for tap, (row, column) in zip(taps, product(range(3), range(3)), strict=True):
            total = total + tap[..., row : row + height, column : column + width]
        return total


class MUFusion(FusionNetwork):
    """The MUFusion network, on gray images in 0..1."""

    min_side = PATCH
    size = f"overlapping patches of {PATCH}x{PATCH}, averaged"
    channels_last = True
    together = 4  # patches; more are not faster on a CPU

    def __init__(self) -> None:
        super().__init__()
        # They get padded features: what several layers look at is padded once.
        channels = ((2, 32), (32, 32), (64, 64), (64, 64), (128, 64), (192, 64))
        self.encoder = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2 if i == 2 else 1) for i, (a, b) in enumerate(channels)
        )
        # From the deepest to the image.
        layers = [nn.Conv2d(a, 64, 3) for a in (64, 128, 128, 128)]
        self.decoder = nn.ModuleList([*layers, nn.Conv2d(96, 32, 3), _ToOneChannel(64, 1, 3)])

    def fuse_patches(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse patches (B, 1, H, W) in 0..1 of even sides, as in training, without cutting."""
        first, second, third, fourth, fifth, sixth = self.encoder
        e1 = _pad(torch.relu_(first(_pad(torch.cat([ir, vis], dim=1)))))
        e2 = _pad(torch.relu_(second(e1)))
        e3 = _pad(torch.relu_(third(torch.cat([e1, e2], dim=1))))
        e4 = _pad(torch.relu_(fourth(e3)))
        e5 = _pad(torch.relu_(fifth(torch.cat([e3, e4], dim=1))))
        e6 = _pad(torch.relu_(sixth(torch.cat([e3, e4, e5], dim=1))))

        deepest, *middle, shallow, last = self.decoder
        x = torch.relu_(deepest(e6))
        for layer, skip in zip(middle, (e5, e4, e3), strict=True):
            x = torch.relu_(layer(torch.cat([skip, _pad(x)], dim=1)))
        x = torch.relu_(shallow(torch.cat([e2, _doubled_and_padded(x)], dim=1)))
        return torch.tanh(last(torch.cat([e1, _pad(x)], dim=1)))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in 0..1, of at least 128 a side, and another into one in -1..1."""
        height, width = ir.shape[-2:]
        total, weight = torch.zeros_like(ir), ir.new_zeros(height, width)
        places = [
            ((..., slice(y, y + PATCH), slice(x, x + PATCH)), rows * columns)
            for (y, rows), (x, columns) in product(_places(height).items(), _places(width).items())
        ]
        for start in range(0, len(places), self.together):
            some = places[start : start + self.together]
            patches = (torch.cat([image[place] for place, _ in some]) for image in (ir, vis))
            fused = self.fuse_patches(*patches).chunk(len(some))
            for (place, times), patch in zip(some, fused, strict=True):
                total[place] += times * patch
                weight[place] += times
        return total / weight


def _pad(x: Tensor) -> Tensor:
    """Mirror a pixel on each side."""
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def _doubled_and_padded(x: Tensor) -> Tensor:
    """Double the size by bicubic interpolation, a product along each axis, and mirror a pixel."""
    batch, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1)
    x = _banded(_doubling(height), x.reshape(batch, height, width * channels))
    x = _banded(_doubling(width), x.view(-1, width, channels))
    return x.view(batch, 2 * height + 2, 2 * width + 2, channels).permute(0, 3, 1, 2)


def _doubling(side: int) -> Tensor:
    """Matrix (2 side + 2, side) of bicubic interpolation along one axis, and of mirroring."""
    units = torch.eye(side)[:, None, None]
    double = F.interpolate(units, scale_factor=2, mode="bicubic", align_corners=False)
    return F.pad(double[:, 0], (1, 1), mode="reflect")[:, 0].T


def _banded(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply by a matrix that is zero off the diagonal, a few rows and what they need at once."""
    output = x.new_empty(*x.shape[:-2], len(matrix), x.shape[-1])
    for start in range(0, len(matrix), ROWS):
        rows = matrix[start : start + ROWS]
        needed = rows.any(dim=0).nonzero()
        part = slice(int(needed[0]), int(needed[-1]) + 1)
        output[..., start : start + ROWS, :] = rows[:, part].to(x) @ x[..., part, :]
    return output


def _places(size: int) -> Counter[int]:
    """Where patches begin along an axis, and how many times each counts.

    The last that fits is added even where the grid ends there, and counts twice then.
    """
    if size < PATCH:
        raise ImageTooSmall(f"MUFusion needs images of at least {PATCH} pixels a side, not {size}")
    last = size - PATCH
    return Counter([*range(0, last + 1, STRIDE), last])


NAMES: Names = {
    r"^conv(\d)\.1\.": lambda found: f"encoder.{int(found[1]) - 1}.",
    r"^conv(\d)\1\.1\.": lambda found: f"decoder.{6 - int(found[1])}.",
}

RELEASED = Configuration(
    summary="PyTorch release, saved as SciPy did, always stretched",
    build=MUFusion,
    weights=weight_files("mufusion_tno", "mufusion_roadscene", "mufusion_medical"),
    post="minmax",
    quantise="round",
    levels=Levels(0, 1),
    adapt=partial(rename, NAMES),
)

METHOD = MethodSpec(
    name="mufusion",
    title="MUFusion",
    paper="Cheng, Xu and Wu, MUFusion: A general unsupervised image fusion network based on "
    "memory unit, Information Fusion 92, 2023",
    doi="10.1016/j.inffus.2022.11.010",
    year=2023,
    kind="convolutional",
    licence="MIT",
    configurations={
        "imageio": replace(
            RELEASED,
            summary="saved as imageio once did, stretched only where needed: the published table",
            post="imageio",
        ),
        "released": RELEASED,
    },
)
