"""CDDFuse: base features by attention, detail features by invertible blocks.

One encoder of four Restormer blocks serves both images and splits the features in two: base
features, by attention between channels, and detail features, by three invertible coupling blocks. A
layer of either kind fuses the *sum* of the images' features; a decoder of four Restormer blocks
adds the visible image to its result before the sigmoid. 1,188,272 parameters. The authors leave the
conversion to 8 bits to scikit-image 0.19 (imageio), which rounds.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .attention import BLOCK_NAMES, AttentionBlock
from .network import FusionNetwork, Names, rename

__all__ = ["METHOD", "CDDFuse", "CouplingBlock", "Decoder", "Encoder"]

CHANNELS = 64


def _restormer_blocks() -> nn.Sequential:
    return nn.Sequential(*(AttentionBlock(CHANNELS, depthwise=True) for _ in range(4)))


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
    """Invertible block: channels are shuffled and split, then each half changes the other."""

    def __init__(self) -> None:
        super().__init__()
        self.shuffle = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.phi, self.rho, self.eta = (_bottleneck(CHANNELS // 2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to the same shape."""
        first, second = self.shuffle(x).chunk(2, dim=1)
        second = second + self.phi(first)
        first = first * torch.exp(self.rho(second)) + self.eta(second)
        return torch.cat([first, second], dim=1)


class Encoder(nn.Module):
    """Features that both images share, and their split into base and detail features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False)
        self.blocks = _restormer_blocks()
        self.base = AttentionBlock(CHANNELS, depthwise=False)
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
        self.blocks = _restormer_blocks()
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

    min_side = 2

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.fuse_base = AttentionBlock(CHANNELS, depthwise=False)
        self.fuse_detail = CouplingBlock()
        self.decoder = Decoder()

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse gray levels (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W) in 0..1."""
        ir_base, ir_detail = self.encoder(ir)
        vis_base, vis_detail = self.encoder(vis)
        base = self.fuse_base(ir_base + vis_base)
        detail = self.fuse_detail(ir_detail + vis_detail)
        return self.decoder(base, detail, vis)


NAMES: Names = {
    **BLOCK_NAMES,
    r"^DIDF_Encoder\.patch_embed\.proj\.": "encoder.first.",
    r"^DIDF_Encoder\.encoder_level1\.": "encoder.blocks.",
    r"^DIDF_Encoder\.baseFeature\.": "encoder.base.",
    r"^DIDF_Encoder\.detailFeature\.net\.": "encoder.detail.",
    r"^DIDF_Decoder\.reduce_channel\.": "decoder.reduce.",
    r"^DIDF_Decoder\.encoder_level2\.": "decoder.blocks.",
    r"^DIDF_Decoder\.output\.": "decoder.last.",
    r"^BaseFuseLayer\.": "fuse_base.",
    r"^DetailFuseLayer\.net\.0\.": "fuse_detail.",
    r"\.shffleconv\.": ".shuffle.",
    # The authors' bottleneck pads in a layer of its own.
    r"\.theta_(\w+)\.bottleneckBlock\.([035])\.": lambda at: f".{at[1]}.{int(at[2]) // 2 * 2}.",
}

METHOD = MethodSpec(
    name="cddfuse",
    title="CDDFuse",
    paper="Zhao et al., CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition for "
    "Multi-Modality Image Fusion, CVPR 2023",
    doi="10.1109/CVPR52729.2023.00572",
    year=2023,
    kind="transformer",
    configurations={
        "released": Configuration(
            summary="the authors' release, stretched per image",
            build=CDDFuse,
            weights=weight_files("cddfuse", "cddfuse_retrained"),
            post="minmax",
            quantise="round",
            levels=Levels(0, 1),
            adapt=partial(rename, NAMES),
        ),
    },
)
