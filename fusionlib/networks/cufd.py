"""CUFD: two auto-encoders, one for images, one that splits features in common and unique ones.

H. Xu, M. Gong, X. Tian, J. Huang, J. Ma, "CUFD: An encoder-decoder network for visible and
infrared image fusion based on common and unique feature decomposition", Computer Vision and
Image Understanding 218, 2022, doi 10.1016/j.cviu.2022.103407.

The image encoder, shared by both images, keeps its features at four depths. At each depth the
second encoder splits the pair of features into what is common to both images and what is
unique to each; these are fused by fixed rules, the second decoder turns them into features
again, and the larger of the two images' features is added. The image decoder makes the image
from all four depths. 955,297 trained parameters and 2,272 batch statistics.

The published pipeline stretches each image to 0..1 before the network and the result after
it. The released checkpoint does not reproduce the images in the authors' repository, but
exactly the CUFD row of Res2NetFuse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_minmax
from ..weights import weight_files
from .autoencoder import conv, tensorflow_tensors
from .network import FusionNetwork

__all__ = ["CUFD", "METHOD", "DenseBlock", "FeatureNetwork", "Layer", "Unit"]

# Added by the authors' batch normalisation to variances.
NORM_EPS = 1e-3
# Keeps the weight of a common feature finite where both images have none.
WEIGHT_EPS = 1e-9

# Names of PyTorch's parts of a batch normalisation by TensorFlow's.
NORM_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Layer(nn.Module):
    """Convolution with reflect padding, batch normalisation, ReLU.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after.
    kernel : int
        Side of the kernel.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = conv(channels_in, channels_out, kernel)
        self.norm = nn.BatchNorm2d(channels_out, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels_out, H, W), non-negative."""
        return torch.relu_(self.norm(self.conv(x)))


class Unit(nn.Module):
    """A 1x1 convolution to 128 channels, a 3x3 to 32, batch normalisation, ReLU.

    Parameters
    ----------
    channels : int
        Channels of the input.
    """

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
    """Three units; the second and the third are concatenated with what was before, newest first.

    The block's input is not kept, so that the channels are 32, 32, 64 and at last 96.
    """

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
    """Encoder or decoder of the second pair: two dense blocks, results in [0, 1].

    Parameters
    ----------
    channels : int
        Channels of the result.
    kernel : int
        Side of the last convolution's kernel.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.first = Layer(64, 32, 5)
        self.dense1 = DenseBlock()
        self.transfer = Layer(96, 32, 1)
        self.dense2 = DenseBlock()
        self.last = conv(96, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to (B, channels, H, W) in [0, 1]."""
        return _unit_range(self.last(self.dense2(self.transfer(self.dense1(self.first(x))))))


def _unit_range(x: Tensor) -> Tensor:
    return torch.tanh(x) / 2 + 0.5


class CUFD(FusionNetwork):
    """The CUFD network, on gray images that each span 0..1."""

    # 3x3 convolutions one after the other: 4 in the image encoder; after a 5x5, 7 and then 6 in
    # the feature encoder and decoder; 4 in the image decoder.
    radius = 4 + (2 + 7) + (2 + 6) + 4
    # Reflect padding by two pixels needs three.
    min_side = 3

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            [
                Layer(1, 32, 3),
                *(nn.Sequential(Layer(32, 128, 1), Layer(128, 32, 3)) for _ in range(3)),
            ]
        )
        self.decompose = FeatureNetwork(128, kernel=3)
        self.compose = FeatureNetwork(32, kernel=1)
        self.decoder = nn.ModuleList([Layer(128, 64, 3), Layer(64, 32, 3), Layer(32, 16, 3)])
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

    def decode(self, features: list[Tensor]) -> Tensor:
        """Turn fused features at four depths into an image (B, 1, H, W) in [0, 1]."""
        x = torch.cat(features, dim=1)
        for layer in self.decoder:
            x = layer(x)
        return _unit_range(self.last(x))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in 0..1 and another into one in 0..1."""
        pairs = zip(self.encode(vis), self.encode(ir), strict=True)
        return self.decode([self.fuse(*pair) for pair in pairs])


def _from_tensorflow(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Their layers' scopes, and the scopes of the normalisations that follow, by our names.
    layers = {"m_encoder/conv1_1": "encoder.0.conv"}
    norms = {"m_encoder/b0": "encoder.0.norm"}
    for depth in range(1, 4):
        for i in range(2):
            layers[f"m_encoder/conv{depth + 1}_{i + 1}"] = f"encoder.{depth}.{i}.conv"
            norms[f"m_encoder/b{2 * depth - 1 + i}"] = f"encoder.{depth}.{i}.norm"
    for theirs, ours in {"s_encoder": "decompose", "s_decoder": "compose"}.items():
        layers[f"{theirs}/conv1_1"] = f"{ours}.first.conv"
        layers[f"{theirs}/transfer_layer1"] = f"{ours}.transfer.conv"
        layers[f"{theirs}/output_layer"] = f"{ours}.last"
        norms[f"{theirs}/b0"] = f"{ours}.first.norm"
        norms[f"{theirs}/b7"] = f"{ours}.transfer.norm"
        for block in (1, 2):
            for i in range(3):
                scope, unit = f"{theirs}/dense_block{block}_conv{i + 1}", f"dense{block}.units.{i}"
                layers[f"{scope}_1"] = f"{ours}.{unit}.expand"
                layers[f"{scope}_2"] = f"{ours}.{unit}.reduce"
                # Their count goes up by two a unit, and by one at the layer between the blocks.
                norms[f"{theirs}/b{7 * block - 5 + 2 * i}"] = f"{ours}.{unit}.norm"
    for i in range(3):
        layers[f"m_decoder/conv2_{i + 1}"] = f"decoder.{i}.conv"
        norms[f"m_decoder/b{i}"] = f"decoder.{i}.norm"
    layers["m_decoder/conv2_4"] = "last"

    names = {
        f"DenseFuseNet/{scope}/batch_normalization/{theirs}": f"{norm}.{ours}"
        for scope, norm in norms.items()
        for theirs, ours in NORM_PARTS.items()
    }
    state = {names.get(name, name): tensor for name, tensor in tensors.items()}
    for norm in norms.values():
        # A count of batches that PyTorch's state has and TensorFlow's has not.
        state.setdefault(f"{norm}.num_batches_tracked", torch.tensor(0))
    return tensorflow_tensors(state, layers)


METHOD = MethodSpec(
    name="cufd",
    title="CUFD",
    paper="Xu, Gong, Tian, Huang and Ma, CUFD: An encoder-decoder network for visible and "
    "infrared image fusion based on common and unique feature decomposition, CVIU 218, 2022",
    doi="10.1016/j.cviu.2022.103407",
    year=2022,
    kind="auto-encoder",
    licence="none stated",
    axis="pipeline",
    configurations={
        "released": Configuration(
            summary="TensorFlow release, both images and the result stretched",
            build=CUFD,
            weights=weight_files("cufd"),
            post="minmax",
            quantise="round",
            levels=Levels(0, 1),
            prepare=prepare_minmax,
            adapt=_from_tensorflow,
        ),
    },
)
