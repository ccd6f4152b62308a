"""Res2NetFuse: an auto-encoder with a Res2Net block, trained on one natural image.

=====================  ===========================  ================================
\\                      variant ``paper``            variant ``released``
=====================  ===========================  ================================
convolutions F_i       six, own weights (Table I)   one 16->16 convolution, six times
encoder output         r, the Res2Net block         c + r, a residual around the block
parameters             101,217                      89,617
=====================  ===========================  ================================

``released`` is the reading of the authors' code, which produced the published tables. Zero padding.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..rules import Rule
from ..weights import weight_files
from .network import AutoEncoder, check_choice, conv_layers, zero_conv

__all__ = ["METHOD", "Res2NetBlock", "Res2NetFuse"]


class Res2NetBlock(nn.Module):
    """Res2Net block of equation 1: four groups of 16 channels, each seeing the one before.

    The first passes through, every other has a function F_i of two 3x3 convolutions with ReLU:
    the same convolution everywhere if it is `shared`.
    """

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self.reduce = zero_conv(64, 64, 1)
        self.branches = nn.ModuleList(zero_conv(16, 16, 3) for _ in range(1 if shared else 6))
        self.expand = zero_conv(64, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to the same shape."""
        first, *others = torch.relu_(self.reduce(x)).chunk(4, dim=1)
        outputs = [first]
        for i, group in enumerate(others):
            y = group if i == 0 else group + outputs[-1]
            for j in range(2):
                branch = self.branches[0 if self.shared else 2 * i + j]
                y = torch.relu_(branch(y))
            outputs.append(y)
        return torch.relu_(self.expand(torch.cat(outputs, dim=1)))


class Res2NetFuse(AutoEncoder):
    """The Res2NetFuse network. The rules ``l1_norm`` and ``mean`` are published.

    Parameters
    ----------
    variant : {"released", "paper"}
        The authors' code or the paper's text, see the module's table.
    """

    radius = 12  # two convolutions before the block, six in it, four in the decoder

    def __init__(self, variant: str = "released", rule: str | Rule = "l1_norm") -> None:
        super().__init__(rule)
        check_choice("variant of Res2NetFuse", variant, ("released", "paper"))
        self.variant = variant
        relu = partial(nn.ReLU, inplace=True)
        self.encoder = nn.Sequential(*conv_layers((1, 32, 64), relu))
        self.block = Res2NetBlock(shared=variant == "released")
        self.decoder = nn.Sequential(*conv_layers((64, 64, 32, 16, 1), relu)[:-1])

    def encode(self, image: Tensor) -> Tensor:
        """Turn gray levels (B, 1, H, W) in 0..255 into 64 non-negative feature maps."""
        features = self.encoder(image)
        refined = self.block(features)
        return features + refined if self.variant == "released" else refined

    def decode(self, features: Tensor) -> Tensor:
        """Turn 64 feature maps into gray levels (B, 1, H, W), about 0..255, not clipped."""
        return self.decoder(features)


RELEASED = Configuration(
    summary="as the authors' code: one branch convolution, residual around the block",
    build=partial(Res2NetFuse, "released"),
    weights=weight_files(
        "res2netfuse_1_released_coco86",
        "res2netfuse_1_released_coco34",
        "res2netfuse_1_released_coco86_again",
        "res2netfuse_40_released",
    ),
    rules=("l1_norm", "mean", "mean_eq7", "addition", "average", "maximum"),
    post="minmax",
    quantise="truncate",
)

METHOD = MethodSpec(
    name="res2netfuse",
    title="Res2NetFuse",
    paper="Song, Wu, Li, Sun and Palade, Res2NetFuse: A Fusion Method for Infrared and "
    "Visible Images, 2021 (second edition 2023)",
    doi="10.48550/arXiv.2112.14540",
    year=2021,
    kind="auto-encoder",
    axis="variant",
    configurations={
        "released": RELEASED,
        "paper": replace(
            RELEASED,
            summary="as the paper's text: six branch convolutions, no residual (Table I)",
            build=partial(Res2NetFuse, "paper"),
            weights=weight_files("res2netfuse_1_paper_coco86"),
        ),
    },
)
