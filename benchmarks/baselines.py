"""Metrics written down as their definitions read, as the field's Python and MATLAB codes do.

A window is a kernel of two dimensions or a turn of a loop; nothing is shared or remembered.
They are what `benchmarks.metrics` measures fusionlib against, in speed and in value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pywt
from scipy import fft
from scipy.signal import convolve2d

from fusionlib.metrics.feature import meyer102

EPS = np.finfo(float).eps


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """Return a Gaussian window of size x size with sum 1."""
    axis = np.arange(size) - size // 2
    kernel = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def blocks(side: int, *images: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield each block of side x side inside the images, row by row."""
    height, width = images[0].shape
    for i in range(height - side + 1):
        for j in range(width - side + 1):
            yield [image[i : i + side, j : j + side] for image in images]


def vif(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> float:
    """Visual information fidelity in the pixel domain, sum over the sources (vifp_mscale)."""
    return _vif_of_one(fused, ir) + _vif_of_one(fused, vis)


def _vif_of_one(image: np.ndarray, reference: np.ndarray) -> float:
    tiny, noise = 1e-10, 2.0
    x, y = image.astype(np.float64), reference.astype(np.float64)
    kept = there = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        kernel = gaussian_kernel(size, size / 5)
        if scale > 1:
            x = convolve2d(x, kernel, mode="valid")[::2, ::2]
            y = convolve2d(y, kernel, mode="valid")[::2, ::2]
        mx, my = convolve2d(x, kernel, mode="valid"), convolve2d(y, kernel, mode="valid")
        xx = np.maximum(convolve2d(x * x, kernel, mode="valid") - mx * mx, 0)
        yy = np.maximum(convolve2d(y * y, kernel, mode="valid") - my * my, 0)
        xy = convolve2d(x * y, kernel, mode="valid") - mx * my
        gain = xy / (yy + tiny)
        rest = xx - gain * xy
        gain[yy < tiny] = 0
        rest[yy < tiny] = xx[yy < tiny]
        yy[yy < tiny] = 0
        gain[xx < tiny] = 0
        rest[xx < tiny] = 0
        rest[gain < 0] = xx[gain < 0]
        gain[gain < 0] = 0
        rest[rest <= tiny] = tiny
        kept += np.log10(1 + gain**2 * yy / (rest + noise)).sum()
        there += np.log10(1 + yy / noise).sum()
    return float(kept / there) if there > 0 else 1.0


def fmi(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray, feature: str) -> float:
    """Feature mutual information of 3x3 windows, mean over windows and sources (analysis_fmi).

    `feature` is "dct" or "w", the wavelet of 102 taps.
    """
    features = {"dct": _dct, "w": _wavelet}[feature]
    total = count = 0.0
    for f, a, b in blocks(3, *map(features, (fused, ir, vis))):
        total += (_window_information(f, a) + _window_information(f, b)) / 2
        count += 1
    return total / count


def _dct(image: np.ndarray) -> np.ndarray:
    return fft.dctn(image / 255, norm="ortho")


def _wavelet(image: np.ndarray) -> np.ndarray:
    average, (down, along, both) = pywt.dwt2(image / 255, meyer102(), mode="symmetric")
    mosaic = np.block([[average, down], [along, both]])
    low, high = mosaic.min(), mosaic.max()
    return (mosaic - low) / (high - low)


_POSITIONS = np.arange(1.0, 10)


def _window_information(f: np.ndarray, s: np.ndarray) -> float:
    """Normalised mutual information of two windows, whose values become distributions."""
    f, s = f.ravel(order="F"), s.ravel(order="F")
    if np.array_equal(f, s):
        return 1.0
    constant = f.max() == f.min(), s.max() == s.min()
    if any(constant):
        return float(all(constant))
    p, q = _distribution(f), _distribution(s)
    x, y = p - p.mean(), q - q.mean()
    shared = (x * y).sum()
    correlation = shared / math.sqrt((x * x).sum() * (y * y).sum()) if shared else 0.0
    px, qx = np.cumsum(p), np.cumsum(q)
    bound = np.zeros((10, 10))  # cumulative, before and after each position
    if correlation >= 0:
        bound[1:, 1:] = np.minimum(px[:, None], qx)
    else:
        bound[1:, 1:] = np.maximum(px[:, None] + qx - 1, 0)
    covariance = (bound[1:, 1:] - px[:, None] * qx).sum()
    share = 0.0
    if covariance * correlation > 0:
        share = correlation * _spread(p) * _spread(q) / covariance
    coupled = bound[1:, 1:] - bound[:-1, 1:] - bound[1:, :-1] + bound[:-1, :-1]
    joint = share * coupled + (1 - share) * p[:, None] * q
    apart = _bits(p) + _bits(q)
    return 2 * (apart - _bits(joint)) / apart if apart else 0.0


def _distribution(values: np.ndarray) -> np.ndarray:
    scaled = (values - values.min()) / (values.max() - values.min())
    return scaled / scaled.sum()


def _spread(p: np.ndarray) -> float:
    """Return the standard deviation of the position."""
    mean = (_POSITIONS * p).sum()
    return math.sqrt(max((_POSITIONS**2 * p).sum() - mean * mean, 0))


def _bits(p: np.ndarray) -> float:
    """Return the entropy; of negative entries, which rounding leaves, the real part."""
    p = p[p != 0]
    return float(-(p * np.log2(np.abs(p))).sum())


def ms_ssim(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> float:
    """Multi-exposure index of Ma, Zeng and Wang on three scales (mef_ms_ssim)."""
    weights = np.array([0.0448, 0.2856, 0.3001])
    images = [image.astype(np.float64) for image in (fused, ir, vis)]
    scores = []
    for _ in weights:
        similarities = [_block_similarity(*block) for block in blocks(11, *images)]
        scores.append(np.mean(similarities))
        images = [_half(image) for image in images]
    return float(np.prod(np.array(scores) ** (weights / weights.sum())))


_WINDOW = gaussian_kernel(11, 1.5)


def _block_similarity(f: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Contrast and structure of a block against the one its sources would ideally give."""
    a, b = a - a.mean(), b - b.mean()
    norms = math.sqrt((a * a).sum()), math.sqrt((b * b).sum())
    together = a + b
    consistency = (math.sqrt((together * together).sum()) + EPS) / (sum(norms) + EPS)
    if consistency > 1:
        consistency = 1 - EPS
    power = min(math.tan(math.pi / 2 * consistency), 10)
    strengths = [norm + 0.001 for norm in norms]
    weights = [(strength / 11) ** power + EPS for strength in strengths]
    desired = weights[0] / sum(weights) * a / strengths[0]
    desired += weights[1] / sum(weights) * b / strengths[1]
    norm = math.sqrt((desired * desired).sum())
    if norm > 0:
        desired *= max(strengths) / norm
    x = desired - (_WINDOW * desired).sum()
    y = f - (_WINDOW * f).sum()
    xx, yy, xy = ((_WINDOW * product).sum() for product in (x * x, y * y, x * y))
    c = (0.03 * 255) ** 2
    return float((2 * xy + c) / (xx + yy + c))


def _half(image: np.ndarray) -> np.ndarray:
    """Average each pixel with its right, lower and diagonal neighbour and keep every second."""
    padded = np.pad(image, ((0, 1), (0, 1)), mode="symmetric")
    return convolve2d(padded, np.full((2, 2), 0.25), mode="valid")[::2, ::2]


def mi(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> float:
    """Mutual information with both sources, in bits, from 2-D histograms of 256x256 levels."""
    value = 0.0
    for source in (ir, vis):
        limits = [[0, 256], [0, 256]]
        counts, _, _ = np.histogram2d(fused.ravel(), source.ravel(), bins=256, range=limits)
        joint = counts / counts.sum()
        value += _bits(joint.sum(axis=0)) + _bits(joint.sum(axis=1)) - _bits(joint)
    return value
