"""DIDFuse: an auto-encoder that takes images apart into background and detail.

Two convolutions, then one for the background and one for the detail features, each of 64 channels;
training makes the background features of a pair alike and the detail features different. The
decoder joins background and detail, and two more convolutions take in what the encoder's second and
first gave. The rule fuses each of the four groups of features by itself. Every convolution is 3x3
and followed by batch normalisation; the first and the last pad by reflection, the others with
zeros. A sigmoid at the end; 260,935 parameters.

The authors' script adds the features up. They also offer their mean, and weights by the l1 norm
that are averaged over 3x3 pixels first, which ``l1_norm`` here does not do.
"""

from __future__ import annotations

import re
from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..rules import Rule
from ..weights import weight_files
from .network import AutoEncoder, conv, rename, zero_conv

__all__ = ["METHOD", "DIDFuse"]

WIDTH = 64  # channels of each group of features


def _layer(convolution: nn.Conv2d, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), activation)


class DIDFuse(AutoEncoder):
    """The DIDFuse network. The rules ``addition`` and ``average`` are published."""

    groups = 4
    radius = 6  # three convolutions in the encoder, three in the decoder
    min_side = 2

    def __init__(self, rule: str | Rule = "addition") -> None:
        super().__init__(rule)
        self.first = _layer(conv(1, WIDTH, 3), nn.PReLU())
        self.second = _layer(zero_conv(WIDTH, WIDTH, 3), nn.PReLU())
        self.background = _layer(zero_conv(WIDTH, WIDTH, 3), nn.Tanh())
        self.detail = _layer(zero_conv(WIDTH, WIDTH, 3), nn.Tanh())
        self.decoder = nn.ModuleList(
            _layer(zero_conv(2 * WIDTH, WIDTH, 3), nn.PReLU()) for _ in range(2)
        )
        self.last = _layer(conv(2 * WIDTH, 1, 3), nn.Sigmoid())

    def encode(self, image: Tensor) -> Tensor:
        """Turn gray levels (B, 1, H, W) in 0..1 into 4 x 64 feature maps of either sign."""
        first = self.first(image)
        second = self.second(first)
        return torch.cat([first, second, self.background(second), self.detail(second)], dim=1)

    def decode(self, features: Tensor) -> Tensor:
        """Turn 4 x 64 feature maps into gray levels (B, 1, H, W) in 0..1."""
        first, second, background, detail = features.chunk(self.groups, dim=1)
        join, refine = self.decoder
        x = join(torch.cat([background, detail], dim=1))
        x = refine(torch.cat([x, second], dim=1))
        return self.last(torch.cat([x, first], dim=1))


def _part(found: re.Match[str]) -> str:
    """Name a part of a layer; where it pads by reflection, the padding is counted as the first."""
    layers = ("first", "second", "background", "detail", "decoder.0", "decoder.1", "last")
    return f"{layers[int(found[1]) - 1]}.{int(found[2]) - (found[1] in '17')}."


METHOD = MethodSpec(
    name="didfuse",
    title="DIDFuse",
    paper="Zhao, Xu, Zhang, Liu, Zhang and Li, DIDFuse: Deep Image Decomposition for Infrared and "
    "Visible Image Fusion, IJCAI 2020",
    doi="10.24963/ijcai.2020/135",
    year=2020,
    kind="auto-encoder",
    licence="MIT, in VIF-Benchmark",
    configurations={
        "released": Configuration(
            summary="PyTorch release, features added up",
            build=DIDFuse,
            weights=weight_files("didfuse"),
            # Without mean_eq7: features of either sign have no shares of their mean.
            rules=("addition", "average", "maximum", "l1_norm", "mean"),
            post="clip",
            quantise="round",
            levels=Levels(0, 1),
            adapt=partial(rename, {r"^cov(\d)\.cov\1\.(\d)\.": _part}),
        ),
    },
)
