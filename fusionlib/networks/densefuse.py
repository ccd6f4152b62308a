"""DenseFuse: an auto-encoder with a dense block.

H. Li, X.-J. Wu, "DenseFuse: A Fusion Approach to Infrared and Visible Images",
IEEE Trans. Image Process. 28(5), 2019, doi 10.1109/TIP.2018.2887342.

The authors released it twice, both with 74,193 parameters:

===================  ==========================  ============================
\\                    TensorFlow (first)          PyTorch
===================  ==========================  ============================
"addition"           sum of the features         mean of the features
last convolution     linear                      followed by ReLU
dense concatenation  new features first          old features first
written as 8 bits    stretched to 0..255         clipped to 0..255, truncated
===================  ==========================  ============================

Gray levels 0..255 in and out, not scaled; every convolution is 3x3 with reflect
padding. The published DenseFuse rows of Res2NetFuse and RefineFuse are the TensorFlow
release with SSIM weight 100 and the sum.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..errors import unknown
from ..rules import Rule
from ..weights import weight_files
from .autoencoder import AutoEncoder, conv, rename_layers, tensorflow_tensors

__all__ = ["METHOD", "DenseBlock", "DenseFuse"]

RELEASES = ("tensorflow", "pytorch")


class DenseBlock(nn.Module):
    """Three 3x3 convolutions, each fed with the block's input and all results before it.

    Parameters
    ----------
    channels : int
        Channels of the input and of every convolution's result.
    newest_first : bool
        Order of concatenation: TensorFlow release (True) or PyTorch release (False).
    """

    def __init__(self, channels: int = 16, *, newest_first: bool) -> None:
        super().__init__()
        self.newest_first = newest_first
        self.layers = nn.ModuleList(conv(channels * (i + 1), channels, 3) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, 4 * channels, H, W)."""
        for layer in self.layers:
            new = torch.relu(layer(x))
            x = torch.cat([new, x] if self.newest_first else [x, new], dim=1)
        return x


class DenseFuse(AutoEncoder):
    """The DenseFuse network.

    Parameters
    ----------
    release : {"tensorflow", "pytorch"}
        Which of the authors' releases, see the module's table.
    rule : str or Rule
        Fusion rule.

    Raises
    ------
    UnknownName
        If the release or the rule does not exist.
    """

    # Four convolutions in the encoder, four in the decoder.
    radius = 8
    # Reflect padding by one pixel needs two.
    min_side = 2

    def __init__(
        self,
        release: Literal["tensorflow", "pytorch"] = "tensorflow",
        rule: str | Rule = "addition",
    ) -> None:
        super().__init__(rule)
        if release not in RELEASES:
            raise unknown("release of DenseFuse", release, RELEASES)
        self.release = release
        self.first = conv(1, 16, 3)
        self.dense = DenseBlock(16, newest_first=release == "tensorflow")
        self.decoder = nn.ModuleList([conv(64, 64, 3), conv(64, 32, 3), conv(32, 16, 3)])
        self.last = conv(16, 1, 3)

    def encode(self, image: Tensor) -> Tensor:
        """Turn gray levels (B, 1, H, W) in 0..255 into 64 non-negative feature maps."""
        return self.dense(torch.relu(self.first(image)))

    def decode(self, features: Tensor) -> Tensor:
        """Turn 64 feature maps into gray levels (B, 1, H, W), not clipped."""
        for layer in self.decoder:
            features = torch.relu(layer(features))
        image = self.last(features)
        return torch.relu(image) if self.release == "pytorch" else image


def _from_tensorflow(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensorflow_tensors(
        tensors,
        {
            "encoder/conv1_1": "first",
            "encoder/dense_block_conv1": "dense.layers.0",
            "encoder/dense_block_conv2": "dense.layers.1",
            "encoder/dense_block_conv3": "dense.layers.2",
            "decoder/conv2_1": "decoder.0",
            "decoder/conv2_2": "decoder.1",
            "decoder/conv2_3": "decoder.2",
            "decoder/conv2_4": "last",
        },
    )


def _from_pytorch(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = {"conv1": "first", "conv5": "last"}
    layers |= {f"DB1.denseblock.{i}.dense_conv": f"dense.layers.{i}" for i in range(3)}
    layers |= {f"conv{i + 2}": f"decoder.{i}" for i in range(3)}
    layers = {f"{theirs}.conv2d": ours for theirs, ours in layers.items()}
    return rename_layers(tensors, layers)


METHOD = MethodSpec(
    name="densefuse",
    title="DenseFuse",
    paper="Li and Wu, DenseFuse: A Fusion Approach to Infrared and Visible Images, "
    "IEEE TIP 28(5), 2019",
    doi="10.1109/TIP.2018.2887342",
    year=2019,
    kind="auto-encoder",
    licence="none stated",
    axis="pipeline",
    configurations={
        "tensorflow": Configuration(
            summary="TensorFlow release, SSIM weight 100: the rows of the published tables",
            build=lambda rule: DenseFuse("tensorflow", rule),
            weights=weight_files("densefuse_tf_1e2"),
            rules=("addition", "l1_norm", "average", "maximum", "mean", "mean_eq7"),
            post="minmax",
            quantise="round",
            adapt=_from_tensorflow,
        ),
        "pytorch": Configuration(
            summary="PyTorch release, features averaged, clipped and truncated",
            build=lambda rule: DenseFuse("pytorch", rule),
            weights=weight_files("densefuse"),
            rules=("average", "l1_norm", "addition", "maximum", "mean", "mean_eq7"),
            post="clip",
            quantise="truncate",
            adapt=_from_pytorch,
        ),
    },
)
