"""What every fusion network tells the code that runs it, and what networks share."""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

from ..errors import unknown
from ..rules import Rule, get_rule

__all__ = [
    *("AutoEncoder", "FusionNetwork", "Names", "PyramidNetwork"),
    *("check_choice", "conv", "conv_layers", "rename", "rename_tensorflow", "zero_conv"),
]

#: Regular expressions for the authors' names of tensors, each with what `re.sub` puts there.
Names = Mapping[str, str | Callable[[re.Match[str]], str]]


class FusionNetwork(nn.Module):
    """A network that fuses an infrared and a visible image.

    Attributes
    ----------
    radius : int or None
        How many pixels away an input pixel can change an output pixel, whatever the size of
        the image; such a network is run tile by tile. None where there is no such bound, or
        where the result depends on the position of the image's border (strides, windows).
    min_side : int
        The smallest height and width that `forward` takes; the method pads smaller images.
        Reflect padding by one pixel needs two, and so on.
    size : str
        What `forward` does with sizes that its layers cannot take, for the card.
    channels_last : bool
        Whether it is run in channels-last memory unless the caller decides, because it gains much.
        Results then differ by up to 2e-5 of the range from those of other memory.
    last_layers : tuple of str
        Names of the convolutions that make the image, where it is not the last of one channel.
    """

    radius: int | None = None
    min_side: int = 1
    size: str = "any"
    channels_last: bool = False
    last_layers: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W), at least `min_side` a side, into (B, 1, H, W)."""


class PyramidNetwork(FusionNetwork):
    """A network of several scales of which only the coarser ones need the whole image.

    ``forward(ir, vis)`` is ``finish(ir, vis, join(*descend(ir, vis)))``, of which the first and the
    last are run tile by tile: no pixel of theirs depends on one that is `halo` pixels of the image
    away or more.
    """

    halo: int  # even

    @abstractmethod
    def descend(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, ...]:
        """Turn images (B, 1, H, W) into features (B, C, h, w), h = H / 2 and w = W / 2 rounded up.

        Where a tile begins in the middle of an image, it begins at an even row and column.
        """

    @abstractmethod
    def join(self, *features: Tensor) -> Tensor:
        """Do all that happens at the coarser scales: (B, C, h, w) to (B, D, h, w)."""

    @abstractmethod
    def finish(self, ir: Tensor, vis: Tensor, coarse: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) with what `join` gave for that part, into (B, 1, H, W)."""


class AutoEncoder(FusionNetwork):
    """An encoder shared by all images, a fusion rule on its features, one decoder.

    Subclasses define `encode` and `decode`. `fusionlib.tiles` runs the steps tile by tile.

    Parameters
    ----------
    rule : str or Rule
        Applied to each of so many `groups`, equal runs of channels, by itself. `UnknownName` is
        raised if there is no such rule.
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
        """Turn features (B, C, H, W) into an image (B, 1, H, W), not clipped."""

    def with_rule(self, rule: str | Rule) -> Self:
        """Return this network, layers and weights shared, with another rule."""
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
        """Fuse features of K > 1 images; weights (K, groups, B, 1, H, W) may be given."""
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


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """Convolution of stride 1 with reflect padding that keeps the size; `kernel` is odd."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, padding_mode="reflect")


def zero_conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """Convolution of stride 1 with zero padding that keeps the size; `kernel` is odd."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)


def conv_layers(channels: Sequence[int], activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """3x3 convolutions from each number of channels to the next, each and its activation."""
    layers: list[nn.Module] = []
    for channels_in, channels_out in pairwise(channels):
        layers += [zero_conv(channels_in, channels_out, 3), activation()]
    return layers


def check_choice(kind: str, given: str, known: Iterable[str]) -> None:
    """Raise UnknownName if what is given is none of those that there are."""
    if given not in known:
        raise unknown(kind, given, known)


def rename(names: Names, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put our names in place of the authors', by one regular expression after the other.

    What none of them fits keeps its name, so that our own tensors load unchanged and strict loading
    reports strangers. What gets an empty name goes. Counts of batches, which only training needs,
    become plain numbers, 0 where the file has none.
    """
    state: dict[str, Tensor] = {}
    for given, tensor in tensors.items():
        name = given
        for theirs, ours in names.items():
            name = re.sub(theirs, ours, name)
        if name.endswith(".num_batches_tracked") and tensor.numel() == 1:
            tensor = tensor.reshape(())
        if name:  # of two with one name the second is a stranger
            state[given if name in state else name] = tensor
    layers = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return {f"{layer}num_batches_tracked": torch.tensor(0) for layer in layers} | state


def rename_tensorflow(names: Names, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, and turn each ``kernel`` (H, W, in, out) into a ``weight`` (out, in, H, W)."""
    state = {}
    for name, tensor in rename(names, tensors).items():
        if name.endswith(".kernel") and tensor.ndim == 4:
            name = name.removesuffix("kernel") + "weight"
            tensor = tensor.permute(3, 2, 0, 1).contiguous()
        state[name] = tensor
    return state
