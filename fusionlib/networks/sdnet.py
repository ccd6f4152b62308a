"""SDNet: two dense branches squeezed into one image, trained to be taken apart again.

H. Zhang, J. Ma, "SDNet: A Versatile Squeeze-and-Decomposition Network for Real-Time Image
Fusion", Int. J. Comput. Vis. 129, 2021, doi 10.1007/s11263-021-01501-8.

Each image has a branch of its own: four convolutions of 16 channels, the third and fourth
fed with the results before them. A 1x1 convolution squeezes all 128 channels into the
image. Zero padding, LeakyReLU of slope 0.2, tanh at the end; gray levels -1..1 in and out.

67,091 parameters. Fusing takes the 28,705 of layers 1 to 5; the other 38,386 (layers 6 to
9) take the fused image apart again, which the training loss asks for.

Written as 8 bits the result is stretched to 0..255. The published SDNet row of RefineFuse
is that of gray images stored as RGB, which the authors' script and the public benchmark of
Tang et al. read through Pillow's YCbCr: 22 of the 256 gray levels become one lower.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_pillow
from ..weights import weight_files
from .autoencoder import tensorflow_tensors
from .network import FusionNetwork, check_first, zero_conv

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


def _output() -> nn.Sequential:
    """Turn the 128 maps of a fused image into one source, before tanh."""
    return nn.Sequential(
        zero_conv(2 * LAYERS * WIDTH, 16, 3),
        nn.LeakyReLU(0.2),
        zero_conv(16, 4, 3),
        nn.LeakyReLU(0.2),
        zero_conv(4, 1, 3),
    )


class SDNet(FusionNetwork):
    """The SDNet network: `forward` squeezes two images into one, `decompose` undoes it.

    Parameters
    ----------
    first : {"ir", "vis"}
        Which image enters the first branch. Trained on infrared and visible images it is the
        infrared one; trained on medical images it is the functional one (PET or SPECT, in
        colour), which takes the place of the visible image here.

    Raises
    ------
    UnknownName
        If `first` is neither.
    """

    # A 5x5 and three 3x3 convolutions.
    radius = 5
    last_layers = ("squeeze",)

    def __init__(self, first: Literal["ir", "vis"] = "ir") -> None:
        super().__init__()
        check_first("SDNet", first)
        self.first = first
        self.branches = nn.ModuleList([Branch(), Branch()])
        self.squeeze = zero_conv(2 * LAYERS * WIDTH, 1, 1)
        self.expand = zero_conv(1, 2 * LAYERS * WIDTH, 1)
        self.outputs = nn.ModuleList([_output(), _output()])

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


def _adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' tensors, as layer1_ir/w1_ir."""
    layers = {"5_fuse": "squeeze", "6_sept": "expand"}
    for branch, source in enumerate(("ir", "vi")):
        layers |= {f"{i + 1}_{source}": f"branches.{branch}.layers.{i}" for i in range(LAYERS)}
        layers |= {f"{i + 7}_{source}": f"outputs.{branch}.{2 * i}" for i in range(3)}
    names = {
        f"fusion_model/layer{theirs}/{letter}{theirs}": f"{ours}/{part}"
        for theirs, ours in layers.items()
        for letter, part in (("w", "kernel"), ("b", "bias"))
    }
    renamed = {names.get(name, name): tensor for name, tensor in tensors.items()}
    return tensorflow_tensors(renamed, {ours: ours for ours in layers.values()})


METHOD = MethodSpec(
    name="sdnet",
    title="SDNet",
    paper="Zhang and Ma, SDNet: A Versatile Squeeze-and-Decomposition Network for Real-Time "
    "Image Fusion, IJCV 129, 2021",
    doi="10.1007/s11263-021-01501-8",
    year=2021,
    kind="convolutional",
    licence="MIT",
    axis="pipeline",
    configurations={
        "tang": Configuration(
            summary="as gray images stored as RGB are read: the rows of the published tables",
            build=SDNet,
            weights=weight_files("sdnet_irvis"),
            post="minmax",
            quantise="round",
            levels=Levels(-1, 1),
            prepare=prepare_pillow,
            adapt=_adapt,
        ),
        "released": Configuration(
            summary="TensorFlow release for infrared and visible images",
            build=SDNet,
            weights=weight_files("sdnet_irvis"),
            post="minmax",
            quantise="round",
            levels=Levels(-1, 1),
            adapt=_adapt,
        ),
        "medical": Configuration(
            summary="TensorFlow release for medical images, the functional image as visible",
            build=lambda: SDNet(first="vis"),
            weights=weight_files("sdnet_medical"),
            post="minmax",
            quantise="round",
            levels=Levels(-1, 1),
            adapt=_adapt,
        ),
    },
)
