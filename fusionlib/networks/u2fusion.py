"""U2Fusion: one dense network for infrared, medical, multi-exposure and multi-focus pairs.

The two images are the channels of one input. A convolution and five densely connected ones of 44
channels each encode it, new features before old ones; four convolutions of 128, 64, 32 and 1
channels decode. 659,217 parameters; every convolution is 3x3 with reflect padding, LeakyReLU of
slope 0.2, and tanh(x)/2 + 1/2 at the end.

The order of the images matters. The authors' script gives the visible image first and makes the
brightest pixel white; the public benchmark of Tang et al., whose output the published U2Fusion row
of RefineFuse is, gives the infrared image first and stretches the result.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, Names, check_choice, conv, rename_tensorflow

__all__ = ["METHOD", "U2Fusion"]

WIDTH = 44  # channels of every convolution of the encoder


class U2Fusion(FusionNetwork):
    """The U2Fusion network.

    Parameters
    ----------
    first : {"ir", "vis"}
        Which image is the first channel of the input.
    """

    radius = 10  # six convolutions in the encoder, four in the decoder
    min_side = 2

    def __init__(self, first: str = "ir") -> None:
        super().__init__()
        check_choice("first image of U2Fusion", first, ("ir", "vis"))
        self.first = first
        self.encoder = nn.ModuleList(
            [conv(2, WIDTH, 3), *(conv(WIDTH * i, WIDTH, 3) for i in range(1, 6))]
        )
        self.decoder = nn.ModuleList([conv(6 * WIDTH, 128, 3), conv(128, 64, 3), conv(64, 32, 3)])
        self.last = conv(32, 1, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W) in 0..1."""
        first, *dense = self.encoder
        features = torch.cat([ir, vis] if self.first == "ir" else [vis, ir], dim=1)
        features = leaky_relu(first(features), 0.2)
        for layer in dense:
            features = torch.cat([leaky_relu(layer(features), 0.2), features], dim=1)
        for layer in self.decoder:
            features = leaky_relu(layer(features), 0.2)
        return torch.tanh(self.last(features)) / 2 + 0.5


NAMES: Names = {
    "^Generator/encoder/conv1_1/": "encoder.0.",
    r"^Generator/encoder/dense_block_conv(\d)/": r"encoder.\1.",
    "^Generator_1/decoder/conv2_4/": "last.",
    r"^Generator_1/decoder/conv2_(\d)/": lambda found: f"decoder.{int(found[1]) - 1}.",
}

TANG = Configuration(
    summary="infrared image first, stretched: the rows of the published tables",
    build=U2Fusion,
    weights=weight_files("u2fusion"),
    post="minmax",
    quantise="round",
    levels=Levels(0, 1),
    adapt=partial(rename_tensorflow, NAMES),
)

METHOD = MethodSpec(
    name="u2fusion",
    title="U2Fusion",
    paper="Xu, Ma, Jiang, Guo and Ling, U2Fusion: A Unified Unsupervised Image Fusion Network, "
    "IEEE TPAMI 44(1), 2022",
    doi="10.1109/TPAMI.2020.3012548",
    year=2022,
    kind="convolutional",
    configurations={
        "tang": TANG,
        "released": replace(
            TANG,
            summary="TensorFlow release: visible image first, the brightest pixel made white",
            build=partial(U2Fusion, "vis"),
            post="white",
        ),
    },
)
