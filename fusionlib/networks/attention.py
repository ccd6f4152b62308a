"""What CDDFuse and EMMA share: transformer blocks whose attention is between channels.

The blocks are those of Restormer (Zamir et al., CVPR 2022, doi 10.1109/CVPR52688.2022.00564), and a
variant with full convolutions where Restormer has depthwise ones. Attention between the channels of
one head costs time and memory proportional to the number of pixels, but every output depends on the
whole image.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BLOCK_NAMES", "AttentionBlock", "ChannelAttention", "ChannelNorm", "GatedMLP"]

HEADS = 8
Padding = Literal["zeros", "reflect"]

#: For a block's tensors, as Restormer, CDDFuse or EMMA name them.
BLOCK_NAMES = {
    r"\.norm(\d)\.body\.": r".norm\1.",
    r"\.attn\.(temperature|scale)$": ".attention.temperature",
    r"\.attn\.qkv1?\.": ".attention.expand.",
    r"\.attn\.qkv(_dwconv|2)\.": ".attention.mix.",
    r"\.attn\.proj(ect_out)?\.": ".attention.project.",
    r"\.(ffn|mlp)\.project_in\.": ".mlp.expand.",
    r"\.(ffn|mlp)\.dwconv\.": ".mlp.mix.",
    r"\.(ffn|mlp)\.project_out\.": ".mlp.project.",
}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) over C."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelAttention(nn.Module):
    """Self-attention between the consecutive channels of each head, over all pixels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.expand = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.mix = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=groups, bias=False)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        parts = self.mix(self.expand(x)).chunk(3, dim=1)
        q, k, v = (part.flatten(2).unflatten(1, (HEADS, -1)) for part in parts)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        weights = (scores * self.temperature).softmax(dim=-1)
        return self.project((weights @ v).view_as(x))


class GatedMLP(nn.Module):
    """Convolutions to hidden channels, half of which gate the others after a GELU."""

    def __init__(self, channels: int, hidden: int, groups: int, padding_mode: Padding) -> None:
        super().__init__()
        wide = 2 * hidden
        self.expand = nn.Conv2d(channels, wide, 1, bias=False)
        self.mix = nn.Conv2d(
            wide, wide, 3, padding=1, groups=groups, bias=False, padding_mode=padding_mode
        )
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        gate, x = self.mix(self.expand(x)).chunk(2, dim=1)
        return self.project(F.gelu(gate) * x)


class AttentionBlock(nn.Module):
    """Attention and a gated MLP, each on normalised features and added to its input.

    As in Restormer, the attention's 3x3 convolution is `depthwise` and the MLP has twice the
    channels, or neither; the padding is of the MLP's convolution.
    """

    def __init__(self, channels: int, *, depthwise: bool, padding_mode: Padding = "zeros") -> None:
        super().__init__()
        hidden, groups = (2 * channels, 4 * channels) if depthwise else (channels, channels)
        self.norm1 = ChannelNorm(channels)
        self.attention = ChannelAttention(channels, groups=3 * channels if depthwise else 1)
        self.norm2 = ChannelNorm(channels)
        self.mlp = GatedMLP(channels, hidden, groups, padding_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))
