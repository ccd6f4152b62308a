"""What CDDFuse and EMMA share: transformer blocks whose attention is between channels.

The blocks are those of Restormer (Zamir et al., CVPR 2022, doi
10.1109/CVPR52688.2022.00564), and a variant with full convolutions where Restormer has
depthwise ones. Attention between the channels of one head costs time and memory
proportional to the number of pixels, but every output depends on the whole image.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AttentionBlock", "ChannelAttention", "ChannelNorm", "GatedMLP", "block_names"]

# Each tensor of a block as Restormer (first of two) or CDDFuse and EMMA name it -> ours.
NAMES = {
    "norm1.body.weight": "norm1.weight",
    "norm1.body.bias": "norm1.bias",
    "norm2.body.weight": "norm2.weight",
    "norm2.body.bias": "norm2.bias",
    "attn.temperature": "attention.temperature",
    "attn.scale": "attention.temperature",
    "attn.qkv.weight": "attention.expand.weight",
    "attn.qkv1.weight": "attention.expand.weight",
    "attn.qkv_dwconv.weight": "attention.mix.weight",
    "attn.qkv2.weight": "attention.mix.weight",
    "attn.project_out.weight": "attention.project.weight",
    "attn.proj.weight": "attention.project.weight",
    "ffn.project_in.weight": "mlp.expand.weight",
    "mlp.project_in.weight": "mlp.expand.weight",
    "ffn.dwconv.weight": "mlp.mix.weight",
    "mlp.dwconv.weight": "mlp.mix.weight",
    "ffn.project_out.weight": "mlp.project.weight",
    "mlp.project_out.weight": "mlp.project.weight",
}


def block_names(theirs: str, ours: str) -> dict[str, str]:
    """Return the authors' names of an attention block's tensors -> ours, with both prefixes."""
    return {f"{theirs}.{a}": f"{ours}.{b}" for a, b in NAMES.items()}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) over C."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelAttention(nn.Module):
    """Self-attention between the channels of each head, over all pixels.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    groups : int
        Groups of the 3x3 convolution that follows the 1x1 convolution to queries, keys and
        values; ``3 * channels`` makes it depthwise, as in Restormer.
    heads : int
        Heads: runs of consecutive channels; must divide `channels`.
    """

    def __init__(self, channels: int, groups: int = 1, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.expand = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.mix = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=groups, bias=False)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        parts = self.mix(self.expand(x)).chunk(3, dim=1)
        q, k, v = (part.flatten(2).unflatten(1, (self.heads, -1)) for part in parts)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        weights = (scores * self.temperature).softmax(dim=-1)
        return self.project((weights @ v).view_as(x))


class GatedMLP(nn.Module):
    """Two hidden layers of convolutions, one of which gates the other after a GELU.

    Parameters
    ----------
    channels, hidden : int
        Channels of input and output, and of the gated product.
    groups : int
        Groups of the 3x3 convolution on ``2 * hidden`` channels.
    padding_mode : {"zeros", "reflect"}
        Of that convolution.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        groups: int,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.mix = nn.Conv2d(
            2 * hidden,
            2 * hidden,
            3,
            padding=1,
            groups=groups,
            bias=False,
            padding_mode=padding_mode,
        )
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        gate, x = self.mix(self.expand(x)).chunk(2, dim=1)
        return self.project(F.gelu(gate) * x)


class AttentionBlock(nn.Module):
    """Attention and a gated MLP, each on normalised features and added to its input.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    attention : ChannelAttention
        The attention.
    mlp : GatedMLP
        What follows it.
    """

    def __init__(self, channels: int, attention: ChannelAttention, mlp: GatedMLP) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = attention
        self.norm2 = ChannelNorm(channels)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))
