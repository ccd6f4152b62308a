"""RFN-Nest: NestFuse's auto-encoder with fusion blocks that are learnt.

H. Li, X.-J. Wu, J. Kittler, "RFN-Nest: An end-to-end residual fusion network for infrared
and visible images", Information Fusion 73, 2021, doi 10.1016/j.inffus.2021.02.023.

At each of the four scales a residual fusion network (RFN) adds a bottleneck over both
images' features to a convolution of them; every convolution is followed by a ReLU.
7,524,249 parameters: 2,732,761 of the auto-encoder, which is trained first, and 4,791,488 of
the four fusion blocks. Gray levels 0..255 in and out, not scaled; the result is stretched to
0..255 with 1e-5 added to the range, and truncated. An image with a side above 512 is fused
in four overlapping parts, as NestFuse does it; the authors' published images show the seams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..weights import weight_files
from .autoencoder import conv, rename_layers
from .nestfuse import CHANNELS, NestNetwork, autoencoder_layers

__all__ = ["METHOD", "RFNNest", "ResidualFusion"]


class ResidualFusion(nn.Module):
    """The RFN of one scale.

    Parameters
    ----------
    channels : int
        Channels of each image's features and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.direct = conv(2 * channels, channels, 3)
        self.ir = conv(channels, channels, 3)
        self.vis = conv(channels, channels, 3)
        self.bottleneck = nn.ModuleList(
            [
                conv(2 * channels, channels, 1),
                conv(channels, channels, 3),
                conv(channels, channels, 3),
            ]
        )

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse features (B, C, H, W) into one of that shape, not negative."""
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


def _from_authors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = autoencoder_layers("nestfuse.")
    names = {"conv_fusion": "direct", "conv_ir": "ir", "conv_vi": "vis"}
    names |= {f"bottelblock.{i}": f"bottleneck.{i}" for i in range(3)}
    layers |= {
        f"rfn.fusion_block{scale + 1}.{theirs}.conv2d": f"fusion.{scale}.{ours}"
        for scale in range(4)
        for theirs, ours in names.items()
    }
    return rename_layers(tensors, layers)


METHOD = MethodSpec(
    name="rfn_nest",
    title="RFN-Nest",
    paper="Li, Wu and Kittler, RFN-Nest: An end-to-end residual fusion network for infrared and "
    "visible images, Information Fusion 73, 2021",
    doi="10.1016/j.inffus.2021.02.023",
    year=2021,
    kind="auto-encoder",
    licence="none stated",
    axis="pipeline",
    configurations={
        "released": Configuration(
            summary="PyTorch release: the rows of the published tables",
            build=RFNNest,
            weights=weight_files("rfn_nest"),
            post="minmax_eps",
            quantise="truncate",
            adapt=_from_authors,
        ),
    },
)
