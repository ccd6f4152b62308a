"""DenseFuse: an auto-encoder with a dense block.

The authors released it twice, both with 74,193 parameters:

===================  ==========================  ============================
\\                    TensorFlow (first)          PyTorch
===================  ==========================  ============================
"addition"           sum of the features         mean of the features
last convolution     linear                      followed by ReLU
dense concatenation  new features first          old features first
written as 8 bits    stretched to 0..255         clipped to 0..255, truncated
===================  ==========================  ============================

Every convolution is 3x3 with reflect padding. The published DenseFuse rows of Res2NetFuse and
RefineFuse are the TensorFlow release with SSIM weight 100 and the sum.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..rules import Rule
from ..weights import weight_files
from .network import AutoEncoder, Names, check_choice, conv, rename, rename_tensorflow

__all__ = ["METHOD", "DenseBlock", "DenseFuse"]


class DenseBlock(nn.Module):
    """Three 3x3 convolutions to 16 channels, each fed with the input and all results before it."""

    def __init__(self, *, newest_first: bool) -> None:
        super().__init__()
        self.newest_first = newest_first
        self.layers = nn.ModuleList(conv(16 * (i + 1), 16, 3) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 16, H, W) to (B, 64, H, W)."""
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
    """

    radius = 8  # four convolutions in the encoder, four in the decoder
    min_side = 2

    def __init__(self, release: str = "tensorflow", rule: str | Rule = "addition") -> None:
        super().__init__(rule)
        check_choice("release of DenseFuse", release, ("tensorflow", "pytorch"))
        self.release = release
        self.first = conv(1, 16, 3)
        self.dense = DenseBlock(newest_first=release == "tensorflow")
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


TENSORFLOW_NAMES: Names = {
    "^encoder/conv1_1/": "first.",
    r"^encoder/dense_block_conv(\d)/": lambda found: f"dense.layers.{int(found[1]) - 1}.",
    "^decoder/conv2_4/": "last.",
    r"^decoder/conv2_(\d)/": lambda found: f"decoder.{int(found[1]) - 1}.",
}
PYTORCH_NAMES: Names = {
    r"^conv1\.conv2d\.": "first.",
    r"^DB1\.denseblock\.(\d)\.dense_conv\.conv2d\.": r"dense.layers.\1.",
    r"^conv5\.conv2d\.": "last.",
    r"^conv(\d)\.conv2d\.": lambda found: f"decoder.{int(found[1]) - 2}.",
}

METHOD = MethodSpec(
    name="densefuse",
    title="DenseFuse",
    paper="Li and Wu, DenseFuse: A Fusion Approach to Infrared and Visible Images, "
    "IEEE TIP 28(5), 2019",
    doi="10.1109/TIP.2018.2887342",
    year=2019,
    kind="auto-encoder",
    configurations={
        "tensorflow": Configuration(
            summary="TensorFlow release, SSIM weight 100: the rows of the published tables",
            build=partial(DenseFuse, "tensorflow"),
            weights=weight_files("densefuse_tf_1e2"),
            rules=("addition", "l1_norm", "average", "maximum", "mean", "mean_eq7"),
            post="minmax",
            quantise="round",
            adapt=partial(rename_tensorflow, TENSORFLOW_NAMES),
        ),
        "pytorch": Configuration(
            summary="PyTorch release, features averaged, clipped and truncated",
            build=partial(DenseFuse, "pytorch"),
            weights=weight_files("densefuse"),
            rules=("average", "l1_norm", "addition", "maximum", "mean", "mean_eq7"),
            post="clip",
            quantise="truncate",
            adapt=partial(rename, PYTORCH_NAMES),
        ),
    },
)
