"""What published pipelines do before and after the network, on whole images.

A *preparation* turns an image in [0, 1], gray (H, W) or RGB (H, W, 3), into the gray image that
is scaled to the network's levels; for most methods that is its luminance. A *post-processing*
turns raw float64 output and its levels into levels 0..255, not clipped, which the method then
clips and rounds or truncates to 8 bits; it may overwrite the output, of which each copy takes half
a GiB for a large image. The summaries of both stand on the method's card.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from .errors import UnknownName, unknown
from .images import luminance

__all__ = [
    "GRAY_LEVELS",
    "POSTS",
    "Levels",
    "Step",
    "find_post",
    "prepare_luminance",
    "prepare_minmax",
    "prepare_pillow",
    "prepare_rounded",
]

# Keeps LRRNet's and RFN-Nest's min-max finite on a constant image, as released.
MINMAX_EPS = 1e-5


class Levels(NamedTuple):
    """The values of black and white in a network's input and output."""

    black: float
    white: float

    def __str__(self) -> str:
        return f"{self.black:g}..{self.white:g}"

    def scale(self, image: np.ndarray) -> np.ndarray:
        """Bring an image in [0, 1] to these levels; float64 stays float64."""
        return image * image.dtype.type(self.white - self.black) + image.dtype.type(self.black)

    def unscale(self, image: np.ndarray) -> np.ndarray:
        """Bring an image in these levels to [0, 1]."""
        return (image - self.black) / (self.white - self.black)


#: Eight bits, not scaled.
GRAY_LEVELS = Levels(0, 255)


class Step(NamedTuple):
    """A preparation or post-processing: its summary for the card, and what it does."""

    summary: str
    apply: Callable[..., np.ndarray]

    def __call__(self, *given: Any) -> np.ndarray:
        return self.apply(*given)


def _to_range(image: np.ndarray) -> np.ndarray:
    gray = luminance(image)
    low, high = gray.min(), gray.max()
    # A constant image has no range: black, as with LRRNet's epsilon.
    return (gray - low) / (high - low) if high > low else np.zeros_like(gray)


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else np.rint(luminance(image) * 255) / np.float32(255)


def _by_pillow(image: np.ndarray) -> np.ndarray:
    levels = Image.fromarray(np.rint(image * 255).astype(np.uint8)).convert("RGB")
    # Fixed-point arithmetic, each of R, G and B rounded by itself.
    return np.asarray(levels.convert("YCbCr").getchannel("Y")) / np.float32(255)


prepare_luminance = Step("", luminance)
prepare_minmax = Step("each image stretched to its range", _to_range)
prepare_rounded = Step("the luminance of colour rounded to 8 bits", _to_8_bits)
prepare_pillow = Step(
    "read as the luminance of Pillow's YCbCr: 22 of the 256 gray levels become one lower",
    _by_pillow,
)


def _clip(raw: np.ndarray, levels: Levels) -> np.ndarray:
    return _stretch(raw, levels.black, levels.white)


def _minmax(raw: np.ndarray, levels: Levels) -> np.ndarray:
    low, high = raw.min(), raw.max()
    # A constant image cannot be stretched; it keeps its gray level.
    return _stretch(raw, low, high) if high > low else _clip(raw, levels)


def _stretch(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """(raw - low) / (high - low) 255, in place."""
    raw -= low
    raw /= high - low
    raw *= 255
    return raw


def _minmax_eps(raw: np.ndarray, levels: Levels) -> np.ndarray:
    low, high = raw.min(), raw.max()
    return (raw - low) / (high - low + MINMAX_EPS) * 255 if high > low else _clip(raw, levels)


def _white(raw: np.ndarray, levels: Levels) -> np.ndarray:
    image = levels.unscale(raw)
    return image / image.max() * 255 if image.max() > 0 else image * 255


def _imageio(raw: np.ndarray, levels: Levels) -> np.ndarray:
    image = levels.unscale(raw)
    whole = image.min() >= 0 and image.max() <= 1
    return image * 255 if whole else _minmax(raw, levels)


def _clahe(raw: np.ndarray, levels: Levels) -> np.ndarray:
    saved = np.clip(_clip(raw, levels), 0, 255).astype(np.uint8)
    equalised = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(saved)
    return equalised.astype(np.float64)


POSTS: dict[str, Step] = {
    "minmax": Step("stretched per image to 0..255", _minmax),
    "clip": Step("clipped to 0..255", _clip),
    "minmax_eps": Step("stretched per image to 0..255, range widened by 1e-5", _minmax_eps),
    "white": Step("scaled per image so that the brightest pixel is 255", _white),
    "imageio": Step("scaled to 0..255; stretched where the image leaves its range", _imageio),
    "clahe": Step("clipped, truncated to 8 bits, CLAHE with limit 2 on 8x8 tiles", _clahe),
}

#: How `find_post` is asked for a stretch of any strength between "clip", 0, and "minmax", 1.
STRETCH = "stretch:"


def find_post(name: str) -> Step:
    """Return the post-processing of that name: a key of `POSTS`, or "stretch:SHARE".

    Of the latter, black and white lie between the levels and the image's own least and largest
    value: "stretch:0" is "clip", "stretch:1" is "minmax".

    Raises
    ------
    UnknownName
        If there is none, or the share is no number from 0 to 1.
    """
    if name in POSTS:
        return POSTS[name]
    if not name.startswith(STRETCH):
        raise unknown("post-processing", name, [*POSTS, f"{STRETCH}0.5"])
    text = name.removeprefix(STRETCH)
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise UnknownName(
            f"the post-processing {name!r} has the share {text!r}; it must be a number from 0 "
            f"(clip) to 1 (minmax), such as {STRETCH}0.5."
        )
    if share in (0, 1):
        return POSTS["minmax" if share else "clip"]
    return Step(f"stretched per image to 0..255 by {share:g} of the way", partial(_part, share))


def _part(share: float, raw: np.ndarray, levels: Levels) -> np.ndarray:
    low, high = float(raw.min()), float(raw.max())
    if not high > low:
        return _clip(raw, levels)
    black = levels.black + share * (low - levels.black)
    return _stretch(raw, black, levels.white + share * (high - levels.white))
