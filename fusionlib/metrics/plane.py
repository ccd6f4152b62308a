"""One image as metrics see it, and what several metrics derive from it, computed once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

import cv2
import numpy as np

from ..errors import ImageError, ImageTooSmall, MetricWarning
from ..images import check_one_size

__all__ = [
    "Plane",
    "as_planes",
    "blur",
    "gaussian_taps",
    "halved",
    "histogram",
    "inner",
    "joint_histogram",
    "local_covariance",
    "local_mean",
    "note",
    "notes",
    "once",
    "stretched",
    "strips",
    "total",
    "undefined",
    "valid",
]

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes of derived arrays that a plane keeps; those used longest ago are computed again.
KEPT_BYTES = 2**29

_NUMBERS = itertools.count()


class Plane:
    """A gray image with a memory for what is derived from it.

    Parameters
    ----------
    values : ndarray of uint8 or float64, shape (H, W)
        On the scale 0..255.

    Attributes
    ----------
    levels : ndarray of uint8, shape (H, W), or None
        The gray levels, if the plane is an image and not one derived from it.
    given : ndarray
        The argument.
    number : int
        Which no other plane of this process has.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.levels = values if values.dtype == np.uint8 else None
        self.given = values
        self.number = next(_NUMBERS)
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.given.shape
        return height, width

    @functools.cached_property
    def values(self) -> np.ndarray:
        """The same as float64, made when first asked for: histograms do without."""
        return self.given.astype(np.float64, copy=False)

    def recall(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gives, from memory if it is there."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = compute()
        if isinstance(value, np.ndarray):
            value.setflags(write=False)  # others will read it
        self._kept[key] = value
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return value


def _size(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_size, value))
    if isinstance(value, Plane):  # with all that it keeps in its turn
        made = value.values.nbytes if value.levels is not None and "values" in vars(value) else 0
        return int(value.given.nbytes) + made + sum(map(_size, value._kept.values()))
    return int(getattr(value, "nbytes", 0))


def as_planes(
    images: Mapping[str, Plane | np.ndarray], *, metric: str = "", smallest: int = 1
) -> list[Plane]:
    """Return images that belong together as planes.

    Parameters
    ----------
    images : mapping of str to Plane, or ndarray of uint8, shape (H, W)
        What error messages call them -> the images.
    metric : str
        What needs them.
    smallest : int
        The shortest side that they may have.

    Raises
    ------
    ImageError
        If one is not of gray levels. `fusionlib.evaluate` also takes 16 bits, floats and RGB.
    PairMismatch
        If the sizes differ.
    ImageTooSmall
        If a side is shorter than `smallest`.
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
        # Numbers stand for planes: a plane that keeps a reference to itself would not be freed.
        named = tuple(arg.number if isinstance(arg, Plane) else arg for arg in args)
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
    assert x.levels is not None
    return np.bincount(x.levels.ravel(), minlength=256)


@once
def joint_histogram(x: Plane, y: Plane) -> np.ndarray:
    """Return how often each pair of levels occurs; int, shape (256, 256), rows are `x`."""
    assert x.levels is not None and y.levels is not None
    # One number per pair of levels: an ordinary histogram of 65536 bins.
    pairs = x.levels.astype(np.uint16)
    pairs <<= 8
    pairs |= y.levels
    return np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)


@once
def total(x: Plane) -> int:
    """Return the sum of the levels. It is exact."""
    assert x.levels is not None
    return int(x.levels.sum(dtype=np.int64))


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
