"""CUFD: two auto-encoders, one for images, one that splits features in common and unique ones.

The image encoder, shared by both images, keeps its features at four depths. At each depth the
second encoder splits the pair of features into what is common to both images and what is unique to
each; these are fused by fixed rules, the second decoder turns them into features again, and the
larger of the two images' features is added. The image decoder makes the image from all four depths.
955,297 trained parameters and 2,272 batch statistics.

The released checkpoint does not reproduce the images in the authors' repository, but exactly the
CUFD row of Res2NetFuse.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_minmax
from ..weights import weight_files
from .network import FusionNetwork, Names, conv, rename_tensorflow

__all__ = ["CUFD", "METHOD", "DenseBlock", "FeatureNetwork", "Unit"]

NORM_EPS = 1e-3  # added by the authors' batch normalisation to variances
WEIGHT_EPS = 1e-9  # keeps the weight of a common feature finite where both images have none


def _layer(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    """Convolution with reflect padding, batch normalisation, ReLU."""
    convolution = conv(channels_in, channels_out, kernel)
    norm = nn.BatchNorm2d(channels_out, NORM_EPS)
    return nn.Sequential(OrderedDict(conv=convolution, norm=norm, relu=nn.ReLU(inplace=True)))


class Unit(nn.Module):
    """A 1x1 convolution to 128 channels, a 3x3 to 32, batch normalisation, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 128, 1)
        self.reduce = conv(128, 32, 3)
        self.norm = nn.BatchNorm2d(32, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, 32, H, W), non-negative."""
        # Nothing stands between the two convolutions, so they are one 3x3 convolution, which
        # costs a fifth: the 1x1 does not mind whether the padding comes before or after it.
        assert self.expand.bias is not None and self.reduce.bias is not None
        kernel = torch.einsum("omyx,mi->oiyx", self.reduce.weight, self.expand.weight[..., 0, 0])
        bias = torch.einsum("omyx,m->o", self.reduce.weight, self.expand.bias) + self.reduce.bias
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, bias)
        return torch.relu_(self.norm(x))


class DenseBlock(nn.Module):
    """Three units, the second's and third's results before older ones; the input is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleList(Unit(channels) for channels in (32, 32, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 32, H, W) to (B, 96, H, W)."""
        first, *others = self.units
        x = first(x)
        for unit in others:
            x = torch.cat([unit(x), x], dim=1)
        return x


class FeatureNetwork(nn.Module):
    """Encoder or decoder of the second pair: two dense blocks, results in [0, 1]."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.first = _layer(64, 32, 5)
        self.dense1 = DenseBlock()
        self.transfer = _layer(96, 32, 1)
        self.dense2 = DenseBlock()
        self.last = conv(96, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to (B, channels, H, W) in [0, 1]."""
        return _unit_range(self.last(self.dense2(self.transfer(self.dense1(self.first(x))))))


def _unit_range(x: Tensor) -> Tensor:
    return torch.tanh(x) / 2 + 0.5


class CUFD(FusionNetwork):
    """The CUFD network, on gray images that each span 0..1."""

    # 3x3 convolutions: the image encoder's; the feature encoder's and decoder's, each
    # after a 5x5; the image decoder's.
    radius = 4 + (2 + 7) + (2 + 6) + 4
    min_side = 3

    def __init__(self) -> None:
        super().__init__()
        deeper = (nn.Sequential(_layer(32, 128, 1), _layer(128, 32, 3)) for _ in range(3))
        self.encoder = nn.ModuleList([_layer(1, 32, 3), *deeper])
        self.decompose = FeatureNetwork(128, kernel=3)
        self.compose = FeatureNetwork(32, kernel=1)
        self.decoder = nn.ModuleList([_layer(128, 64, 3), _layer(64, 32, 3), _layer(32, 16, 3)])
        self.last = conv(16, 1, 3)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Turn an image (B, 1, H, W) in 0..1 into 32 non-negative feature maps at four depths."""
        features = []
        for layer in self.encoder:
            image = layer(image)
            features.append(image)
        return features

    def fuse(self, vis: Tensor, ir: Tensor) -> Tensor:
        """Fuse the features (B, 32, H, W) of both images at one depth."""
        parts = self.decompose(torch.cat([vis, ir], dim=1))
        common_vis, common_ir, unique_vis, unique_ir = parts.chunk(4, dim=1)
        weight = common_vis / (common_vis + common_ir + WEIGHT_EPS)
        common = weight * common_vis + (1 - weight) * common_ir
        # Published as the one of larger magnitude; none of these are negative.
        unique = torch.maximum(unique_vis, unique_ir)
        return self.compose(torch.cat([common, unique], dim=1)) + torch.maximum(vis, ir)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in 0..1 and another into one in 0..1."""
        pairs = zip(self.encode(vis), self.encode(ir), strict=True)
        x = torch.cat([self.fuse(*pair) for pair in pairs], dim=1)
        for layer in self.decoder:
            x = layer(x)
        return _unit_range(self.last(x))


# The count of normalisations goes up by one at each layer and by two at each unit.
NAMES: Names = {
    r"^DenseFuseNet/(\w+/b\d+)/batch_normalization/": r"\1/",
    r"/gamma$": "/weight",
    r"/beta$": "/bias",
    r"/moving_mean$": "/running_mean",
    r"/moving_variance$": "/running_var",
    r"^m_encoder/conv1_1/": "encoder.0.conv.",
    r"^m_encoder/b0/": "encoder.0.norm.",
    r"^m_encoder/conv(\d)_(\d)/": lambda at: f"encoder.{int(at[1]) - 1}.{int(at[2]) - 1}.conv.",
    r"^m_encoder/b([135])/": lambda at: f"encoder.{int(at[1]) // 2 + 1}.0.norm.",
    r"^m_encoder/b([246])/": lambda at: f"encoder.{int(at[1]) // 2}.1.norm.",
    r"^s_encoder/": "decompose.",
    r"^s_decoder/": "compose.",
    r"\.conv1_1/": ".first.conv.",
    r"\.b0/": ".first.norm.",
    r"\.transfer_layer1/": ".transfer.conv.",
    r"\.b7/": ".transfer.norm.",
    r"\.output_layer/": ".last.",
    r"\.dense_block(\d)_conv(\d)_": lambda at: f".dense{at[1]}.units.{int(at[2]) - 1}.conv",
    r"\.conv1/": ".expand.",
    r"\.conv2/": ".reduce.",
    r"\.b([246])/": lambda at: f".dense1.units.{int(at[1]) // 2 - 1}.norm.",
    r"\.b(9|11|13)/": lambda at: f".dense2.units.{int(at[1]) // 2 - 4}.norm.",
    r"^m_decoder/conv2_4/": "last.",
    r"^m_decoder/conv2_(\d)/": lambda found: f"decoder.{int(found[1]) - 1}.conv.",
    r"^m_decoder/b(\d)/": r"decoder.\1.norm.",
}

METHOD = MethodSpec(
    name="cufd",
    title="CUFD",
    paper="Xu, Gong, Tian, Huang and Ma, CUFD: An encoder-decoder network for visible and "
    "infrared image fusion based on common and unique feature decomposition, CVIU 218, 2022",
    doi="10.1016/j.cviu.2022.103407",
    year=2022,
    kind="auto-encoder",
    configurations={
        "released": Configuration(
            summary="TensorFlow release, both images and the result stretched",
            build=CUFD,
            weights=weight_files("cufd"),
            post="minmax",
            quantise="round",
            levels=Levels(0, 1),
            prepare=prepare_minmax,
            adapt=partial(rename_tensorflow, NAMES),
        ),
    },
)
