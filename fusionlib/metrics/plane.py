"""One image as metrics see it, and what several metrics derive from it, computed once."""

from __future__ import annotations

import contextlib
import functools
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

import cv2
import numpy as np

from ..errors import ImageError, ImageTooSmall, MetricWarning
from ..images import check_one_size

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes that a plane keeps; before there are more, it forgets what was used longest ago.
KEPT_BYTES = 2**29


class Plane:
    """A gray image on the scale 0..255, with a memory for what is derived from it.

    Parameters
    ----------
    given : ndarray of uint8 or float64, shape (H, W)
        Gray levels, or the values of an image derived from some.
    """

    def __init__(self, given: np.ndarray) -> None:
        self.given = given
        self._kept: dict[Hashable, Any] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.given.shape
        return height, width

    @property
    def values(self) -> np.ndarray:
        """The same as float64, made when first asked for: histograms do without."""
        if self.given.dtype == np.float64:
            return self.given
        return self.recall("values", lambda: self.given.astype(np.float64))

    @property
    def nbytes(self) -> int:
        """The bytes of all that it keeps."""
        return self.given.nbytes + sum(map(_size, self._kept.values()))

    def recall(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gives, from memory if it is there."""
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # the last to be forgotten
            return self._kept[key]
        value = compute()
        if isinstance(value, np.ndarray):
            value.setflags(write=False)  # others will read it
        while self._kept and self.nbytes + _size(value) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = value
        return value


def _size(value: Any) -> int:
    parts = value if isinstance(value, tuple) else (value,)
    return sum(getattr(part, "nbytes", 0) for part in parts)


def as_planes(
    images: Mapping[str, Plane | np.ndarray], *, metric: str = "", smallest: int = 1
) -> list[Plane]:
    """Return images as planes: gray, of one size, no side shorter than `smallest`.

    Messages call an image by its key, and what needs it `metric`.
    """
    planes = []
    for what, image in images.items():
        if not isinstance(image, Plane):
            image = np.asarray(image)
            if image.dtype != np.uint8 or image.ndim != 2 or image.size == 0:
                raise ImageError(
                    f"{what}: given {image.dtype} of shape {image.shape}, expected gray levels, "
                    "uint8 of shape (H, W). Use fusionlib.evaluate, which converts 16 bits, "
                    "floats and RGB, or convert it with fusionlib.evaluation.levels."
                )
            image = Plane(image)
        planes.append(image)
    check_one_size([plane.given for plane in planes], " and ".join(images))
    height, width = planes[0].shape
    if min(height, width) < smallest:
        raise ImageTooSmall(
            f"{metric} needs images of at least {smallest}x{smallest} pixels, these have "
            f"{width}x{height}. Leave this metric out, or score the images before they are "
            "cropped or scaled down."
        )
    return planes


def once(
    function: Callable[Concatenate[Plane, P], T],
) -> Callable[Concatenate[Plane, P], T]:
    """Make a function of a plane, and perhaps of further ones, remember its results."""

    @functools.wraps(function)
    def remembered(plane: Plane, *args: P.args, **kwargs: P.kwargs) -> T:
        # A plane that kept itself would not be freed.
        named = tuple(weakref.ref(arg) if isinstance(arg, Plane) else arg for arg in args)
        key = (function, named, tuple(kwargs.items()))
        result: T = plane.recall(key, lambda: function(plane, *args, **kwargs))
        return result

    return remembered


_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextlib.contextmanager
def notes() -> Iterator[list[str]]:
    """Collect what would be warnings; unlike Python's own filters, in this thread only."""
    collected: list[str] = []
    token = _NOTES.set(collected)
    try:
        yield collected
    finally:
        _NOTES.reset(token)


def note(text: str) -> None:
    """Warn of a value that is one by rule, or collect the warning, see `notes`."""
    collected = _NOTES.get()
    if collected is None:
        warnings.warn(text, MetricWarning, stacklevel=3)
    else:
        collected.append(text)


def undefined(what: str, value: float) -> float:
    """Warn that a formula gives 0/0 here, and return the value it is given instead."""
    note(f"{what}; its value is set to {value:g}")
    return value


# ---------------------------------------------------------------- sums and histograms


@once
def histogram(x: Plane) -> np.ndarray:
    """Return how often each of the 256 levels occurs; int, shape (256,)."""
    return np.bincount(x.given.ravel(), minlength=256)


@once
def joint_histogram(x: Plane, y: Plane) -> np.ndarray:
    """Return how often each pair of levels occurs; int, shape (256, 256), rows are `x`."""
    # One number per pair of levels: an ordinary histogram of 65536 bins.
    pairs = x.given.astype(np.uint16)
    pairs <<= 8
    pairs |= y.given
    return np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)


@once
def total(x: Plane) -> int:
    """Return the sum of the levels. It is exact."""
    return int(x.given.sum(dtype=np.int64))


@once
def inner(x: Plane, y: Plane) -> int:
    """Return the sum of products of levels. It is exact: every partial sum is below 2**53."""
    return int(np.vdot(x.values, y.values))


@once
def stretched(x: Plane) -> Plane:
    """Stretch to 0..255 and round, halves upwards; an image without contrast becomes 0."""
    low, high = x.values.min(), x.values.max()
    if high > low:
        return Plane(np.floor((x.values - low) / (high - low) * 255 + 0.5).astype(np.uint8))
    if high > 0:
        note("a constant image cannot be stretched and counts as black (Q_CB, Q_CV, MI:vifb)")
    return Plane(np.zeros(x.shape, np.uint8))


# ---------------------------------------------------------------- windows


def gaussian_taps(size: int, sigma: float) -> np.ndarray:
    """Return a Gaussian window of odd `size` with sum 1."""
    offsets = np.arange(size) - size // 2
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    return taps / taps.sum()


def blur(array: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter by a separable symmetric window; the border is repeated outwards."""
    return cv2.sepFilter2D(array, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_REPLICATE)


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut an image into strips of rows, so small that what is derived stays in the cache."""
    step = max(1, 2**15 // shape[1])
    return (slice(top, top + step) for top in range(0, shape[0], step))


def valid(array: np.ndarray, border: int) -> np.ndarray:
    """Return the part whose windows lie inside the image."""
    return array[border:-border, border:-border]


# The window of the SSIM family.
_WINDOW = gaussian_taps(11, 1.5)


@once
def local_mean(x: Plane) -> np.ndarray:
    """Return the mean in the 11x11 Gaussian window around each pixel, border repeated."""
    return blur(x.values, _WINDOW)


@once
def local_covariance(x: Plane, y: Plane) -> np.ndarray:
    """Return the covariance in the 11x11 Gaussian window around each pixel, border repeated."""
    product = blur(x.values * y.values, _WINDOW)
    product -= local_mean(x) * local_mean(y)
    return product


@once
def halved(x: Plane) -> Plane:
    """Average 2x2 pixels and keep every second; the last row and column are repeated."""
    padded = np.pad(x.values, ((0, 1), (0, 1)), mode="edge")
    rows = padded[:-1:2] + padded[1::2]
    return Plane((rows[:, :-1:2] + rows[:, 1::2]) / 4)
