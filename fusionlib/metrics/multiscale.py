"""Structural similarity over several scales: Wang's index, and the one for multi-exposures.

Both are printed as "MS-SSIM" in tables of image fusion, and they have little in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .plane import Plane, halved, local_covariance, local_mean, once, strips, undefined, valid
from .registry import Convention, metric

# Of the scales, full resolution first, as published; the sum is 1.0001.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SIDE = 11  # of the windows
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def _combine(scores: list[float], weights: Sequence[float]) -> float:
    """Weighted product over the scales."""
    if min(scores) < 0:
        return undefined("MS_SSIM of scales with negative similarity", 0)
    return math.prod(score**weight for score, weight in zip(scores, weights, strict=True))


def _box(array: np.ndarray) -> np.ndarray:
    """Sum over each 11x11 block inside the image; exact for multiples of 1/256."""
    return valid(cv2.boxFilter(array, cv2.CV_64F, (SIDE, SIDE), normalize=False), SIDE // 2)


@once
def _block_sum(x: Plane) -> np.ndarray:
    return _box(x.values)


@once
def _block_scatter(x: Plane, y: Plane) -> np.ndarray:
    """Sum over each block of the products of deviations from the block's means."""
    scatter = _box(x.values * y.values)
    scatter -= _block_sum(x) * _block_sum(y) / SIDE**2
    return scatter


def multi_exposure_scores(fused: Plane, ir: Plane, vis: Plane) -> list[float]:
    """Scores in [-1, 1] of the multi-exposure index on three scales, full resolution first."""
    scores = []
    for _ in range(3):
        scores.append(_desired_similarity(fused, ir, vis))
        fused, ir, vis = map(halved, (fused, ir, vis))
    return scores


def _desired_similarity(f: Plane, a: Plane, b: Plane) -> float:
    """Mean similarity of the fused image's blocks to those that its sources would ideally give."""
    scatters = [_block_scatter(x, y) for x, y in ((a, a), (a, b), (b, b))]
    pairs = ((f, f), (f, a), (f, b), (a, a), (a, b), (b, b))
    covariances = [valid(local_covariance(x, y), SIDE // 2) for x, y in pairs]
    similarity = np.empty(scatters[0].shape)
    for rows in strips(similarity.shape):
        p, q = _desired(*(part[rows] for part in scatters))
        ff, fa, fb, aa, ab, bb = (part[rows] for part in covariances)
        own = p * p * aa + 2 * p * q * ab + q * q * bb
        similarity[rows] = (2 * (p * fa + q * fb) + _C2) / (own + ff + _C2)
    return float(similarity.mean())


def _desired(aa: np.ndarray, ab: np.ndarray, bb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p, q: the ideal block is p (a - mean) + q (b - mean) of its sources' blocks.

    So its norm and its moments follow from theirs, without a loop over blocks.
    """
    eps = np.finfo(float).eps
    norm_a, norm_b = np.sqrt(aa), np.sqrt(bb)
    # How consistent the sources' structures are decides how sharply the stronger one is chosen.
    consistency = np.sqrt(np.maximum(aa + bb + 2 * ab, 0)) + eps
    consistency /= norm_a + norm_b + eps
    np.copyto(consistency, 1 - eps, where=consistency > 1)
    power = np.minimum(np.tan(consistency * (np.pi / 2)), 10)
    e_a, e_b = norm_a + 0.001, norm_b + 0.001
    w_a = (e_a / SIDE) ** power + eps
    w_b = (e_b / SIDE) ** power + eps
    p = w_a / (w_a + w_b) / e_a
    q = w_b / (w_a + w_b) / e_b
    norm = np.sqrt(np.maximum(p * p * aa + q * q * bb + 2 * p * q * ab, 0))
    scale = np.divide(np.maximum(e_a, e_b), norm, out=np.zeros_like(norm), where=norm > 0)
    return scale * p, scale * q


def _multi_exposure(fused: Plane, ir: Plane, vis: Plane) -> float:
    # The first three, divided by their sum.
    weights = [weight / sum(WEIGHTS[:3]) for weight in WEIGHTS[:3]]
    return _combine(multi_exposure_scores(fused, ir, vis), weights)


def _between(x: Plane, y: Plane) -> float:
    scores = []
    for scale in range(len(WEIGHTS)):
        if scale:
            x, y = halved(x), halved(y)
        similarity = 2 * local_covariance(x, y) + _C2
        similarity /= local_covariance(x, x) + local_covariance(y, y) + _C2
        if scale == len(WEIGHTS) - 1:
            mx, my = local_mean(x), local_mean(y)
            similarity *= (2 * mx * my + _C1) / (mx * mx + my * my + _C1)
        scores.append(float(np.mean(valid(similarity, SIDE // 2))))
    return _combine(scores, WEIGHTS)


@metric(
    "MS_SSIM",
    "multi-scale structural similarity",
    range="0..1; negative similarity on a scale (of unrelated images) gives 0, with a warning",
    paper='li: K. Ma, K. Zeng, Z. Wang, "Perceptual quality assessment for multi-exposure image '
    'fusion", IEEE Trans. Image Process. 24(11), 2015, doi 10.1109/TIP.2015.2442920; standard: '
    'Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multiscale structural similarity for image quality '
    'assessment", Asilomar 2003',
    doi="10.1109/ACSSC.2003.1292216",
    smallest=176,
    conventions={
        "standard": Convention("Wang's index, five scales, mean over the two sources"),
        "li": Convention(
            "the multi-exposure index of Ma, Zeng and Wang on three scales: contrast and "
            "structure against the block that the sources would ideally give, no luminance",
            function=_multi_exposure,
            smallest=44,
        ),
    },
)
def multiscale_ssim(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Structural similarity to both sources as a weighted product over five scales.

    Per source :math:`\prod_l c_l^{w_l}`, :math:`c_l` the mean of contrast times structure on
    scale `l`, on the last scale times luminance; images are averaged over 2x2 pixels between
    scales. The mean over both sources. Under "li" another index has the name, see there.
    """
    return (_between(fused, ir) + _between(fused, vis)) / 2
