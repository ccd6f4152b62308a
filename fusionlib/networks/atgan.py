"""AT-GAN: a small generator with intensity attention and semantic transition.

Three dense 3x3 convolutions for each image; channel attention on the infrared features (intensity
attention), two more convolutions on the visible ones (semantic transition). All these features and
both images, 92 channels, are fused by a 3x3 and a 1x1 convolution. Zero padding, batch
normalisation, LeakyReLU of slope 0.2; 10,893 parameters.

The published images are enhanced after fusion: contrast-limited adaptive histogram equalisation
(CLAHE) of the 8-bit result, which raises entropy and gradients.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, Names, rename, zero_conv

__all__ = ["ATGAN", "METHOD", "IntensityAttention"]

SLOPE = 0.2


def _layer(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    convolution = zero_conv(channels_in, channels_out, kernel)
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(channels_out)))


class IntensityAttention(nn.Module):
    """Attention between channels: the less two are alike, the more they mix."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.shortcut = zero_conv(channels_in, channels_out, 1)
        self.query, self.key, self.value = (
            zero_conv(channels_in, channels_out, 3) for _ in range(3)
        )
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, channels_in, H, W) to the result and the values, (B, channels_out, H, W)."""
        value = self.value(x)
        query, key, flat = (t.flatten(2) for t in (self.query(x), self.key(x), value))
        # Products over all pixels. The published subtraction from each row's largest product
        # does not change the softmax.
        attention = torch.softmax(-query @ key.transpose(1, 2), dim=-1)
        mixed = (attention @ flat).view_as(value)
        return self.strength * mixed + self.shortcut(x), value


class ATGAN(FusionNetwork):
    """The generator of AT-GAN, on gray images in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.ir = nn.ModuleList([_layer(1, 4), _layer(5, 8), _layer(13, 4)])
        self.vis = nn.ModuleList([_layer(1, 4), _layer(5, 8), _layer(13, 4)])
        self.attention = nn.ModuleList([IntensityAttention(4, 1), IntensityAttention(8, 2)])
        self.transition = nn.ModuleList([zero_conv(12, 8, 3), zero_conv(12, 8, 3)])
        self.mix = _layer(92, 8)
        self.last = _layer(100, 1, kernel=1)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in -1..1 and another into one in -1..1."""
        # The order of concatenation is the authors', which differs between the two images.
        ir_features = _dense(self.ir, ir, newest_first=True)
        vis_features = _dense(self.vis, vis, newest_first=False)
        _, _, _, c2, _, c3 = ir_features
        on_third, on_second = self.attention
        ir_features += [*on_third(c3), *on_second(c2)]
        _, c1, _, c2, _, c3 = vis_features
        from_third, from_second = self.transition
        s2 = from_third(torch.cat([c3, c2], dim=1))
        s1 = from_second(torch.cat([s2, c1], dim=1))
        x = torch.cat([*ir_features, *vis_features, s2, s1], dim=1)
        mixed = F.leaky_relu(self.mix(x), SLOPE)
        return torch.tanh(self.last(torch.cat([x, mixed], dim=1)))


def _dense(layers: nn.ModuleList, image: Tensor, *, newest_first: bool) -> list[Tensor]:
    """An image, its features after each of three layers, and what enters the next layer."""
    first, second, third = layers
    c1 = F.leaky_relu(first(image), SLOPE)
    dense1 = torch.cat([image, c1], dim=1)
    c2 = F.leaky_relu(second(dense1), SLOPE)
    dense2 = torch.cat([c2, dense1] if newest_first else [dense1, c2], dim=1)
    return [image, c1, dense1, c2, dense2, F.leaky_relu(third(dense2), SLOPE)]


NAMES: Names = {
    r"^gfusion\.sn_conv1\.": "mix.conv.",
    r"^gfusion\.bn1\.": "mix.norm.",
    r"^gfusion\.sn_conv2\.": "last.conv.",
    r"^gfusion\.bn2\.": "last.norm.",
    r"^vi_": "vis_",
    r"^(ir|vis)_conv(\d)\.": lambda found: f"{found[1]}.{int(found[2]) - 1}.conv.",
    r"^(ir|vis)_bn(\d)\.": lambda found: f"{found[1]}.{int(found[2]) - 1}.norm.",
    # Their first semantic module is the one that runs first, on the deeper features.
    r"^semantic(\d)\.sconv\.": lambda found: f"transition.{int(found[1]) - 1}.",
    r"^brightA(\d)\.": lambda found: f"attention.{int(found[1]) - 1}.",
    r"\.gamma$": ".strength",
    r"\.xconv\.": ".shortcut.",
    r"\.qconv\.": ".query.",
    r"\.kconv\.": ".key.",
    r"\.vconv\.": ".value.",
}

METHOD = MethodSpec(
    name="atgan",
    title="AT-GAN",
    paper="Rao, Wu, Han, Wang, Yang, Lei, Zhou, Bai and Xing, AT-GAN: A generative adversarial "
    "network with attention and transition for infrared and visible image fusion, "
    "Information Fusion 92, 2023",
    doi="10.1016/j.inffus.2022.12.007",
    year=2023,
    kind="generative adversarial",
    configurations={
        "released": Configuration(
            summary="PyTorch release, truncated to 8 bits and equalised by CLAHE",
            build=ATGAN,
            weights=weight_files("atgan"),
            post="clahe",
            quantise="truncate",
            levels=Levels(-1, 1),
            adapt=partial(rename, NAMES),
        ),
    },
)
