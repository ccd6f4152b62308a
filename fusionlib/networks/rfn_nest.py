"""RFN-Nest: NestFuse's auto-encoder with fusion blocks that are learnt.

At each of the four scales a residual fusion network (RFN) adds a bottleneck over both images'
features to a convolution of them; every convolution is followed by a ReLU. 7,524,249 parameters:
2,732,761 of the auto-encoder, which is trained first, and 4,791,488 of the four fusion blocks. An
image with a side above 512 is fused in four overlapping parts, as NestFuse does it; the authors'
published images show the seams.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..weights import weight_files
from . import nestfuse
from .nestfuse import CHANNELS, NestNetwork
from .network import Names, conv, rename

__all__ = ["METHOD", "RFNNest", "ResidualFusion"]


class ResidualFusion(nn.Module):
    """The RFN of one scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.direct = conv(2 * channels, channels, 3)
        self.ir = conv(channels, channels, 3)
        self.vis = conv(channels, channels, 3)
        self.bottleneck = nn.ModuleList(
            conv(times * channels, channels, kernel) for times, kernel in ((2, 1), (1, 3), (1, 3))
        )

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse features (B, channels, H, W) into one of that shape, not negative."""
        direct = torch.relu(self.direct(torch.cat([ir, vis], dim=1)))
        x = torch.cat([torch.relu(self.ir(ir)), torch.relu(self.vis(vis))], dim=1)
        for layer in self.bottleneck:
            x = torch.relu(layer(x))
        return direct + x


class RFNNest(NestNetwork):
    """The RFN-Nest network."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion = nn.ModuleList(ResidualFusion(channels) for channels in CHANNELS)

    def fuse_features(self, ir: list[Tensor], vis: list[Tensor]) -> list[Tensor]:
        """Fuse the features of four scales, each by its own block."""
        return [block(a, b) for block, a, b in zip(self.fusion, ir, vis, strict=True)]


NAMES: Names = {
    r"^nestfuse\.": "",
    **nestfuse.NAMES,
    r"^rfn\.fusion_block(\d)\.": lambda found: f"fusion.{int(found[1]) - 1}.",
    r"\.conv_fusion\.": ".direct.",
    r"\.conv_ir\.": ".ir.",
    r"\.conv_vi\.": ".vis.",
    r"\.bottelblock\.": ".bottleneck.",
    r"\.conv2d\.": ".",
}

METHOD = MethodSpec(
    name="rfn_nest",
    title="RFN-Nest",
    paper="Li, Wu and Kittler, RFN-Nest: An end-to-end residual fusion network for infrared and "
    "visible images, Information Fusion 73, 2021",
    doi="10.1016/j.inffus.2021.02.023",
    year=2021,
    kind="auto-encoder",
    configurations={
        "released": Configuration(
            summary="PyTorch release: the rows of the published tables",
            build=RFNNest,
            weights=weight_files("rfn_nest"),
            post="minmax_eps",
            quantise="truncate",
            adapt=partial(rename, NAMES),
        ),
    },
)
