"""FusionGAN: five convolutions on both images at once, trained against a discriminator.

Two 5x5, two 3x3 and a 1x1 convolution, none padded: the images are padded by six pixels before
(border repeated), so that the result has their size. 924,673 parameters.

The released test script leaves batch normalisation in training mode and does not load its learnt
scale and offset. So each feature is normalised by its own mean and variance over the image, the
bias of the convolution before is without effect, and every pixel of the result depends on the whole
image.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, Names, rename_tensorflow

__all__ = ["METHOD", "FusionGAN"]

SLOPE = 0.2
NORM_EPS = 1e-5
BORDER = 6  # what four convolutions without padding take off each side


class FusionGAN(FusionNetwork):
    """The generator of FusionGAN, on gray images in -1..1."""

    min_side = 2  # for statistics of the whole image, which bound no radius

    def __init__(self) -> None:
        super().__init__()
        sizes = ((2, 256, 5), (256, 128, 5), (128, 64, 3), (64, 32, 3))
        self.layers = nn.ModuleList(nn.Conv2d(*size) for size in sizes)
        self.last = nn.Conv2d(32, 1, 1)

    def fuse_padded(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H + 12, W + 12) in -1..1 and another into (B, 1, H, W) in -1..1."""
        x = torch.cat([ir, vis], dim=1)
        for layer in self.layers:
            x = F.leaky_relu_(F.instance_norm(layer(x), eps=NORM_EPS), SLOPE)
        return torch.tanh(self.last(x))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in -1..1 and another into one in -1..1."""
        border = (BORDER,) * 4
        return self.fuse_padded(*(F.pad(image, border, mode="replicate") for image in (ir, vis)))


NAMES: Names = {
    # A checkpoint also holds normalisation and the discriminator.
    r"^(discriminator|fusion_model/layer\d)/(?![wb]\d$).*": "",
    r"^(fusion_model/layer\d)/w\d$": r"\1/kernel",
    r"^(fusion_model/layer\d)/b\d$": r"\1/bias",
    "^fusion_model/layer5/": "last.",
    r"^fusion_model/layer(\d)/": lambda found: f"layers.{int(found[1]) - 1}.",
}

METHOD = MethodSpec(
    name="fusiongan",
    title="FusionGAN",
    paper="Ma, Yu, Liang, Li and Jiang, FusionGAN: A generative adversarial network for infrared "
    "and visible image fusion, Information Fusion 48, 2019",
    doi="10.1016/j.inffus.2018.09.004",
    year=2019,
    kind="generative adversarial",
    configurations={
        "released": Configuration(
            summary="TensorFlow release, normalised by the image's own statistics, stretched",
            build=FusionGAN,
            weights=weight_files("fusiongan", "fusiongan_retrained"),
            post="minmax",
            quantise="round",
            levels=Levels(-1, 1),
            adapt=partial(rename_tensorflow, NAMES),
        ),
    },
)
