"""Metrics modelled on what the eye sees: information fidelity and contrast sensitivity."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy import fft
from scipy.ndimage import convolve1d, sobel

from .plane import Plane, as_planes, gaussian_taps, once, stretched, strips, undefined, valid
from .registry import Convention, Image, metric

_NOISE = 2.0  # variance of the eye's own noise
_TINY = 1e-10


def vif(image: Image, reference: Image) -> float:
    """Visual information fidelity of an image against a reference: one source's term of VIF.

    Of uint8 (H, W), sides of at least 41. At least 0, 1 for equal images; higher is better.
    """
    x, y = as_planes({"image": image, "reference": reference}, metric="VIF", smallest=41)
    kept = there = 0.0
    for scale in range(4):
        moments = (*_scale_moments(x, scale), *_scale_moments(y, scale))
        product = _smooth(_scaled(x, scale) * _scaled(y, scale), scale)
        for rows in strips(product.shape):
            mx, xx, my, yy = (part[rows] for part in moments)
            xy = product[rows] - mx * my
            gain = xy / (yy + _TINY)
            np.copyto(gain, 0, where=(xx < _TINY) | (gain < 0))
            rest = np.maximum(xx - gain * xy, _TINY)
            yy = np.where(yy < _TINY, 0, yy)
            kept += float(np.log1p(gain * gain * yy / (rest + _NOISE)).sum())
            there += float(np.log1p(yy / _NOISE).sum())
    return kept / there if there > 0 else undefined("VIF against a constant source", 1)


def _smooth(array: np.ndarray, scale: int) -> np.ndarray:
    """Average in a Gaussian window of 17, 9, 5 or 3 taps, where it lies inside the image."""
    size = 2 ** (4 - scale) + 1
    taps, half = gaussian_taps(size, size / 5), size // 2
    return valid(cv2.sepFilter2D(array, cv2.CV_64F, taps, taps), half)


@once
def _scaled(x: Plane, scale: int) -> np.ndarray:
    # A copy, since a view would keep all of it.
    return x.values if scale == 0 else _smooth(_scaled(x, scale - 1), scale)[::2, ::2].copy()


@once
def _scale_moments(x: Plane, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance in each window of a scale."""
    values = _scaled(x, scale)
    mean = _smooth(values, scale)
    variance = _smooth(values * values, scale)
    variance -= mean * mean
    return mean, np.maximum(variance, 0, out=variance)


@metric(
    "VIF",
    "visual information fidelity",
    range=">= 0; a term is 1 for a fused image equal to the source and more where contrast is "
    "enhanced; the term of a constant source is 1, with a warning",
    paper='H. R. Sheikh, A. C. Bovik, "Image information and visual quality", IEEE Trans. Image '
    "Process. 15(2), 2006, in the pixel domain",
    doi="10.1109/TIP.2005.859378",
    smallest=41,
    conventions={
        "standard": Convention("mean over the two sources, on 0..255"),
        "cddfuse tang": Convention("sum over the two sources, on 0..255", {"summed": True}),
    },
)
def vif_of_sources(fused: Plane, ir: Plane, vis: Plane, *, summed: bool = False) -> float:
    r"""Information that the eye gets about the sources from the fused image, over four scales.

    Per source :math:`\sum \log(1 + g^2 \sigma_S^2 / (\sigma_V^2 + 2)) / \sum \log(1 + \sigma_S^2
    / 2)` with the gain `g` and remaining variance :math:`\sigma_V^2` of a linear model of the
    fused image in each Gaussian window. This is not VIFF (doi 10.1016/j.inffus.2011.08.002).
    """
    value = vif(fused, ir) + vif(fused, vis)
    return value if summed else value / 2


def _seen(
    x: np.ndarray, sensitivity: Callable[[np.ndarray], np.ndarray], cycles: float
) -> np.ndarray:
    """Filter by a contrast sensitivity, a function of the radial frequency.

    `cycles` is the number of pixels to which a frequency of 1 belongs.
    """
    height, width = x.shape
    # Frequencies from -1 (inclusive) to 1; of a real picture the half with columns >= 0 is enough.
    down = fft.fftfreq(height) * 2 * height / cycles
    along = fft.rfftfreq(width) * 2 * width / cycles
    response = sensitivity(np.hypot(down[:, None], along))
    return fft.irfft2(fft.rfft2(x) * response, s=x.shape)


@once
def _masked_contrast(x: Plane) -> np.ndarray:
    """Return the perceived local contrast of the stretched image."""
    image = _seen(
        stretched(x).values,
        lambda r: np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2)),
        30,
    )
    blurred = []
    for sigma in (2, 4):
        taps = np.exp(-(np.arange(-15, 16) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
        rows = convolve1d(image, taps, axis=0, mode="constant")
        blurred.append(convolve1d(rows, taps, axis=1, mode="constant"))
    near, far = blurred
    contrast = np.abs(np.divide(near, far, out=np.ones_like(near), where=far != 0) - 1)
    return contrast**3 / (contrast**2 + 1e-4)


@metric(
    "Q_CB",
    "perceptual quality of Chen and Blum",
    range="0..1",
    paper='Y. Chen, R. S. Blum, "A new automated quality assessment algorithm for image fusion", '
    "Image and Vision Computing 27(10), 2009",
    doi="10.1016/j.imavis.2007.12.002",
    conventions={
        "standard vifb": Convention(
            "each image stretched to 0..255 first; a constant image has contrast 0, with a "
            "warning; two contrasts of 0 are equal, two weights of 0 are 1/2"
        )
    },
)
def q_cb(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""How well perceived local contrast is kept, weighted by the sources' contrast.

    The images are filtered by the eye's contrast sensitivity, a difference of Gaussians in the
    frequency domain; contrast is the ratio of two Gaussian averages (sigma 2 and 4) minus 1,
    masked as :math:`C' = C^3 / (C^2 + 10^{-4})`. The mean of
    :math:`\sum_S C'^2_S / (C'^2_A + C'^2_B) \min(C'_S, C'_F) / \max(C'_S, C'_F)`.
    """
    f, a, b = map(_masked_contrast, (fused, ir, vis))
    energy = a * a + b * b
    weight = np.divide(a * a, energy, out=np.full_like(a, 0.5), where=energy > 0)
    kept = []
    for source in (a, b):
        high = np.maximum(source, f)
        kept.append(np.divide(np.minimum(source, f), high, out=np.ones_like(high), where=high > 0))
    return float(np.mean(weight * kept[0] + (1 - weight) * kept[1]))


def _block_sums(array: np.ndarray) -> np.ndarray:
    """Sum over blocks of 16x16, with zeros appended below and on the right."""
    height, width = array.shape
    padded = np.pad(array, ((0, -height % 16), (0, -width % 16)))
    blocks = padded.reshape(padded.shape[0] // 16, 16, padded.shape[1] // 16, 16)
    return blocks.sum(axis=(1, 3))


@once
def _salience(x: Plane) -> np.ndarray:
    """Return the strength of edges in each block of the stretched image."""
    image = stretched(x).values
    down, along = (sobel(image, axis=axis, mode="constant") for axis in (0, 1))
    return _block_sums((down**2 + along**2) ** 2.5)


@metric(
    "Q_CV",
    "perceptual quality of Chen and Varshney",
    higher_is_better=False,
    range=">= 0; 0 for a fused image equal to both sources",
    paper='H. Chen, P. K. Varshney, "A human perception inspired quality metric for image fusion '
    'based on regional information", Information Fusion 8(2), 2007',
    doi="10.1016/j.inffus.2005.10.001",
    conventions={
        "standard vifb": Convention(
            "each image stretched to 0..255 first; sources without any edge weigh the same, with "
            "a warning"
        )
    },
)
def q_cv(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Visible difference to the sources in blocks of 16x16, weighted by the blocks' edges.

    :math:`\sum_k (w_A D_A + w_B D_B) / \sum_k (w_A + w_B)`; per block `k` the weight is the sum of
    the fifth powers of the Sobel gradient, `D` the mean square of the difference after the
    contrast sensitivity :math:`2.6 (0.0192 + 0.144 r) e^{-(0.144 r)^{1.1}}`.
    """
    visible = weights = 0.0
    flat = sum(float(_salience(source).sum()) for source in (ir, vis)) == 0
    for source in (ir, vis):
        weight = np.ones_like(_salience(source)) if flat else _salience(source)
        seen = _seen(
            stretched(source).values - stretched(fused).values,
            lambda r: 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1)),
            8,
        )
        visible += float((weight * _block_sums(seen * seen)).sum()) / 256
        weights += float(weight.sum())
    value = visible / weights
    return undefined("Q_CV of sources without edges", value) if flat else value
