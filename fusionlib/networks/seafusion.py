"""SeAFusion: gradient residual dense blocks, trained together with a segmentation network.

Each image has a branch of its own: a convolution and two blocks that join densely connected
convolutions with the magnitude of the features' gradients, by filters that start as Sobel's and
were trained too. Four convolutions decode both branches' features, the visible ones first. Zero
padding, LeakyReLU, tanh(x)/2 + 1/2 at the end.

The file states 166,883 parameters; 226 of them belong to normalisation layers that the authors'
code never calls and that are left out here, as are those layers' statistics.

The fused luminance gets the visible image's chroma first; then the RGB image as a whole is
stretched to 0..255 and truncated to 8 bits.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, Names, rename, zero_conv

__all__ = ["METHOD", "Branch", "GradientBlock", "SeAFusion"]

SOBEL = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])


def _gradient(channels: int, kernel: Tensor) -> nn.Conv2d:
    """A 3x3 filter for each channel by itself, with zero padding; training goes on from it."""
    layer = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    with torch.no_grad():
        layer.weight.copy_(kernel)
    return layer


class GradientBlock(nn.Module):
    """Gradient residual dense block: two densely connected convolutions, and gradients."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(zero_conv(channels_in * i, channels_in, 3) for i in (1, 2))
        self.join_dense = zero_conv(3 * channels_in, channels_out, 1)
        self.gradient_x = _gradient(channels_in, SOBEL)
        self.gradient_y = _gradient(channels_in, SOBEL.T)
        self.join_gradient = zero_conv(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels_out, H, W)."""
        gradient = self.gradient_x(x).abs() + self.gradient_y(x).abs()
        for layer in self.dense:
            x = torch.cat([x, leaky_relu(layer(x), 0.2)], dim=1)
        return leaky_relu(self.join_dense(x) + self.join_gradient(gradient), 0.1)


class Branch(nn.Module):
    """The encoder of one modality."""

    def __init__(self) -> None:
        super().__init__()
        self.first = zero_conv(1, 16, 3)
        self.blocks = nn.Sequential(GradientBlock(16, 32), GradientBlock(32, 48))

    def forward(self, image: Tensor) -> Tensor:
        """Turn an image (B, 1, H, W) into features (B, 48, H, W)."""
        return self.blocks(leaky_relu(self.first(image), 0.2))


class SeAFusion(FusionNetwork):
    """The SeAFusion network."""

    radius = 9  # five 3x3 convolutions in a branch, four in the decoder

    def __init__(self) -> None:
        super().__init__()
        self.ir, self.vis = Branch(), Branch()
        self.decoder = nn.ModuleList(zero_conv(a, b, 3) for a, b in ((96, 64), (64, 32), (32, 16)))
        self.last = zero_conv(16, 1, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W) in 0..1."""
        features = torch.cat([self.vis(vis), self.ir(ir)], dim=1)
        for layer in self.decoder:
            features = leaky_relu(layer(features), 0.2)
        return torch.tanh(self.last(features)) / 2 + 0.5


NAMES: Names = {
    r"^decode\d\.bn\..*": "",  # of the normalisation layers
    r"^inf_": "ir.",
    r"^vis_": "vis.",
    r"\.conv\.conv\.": ".first.",
    r"\.rgbd(\d)\.": lambda found: f".blocks.{int(found[1]) - 1}.",
    r"\.dense\.conv(\d)\.conv\.": lambda found: f".dense.{int(found[1]) - 1}.",
    r"\.convdown\.conv\.": ".join_dense.",
    r"\.sobelconv\.conv([xy])\.": r".gradient_\1.",
    r"\.convup\.conv\.": ".join_gradient.",
    r"^decode1\.conv\.": "last.",
    r"^decode(\d)\.conv\.": lambda found: f"decoder.{4 - int(found[1])}.",
}


METHOD = MethodSpec(
    name="seafusion",
    title="SeAFusion",
    paper="Tang, Yuan and Ma, Image fusion in the loop of high-level vision tasks: A "
    "semantic-aware real-time infrared and visible image fusion network, Information Fusion "
    "82, 2022",
    doi="10.1016/j.inffus.2021.12.004",
    year=2022,
    kind="convolutional",
    licence="MIT",
    configurations={
        "released": Configuration(
            summary="PyTorch release; the RGB image stretched as a whole, truncated",
            build=SeAFusion,
            weights=weight_files("seafusion"),
            post="minmax",
            quantise="truncate",
            levels=Levels(0, 1),
            chroma="before",
            adapt=partial(rename, NAMES),
        ),
    },
)
