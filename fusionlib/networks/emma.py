"""EMMA: a U-Net whose blocks join attention between channels and residual convolutions.

EMMA is a way of training; the network that it trains is called U-Fuser. One encoder per image works
on four levels of 8, 16, 32 and 32 channels; a block fuses each level, a decoder goes back up.
1,517,657 parameters. Convolutions pad by reflection, but for that before the attention. On the
finest level each of the eight heads has one channel, which it weighs with 1: the temperatures there
never learn.

Sides that are not multiples of 32 are cut to the multiple below, and what is missing to the right
and below comes from crops at the image's other corners, as in the authors' test script. They leave
the conversion to 8 bits to scikit-image 0.19 (imageio), which rounds.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_rounded
from ..weights import weight_files
from .attention import BLOCK_NAMES, AttentionBlock
from .network import FusionNetwork, Names, rename

__all__ = ["EMMA", "METHOD", "Encoder", "HybridBlock", "ResidualBlock"]

CHANNELS = (8, 16, 32, 32)
MULTIPLE = 32  # of it the authors' script makes the sides; three strides of 2 would do with 8
_conv = partial(nn.Conv2d, kernel_size=3, padding=1, padding_mode="reflect", bias=False)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels, bias=True)
        self.second = _conv(channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return x + self.second(torch.relu(self.first(x)))


class HybridBlock(nn.Module):
    """A convolution, then attention and residual blocks side by side, then another."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.embed = _conv(channels_in, channels)
        self.attention = AttentionBlock(channels, depthwise=False, padding_mode="reflect")
        self.local = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.merge = _conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels, H, W)."""
        x = self.embed(x)
        return self.merge(torch.cat([self.attention(x), self.local(x)], dim=1))


class Encoder(nn.Module):
    """A block per level, and a convolution of stride 2 from each level to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(HybridBlock(a, b) for a, b in pairwise((1, *CHANNELS)))
        self.down = nn.ModuleList(_conv(c, c, stride=2) for c in CHANNELS[:-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn (B, 1, H, W) into the features of four levels, the finest first."""
        levels = [self.blocks[0](image)]
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            levels.append(block(down(levels[-1])))
        return levels


class EMMA(FusionNetwork):
    """EMMA's fusion network, U-Fuser."""

    min_side = MULTIPLE
    size = "any; four overlapping crops where a side is no multiple of 32"
    channels_last = True

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Encoder(), Encoder()
        self.fuse = nn.ModuleList(HybridBlock(2 * c, c) for c in CHANNELS)
        # From each level to the finer one.
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1, bias=False)
            for fine, coarse in pairwise(CHANNELS)
        )
        # Each level is joined with what comes up from below; the coarsest has nothing below it.
        *finer, coarsest = CHANNELS
        blocks = [HybridBlock(2 * c, c) for c in finer]
        self.decode = nn.ModuleList([*blocks, HybridBlock(coarsest, coarsest)])
        self.last = _conv(CHANNELS[0], 1, bias=True)

    def core(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in 0..1 whose sides are multiples of 8, at least 16."""
        pairs = zip(self.infrared(ir), self.visible(vis), strict=True)
        fused = [fuse(torch.cat(pair, dim=1)) for fuse, pair in zip(self.fuse, pairs, strict=True)]
        x = self.decode[-1](fused[-1])
        for level in (2, 1, 0):
            x = torch.relu(self.up[level](x))
            x = self.decode[level](torch.cat([x, fused[level]], dim=1))
        return torch.sigmoid(self.last(x))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1, at least 32 a side, into one in 0..1."""
        height, width = (side - side % MULTIPLE for side in ir.shape[-2:])
        fused = torch.empty_like(ir)
        for (top, row), (left, column) in product(*map(_crops, ir.shape[-2:])):
            window = (..., slice(top, top + height), slice(left, left + width))
            crop = self.core(ir[window], vis[window])
            part = crop[..., row - top :, column - left :]
            fused[..., row : top + height, column : left + width] = part
        return fused


def _crops(side: int) -> list[tuple[int, int]]:
    """Along one axis: where each crop starts, and from where on its result is used.

    A crop at the other end gives only the rows or columns that the first one lacks.
    """
    whole = side - side % MULTIPLE
    return [(0, 0)] if whole == side else [(0, 0), (side - whole, whole)]


PARTS = {
    **{"I_en": "infrared.blocks", "I_down": "infrared.down", "f": "fuse"},
    **{"V_en": "visible.blocks", "V_down": "visible.down", "de": "decode"},
}
NAMES: Names = {
    **BLOCK_NAMES,
    # The authors count levels from 1.
    r"^(I_en|V_en|f|de|I_down|V_down)_?(\d)\.": lambda at: f"{PARTS[at[1]]}.{int(at[2]) - 1}.",
    r"^up(\d)\.0\.": lambda found: f"up.{int(found[1]) - 2}.",
    r"\.GlobalFeature\.": ".attention.",
    r"\.LocalFeature\.Extraction\.(\d)\.conv\.0\.": r".local.\1.first.",
    r"\.LocalFeature\.Extraction\.(\d)\.conv\.2\.": r".local.\1.second.",
    r"\.FFN\.": ".merge.",
    r"^last\.0\.": "last.",
}

METHOD = MethodSpec(
    name="emma",
    title="EMMA",
    paper="Zhao et al., Equivariant Multi-Modality Image Fusion, CVPR 2024",
    doi="10.1109/CVPR52733.2024.02448",
    year=2024,
    kind="transformer",
    configurations={
        "released": Configuration(
            summary="the authors' release, stretched per image",
            build=EMMA,
            weights=weight_files("emma"),
            post="minmax",
            quantise="round",
            levels=Levels(0, 1),
            prepare=prepare_rounded,
            adapt=partial(rename, NAMES),
        ),
    },
)
