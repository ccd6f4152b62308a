"""AEFusion: a nest-connected auto-encoder with axial attention, fused by attention and entropy.

NestFuse's wiring, with 8 channels first, a softplus shifted through the origin before each ReLU,
and an axial attention block at the end of every block: each position attends to its column, then to
its row, with learnt relative positions. These fix the size: 256x256 at the full scale. The authors
resize every test image to 256x256 with OpenCV's bicubic interpolation and publish and score their
results at that size; here the result is brought back to the size of the images. 3,581,501
parameters.

At each scale the features are fused without parameters, by the mean of NestFuse's channel attention
(average or nuclear norm) and spatial attention and of a third weight, the softmax of the local
entropy of the summed features.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..weights import weight_files
from . import nestfuse
from .nestfuse import POOLINGS, NestAutoEncoder, channel_attention, channel_mean, softmax_attention
from .network import FusionNetwork, Names, check_choice, rename

__all__ = ["METHOD", "SIDE", "AEFusion", "AxialAttention", "AxialBlock"]

SIDE = 256  # height and width of the images that the attention takes
DISC = 7  # radius in pixels of the disc in which entropy is measured, at every scale
LINES_AT_ONCE = 64  # the fastest on a CPU: half the time of all 256


def shifted_softplus(x: Tensor) -> Tensor:
    """ReLU of (softplus(2x) - ln 2) / 2, a smooth ramp through the origin."""
    return torch.relu((F.softplus(2 * x) - math.log(2)) / 2)


class AxialAttention(nn.Module):
    """Self-attention along lines of a fixed length, with learnt relative positions."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.channels, self.length = channels, length
        self.qkv = nn.Conv1d(channels, 2 * channels, 1, bias=False)
        self.qkv_norm = nn.BatchNorm1d(2 * channels)
        self.similarity_norm = nn.BatchNorm2d(3)
        self.output_norm = nn.BatchNorm1d(2 * channels)
        # By distance, from 1 - length to length - 1.
        self.relative = nn.Parameter(torch.randn(2 * channels, 2 * length - 1) / channels**0.5)

    def forward(self, lines: Tensor) -> Tensor:
        """Map lines (N, C, length) to (N, C, length)."""
        if self.training:
            return self._attend(lines)
        # Lines have nothing to do with each other, and few of them stay in the caches.
        return torch.cat([self._attend(some) for some in lines.split(LINES_AT_ONCE)])

    def _attend(self, lines: Tensor) -> Tensor:
        half = self.channels // 2
        parts = [half, half, self.channels]
        q, k, v = self.qkv_norm(self.qkv(lines)).split(parts, dim=1)
        # (C, i, j) holds the value of distance i - j.
        table = self.relative.unfold(1, self.length, 1).flip(-1)
        q_place, k_place, v_place = table.split(parts, dim=0)

        if self.training:
            maps = torch.stack(_similarities(q, k, q_place, k_place, k.new_ones(3)), dim=1)
            logits = self.similarity_norm(maps).sum(dim=1)
        else:
            # One factor per map, put on q and k; the shifts drop out in the softmax.
            norm = self.similarity_norm
            assert norm.running_var is not None
            factors = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            content, query, key = _similarities(q, k, q_place, k_place, factors)
            logits = content.add_(query).add_(key)
        weights = logits.softmax(dim=-1)

        content = v @ weights.mT
        place = torch.einsum("nij,cij->nci", weights, v_place)
        # Normalised in this order of channels: content 0, place 0, content 1, ...
        both = self.output_norm(torch.stack([content, place], dim=2).flatten(1, 2))
        return both.unflatten(1, (self.channels, 2)).sum(dim=2)


def _similarities(
    q: Tensor, k: Tensor, q_place: Tensor, k_place: Tensor, factors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Query i with key j, with j's place and key j with i's place: three maps (N, i, j)."""
    return (
        (factors[0] * q).mT @ k,
        torch.einsum("nci,cij->nij", factors[1] * q, q_place),
        torch.einsum("ncj,cji->nij", factors[2] * k, k_place),
    )


class AxialBlock(nn.Module):
    """Residual block at half the channels: each position attends to its column, then its row."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.down_norm = nn.BatchNorm2d(channels // 2)
        self.height = AxialAttention(channels // 2, side)
        self.width = AxialAttention(channels // 2, side)
        self.up = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.up_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, side, side) to the same shape, not negative."""
        y = torch.relu(self.down_norm(self.down(x)))
        y = _along_rows(self.height, y.mT).mT
        y = torch.relu(_along_rows(self.width, y))
        return torch.relu(x + self.up_norm(self.up(y)))


def _along_rows(attention: AxialAttention, x: Tensor) -> Tensor:
    """Let every row of (B, C, H, W) attend to itself."""
    rows = x.transpose(1, 2)
    return attention(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).transpose(1, 2)


class AEFusion(FusionNetwork):
    """The AEFusion network. Swapping the images does not change the result.

    Parameters
    ----------
    pooling : {"average", "maximum", "nuclear"}
        Global value of each channel in the channel attention; published: average, nuclear.
    """

    size = "any; resized to 256x256 (bicubic, 8 bits), the result resized back"

    def __init__(self, pooling: str = "average") -> None:
        super().__init__()
        check_choice("pooling of AEFusion", pooling, POOLINGS)
        self.pooling = pooling
        self.autoencoder = NestAutoEncoder(
            first=8,
            activation=shifted_softplus,
            attention=lambda channels, scale: AxialBlock(channels, SIDE >> scale),
        )

    def fuse_features(self, ir: list[Tensor], vis: list[Tensor]) -> list[Tensor]:
        """Fuse the features of four scales by channel, spatial and entropy attention."""
        fused = []
        for a, b in zip(ir, vis, strict=True):
            spatial = softmax_attention(a, b, channel_mean)
            by_entropy = softmax_attention(a, b, local_entropy)
            fused.append((channel_attention(a, b, self.pooling) + spatial + by_entropy) / 3)
        return fused

    def fuse_square(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse gray levels (B, 1, 256, 256)."""
        features = self.fuse_features(self.autoencoder.encode(ir), self.autoencoder.encode(vis))
        return self.autoencoder.decode(features)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse gray levels (B, 1, H, W) in 0..255 at 256x256."""
        size = ir.shape[-2:]
        if size == (SIDE, SIDE):
            return self.fuse_square(ir, vis)
        # The authors' cv2.resize gives 8-bit images.
        square = [_resize(image, (SIDE, SIDE)).round().clamp(0, 255) for image in (ir, vis)]
        fused = self.fuse_square(*square)
        # Bicubic overshoot would change what the stretch to 0..255 does.
        low, high = fused.amin((-2, -1), keepdim=True), fused.amax((-2, -1), keepdim=True)
        return _resize(fused, size).clamp(low, high)


def _resize(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize as OpenCV's INTER_CUBIC: cubic convolution with a = -0.75, without antialiasing."""
    return F.interpolate(image, size, mode="bicubic", align_corners=False)


def local_entropy(features: Tensor) -> Tensor:
    """Shannon entropy in bits around each pixel, (B, C, H, W) -> (B, 1, H, W), without gradient.

    Of the features' sum over the channels, stretched over the whole map to 256 levels; in a disc
    of radius 7, without what lies outside the map.
    """
    from skimage.filters import rank
    from skimage.morphology import disk

    total = features.detach().sum(dim=1)
    low, high = total.amin((-2, -1), keepdim=True), total.amax((-2, -1), keepdim=True)
    # A constant map has no range: all its levels are 0.
    span = (high - low).clamp_min(torch.finfo(total.dtype).tiny)
    levels = ((total - low) / span * 255).round().to(torch.uint8).cpu().numpy()
    entropies = np.stack([rank.entropy(image, disk(DISC)) for image in levels])
    return torch.from_numpy(entropies).to(features)[:, None]


NAMES: Names = {
    **nestfuse.NAMES,
    r"\.denseblock\.2\.": ".attention.",
    r"\.conv_(down|up)\.": r".\1.",
    r"\.bn1\.": ".down_norm.",
    r"\.bn2\.": ".up_norm.",
    r"\.hight_block\.": ".height.",
    r"\.width_block\.": ".width.",
    r"\.qkv_transform\.": ".qkv.",
    r"\.bn_(qkv|similarity|output)\.": r".\1_norm.",
}

AVERAGE = Configuration(
    summary="channel attention by the average, first in the authors' code",
    build=AEFusion,
    weights=weight_files("aefusion"),
    post="minmax",
    quantise="truncate",
    adapt=partial(rename, NAMES),
)
NUCLEAR = partial(AEFusion, "nuclear")

METHOD = MethodSpec(
    name="aefusion",
    title="AEFusion",
    paper="Li et al., AEFusion: A multi-scale fusion network combining Axial attention and Entropy "
    "feature Aggregation for infrared and visible images, Applied Soft Computing 132, 2023",
    doi="10.1016/j.asoc.2022.109857",
    year=2023,
    kind="auto-encoder",
    configurations={
        "average": AVERAGE,
        "nuclear": replace(AVERAGE, summary="channel attention by the nuclear norm", build=NUCLEAR),
    },
)
