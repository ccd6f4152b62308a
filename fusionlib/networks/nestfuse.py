"""NestFuse: an auto-encoder of four scales with a nest-connected decoder, fused by attention.

Every block is a 3x3 convolution to half of its input's channels and a 1x1 convolution, with reflect
padding and a ReLU after each convolution, the very last included, so the output is never negative;
2,732,761 parameters. Only these are trained: at each scale the features are fused without
parameters, by the mean of spatial attention (softmax of the channel means) and channel attention
(one global value per channel, normalised between the two images). The authors offer three global
values: average, maximum and nuclear norm. An image with a side above 512 is fused in four
overlapping parts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..weights import weight_files
from .network import FusionNetwork, Names, check_choice, conv, rename

__all__ = [
    *("CHANNELS", "METHOD", "NAMES", "POOLINGS"),
    *("NestAutoEncoder", "NestBlock", "NestFuse", "NestNetwork"),
    *("channel_attention", "channel_mean", "softmax_attention"),
]

#: Channels of the encoder's features, from the full scale to an eighth of it.
CHANNELS = (64, 112, 160, 208)
LARGEST_WHOLE = 512  # side of an image that is not cut into four
MIN_SIDE = 16  # after three poolings, reflect padding by one pixel needs two
SHORTEST_CUT = 2 * (MIN_SIDE - 3) + 1  # a shorter side would leave parts below MIN_SIDE
EPS = 1e-5


class NestBlock(nn.Module):
    """A 3x3 convolution to half the channels, a 1x1 convolution, then attention if there is any."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        activation: Callable[[Tensor], Tensor],
        attention: nn.Module,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.wide = conv(channels_in, channels_in // 2, 3)
        self.point = conv(channels_in // 2, channels_out, 1)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels_out, H, W)."""
        x = self.activation(self.wide(x))
        return self.attention(self.activation(self.point(x)))


class NestAutoEncoder(nn.Module):
    """Encoder of four scales and nest-connected decoder, of RFN-Nest and AEFusion, too.

    The first convolution gives `first` channels; the activation follows every convolution, the last
    too; `attention`, (channels, scale 0..3) -> module, stands at the end of each block.
    """

    def __init__(
        self,
        first: int = 16,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        attention: Callable[[int, int], nn.Module] = lambda channels, scale: nn.Identity(),
    ) -> None:
        super().__init__()

        def block(channels_in: int, scale: int) -> NestBlock:
            channels = CHANNELS[scale]
            return NestBlock(channels_in, channels, activation, attention(channels, scale))

        self.activation = activation
        self.first = conv(1, first, 1)
        self.encoder = nn.ModuleList(
            block(channels, scale) for scale, channels in enumerate((first, *CHANNELS[:-1]))
        )
        # In column j, fed with the j maps before it at its scale and one of the scale below.
        self.decoder = nn.ModuleDict(
            {
                f"{scale}_{column}": block(column * CHANNELS[scale] + CHANNELS[scale + 1], scale)
                for column in (1, 2, 3)
                for scale in range(4 - column)
            }
        )
        self.last = conv(CHANNELS[0], 1, 1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Turn an image (B, 1, H, W) into features of four scales, each half the size before."""
        x = self.activation(self.first(image))
        features = []
        for scale, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if scale else x)
            features.append(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Turn the four features of `encode` into gray levels (B, 1, H, W), not clipped."""
        rows = [[x] for x in features]
        for column in (1, 2, 3):
            for scale in range(4 - column):
                row, below = rows[scale], rows[scale + 1][column - 1]
                x = torch.cat([*row, _upsample(below, like=row[0])], dim=1)
                row.append(self.decoder[f"{scale}_{column}"](x))
        return self.activation(self.last(rows[0][-1]))

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct an image (B, 1, H, W), H and W at least 16."""
        return self.decode(self.encode(image))


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    """Repeat each pixel 2x2; at odd sizes the last row and column are made by reflection."""
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    bottom, right = like.shape[-2] - x.shape[-2], like.shape[-1] - x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), mode="reflect") if bottom or right else x


class NestNetwork(FusionNetwork):
    """Encodes both images, fuses each scale by `fuse_features`, decodes; large ones in parts."""

    min_side = MIN_SIDE
    size = (
        "any; with a side above 512, four parts that overlap by 5 pixels, cut at the middle, "
        "averaged where they overlap"
    )
    channels_last = True

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = NestAutoEncoder()

    @abstractmethod
    def fuse_features(self, ir: list[Tensor], vis: list[Tensor]) -> list[Tensor]:
        """Fuse the features of four scales; the result has the same shapes."""

    def fuse_whole(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in one piece: what a training crop or a part goes through."""
        features = self.fuse_features(self.autoencoder.encode(ir), self.autoencoder.encode(vis))
        return self.autoencoder.decode(features)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse gray levels (B, 1, H, W) in 0..255, at least 16 a side, in parts if large."""
        height, width = ir.shape[-2:]
        if max(height, width) <= LARGEST_WHOLE:
            return self.fuse_whole(ir, vis)
        total, count = torch.zeros_like(ir), torch.zeros_like(ir)
        for rows in _halves(height):
            for columns in _halves(width):
                part = (..., rows, columns)
                total[part] += self.fuse_whole(ir[part], vis[part])
                count[part] += 1
        return total / count


def _halves(length: int) -> list[slice]:
    """Cut a side in two; a side too short for that, which the authors' code refuses, stays."""
    if length < SHORTEST_CUT:
        return [slice(0, length)]
    middle = length // 2
    return [slice(0, middle + 3), slice(middle - 2, length)]


def channel_mean(x: Tensor) -> Tensor:
    """Features (B, C, H, W) -> (B, 1, H, W): the activity of spatial attention."""
    return x.mean(dim=1, keepdim=True)


def softmax_attention(ir: Tensor, vis: Tensor, activity: Callable[[Tensor], Tensor]) -> Tensor:
    """Weigh features by exp(activity) / (exp(activity) + exp(the other's) + 1e-5)."""
    a, b = activity(ir), activity(vis)

    def weight(own: Tensor, other: Tensor) -> Tensor:  # without overflow
        return 1 / (1 + torch.exp(other - own) + EPS * torch.exp(-own))

    return weight(a, b) * ir + weight(b, a) * vis


#: The global value of a channel, by name: features (B, C, H, W) -> (B, C, 1, 1).
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: x.mean(dim=(-2, -1), keepdim=True),
    "maximum": lambda x: x.amax(dim=(-2, -1), keepdim=True),
    # Sum of the singular values of each map, with 1e-5 added to every pixel as released.
    "nuclear": lambda x: torch.linalg.svdvals(x + EPS).sum(dim=-1)[..., None, None],
}


def channel_attention(ir: Tensor, vis: Tensor, pooling: str) -> Tensor:
    """Weigh each channel of features (B, C, H, W), not negative, by its share of global values."""
    a, b = POOLINGS[pooling](ir), POOLINGS[pooling](vis)
    total = a + b + EPS
    return a / total * ir + b / total * vis


class NestFuse(NestNetwork):
    """The NestFuse network. Swapping the images does not change the result.

    Parameters
    ----------
    pooling : {"average", "maximum", "nuclear"}
        Global value of each channel in the channel attention.
    """

    def __init__(self, pooling: str = "average") -> None:
        super().__init__()
        check_choice("pooling of NestFuse", pooling, POOLINGS)
        self.pooling = pooling

    def fuse_features(self, ir: list[Tensor], vis: list[Tensor]) -> list[Tensor]:
        """Fuse the features of four scales by spatial and channel attention."""
        return [
            (channel_attention(a, b, self.pooling) + softmax_attention(a, b, channel_mean)) / 2
            for a, b in zip(ir, vis, strict=True)
        ]


#: For the auto-encoder's tensors.
NAMES: Names = {
    r"^DB(\d)_0\.": lambda found: f"autoencoder.encoder.{int(found[1]) - 1}.",
    r"^DB(\d)_(\d)\.": lambda found: f"autoencoder.decoder.{int(found[1]) - 1}_{found[2]}.",
    r"\.denseblock\.0\.conv2d\.": ".wide.",
    r"\.denseblock\.1\.conv2d\.": ".point.",
    r"^conv0\.conv2d\.": "autoencoder.first.",
    r"^conv_out\.conv2d\.": "autoencoder.last.",
}

AVERAGE = Configuration(
    summary="channel attention by the average, first in the authors' code",
    build=NestFuse,
    weights=weight_files("nestfuse"),
    post="minmax",
    quantise="truncate",
    adapt=partial(rename, NAMES),
)
MAXIMUM, NUCLEAR = partial(NestFuse, "maximum"), partial(NestFuse, "nuclear")

METHOD = MethodSpec(
    name="nestfuse",
    title="NestFuse",
    paper="Li, Wu and Durrani, NestFuse: An Infrared and Visible Image Fusion Architecture Based "
    "on Nest Connection and Spatial/Channel Attention Models, IEEE TIM 69(12), 2020",
    doi="10.1109/TIM.2020.3005230",
    year=2020,
    kind="auto-encoder",
    configurations={
        "average": AVERAGE,
        "maximum": replace(AVERAGE, summary="channel attention by the maximum", build=MAXIMUM),
        "nuclear": replace(AVERAGE, summary="channel attention by the nuclear norm", build=NUCLEAR),
    },
)
