"""Metrics of edges and gradients: how strong they are and how many of the sources' survive."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import sobel

from .plane import Plane, inner, once, strips, total, undefined
from .registry import Convention, metric


@metric(
    "SD",
    "standard deviation",
    range="0..127.5 gray levels; 0 for a constant image",
    paper="textbook",
    conventions={
        "standard cddfuse tang vifb": Convention("population standard deviation on 0..255"),
        "li": Convention(
            "root of the summed squares on 0..1, not divided by the number of pixels N: the "
            "value times sqrt(N) / 255, so that it depends on the size",
            {"summed": True},
        ),
    },
)
def standard_deviation(fused: Plane, *, summed: bool = False) -> float:
    r"""Standard deviation of the gray levels: :math:`\sqrt{\sum (f - \bar f)^2 / N}`."""
    n = fused.values.size
    deviation = math.sqrt(n * inner(fused, fused) - total(fused) ** 2) / n
    return deviation * math.sqrt(n) / 255 if summed else deviation


@metric(
    "SF",
    "spatial frequency",
    range=">= 0 gray levels; 0 for a constant image",
    paper='A. M. Eskicioglu, P. S. Fisher, "Image quality measures and their performance", IEEE '
    "Trans. Commun. 43(12), 1995",
    doi="10.1109/26.477498",
    smallest=2,
    conventions={
        "standard cddfuse tang": Convention(
            "squared differences averaged over the number of differences, on 0..255"
        ),
        "vifb": Convention(
            "summed squares divided by the number of pixels, as the paper prints it",
            {"per_pixel": True},
        ),
    },
)
def spatial_frequency(fused: Plane, *, per_pixel: bool = False) -> float:
    r"""Root of the mean squared differences of neighbours, along rows plus down columns."""
    value = 0.0
    for axis in (0, 1):
        step = np.diff(fused.values, axis=axis).ravel()
        value += float(np.dot(step, step)) / (fused.values.size if per_pixel else step.size)
    return math.sqrt(value)


@metric(
    "AG",
    "average gradient",
    range=">= 0 gray levels; 0 for a constant image",
    paper='G. Cui, H. Feng, Z. Xu, Q. Li, Y. Chen, "Detail preserved fusion of visible and '
    "infrared images using regional saliency extraction and multi-scale image "
    'decomposition", Optics Communications 341, 2015',
    doi="10.1016/j.optcom.2014.12.032",
    smallest=2,
    conventions={
        "standard cddfuse": Convention("central differences, mean over all H x W pixels"),
        "tang vifb": Convention(
            "the same sum over all pixels divided by (H-1)(W-1)", {"inner": True}
        ),
    },
)
def average_gradient(fused: Plane, *, inner: bool = False) -> float:
    r"""Mean of :math:`\sqrt{(g_x^2 + g_y^2) / 2}` with central differences on 0..255."""
    down, along = np.gradient(fused.values)
    strength = np.sqrt((down * down + along * along) / 2)
    height, width = fused.shape
    return float(strength.sum()) / ((height - 1) * (width - 1) if inner else strength.size)


@metric(
    "EI",
    "edge intensity",
    range=">= 0 gray levels; 0 for a constant image",
    paper='B. Rajalingam, R. Priya, "Hybrid multimodality medical image fusion technique for '
    'feature enhancement in medical diagnosis", Int. J. Engineering Science Invention, 2018',
    conventions={
        "standard vifb": Convention("3x3 Sobel, not scaled, border repeated outwards, on 0..255")
    },
)
def edge_intensity(fused: Plane) -> float:
    r"""Mean of the Sobel gradient's strength :math:`\sqrt{s_x^2 + s_y^2}`."""
    down, along = (sobel(fused.values, axis=axis, mode="nearest") for axis in (0, 1))
    return float(np.sqrt(down * down + along * along).mean())


_ALONG = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
_DOWN = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])


def _convolve(padded: np.ndarray, kernel: np.ndarray, octave: bool) -> np.ndarray:
    """Convolve a picture padded by one pixel, adding the products in the order of conv2.

    On images in 0..1 these sums are rounded, and Qabf asks whether two of them are equal.
    """
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    result = np.zeros((height, width), padded.dtype)
    for q in (2, 1, 0) if octave else (0, 1, 2):
        for p in (0, 1, 2):
            if kernel[p, q]:
                part = padded[2 - p : 2 - p + height, 2 - q : 2 - q + width]
                result += part * padded.dtype.type(kernel[p, q])
    return result


@once
def _edges(x: Plane, peak: float, octave: bool, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return strength and angle (in [-pi/2, pi/2]) of the Sobel gradient, zeros outside."""
    padded: np.ndarray = np.pad((x.values / 255 * peak).astype(dtype), 1)
    along, down = _convolve(padded, _ALONG, octave), _convolve(padded, _DOWN, octave)
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = np.arctan(down / along)
    np.copyto(angle, np.pi / 2, where=along == 0)
    return np.sqrt(along * along + down * down), angle


@metric(
    "Qabf",
    "edge transfer of Xydeas and Petrovic",
    range="0..0.9748 (0.9754 where ties count as the strength itself); 1 is not reached; the "
    "largest value for a fused image equal to both sources; black sources have no edge to keep "
    "and give 0.9748, with a warning",
    paper='C. S. Xydeas, V. Petrovic, "Objective image fusion performance measure", Electronics '
    "Letters 36(4), 2000",
    doi="10.1049/el:20000267",
    conventions={
        "standard": Convention(
            "0..255; where fused image and source are equally strong the relative strength is 1"
        ),
        "tang": Convention(
            "0..255; where both are equally strong the relative strength is the strength itself, "
            "at least 1 here, so this differs little from the textbook",
            {"own_strength": True},
        ),
        "cddfuse": Convention(
            "as tang, computed in float32 (differs by 1e-7)",
            {"own_strength": True, "dtype": np.float32},
        ),
        "vifb": Convention(
            "as tang on 0..65025, since an image of 0..255 is multiplied by 255 (differs by 1e-10)",
            {"own_strength": True, "peak": 65025},
        ),
        "li": Convention(
            "0..1; where both are equally strong the relative strength is the strength itself, "
            "small here: what is kept exactly is punished. Whether two strengths are equal "
            "is decided by rounding, so products are added in the order of MATLAB's conv2",
            {"own_strength": True, "peak": 1},
        ),
    },
)
def qabf(
    fused: Plane,
    ir: Plane,
    vis: Plane,
    *,
    own_strength: bool = False,
    peak: float = 255,
    octave: bool = False,
    dtype: type[np.floating] = np.float64,
) -> float:
    r"""Share of the sources' edges that the fused image keeps, in strength and direction.

    :math:`\sum (Q^{AF} g_A + Q^{BF} g_B) / \sum (g_A + g_B)` with the strength `g` and angle
    :math:`\alpha` of the Sobel gradient, and per source

    .. math:: Q = \frac{0.9994}{1 + e^{-15 (G - 0.5)}} \frac{0.9879}{1 + e^{-22 (R - 0.8)}}

    G is the ratio of the strengths, the weaker over the stronger;
    :math:`R = 1 - |\alpha_S - \alpha_F| / (\pi/2)`.

    Parameters
    ----------
    own_strength : bool
        Where both strengths are equal, G is that strength, not 1.
    peak : float
        What level 255 stands for.
    octave : bool
        Add products in the order of Octave's conv2, not MATLAB's; all one for whole numbers.
    dtype : type
        In which everything is computed.
    """
    edges = [_edges(image, peak, octave, dtype) for image in (fused, ir, vis)]
    kept, there = (np.zeros(fused.shape, dtype) for _ in range(2))
    for rows in strips(fused.shape):
        (f_strength, f_angle), *sources = ([part[rows] for part in edge] for edge in edges)
        for strength, angle in sources:
            low, high = np.minimum(strength, f_strength), np.maximum(strength, f_strength)
            equal = low == high
            ratio = np.divide(low, high, out=np.ones_like(low), where=~equal)
            if own_strength:
                np.copyto(ratio, f_strength, where=equal)
            direction = 1 - np.abs(angle - f_angle) / dtype(np.pi / 2)
            quality = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
            quality *= 0.9879 / (1 + np.exp(-22 * (direction - 0.8)))
            kept[rows] += quality * strength
            there[rows] += strength
    kept, there = kept.sum(), there.sum()
    if there == 0:
        best = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))
        return undefined("Qabf of black sources", best)
    return kept / there


def _correlate_by_columns(padded: np.ndarray, down: tuple, along: tuple) -> np.ndarray:
    """Correlate with a separable 3x3 kernel over 8: sum its columns, then the three sums."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2

    def column(q: int) -> np.ndarray:
        above, centre, below = (
            padded[p : p + height, q : q + width] * (weight * along[q] / 8)
            for p, weight in enumerate(down)
        )
        return above + centre + below

    return column(0) + column(1) + column(2)


@once
def _artifact_edges(x: Plane, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Return strength and angle of the Sobel gradient over 8, border mirrored."""
    padded = np.pad(x.values / 255 * peak, 1, mode="reflect")
    smooth, differ = (1, 2, 1), (-1, 0, 1)
    along = _correlate_by_columns(padded, smooth, differ)
    down = _correlate_by_columns(padded, differ, smooth)
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = np.arctan(along / down)
    np.copyto(angle, 0, where=(down == 0) & (along == 0))
    return np.sqrt(down * down + along * along), angle


@metric(
    "Nabf",
    "fusion artifacts",
    higher_is_better=False,
    range="0..1; 0 for constant images",
    paper='B. K. Shreyamsha Kumar, "Multifocus and multispectral image fusion based on pixel '
    'significance using discrete cosine harmonic wavelet transform", Signal, Image and Video '
    "Processing 7, 2013",
    doi="10.1007/s11760-012-0361-x",
    smallest=2,
    conventions={
        "standard": Convention("0..255: pixels with strong gradients weigh more"),
        "li": Convention(
            "0..1: no gradient reaches the threshold of the weights, all pixels weigh the same; "
            "at ties rounding decides, so the order of MATLAB's sums is kept",
            {"peak": 1},
        ),
        "tang": Convention(
            "0..255 with the arguments in another order than the function expects: artifacts of "
            "the infrared image against the visible and the fused one",
            function=lambda fused, ir, vis: nabf(ir, vis, fused),
        ),
    },
)
def nabf(fused: Plane, ir: Plane, vis: Plane, *, peak: float = 255) -> float:
    r"""Share of edges in the fused image that neither source has.

    :math:`\sum_{g_F > g_A, g_F > g_B} [(1-Q_A) w_A + (1-Q_B) w_B] / \sum (w_A + w_B)` with Sobel
    gradients over 8, :math:`w = g^{1.5}` where :math:`g \ge 2`, else 0.001, and

    .. math:: Q = \sqrt{\frac{0.9999}{1 + e^{-19 (G - 0.5)}} \frac{0.9995}{1 + e^{-22 (R - 0.5)}}}
    """
    f_strength, f_angle = _artifact_edges(fused, peak)
    edges = [_artifact_edges(source, peak) for source in (ir, vis)]
    new = np.logical_and(*(f_strength > strength for strength, _ in edges))
    lost = weights = 0.0
    for strength, angle in edges:
        low, high = np.minimum(strength, f_strength), np.maximum(strength, f_strength)
        ratio = np.divide(low, high, out=np.zeros_like(low), where=low > 0)
        direction = np.abs(np.abs(angle - f_angle) - np.pi / 2) * (2 / np.pi)
        quality = 0.9999 / (1 + np.exp(-19 * (ratio - 0.5)))
        quality *= 0.9995 / (1 + np.exp(-22 * (direction - 0.5)))
        weight = np.where(strength >= 2, strength**1.5, 0.001)
        lost += float(((1 - np.sqrt(quality)) * weight)[new].sum())
        weights += float(weight.sum())
    return lost / weights
