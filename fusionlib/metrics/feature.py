"""Feature mutual information: how much of the sources' features the fused image's tell.

M. Haghighat, A. Aghagolzadeh, H. Seyedarabi, Computers & Electrical Engineering 37(5), 2011; in
the fast form of M. Haghighat, M. A. Razian, AICT 2014. Per 3x3 window the nine values of a
feature map become a distribution over positions 1..9; the joint distribution of two of them is
taken between independence and the closest coupling that their correlation allows.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import pywt
from scipy import fft

from .plane import Plane, note, once
from .registry import Convention, metric

__all__ = ["fmi_dct", "fmi_gradient", "fmi_pixel", "fmi_w", "meyer102"]

PAPER = (
    'M. Haghighat, M. A. Razian, "Fast-FMI: non-reference image fusion metric", AICT 2014; '
    'M. Haghighat, A. Aghagolzadeh, H. Seyedarabi, "A non-reference image fusion metric based on '
    'mutual information of image features", Computers & Electrical Engineering 37(5), 2011, '
    "doi 10.1016/j.compeleceng.2011.07.012"
)
DOI = "10.1109/ICAICT.2014.7036000"
RANGE = "0..1; 1 for a fused image equal to both sources; a single window may exceed 1"
#: Windows that are worked on together: their arrays fit into the processor's cache.
CHUNK = 4096

# ---------------------------------------------------------------- features


def _constant(x: Plane, metric: str) -> bool:
    """Tell whether an image is constant, with a warning: what is left of it must be rounding."""
    constant = x.given.min() == x.given.max()
    if constant:
        note(f"{metric}: a constant image has no features but its mean")
    return bool(constant)


@once
def _dct(x: Plane) -> np.ndarray:
    coefficients = fft.dctn(x.values / 255, norm="ortho")
    if _constant(x, "FMI_dct"):
        coefficients.ravel()[1:] = 0
    return coefficients


@once
def _gradient(x: Plane) -> np.ndarray:
    return np.gradient(x.values / 255, axis=1)


@cache
def meyer102() -> pywt.Wavelet:
    """Return MATLAB's discrete Meyer wavelet of 102 taps; PyWavelets' own has 62."""
    text = (resources.files(__package__) / "dmey102.txt").read_text(encoding="utf-8")
    low = np.array([float(word) for word in text.split("\n", 1)[1].split()])
    low = low * np.sqrt(2) / low.sum()
    high = np.where(np.arange(102) % 2, -1, 1) * low[::-1]
    return pywt.Wavelet("dmey102", filter_bank=[low[::-1], high[::-1], low, high])


@once
def _wavelet(x: Plane, name: str) -> np.ndarray:
    wavelet = meyer102() if name == "dmey102" else pywt.Wavelet(name)
    average, (down, along, both) = pywt.dwt2(x.values / 255, wavelet, mode="symmetric")
    if _constant(x, "FMI_w"):
        average[:] = 2 * x.values[0, 0] / 255
        for band in (down, along, both):
            band[:] = 0
    mosaic = np.block([[average, down], [along, both]])
    low, high = mosaic.min(), mosaic.max()
    return (mosaic - low) / (high - low) if high > low else np.ones_like(mosaic)


# ---------------------------------------------------------------- windows


class _Distributions(NamedTuple):
    """Distributions over the nine positions of a window, as far as information needs them."""

    p: np.ndarray  # (9, n)
    cumulative: np.ndarray  # (9, n)
    spread: np.ndarray  # (n,), standard deviation of the position
    entropy: np.ndarray  # (n,), bits

    def take(self, chosen: np.ndarray) -> _Distributions:
        """Return those of some windows, by their numbers."""
        return _Distributions(*(part.take(chosen, axis=-1) for part in self))


class _Windows(NamedTuple):
    """The 3x3 windows of some rows of a feature map, nine values each, column by column."""

    raw: np.ndarray  # (9, n)
    constant: np.ndarray  # (n,), bool
    deviation: np.ndarray  # (9, n), of the distribution from its mean
    distributions: _Distributions


def _windows(rows: np.ndarray) -> _Windows:
    height, width = rows.shape[0] - 2, rows.shape[1] - 2
    raw = np.stack([rows[r : r + height, c : c + width] for c in range(3) for r in range(3)])
    raw = raw.reshape(9, -1)
    low = raw.min(axis=0)
    span = raw.max(axis=0) - low
    constant = span == 0
    p = np.divide(raw - low, span, out=np.ones_like(raw), where=~constant)
    # The order of these sums, and of those below, is the authors': in a window with one value
    # far above the others the rest is near the limit of rounding, and decides.
    p /= p[:3].sum(axis=0) + p[3:6].sum(axis=0) + p[6:].sum(axis=0)
    position = np.arange(1.0, 10)[:, None]
    mean = (position * p).sum(axis=0)
    variance = (position**2 * p).sum(axis=0) - mean * mean
    spread = np.sqrt(np.maximum(variance, 0))
    entropy = -_sum_times_log(p, np.empty_like(p))
    distributions = _Distributions(p, np.cumsum(p, axis=0), spread, entropy)
    return _Windows(raw, constant, p - p.sum(axis=0) / 9, distributions)


def _sum_times_log(p: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the sum over nine values of ``p log2 |p|``, which is 0 for 0; overwrites `room`."""
    np.abs(p, out=room)
    np.maximum(room, np.finfo(float).tiny, out=room)
    np.log2(room, out=room)
    return np.einsum("kn,kn->n", room, p)


def _bounds(x: np.ndarray, y: np.ndarray, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a Frechet bound (10, 10, n) of two cumulative distributions, and its covariance."""
    bounds = np.empty((10, 10, x.shape[1]))
    bounds[0] = 0  # the sums before any position
    bounds[:, 0] = 0
    inside = bounds[1:, 1:]
    if lower:
        np.add((x - 1)[:, None], y, out=inside)
        np.maximum(inside, 0, out=inside)
    else:
        np.minimum(x[:, None], y, out=inside)
    # Hoeffding: the sum of bound minus product over all cells.
    return bounds, inside.sum(axis=0).sum(axis=0) - x.sum(axis=0) * y.sum(axis=0)


def _bounds_in_order(x: np.ndarray, y: np.ndarray, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the same, rounded as by the authors' code: it adds cell by cell."""
    bounds = np.zeros((10, 10, x.shape[1]))
    covariance = np.zeros(x.shape[1])
    room = np.empty_like(y)
    for row, bound in zip(x, bounds[1:, 1:], strict=True):
        np.add(row, y, out=bound)
        if lower:
            bound -= 1
            np.abs(bound, out=room)
            bound += room
        else:
            np.subtract(row, y, out=room)
            np.abs(room, out=room)
            bound -= room
        bound *= 0.5
        np.multiply(row, y, out=room)
        for j in range(9):
            covariance += bound[j]
            covariance -= room[j]
    return bounds, covariance


def _information(
    f: _Distributions, s: _Distributions, correlation: np.ndarray, lower: bool, in_order: bool
) -> np.ndarray:
    """Normalised mutual information of windows whose correlations have one sign.

    The joint distribution of the two positions lies between independence (share 0) and the
    coupling whose cumulative distribution is a Frechet bound (share 1): the upper one,
    min(x, y), for positive correlations, the lower one, max(x + y - 1, 0), for negative ones.
    """
    count = len(correlation)
    bounds, covariance = (_bounds_in_order if in_order else _bounds)(
        f.cumulative, s.cumulative, lower
    )
    spread = f.spread * s.spread
    usable = (spread > 0) & ((covariance < 0) if lower else (covariance > 0))
    share = np.zeros(count)
    share[usable] = correlation[usable] / (covariance[usable] / spread[usable])

    entropy = np.zeros(count)
    independent = (1 - share) * f.p
    joint, room = np.empty((2, 9, count))
    for i in range(9):
        np.subtract(bounds[i + 1, 1:], bounds[i, 1:], out=joint)
        joint -= bounds[i + 1, :-1]
        joint += bounds[i, :-1]
        joint *= share
        np.multiply(independent[i], s.p, out=room)
        joint += room
        entropy -= _sum_times_log(joint, room)
    marginal = f.entropy + s.entropy
    mutual = marginal - entropy
    return np.divide(2 * mutual, marginal, out=np.zeros(count), where=marginal > 0)


def _window_values(f: _Windows, s: _Windows, in_order: bool) -> np.ndarray:
    """Return the normalised mutual information of each window, in [0, 1]."""
    # Both constant: the authors' code takes them as equal whatever their values.
    value = ((f.constant & s.constant) | (f.raw == s.raw).all(axis=0)).astype(np.float64)
    shared = (f.deviation * s.deviation).sum(axis=0)
    norm = np.sqrt((f.deviation**2).sum(axis=0) * (s.deviation**2).sum(axis=0))
    open_ = (value == 0) & ~f.constant & ~s.constant & (norm > 0)
    correlation = np.divide(shared, norm, out=np.zeros_like(norm), where=open_)
    for lower, sign in ((False, correlation > 0), (True, correlation < 0)):
        chosen = np.flatnonzero(sign)
        parts = f.distributions.take(chosen), s.distributions.take(chosen)
        value[chosen] = _information(*parts, correlation[chosen], lower, in_order)
    return value


def _fmi(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray, *, in_order: bool = False) -> float:
    """Mean over windows and sources of the feature maps' mutual information."""
    height, width = fused.shape[0] - 2, fused.shape[1] - 2
    step = max(1, CHUNK // width)
    value = 0.0
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height) + 2)
        f = _windows(fused[rows])
        value += sum(float(_window_values(f, _windows(s[rows]), in_order).sum()) for s in (ir, vis))
    return value / (2 * height * width)


@metric(
    "FMI_dct",
    "feature mutual information, cosine transform",
    range=RANGE,
    paper=PAPER,
    doi=DOI,
    smallest=3,
    conventions={"standard li": Convention("orthonormal DCT-II of the whole image, 3x3 windows")},
)
def fmi_dct(fused: Plane, ir: Plane, vis: Plane) -> float:
    """Mutual information of 3x3 windows of the images' cosine transforms, mean over the sources.

    Of a constant image only the first coefficient is not 0, with a warning.
    """
    return _fmi(_dct(fused), _dct(ir), _dct(vis))


@metric(
    "FMI_w",
    "feature mutual information, wavelet",
    range=RANGE,
    paper=PAPER,
    doi=DOI,
    conventions={
        "standard li": Convention(
            "one level of MATLAB's discrete Meyer wavelet of 102 taps, half-point symmetric "
            "border, sub-bands side by side and scaled to 0..1, 3x3 windows"
        ),
        "pywt": Convention(
            "the same with PyWavelets' discrete Meyer wavelet, which is cut to 62 taps: off by "
            "1e-4 on natural images, by up to 0.055 on medical ones",
            {"wavelet": "dmey"},
        ),
    },
)
def fmi_w(fused: Plane, ir: Plane, vis: Plane, *, wavelet: str = "dmey102") -> float:
    """Mutual information of 3x3 windows of the images' wavelet bands, mean over the sources.

    Of a constant image only the average is not 0, with a warning.

    Parameters
    ----------
    fused, ir, vis : ndarray of uint8, shape (H, W)
    wavelet : {"dmey102", "dmey"}
        MATLAB's, or PyWavelets'.
    """
    return _fmi(*(_wavelet(image, wavelet) for image in (fused, ir, vis)))


@metric(
    "FMI_pixel",
    "feature mutual information, pixels",
    range=RANGE,
    paper=PAPER,
    doi=DOI,
    smallest=3,
    conventions={
        "standard": Convention(
            "the gray levels themselves, 3x3 windows. The authors' function called without a "
            "feature takes MATLAB's edge map instead, which is not offered here"
        )
    },
)
def fmi_pixel(fused: Plane, ir: Plane, vis: Plane) -> float:
    """Mutual information of 3x3 windows of the images, mean over the sources."""
    return _fmi(*(image.values / 255 for image in (fused, ir, vis)))


@metric(
    "FMI_gradient",
    "feature mutual information, gradient",
    range=RANGE,
    paper=PAPER,
    doi=DOI,
    smallest=3,
    conventions={
        "standard": Convention("central differences along the rows, on 0..1, 3x3 windows")
    },
)
def fmi_gradient(fused: Plane, ir: Plane, vis: Plane) -> float:
    """Mutual information of 3x3 windows of the images' gradients, mean over the sources."""
    # Windows with one value far above the others are common here, see `_windows`.
    return _fmi(_gradient(fused), _gradient(ir), _gradient(vis), in_order=True)
