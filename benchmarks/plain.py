"""Networks whose modules are written for speed, again as their texts read: of the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fusionlib.networks.aefusion import AEFusion, AxialAttention
from fusionlib.networks.mufusion import MUFusion
from fusionlib.networks.network import FusionNetwork
from fusionlib.networks.refinefuse import PSIM, SFIM, RefineFuse


def interleave(module: SFIM, ir: Tensor, vis: Tensor) -> Tensor:
    """Compute SFIM as equations 1 and 2 have it: channels interleaved, one grouped convolution."""
    both = torch.cat([ir, vis], dim=1)
    pooled = torch.cat([both.amax(1, keepdim=True), both.mean(1, keepdim=True)], dim=1)
    maps = torch.sigmoid(module.attention(pooled))
    ir, vis = ir + ir * maps[:, :1], vis + vis * maps[:, 1:]
    weight = torch.cat([module.fuse_ir.weight, module.fuse_vis.weight], dim=1)
    pairs = torch.stack([ir, vis], dim=2).flatten(1, 2)
    fused = F.conv2d(pairs, weight, module.fuse_ir.bias, padding=1, groups=len(weight))
    return F.relu(fused)


def attend(module: PSIM, query: Tensor, key: Tensor, value: Tensor, like: Tensor) -> Tensor:
    """Compute equation 4 with the whole attention map."""
    q, k, v = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
    context = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v
    context = context.transpose(1, 2).unflatten(2, query.shape[-2:])
    return F.interpolate(context, like.shape[-2:], mode="bilinear")


def plain_refinefuse(network: RefineFuse) -> RefineFuse:
    """Return RefineFuse as its text has SFIM and PSIM."""
    plain = RefineFuse()
    plain.load_state_dict(network.state_dict())
    for join in plain.joins:
        if isinstance(join, SFIM):
            join.forward = lambda ir, vis, join=join: interleave(join, ir, vis)
        else:
            join._context = lambda *given, join=join: attend(join, *given)
    return plain


class PlainMUFusion(MUFusion):
    """MUFusion: each layer pads for itself, bicubic by `F.interpolate`."""

    together = 1

    def __init__(self) -> None:
        super().__init__()
        self.decoder[-1] = torch.nn.Conv2d(64, 1, 3)

    def fuse_patches(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse patches, see `MUFusion.fuse_patches`."""

        def use(layer: torch.nn.Module, *features: Tensor) -> Tensor:
            return layer(F.pad(torch.cat(features, dim=1), (1, 1, 1, 1), mode="reflect"))

        first, second, third, fourth, fifth, sixth = self.encoder
        e1 = torch.relu(use(first, ir, vis))
        e2 = torch.relu(use(second, e1))
        e3 = torch.relu(use(third, e1, e2))
        e4 = torch.relu(use(fourth, e3))
        e5 = torch.relu(use(fifth, e3, e4))
        e6 = torch.relu(use(sixth, e3, e4, e5))
        deepest, *middle, shallow, last = self.decoder
        x = torch.relu(use(deepest, e6))
        for layer, skip in zip(middle, (e5, e4, e3), strict=True):
            x = torch.relu(use(layer, skip, x))
        x = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        x = torch.relu(use(shallow, e2, x))
        return torch.tanh(use(last, e1, x))


def plain_mufusion(network: MUFusion) -> MUFusion:
    """Return MUFusion layer by layer."""
    plain = PlainMUFusion()
    plain.load_state_dict(network.state_dict())
    return plain


class PlainAttention(AxialAttention):
    """Axial attention: three maps, normalised, added; all lines at once."""

    def forward(self, lines: Tensor) -> Tensor:
        """Map lines (N, C, length) to (N, C, length)."""
        half = self.channels // 2
        parts = [half, half, self.channels]
        q, k, v = self.qkv_norm(self.qkv(lines)).split(parts, dim=1)
        table = self.relative.unfold(1, self.length, 1).flip(-1)
        q_place, k_place, v_place = table.split(parts, dim=0)
        content = torch.einsum("nci,ncj->nij", q, k)
        query = torch.einsum("nci,cij->nij", q, q_place)
        key = torch.einsum("ncj,cji->nij", k, k_place)
        maps = self.similarity_norm(torch.stack([content, query, key], dim=1))
        weights = maps.sum(dim=1).softmax(dim=-1)
        values = torch.einsum("nij,ncj->nci", weights, v)
        place = torch.einsum("nij,cij->nci", weights, v_place)
        both = self.output_norm(torch.stack([values, place], dim=2).flatten(1, 2))
        return both.unflatten(1, (self.channels, 2)).sum(dim=2)


def plain_aefusion(network: AEFusion) -> AEFusion:
    """Return AEFusion with whole attention."""
    plain = copy.deepcopy(network).eval()
    for module in plain.modules():
        if type(module) is AxialAttention:
            module.__class__ = PlainAttention
    return plain


#: Method -> its network as the text reads.
PLAIN: dict[str, Callable[[Any], FusionNetwork]] = {
    "refinefuse": plain_refinefuse,
    "mufusion": plain_mufusion,
    "aefusion": plain_aefusion,
}
