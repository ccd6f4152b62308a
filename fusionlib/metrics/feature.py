"""Feature mutual information: how much of the sources' features the fused image's tell.

M. Haghighat, A. Aghagolzadeh, H. Seyedarabi, Computers & Electrical Engineering 37(5), 2011; in
the fast form of M. Haghighat, M. A. Razian, AICT 2014. Per 3x3 window the nine values of a
feature map become a distribution over positions 1..9; the joint distribution of two of them is
taken between independence and the closest coupling that their correlation allows.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pywt
from scipy import fft

from .plane import Plane, note, once
from .registry import Convention, metric

_FACTS: dict[str, Any] = {
    "range": "0..1; 1 for a fused image equal to both sources; a single window may exceed 1",
    "paper": 'M. Haghighat, M. A. Razian, "Fast-FMI: non-reference image fusion metric", AICT '
    '2014; M. Haghighat, A. Aghagolzadeh, H. Seyedarabi, "A non-reference image fusion metric '
    'based on mutual information of image features", Computers & Electrical Engineering 37(5), '
    "2011, doi 10.1016/j.compeleceng.2011.07.012",
    "doi": "10.1109/ICAICT.2014.7036000",
}
# Windows that are worked on together: their arrays fit into the processor's cache.
CHUNK = 4096


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


class _Windows(NamedTuple):
    """3x3 windows of a feature map, nine values each, column by column, and their distributions."""

    raw: np.ndarray  # (9, n)
    constant: np.ndarray  # (n,), bool
    p: np.ndarray  # (9, n), over the nine positions
    deviation: np.ndarray  # (9, n), of p from its mean
    cumulative: np.ndarray  # (9, n)
    spread: np.ndarray  # (n,), standard deviation of the position
    entropy: np.ndarray  # (n,), bits

    def take(self, chosen: np.ndarray) -> _Windows:
        """Return some, by their numbers."""
        return _Windows(*(part.take(chosen, axis=-1) for part in self))


def _windows(rows: np.ndarray) -> _Windows:
    """Return all windows of some rows of a feature map."""
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
    deviation = p - p.sum(axis=0) / 9
    return _Windows(raw, constant, p, deviation, np.cumsum(p, axis=0), spread, entropy)


def _sum_times_log(p: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the sum over nine values of ``p log2 |p|``, which is 0 for 0; overwrites `room`."""
    np.abs(p, out=room)
    np.maximum(room, np.finfo(float).tiny, out=room)
    np.log2(room, out=room)
    return np.einsum("kn,kn->n", room, p)


def _bound(
    x: np.ndarray, y: np.ndarray, lower: bool, in_order: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return a Frechet bound (10, 10, n) of two cumulative distributions, and its covariance.

    `in_order` rounds as the authors' code, which adds cell by cell.
    """
    bounds = np.zeros((10, 10, x.shape[1]))  # 0 before any position
    bound, rows = bounds[1:, 1:], x[:, None]
    if not in_order:
        if lower:
            np.maximum(np.add(rows - 1, y, out=bound), 0, out=bound)
        else:
            np.minimum(rows, y, out=bound)
        # Hoeffding: the sum of bound minus product over all cells.
        return bounds, bound.sum(axis=0).sum(axis=0) - x.sum(axis=0) * y.sum(axis=0)
    if lower:
        reach = rows + y - 1
        bound[:] = (reach + np.abs(reach)) * 0.5
    else:
        bound[:] = (rows + y - np.abs(rows - y)) * 0.5
    product, covariance = rows * y, np.zeros(x.shape[1])
    for cell in np.ndindex(9, 9):
        covariance += bound[cell]
        covariance -= product[cell]
    return bounds, covariance


def _information(
    f: _Windows, s: _Windows, correlation: np.ndarray, lower: bool, in_order: bool
) -> np.ndarray:
    """Normalised mutual information of windows whose correlations have one sign.

    The joint distribution of the two positions lies between independence (share 0) and the
    coupling whose cumulative distribution is a Frechet bound (share 1): the upper one,
    min(x, y), for positive correlations, the lower one, max(x + y - 1, 0), for negative ones.
    """
    bounds, covariance = _bound(f.cumulative, s.cumulative, lower, in_order)
    spread = f.spread * s.spread
    usable = (spread > 0) & ((covariance < 0) if lower else (covariance > 0))
    share, entropy = np.zeros((2, len(correlation)))
    share[usable] = correlation[usable] / (covariance[usable] / spread[usable])
    independent = (1 - share) * f.p
    joint, room = np.empty((2, *f.p.shape))
    for below, above, rest in zip(bounds[:-1], bounds[1:], independent, strict=True):
        np.subtract(above[1:], below[1:], out=joint)
        joint -= above[:-1]
        joint += below[:-1]
        joint *= share
        joint += np.multiply(rest, s.p, out=room)
        entropy -= _sum_times_log(joint, room)
    marginal = f.entropy + s.entropy
    mutual = marginal - entropy
    return np.divide(2 * mutual, marginal, out=np.zeros_like(share), where=marginal > 0)


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
        parts = f.take(chosen), s.take(chosen), correlation[chosen]
        value[chosen] = _information(*parts, lower, in_order)
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
    **_FACTS,
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
    **_FACTS,
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
    """
    return _fmi(*(_wavelet(image, wavelet) for image in (fused, ir, vis)))


@metric(
    "FMI_pixel",
    "feature mutual information, pixels",
    **_FACTS,
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
    **_FACTS,
    smallest=3,
    conventions={
        "standard": Convention("central differences along the rows, on 0..1, 3x3 windows")
    },
)
def fmi_gradient(fused: Plane, ir: Plane, vis: Plane) -> float:
    """Mutual information of 3x3 windows of the images' gradients, mean over the sources."""
    # Windows with one value far above the others are common here, see `_windows`.
    maps = (np.gradient(image.values / 255, axis=1) for image in (fused, ir, vis))
    return _fmi(*maps, in_order=True)
