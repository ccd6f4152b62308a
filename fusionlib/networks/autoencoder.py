"""What the auto-encoder networks share: encode each image, fuse features, decode."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from ..rules import Rule, get_rule
from .network import FusionNetwork

__all__ = ["AutoEncoder", "conv", "rename_layers", "tensorflow_tensors"]


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """Convolution of stride 1 with reflect padding that keeps the size."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, padding_mode="reflect")


def rename_layers(tensors: dict[str, Tensor], layers: dict[str, str]) -> dict[str, Tensor]:
    """Rename the tensors of the layers listed (theirs -> ours) and keep all others.

    So ours load unchanged, and strict loading reports any that is not known.
    """
    state = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        state[f"{layers[layer]}.{part}" if layer in layers else name] = tensor
    return state


def tensorflow_tensors(tensors: dict[str, Tensor], layers: dict[str, str]) -> dict[str, Tensor]:
    """Rename TensorFlow's kernels (H, W, in, out) and biases, and turn kernels to PyTorch's order.

    Tensors outside the scopes in `layers` are kept, so that ours load unchanged and strict
    loading reports any other.
    """
    state = {}
    for name, tensor in tensors.items():
        scope, _, part = name.rpartition("/")
        if scope not in layers:
            state[name] = tensor
        elif part == "kernel" and tensor.ndim == 4:
            state[f"{layers[scope]}.weight"] = tensor.permute(3, 2, 0, 1).contiguous()
        else:
            state[f"{layers[scope]}.{part}"] = tensor
    return state


class AutoEncoder(FusionNetwork):
    """An encoder shared by all images, a fusion rule on its features, one decoder.

    Subclasses define `encode` and `decode`. The steps are separate methods so that
    `fusionlib.tiles` can run them tile by tile.

    Attributes
    ----------
    rule : Rule
        Applied to each group of features by itself.
    groups : int
        Into how many equal groups of channels the features are split for the rule
        (MSDNet: one per scale).
    radius, min_side
        As for every `FusionNetwork`; the radius is bounded.
    """

    groups: int = 1
    radius: int

    def __init__(self, rule: str | Rule) -> None:
        super().__init__()
        self.rule = get_rule(rule)

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Turn an image (B, 1, H, W) into features (B, C, H, W)."""

    @abstractmethod
    def decode(self, features: Tensor) -> Tensor:
        """Turn features (B, C, H, W) into an image (B, 1, H, W)."""

    def with_rule(self, rule: str | Rule) -> Self:
        """Return this network, layers and weights shared, with another rule.

        Raises
        ------
        UnknownName
            If there is no such rule.
        """
        other = copy.copy(self)
        other.rule = get_rule(rule)
        return other

    def activity(self, features: Tensor) -> Tensor:
        """Activity maps of each feature group: (B, C, H, W) -> (groups, B, maps, H, W)."""
        assert self.rule.activity is not None
        return torch.stack([self.rule.activity(f) for f in features.chunk(self.groups, dim=1)])

    def weigh(self, activities: Tensor) -> Tensor:
        """Activities of K images (K, groups, B, maps, H, W) -> weights (K, groups, B, 1, H, W)."""
        assert self.rule.weigh is not None
        if self.groups == 1:  # whole maps of a large image are not copied
            return self.rule.weigh(activities[:, 0])[:, None]
        return torch.stack([self.rule.weigh(a) for a in activities.unbind(1)], dim=1)

    def fuse(self, features: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """Fuse the features of K images; weights (K, groups, B, 1, H, W) may be given.

        The features of a single image are returned as they are.
        """
        if len(features) == 1:
            return features[0]
        chunks = zip(*(f.chunk(self.groups, dim=1) for f in features), strict=True)
        fused = [
            self.rule(chunk, None if weights is None else weights[:, group])
            for group, chunk in enumerate(chunks)
        ]
        return fused[0] if self.groups == 1 else torch.cat(fused, dim=1)

    def forward(self, *images: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) into one; a single image is reconstructed."""
        return self.decode(self.fuse([self.encode(image) for image in images]))
