"""CDDFuse: base features by attention, detail features by invertible blocks.

Z. Zhao, H. Bai, J. Zhang, Y. Zhang, S. Xu, Z. Lin, R. Timofte, L. Van Gool, "CDDFuse:
Correlation-Driven Dual-Branch Feature Decomposition for Multi-Modality Image Fusion", CVPR
2023, doi 10.1109/CVPR52729.2023.00572.

One encoder of four Restormer blocks serves both images and splits the features in two: base
features, by attention between channels, and detail features, by three invertible coupling
blocks. A layer of either kind fuses the *sum* of the images' features; a decoder of four
Restormer blocks adds the visible image to its result before the sigmoid. 1,188,272 parameters.

Gray levels 0..1 in and out. The authors stretch the result to 0..255 and leave the conversion
to 8 bits to scikit-image 0.19 (imageio), which rounds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .attention import AttentionBlock, ChannelAttention, GatedMLP, block_names
from .network import FusionNetwork

__all__ = ["METHOD", "CDDFuse", "CouplingBlock", "Decoder", "Encoder"]

CHANNELS = 64


def _restormer_blocks(count: int) -> nn.Sequential:
    """Restormer blocks: depthwise convolutions, an MLP of twice the channels."""
    return nn.Sequential(
        *(
            AttentionBlock(
                CHANNELS,
                ChannelAttention(CHANNELS, groups=3 * CHANNELS),
                GatedMLP(CHANNELS, 2 * CHANNELS, groups=4 * CHANNELS),
            )
            for _ in range(count)
        )
    )


def _base_block() -> AttentionBlock:
    """Block for base features: a full convolution before the attention, no wider MLP."""
    return AttentionBlock(
        CHANNELS, ChannelAttention(CHANNELS), GatedMLP(CHANNELS, CHANNELS, groups=CHANNELS)
    )


def _bottleneck(channels: int) -> nn.Sequential:
    """Depthwise convolution between two 1x1 convolutions, at twice the channels."""
    hidden = 2 * channels
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.ReLU6(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False, padding_mode="reflect"),
        nn.ReLU6(),
        nn.Conv2d(hidden, channels, 1, bias=False),
    )


class CouplingBlock(nn.Module):
    """Invertible block: channels are shuffled and split, then each half changes the other.

    Parameters
    ----------
    channels : int
        Channels of input and output; even.
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.shuffle = nn.Conv2d(channels, channels, 1)
        self.phi = _bottleneck(channels // 2)
        self.rho = _bottleneck(channels // 2)
        self.eta = _bottleneck(channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        first, second = self.shuffle(x).chunk(2, dim=1)
        second = second + self.phi(first)
        first = first * torch.exp(self.rho(second)) + self.eta(second)
        return torch.cat([first, second], dim=1)


class Encoder(nn.Module):
    """Features that both images share, and their split into base and detail features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False)
        self.blocks = _restormer_blocks(4)
        self.base = _base_block()
        self.detail = nn.Sequential(*(CouplingBlock() for _ in range(3)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Turn (B, 1, H, W) into base and detail features, (B, 64, H, W) each."""
        features = self.blocks(self.first(image))
        return self.base(features), self.detail(features)


class Decoder(nn.Module):
    """From base and detail features to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(2 * CHANNELS, CHANNELS, 1, bias=False)
        self.blocks = _restormer_blocks(4)
        self.last = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(),
            nn.Conv2d(CHANNELS // 2, 1, 3, padding=1, bias=False),
        )

    def forward(self, base: Tensor, detail: Tensor, image: Tensor) -> Tensor:
        """Decode features (B, 64, H, W) to (B, 1, H, W) in 0..1.

        `image` (B, 1, H, W) is added before the sigmoid: the visible image when fusing, the
        image itself when one is reconstructed, as in the first phase of training.
        """
        output = self.last(self.blocks(self.reduce(torch.cat([base, detail], dim=1))))
        return torch.sigmoid(output + image)


class CDDFuse(FusionNetwork):
    """The CDDFuse network."""

    # The detail branch pads by reflection, which needs two pixels.
    min_side = 2

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.fuse_base = _base_block()
        self.fuse_detail = CouplingBlock()
        self.decoder = Decoder()

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse gray levels (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W) in 0..1."""
        ir_base, ir_detail = self.encoder(ir)
        vis_base, vis_detail = self.encoder(vis)
        base = self.fuse_base(ir_base + vis_base)
        detail = self.fuse_detail(ir_detail + vis_detail)
        return self.decoder(base, detail, vis)


def _coupling_names(theirs: str, ours: str) -> dict[str, str]:
    # The authors' bottleneck pads in a layer of its own.
    names = {
        f"{theirs}.theta_{part}.bottleneckBlock.{a}.weight": f"{ours}.{part}.{b}.weight"
        for part in ("phi", "rho", "eta")
        for a, b in ((0, 0), (3, 2), (5, 4))
    }
    for tensor in ("weight", "bias"):
        names[f"{theirs}.shffleconv.{tensor}"] = f"{ours}.shuffle.{tensor}"
    return names


def _from_pytorch(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    encoder, decoder = "DIDF_Encoder", "DIDF_Decoder"
    names = {
        f"{encoder}.patch_embed.proj.weight": "encoder.first.weight",
        f"{decoder}.reduce_channel.weight": "decoder.reduce.weight",
        f"{decoder}.output.0.weight": "decoder.last.0.weight",
        f"{decoder}.output.2.weight": "decoder.last.2.weight",
    }
    for i in range(4):
        names |= block_names(f"{encoder}.encoder_level1.{i}", f"encoder.blocks.{i}")
        names |= block_names(f"{decoder}.encoder_level2.{i}", f"decoder.blocks.{i}")
    names |= block_names(f"{encoder}.baseFeature", "encoder.base")
    names |= block_names("BaseFuseLayer", "fuse_base")
    for i in range(3):
        names |= _coupling_names(f"{encoder}.detailFeature.net.{i}", f"encoder.detail.{i}")
    names |= _coupling_names("DetailFuseLayer.net.0", "fuse_detail")
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


METHOD = MethodSpec(
    name="cddfuse",
    title="CDDFuse",
    paper="Zhao et al., CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition for "
    "Multi-Modality Image Fusion, CVPR 2023",
    doi="10.1109/CVPR52729.2023.00572",
    year=2023,
    kind="transformer",
    licence="none stated",
    axis="pipeline",
    configurations={
        "released": Configuration(
            summary="the authors' release, stretched per image",
            build=CDDFuse,
            weights=weight_files("cddfuse", "cddfuse_retrained"),
            post="minmax",
            quantise="round",
            levels=Levels(0, 1),
            adapt=_from_pytorch,
        ),
    },
)
