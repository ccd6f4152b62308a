"""EMMA's training: networks that sense an image in a fused one, then fusion that suits them.

As the authors' ``train_AiAv.py`` and ``train_Fusion.py``: two U-Nets learn to tell the infrared
and the visible image from a fused one; then U-Fuser is to give images from which both can be
told, and that move when they move.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionlib.errors import FusionError
from fusionlib.losses import sobel_gradients
from fusionlib.networks.emma import EMMA

from .recipe import LARGE, Descend, Images, Losses, Moment, Option, Recipe, Stage, halved, whole

# 1083 pairs of MSRS, six 128x128 patches of each at most.
PATCHES = 6 * 1083
EQUIVARIANCE = 0.1
SHIFTS = 3
#: Degrees, counterclockwise.
ROTATIONS = (10, 130, 250)


class SensingNetwork(nn.Module):
    """U-Net of five levels: what one camera would have seen, from a fused image.

    The finest level has `width` channels, each coarser one twice as many.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [width << level for level in range(5)]
        self.down = nn.ModuleList(
            _convolutions(a, b) for a, b in zip((1, *channels[:-1]), channels, strict=True)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1, bias=False) for c in channels[:-1]
        )
        self.up = nn.ModuleList(_convolutions(2 * c, c) for c in channels[:-1])
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, H, W), sides multiples of 16, to (B, 1, H, W) in 0..1."""
        levels: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        for level in (3, 2, 1, 0):
            x = torch.relu(self.enlarge[level](x))
            x = self.up[level](torch.cat([x, levels[level]], dim=1))
        return torch.sigmoid(self.last(x))


def _convolutions(channels_in: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (channels_in, channels):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


class EMMARecipe(Recipe):
    """Both images are to be sensed in the fused one, and fusion is to be equivariant."""

    method = "emma"
    learns_from = "pairs"
    sampling = "crop"
    # Normalisation needs more than a pixel of a single image, four halvings down.
    sizes = range(32, LARGE, 16)
    published = "128x128 patches of 1083 pairs of MSRS"
    options: ClassVar = {
        "width": Option("channels of the sensing networks' finest level, published: 64", whole)
    }

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise FusionError(f"sensing networks need at least 1 channel, not {width}.")
        self.network = EMMA()
        self.infrared = SensingNetwork(width)
        self.visible = SensingNetwork(width)
        self.departures = (
            "Patches from random places instead of a grid, and none left out for low contrast.",
            "The sensing networks learn from the mean and the maximum of the two images instead "
            "of the results of DIDFuse and AUIF.",
        )
        if width != 64:
            self.departures += (f"Sensing networks of {width} channels and more, not of 64.",)

    def sense(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Tell both images from what stands for a fused one."""
        ir, vis = (image / 255 for image in images)
        chosen = torch.from_numpy(moment.random.integers(0, 2, (len(ir), 1, 1, 1))).to(ir)
        fused = torch.lerp((ir + vis) / 2, torch.maximum(ir, vis), chosen)
        infrared = F.mse_loss(self.infrared(fused), ir)
        visible = F.mse_loss(self.visible(fused), vis)
        total = infrared + visible
        descend(total)
        return {"total": total, "infrared": infrared, "visible": visible}

    def fuse(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Fuse the pair, and once more what is sensed in the moved result."""
        ir, vis = (image / 255 for image in images)
        self.infrared.eval()
        self.visible.eval()
        fused = self.network.core(ir, vis)
        still_and_moved = moved(fused, moment.random)
        again = self.network.core(self.infrared(still_and_moved), self.visible(still_and_moved))
        losses = {
            "infrared": _distance(self.infrared(fused), ir),
            "visible": _distance(self.visible(fused), vis),
            "equivariance": _distance(still_and_moved, again),
        }
        total = losses["infrared"] + losses["visible"] + EQUIVARIANCE * losses["equivariance"]
        descend(total)
        return {"total": total, **losses}

    # Two fused images of each patch, 40 times in batches of 64; each patch 120 times in fours.
    stages = (
        Stage(
            *("sensing", sense, 40 * (2 * PATCHES // 64), 64, 128),
            {"infrared": 1e-4, "visible": 1e-4},
            halved(4),
        ),
        Stage("fusion", fuse, 120 * (PATCHES // 4), 4, 128, {"network": 1e-4}, halved(6)),
    )


def _distance(x: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(x, target) + F.l1_loss(sobel_gradients(x), sobel_gradients(target))


def moved(x: Tensor, random: np.random.Generator) -> Tensor:
    """Put images (B, 1, N, N) and nine moved copies of them in one batch (10 B, 1, N, N).

    Unchanged; shifted three times by random distances, wrapping around; turned by 10, 130 and 250
    degrees, continued by zeros; mirrored left to right, top to bottom, and both.
    """
    side = x.shape[-1]
    distances = [d for d in range(1 - side, side) if d]
    rows, columns = (random.choice(distances, SHIFTS, replace=False) for _ in range(2))
    shifted = [x.roll((int(r), int(c)), (-2, -1)) for r, c in zip(rows, columns, strict=True)]
    turned = [_turned(x, angle) for angle in ROTATIONS]
    mirrored = [x.flip(-1), x.flip(-2), x.flip(-2, -1)]
    return torch.cat([x, *shifted, *turned, *mirrored])


def _turned(x: Tensor, degrees: float) -> Tensor:
    """Turn square images counterclockwise about their centres."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # From where each pixel of the result comes; y points down.
    theta = x.new_tensor([[c, -s, 0], [s, c, 0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


RECIPE = EMMARecipe
