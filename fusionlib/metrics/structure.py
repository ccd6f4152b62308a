"""Metrics that compare pixels and local structure. Images are 8-bit gray levels 0..255."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

__all__ = ["mse", "psnr", "scd", "ssim", "ssim_a"]


def mse(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean squared error on the [0, 1] scale.

    Parameters
    ----------
    image, reference : ndarray of uint8, shape (H, W)

    Returns
    -------
    float
        In [0, 1], 0 for equal images; lower is better.
    """
    difference = image.astype(np.float64) - reference.astype(np.float64)
    return float(np.mean(difference**2)) / 255**2


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio with peak 255: ``10 log10(1 / mse)``.

    Parameters
    ----------
    image, reference : ndarray of uint8, shape (H, W)

    Returns
    -------
    float
        Decibel, infinite for equal images; higher is better.
    """
    error = mse(image, reference)
    return float(np.inf) if error == 0 else float(-10 * np.log10(error))


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity as MATLAB's ``ssim`` computes it.

    Gaussian window of 11 taps and sigma 1.5, borders replicated, population variances,
    mean over the whole map; L is the full range of 8 bits.

    Parameters
    ----------
    image, reference : ndarray of uint8, shape (H, W)

    Returns
    -------
    float
        In [-1, 1], 1 for equal images; higher is better.

    References
    ----------
    .. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment:
       from error visibility to structural similarity", IEEE Trans. Image Process. 13(4),
       2004, doi 10.1109/TIP.2003.819861.
    """
    x = image.astype(np.float64) / 255
    y = reference.astype(np.float64) / 255
    c1, c2 = 0.01**2, 0.03**2
    mx, my = _blur(x), _blur(y)
    xx = _blur(x * x) - mx * mx
    yy = _blur(y * y) - my * my
    xy = _blur(x * y) - mx * my
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return float(np.mean(luminance * (2 * xy + c2) / (xx + yy + c2)))


def _blur(image: np.ndarray) -> np.ndarray:
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    rows = correlate1d(image, taps, axis=0, mode="nearest")
    return correlate1d(rows, taps, axis=1, mode="nearest")


def ssim_a(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> float:
    """Mean of the structural similarities to both sources, Res2NetFuse equation 9.

    Returns
    -------
    float
        In [-1, 1]; higher is better. See `ssim` for the definition.
    """
    return (ssim(fused, ir) + ssim(fused, vis)) / 2


def scd(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> float:
    r"""Sum of the correlations of differences: :math:`r(F - B, A) + r(F - A, B)`.

    Parameters
    ----------
    fused, ir, vis : ndarray of uint8, shape (H, W)

    Returns
    -------
    float
        In [-2, 2]; higher is better. NaN where a source, or a difference, is constant.

    References
    ----------
    .. [1] V. Aslantas, E. Bendes, "A new image quality metric for image fusion: the sum of
       the correlations of differences", AEU Int. J. Electron. Commun. 69(12), 2015,
       doi 10.1016/j.aeue.2015.09.004.
    """
    f, a, b = (image.astype(np.float64) for image in (fused, ir, vis))
    return _correlation(f - b, a) + _correlation(f - a, b)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / norm) if norm > 0 else float(np.nan)
