"""MSDNet: DenseFuse's encoder followed by three parallel scales, for medical images.

After a 3x3 convolution and DenseFuse's dense block, three convolutions of 1x1, 3x3 and 5x5 run in
parallel; their 64 channels each are concatenated to 192, and the fusion rule is applied to each
scale by itself. Reflect padding, ReLU after every convolution but the last; 291,473 parameters.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..rules import Rule
from ..weights import weight_files
from .densefuse import DenseBlock
from .network import AutoEncoder, Names, conv, rename_tensorflow

__all__ = ["METHOD", "MSDNet"]


class MSDNet(AutoEncoder):
    """The MSDNet network. The rules ``l1_norm`` and ``mean`` are published."""

    groups = 3
    radius = 10  # encoder: four 3x3 convolutions and a 5x5; decoder: four 3x3
    min_side = 3

    def __init__(self, rule: str | Rule = "l1_norm") -> None:
        super().__init__(rule)
        self.first = conv(1, 16, 3)
        self.dense = DenseBlock(newest_first=True)
        self.scales = nn.ModuleList(conv(64, 64, kernel) for kernel in (1, 3, 5))
        self.decoder = nn.ModuleList([conv(192, 64, 3), conv(64, 32, 3), conv(32, 16, 3)])
        self.last = conv(16, 1, 3)

    def encode(self, image: Tensor) -> Tensor:
        """Turn gray levels (B, 1, H, W) in 0..255 into 3 x 64 non-negative feature maps."""
        features = self.dense(torch.relu(self.first(image)))
        return torch.cat([torch.relu(scale(features)) for scale in self.scales], dim=1)

    def decode(self, features: Tensor) -> Tensor:
        """Turn 192 feature maps into gray levels (B, 1, H, W), not clipped."""
        for layer in self.decoder:
            features = torch.relu(layer(features))
        return self.last(features)


NAMES: Names = {
    "^encoder/conv1/": "first.",
    r"^encoder/dense_block_conv(\d)/": lambda found: f"dense.layers.{int(found[1]) - 2}.",
    r"^encoder/conv5_(\d)/": lambda found: f"scales.{int(found[1]) - 1}.",
    "^decoder/conv9/": "last.",
    r"^decoder/conv(\d)/": lambda found: f"decoder.{int(found[1]) - 6}.",
}

METHOD = MethodSpec(
    name="msdnet",
    title="MSDNet",
    paper="Song, Wu and Li, MSDNet for Medical Image Fusion, ICIG 2019",
    doi="10.1007/978-3-030-34110-7_24",
    year=2019,
    kind="auto-encoder",
    configurations={
        "released": Configuration(
            summary="TensorFlow release, SSIM weight 1000; rule applied per scale",
            build=MSDNet,
            weights=weight_files("msdnet"),
            rules=("l1_norm", "mean", "addition", "average", "maximum", "mean_eq7"),
            post="clip",
            quantise="round",
            adapt=partial(rename_tensorflow, NAMES),
        ),
    },
)
