"""U2Fusion: one dense network for infrared, medical, multi-exposure and multi-focus pairs.

H. Xu, J. Ma, J. Jiang, X. Guo, H. Ling, "U2Fusion: A Unified Unsupervised Image Fusion
Network", IEEE Trans. Pattern Anal. Mach. Intell. 44(1), 2022, doi 10.1109/TPAMI.2020.3012548.

The two images are the channels of one input. A convolution and five densely connected ones
of 44 channels each encode it, new features before old ones; four convolutions of 128, 64,
32 and 1 channels decode. 659,217 parameters; every convolution is 3x3 with reflect padding,
LeakyReLU of slope 0.2, and tanh(x)/2 + 1/2 at the end; gray levels 0..1 in and out.

The order of the images matters. The authors' script gives the visible image first and
makes the brightest pixel white; the public benchmark of Tang et al., whose output the
published U2Fusion row of RefineFuse is, gives the infrared image first and stretches the
result to 0..255.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .autoencoder import conv, tensorflow_tensors
from .network import FusionNetwork, check_first

__all__ = ["METHOD", "U2Fusion"]

WIDTH = 44  # channels of every convolution of the encoder


class U2Fusion(FusionNetwork):
    """The U2Fusion network.

    Parameters
    ----------
    first : {"ir", "vis"}
        Which image is the first channel of the input.

    Raises
    ------
    UnknownName
        If `first` is neither.
    """

    # Six convolutions in the encoder, four in the decoder.
    radius = 10
    # Reflect padding by one pixel needs two.
    min_side = 2

    def __init__(self, first: Literal["ir", "vis"] = "ir") -> None:
        super().__init__()
        check_first("U2Fusion", first)
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


def _adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = {
        "Generator/encoder/conv1_1": "encoder.0",
        "Generator_1/decoder/conv2_4": "last",
    }
    layers |= {f"Generator/encoder/dense_block_conv{i}": f"encoder.{i}" for i in range(1, 6)}
    layers |= {f"Generator_1/decoder/conv2_{i + 1}": f"decoder.{i}" for i in range(3)}
    return tensorflow_tensors(tensors, layers)


METHOD = MethodSpec(
    name="u2fusion",
    title="U2Fusion",
    paper="Xu, Ma, Jiang, Guo and Ling, U2Fusion: A Unified Unsupervised Image Fusion Network, "
    "IEEE TPAMI 44(1), 2022",
    doi="10.1109/TPAMI.2020.3012548",
    year=2022,
    kind="convolutional",
    licence="none stated",
    axis="pipeline",
    configurations={
        "tang": Configuration(
            summary="infrared image first, stretched: the rows of the published tables",
            build=U2Fusion,
            weights=weight_files("u2fusion"),
            post="minmax",
            quantise="round",
            levels=Levels(0, 1),
            adapt=_adapt,
        ),
        "released": Configuration(
            summary="TensorFlow release: visible image first, the brightest pixel made white",
            build=lambda: U2Fusion(first="vis"),
            weights=weight_files("u2fusion"),
            post="white",
            quantise="round",
            levels=Levels(0, 1),
            adapt=_adapt,
        ),
    },
)
