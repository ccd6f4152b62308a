"""Res2NetFuse: an auto-encoder with a Res2Net block, trained on one natural image.

X. Song, X.-J. Wu, H. Li, J. Sun, V. Palade, "Res2NetFuse: A Fusion Method for
Infrared and Visible Images", arXiv:2112.14540 (2021); second edition 2023.

=====================  ===========================  ================================
\\                      variant ``paper``            variant ``released``
=====================  ===========================  ================================
convolutions F_i       six, own weights (Table I)   one 16->16 convolution, six times
encoder output         r, the Res2Net block         c + r, a residual around the block
parameters             101,217                      89,617
=====================  ===========================  ================================

``released`` is the reading of the authors' code, which produced the published
tables. Input and output are gray levels 0..255, not scaled. All 3x3 convolutions
have stride 1 and zero padding 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..errors import unknown
from ..rules import Rule
from ..weights import weight_files
from .autoencoder import AutoEncoder

__all__ = ["METHOD", "Res2NetBlock", "Res2NetFuse"]

VARIANTS = ("released", "paper")


class Res2NetBlock(nn.Module):
    """Res2Net block of equation 1: four channel groups, each seeing the one before.

    Parameters
    ----------
    channels : int
        Channels in and out.
    scales : int
        Number of groups; the first passes through, every other has a function F_i
        of two 3x3 convolutions with ReLU.
    shared : bool
        Whether one convolution serves all functions F_i (released) or each of the
        two convolutions of each F_i has its own weights (paper).
    """

    def __init__(self, channels: int = 64, scales: int = 4, *, shared: bool) -> None:
        super().__init__()
        self.scales = scales
        self.shared = shared
        width = channels // scales
        self.reduce = nn.Conv2d(channels, channels, 1)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(1 if shared else 2 * (scales - 1))
        )
        self.expand = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        first, *others = torch.relu_(self.reduce(x)).chunk(self.scales, dim=1)
        outputs = [first]
        for i, group in enumerate(others):
            y = group if i == 0 else group + outputs[-1]
            for j in range(2):
                branch = self.branches[0 if self.shared else 2 * i + j]
                y = torch.relu_(branch(y))
            outputs.append(y)
        return torch.relu_(self.expand(torch.cat(outputs, dim=1)))


class Res2NetFuse(AutoEncoder):
    """The Res2NetFuse network.

    Parameters
    ----------
    variant : {"released", "paper"}
        The authors' code or the paper's text, see the module's table.
    rule : str or Rule
        Fusion rule; the published ones are ``l1_norm`` and ``mean``.

    Raises
    ------
    UnknownName
        If the variant or the rule does not exist.
    """

    # Two convolutions before the block, six in its longest path, four in the decoder.
    radius = 12

    def __init__(
        self,
        variant: Literal["released", "paper"] = "released",
        rule: str | Rule = "l1_norm",
    ) -> None:
        super().__init__(rule)
        if variant not in VARIANTS:
            raise unknown("variant of Res2NetFuse", variant, VARIANTS)
        self.variant = variant
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.block = Res2NetBlock(64, 4, shared=variant == "released")
        self.decoder = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 1, 3, padding=1),
        )

    def encode(self, image: Tensor) -> Tensor:
        """Turn gray levels (B, 1, H, W) in 0..255 into 64 non-negative feature maps."""
        features = self.encoder(image)
        refined = self.block(features)
        return features + refined if self.variant == "released" else refined

    def decode(self, features: Tensor) -> Tensor:
        """Turn 64 feature maps into gray levels (B, 1, H, W), about 0..255, not clipped."""
        return self.decoder(features)


METHOD = MethodSpec(
    name="res2netfuse",
    title="Res2NetFuse",
    paper="Song, Wu, Li, Sun and Palade, Res2NetFuse: A Fusion Method for Infrared and "
    "Visible Images, 2021 (second edition 2023)",
    doi="10.48550/arXiv.2112.14540",
    year=2021,
    kind="auto-encoder",
    licence="none stated",
    axis="variant",
    configurations={
        "released": Configuration(
            summary="as the authors' code: one branch convolution, residual around the block",
            build=lambda rule: Res2NetFuse("released", rule),
            weights=weight_files(
                "res2netfuse_1_released_coco86",
                "res2netfuse_1_released_coco34",
                "res2netfuse_1_released_coco86_again",
                "res2netfuse_40_released",
            ),
            rules=("l1_norm", "mean", "mean_eq7", "addition", "average", "maximum"),
            post="minmax",
            quantise="truncate",
        ),
        "paper": Configuration(
            summary="as the paper's text: six branch convolutions, no residual (Table I)",
            build=lambda rule: Res2NetFuse("paper", rule),
            weights=weight_files("res2netfuse_1_paper_coco86"),
            rules=("l1_norm", "mean", "mean_eq7", "addition", "average", "maximum"),
            post="minmax",
            quantise="truncate",
        ),
    },
)
