"""AT-GAN: a small generator with intensity attention and semantic transition.

Y. Rao, D. Wu, M. Han, T. Wang, Y. Yang, T. Lei, C. Zhou, H. Bai, L. Xing, "AT-GAN: A generative
adversarial network with attention and transition for infrared and visible image fusion",
Information Fusion 92, 2023, doi 10.1016/j.inffus.2022.12.007.

Three dense 3x3 convolutions for each image; channel attention on the infrared features
(intensity attention), two more convolutions on the visible ones (semantic transition). All
these features and both images, 92 channels, are fused by a 3x3 and a 1x1 convolution. Zero
padding, batch normalisation, LeakyReLU of slope 0.2; 10,893 parameters. Levels -1..1.

The published images are enhanced after fusion: contrast-limited adaptive histogram
equalisation (CLAHE) of the 8-bit result, which raises entropy and gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, zero_conv

__all__ = ["ATGAN", "METHOD", "IntensityAttention", "Layer"]

SLOPE = 0.2

# The attention's convolutions by the authors' names.
ATTENTION_PARTS = {"xconv": "shortcut", "qconv": "query", "kconv": "key", "vconv": "value"}


class Layer(nn.Module):
    """Convolution with zero padding, batch normalisation.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after.
    kernel : int
        Side of the kernel.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = zero_conv(channels_in, channels_out, kernel)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels_out, H, W)."""
        return self.norm(self.conv(x))


class IntensityAttention(nn.Module):
    """Attention between channels: the less two are alike, the more they mix.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.shortcut = zero_conv(channels_in, channels_out, 1)
        self.query = zero_conv(channels_in, channels_out, 3)
        self.key = zero_conv(channels_in, channels_out, 3)
        self.value = zero_conv(channels_in, channels_out, 3)
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

    # Attention is over all pixels, so there is no bounded radius.

    def __init__(self) -> None:
        super().__init__()
        self.ir = nn.ModuleList([Layer(1, 4), Layer(5, 8), Layer(13, 4)])
        self.vis = nn.ModuleList([Layer(1, 4), Layer(5, 8), Layer(13, 4)])
        self.attention = nn.ModuleList([IntensityAttention(4, 1), IntensityAttention(8, 2)])
        self.transition = nn.ModuleList([zero_conv(12, 8, 3), zero_conv(12, 8, 3)])
        self.mix = Layer(92, 8)
        self.last = Layer(100, 1, kernel=1)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) in -1..1 and another into one in -1..1."""
        x = torch.cat([*self._ir_features(ir), *self._vis_features(vis)], dim=1)
        mixed = F.leaky_relu(self.mix(x), SLOPE)
        return torch.tanh(self.last(torch.cat([x, mixed], dim=1)))

    # The order of concatenation is the authors', which differs between the two images.

    def _ir_features(self, ir: Tensor) -> list[Tensor]:
        first, second, third = self.ir
        c1 = F.leaky_relu(first(ir), SLOPE)
        dense1 = torch.cat([ir, c1], dim=1)
        c2 = F.leaky_relu(second(dense1), SLOPE)
        dense2 = torch.cat([c2, dense1], dim=1)
        c3 = F.leaky_relu(third(dense2), SLOPE)
        on_third, on_second = self.attention
        return [ir, c1, dense1, c2, dense2, c3, *on_third(c3), *on_second(c2)]

    def _vis_features(self, vis: Tensor) -> list[Tensor]:
        first, second, third = self.vis
        c1 = F.leaky_relu(first(vis), SLOPE)
        dense1 = torch.cat([vis, c1], dim=1)
        c2 = F.leaky_relu(second(dense1), SLOPE)
        dense2 = torch.cat([dense1, c2], dim=1)
        c3 = F.leaky_relu(third(dense2), SLOPE)
        from_third, from_second = self.transition
        s2 = from_third(torch.cat([c3, c2], dim=1))
        s1 = from_second(torch.cat([s2, c1], dim=1))
        return [vis, c1, dense1, c2, dense2, c3, s2, s1]


def _from_pytorch(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    modules = {"gfusion.sn_conv1": "mix.conv", "gfusion.bn1": "mix.norm"}
    modules |= {"gfusion.sn_conv2": "last.conv", "gfusion.bn2": "last.norm"}
    for theirs, ours in {"ir": "ir", "vi": "vis"}.items():
        for i in range(3):
            modules[f"{theirs}_conv{i + 1}"] = f"{ours}.{i}.conv"
            modules[f"{theirs}_bn{i + 1}"] = f"{ours}.{i}.norm"
    for i in range(2):
        # Their first semantic module is the one that runs first, on the deeper features.
        modules[f"semantic{i + 1}.sconv"] = f"transition.{i}"
        modules[f"brightA{i + 1}"] = f"attention.{i}"
        for part, ours in ATTENTION_PARTS.items():
            modules[f"brightA{i + 1}.{part}"] = f"attention.{i}.{ours}"
    state = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if module in modules:
            name = f"{modules[module]}.{'strength' if part == 'gamma' else part}"
        # The count of batches is stored as a vector of one.
        state[name] = tensor.reshape(()) if part == "num_batches_tracked" else tensor
    return state


METHOD = MethodSpec(
    name="atgan",
    title="AT-GAN",
    paper="Rao, Wu, Han, Wang, Yang, Lei, Zhou, Bai and Xing, AT-GAN: A generative adversarial "
    "network with attention and transition for infrared and visible image fusion, "
    "Information Fusion 92, 2023",
    doi="10.1016/j.inffus.2022.12.007",
    year=2023,
    kind="generative adversarial",
    licence="none stated",
    axis="pipeline",
    configurations={
        "released": Configuration(
            summary="PyTorch release, truncated to 8 bits and equalised by CLAHE",
            build=ATGAN,
            weights=weight_files("atgan"),
            post="clahe",
            quantise="truncate",
            levels=Levels(-1, 1),
            adapt=_from_pytorch,
        ),
    },
)
