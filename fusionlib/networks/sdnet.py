"""SDNet: two dense branches squeezed into one image, trained to be taken apart again.

Each image has a branch of its own: four convolutions of 16 channels, the third and fourth fed with
the results before them. A 1x1 convolution squeezes all 128 channels into the image. Zero padding,
LeakyReLU of slope 0.2, tanh at the end. 67,091 parameters, of which fusing takes the 28,705 of
layers 1 to 5; the other 38,386 (layers 6 to 9) take the fused image apart again, which the training
loss asks for.

The published SDNet row of RefineFuse is that of gray images stored as RGB, which the authors'
script and the public benchmark of Tang et al. read through Pillow's YCbCr: 22 of the 256 gray
levels become one lower.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_pillow
from ..weights import weight_files
from .network import FusionNetwork, Names, check_choice, conv_layers, rename_tensorflow, zero_conv

__all__ = ["METHOD", "Branch", "SDNet"]

WIDTH = 16  # channels of every layer of a branch
LAYERS = 4


class Branch(nn.Module):
    """Four layers of 16 channels; the third and fourth see all results before them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [zero_conv(1, WIDTH, 5), *(zero_conv(WIDTH * i, WIDTH, 3) for i in range(1, LAYERS))]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn an image (B, 1, H, W) into four feature maps (B, 16, H, W)."""
        first, *others = self.layers
        features = [leaky_relu(first(image), 0.2)]
        for layer in others:
            features.append(leaky_relu(layer(torch.cat(features, dim=1)), 0.2))
        return features


class SDNet(FusionNetwork):
    """The SDNet network: `forward` squeezes two images into one, `decompose` undoes it.

    Parameters
    ----------
    first : {"ir", "vis"}
        Which image enters the first branch: the infrared one, or if trained on medical images the
        functional one (PET or SPECT, in colour), which is the visible one here.
    """

    radius = 5  # a 5x5 and three 3x3 convolutions
    last_layers = ("squeeze",)

    def __init__(self, first: str = "ir") -> None:
        super().__init__()
        check_choice("first image of SDNet", first, ("ir", "vis"))
        self.first = first
        self.branches = nn.ModuleList([Branch(), Branch()])
        self.squeeze = zero_conv(2 * LAYERS * WIDTH, 1, 1)
        self.expand = zero_conv(1, 2 * LAYERS * WIDTH, 1)
        layers = partial(conv_layers, (2 * LAYERS * WIDTH, 16, 4, 1), partial(nn.LeakyReLU, 0.2))
        self.outputs = nn.ModuleList(nn.Sequential(*layers()[:-1]) for _ in range(2))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in -1..1 into (B, 1, H, W) in -1..1."""
        images = (ir, vis) if self.first == "ir" else (vis, ir)
        maps = [branch(image) for branch, image in zip(self.branches, images, strict=True)]
        # Layer by layer, of each layer the first image's channels and then the second's.
        features = [feature for layer in zip(*maps, strict=True) for feature in layer]
        return torch.tanh(self.squeeze(torch.cat(features, dim=1)))

    def decompose(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Take a fused image (B, 1, H, W) in -1..1 apart into infrared and visible image."""
        features = leaky_relu(self.expand(fused), 0.2)
        first, second = (torch.tanh(output(features)) for output in self.outputs)
        return (first, second) if self.first == "ir" else (second, first)


# As fusion_model/layer1_ir/w1_ir.
NAMES: Names = {
    r"^(fusion_model/\w+)/w\w+$": r"\1/kernel",
    r"^(fusion_model/\w+)/b\w+$": r"\1/bias",
    "^fusion_model/layer5_fuse/": "squeeze.",
    "^fusion_model/layer6_sept/": "expand.",
    r"^fusion_model/layer(\d)_ir/": r"fusion_model/0.\1.",
    r"^fusion_model/layer(\d)_vi/": r"fusion_model/1.\1.",
    r"^fusion_model/(\d)\.([1-4])\.": lambda at: f"branches.{at[1]}.layers.{int(at[2]) - 1}.",
    r"^fusion_model/(\d)\.([7-9])\.": lambda at: f"outputs.{at[1]}.{2 * int(at[2]) - 14}.",
}

RELEASED = Configuration(
    summary="TensorFlow release for infrared and visible images",
    build=SDNet,
    weights=weight_files("sdnet_irvis"),
    post="minmax",
    quantise="round",
    levels=Levels(-1, 1),
    adapt=partial(rename_tensorflow, NAMES),
)

METHOD = MethodSpec(
    name="sdnet",
    title="SDNet",
    paper="Zhang and Ma, SDNet: A Versatile Squeeze-and-Decomposition Network for Real-Time "
    "Image Fusion, IJCV 129, 2021",
    doi="10.1007/s11263-021-01501-8",
    year=2021,
    kind="convolutional",
    licence="MIT",
    configurations={
        "tang": replace(
            RELEASED,
            summary="as gray images stored as RGB are read: the rows of the published tables",
            prepare=prepare_pillow,
        ),
        "released": RELEASED,
        "medical": replace(
            RELEASED,
            summary="TensorFlow release for medical images, the functional image as visible",
            build=partial(SDNet, "vis"),
            weights=weight_files("sdnet_medical"),
        ),
    },
)
