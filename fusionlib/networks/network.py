"""What every fusion network tells the code that runs it."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from ..errors import unknown

__all__ = ["FusionNetwork", "PyramidNetwork", "check_first", "zero_conv"]


def zero_conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """Convolution of stride 1 with zero padding that keeps the size; `kernel` is odd."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)


def check_first(network: str, first: str) -> None:
    """Make sure that the image which enters a network first is one of the two.

    Raises
    ------
    UnknownName
        If it is neither "ir" nor "vis".
    """
    if first not in ("ir", "vis"):
        raise unknown(f"first image of {network}", first, ("ir", "vis"))


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

    Attributes
    ----------
    halo : int
        Even.
    """

    halo: int

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
