"""Metrics that compare pixels, correlations and local structure.

`image` and `reference` are gray levels, uint8 (H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import correlate, uniform_filter

from ..errors import unknown
from .plane import Plane, as_planes, inner, local_covariance, local_mean, total, undefined, valid
from .registry import Convention, Image, metric

JAGALINGAM: dict[str, Any] = {
    "paper": 'P. Jagalingam, A. V. Hegde, "A review of quality metrics for fused image", Aquatic '
    "Procedia 4, 2015",
    "doi": "10.1016/j.aqpro.2015.02.019",
}
WANG: dict[str, Any] = {
    "paper": 'Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: '
    'from error visibility to structural similarity", IEEE Trans. Image Process. 13(4), 2004',
    "doi": "10.1109/TIP.2003.819861",
}

Mean = Callable[[np.ndarray], np.ndarray]


def mse(image: Image, reference: Image) -> float:
    """Mean squared error of two images, in 0..65025 squared gray levels; lower is better.

    Sums of integers: exact but for the last division.
    """
    x, y = as_planes({"image": image, "reference": reference})
    return (inner(x, x) - 2 * inner(x, y) + inner(y, y)) / x.values.size


def psnr(image: Image, reference: Image) -> float:
    """Peak signal-to-noise ratio of two images: ``10 log10(255**2 / mse)`` decibel.

    Infinite for equal images; higher is better.
    """
    return _decibel(255**2, mse(image, reference))


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


@metric(
    "MSE",
    "mean squared error",
    higher_is_better=False,
    range="0..65025, squared gray levels; 0 only if both sources are equal to the fused image",
    **JAGALINGAM,
    conventions={
        "standard cddfuse": Convention("mean of the errors against the two sources, on 0..255"),
        "tang": Convention("the same on 0..1", {"peak": 1}),
    },
)
def mean_squared_error(fused: Plane, ir: Plane, vis: Plane, *, peak: float = 255) -> float:
    r"""Mean of the squared errors against both sources: :math:`(MSE(F,A) + MSE(F,B)) / 2`."""
    return (mse(fused, ir) + mse(fused, vis)) / 2 * (peak / 255) ** 2


@metric(
    "RMSE",
    "root mean squared error",
    higher_is_better=False,
    range="0..255 gray levels",
    **JAGALINGAM,
    conventions={
        "standard": Convention("mean of the roots of the two mean squared errors"),
        "vifb": Convention(
            "the root is taken before the division by the number of pixels N: smaller by the "
            "factor sqrt(N), so that it depends on the size",
            {"root_first": True},
        ),
    },
)
def root_mean_squared_error(
    fused: Plane, ir: Plane, vis: Plane, *, root_first: bool = False
) -> float:
    r"""Mean of the root mean squared errors against both sources."""
    value = (math.sqrt(mse(fused, ir)) + math.sqrt(mse(fused, vis))) / 2
    return value / math.sqrt(fused.values.size) if root_first else value


@metric(
    "PSNR",
    "peak signal-to-noise ratio",
    range="any sign, dB; infinite only if both sources are equal to the fused image",
    **JAGALINGAM,
    conventions={
        "standard": Convention("peak 255, mean of the two squared errors on 0..255"),
        "cddfuse": Convention(
            "the peak is the brightest pixel of the fused image; -inf for a black one",
            {"brightest": True},
        ),
        "tang": Convention(
            "peak 255 with errors on 0..1: 20 log10(255) = 48.13 dB too high",
            {"error": partial(mean_squared_error, peak=1)},
        ),
        "vifb": Convention(
            "10 log10 of 255**2 over RMSE (vifb), which is not squared",
            {"error": partial(root_mean_squared_error, root_first=True)},
        ),
    },
)
def peak_signal_to_noise_ratio(
    fused: Plane,
    ir: Plane,
    vis: Plane,
    *,
    brightest: bool = False,
    error: Callable[..., float] = mean_squared_error,
) -> float:
    r"""Peak over error in decibel: :math:`10 \log_{10} (255^2 / MSE)`, `MSE` of both sources."""
    peak = fused.values.max() if brightest else 255
    return _decibel(peak**2, error(fused, ir, vis))


def _correlation(n: int, x: int, y: int, xx: int, yy: int, xy: int, what: str) -> float:
    """Pearson correlation from exact sums of x, y, x*x, y*y, x*y over n pixels."""
    spread = (n * xx - x * x) * (n * yy - y * y)
    if spread == 0:
        return undefined(f"{what}: a correlation with a constant image", 0)
    # Python's integers: nothing is rounded before the root.
    return (n * xy - x * y) / math.sqrt(spread)


@metric(
    "CC",
    "correlation coefficient",
    range="-1..1; a constant image counts as uncorrelated, 0 with a warning",
    paper='M. Deshmukh, U. Bhosale, "Image fusion and image quality assessment of fused images", '
    "Int. J. Image Processing 4(5), 2010",
    conventions={
        "standard cddfuse tang": Convention("mean of the correlations with the two sources")
    },
)
def correlation_coefficient(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Mean of the Pearson correlations with both sources: :math:`(r(F,A) + r(F,B)) / 2`."""
    f, n = fused, fused.values.size
    return sum(
        _correlation(n, total(f), total(s), inner(f, f), inner(s, s), inner(f, s), "CC") / 2
        for s in (ir, vis)
    )


@metric(
    "SCD",
    "sum of the correlations of differences",
    range="-2..2; where a source or a difference is constant its term is 0, with a warning",
    paper='V. Aslantas, E. Bendes, "A new image quality metric for image fusion: the sum of the '
    'correlations of differences", AEU Int. J. Electron. Commun. 69(12), 2015',
    doi="10.1016/j.aeue.2015.09.004",
    conventions={
        "standard li cddfuse tang": Convention("sum of the two correlations; all codes agree")
    },
)
def scd(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""How the difference to one source resembles the other: :math:`r(F-B, A) + r(F-A, B)`."""
    f, n = fused, fused.values.size
    value = 0.0
    for kept, taken in ((ir, vis), (vis, ir)):  # r(F - taken, kept)
        value += _correlation(
            n,
            total(f) - total(taken),
            total(kept),
            inner(f, f) - 2 * inner(f, taken) + inner(taken, taken),
            inner(kept, kept),
            inner(f, kept) - inner(ir, vis),
            "SCD",
        )
    return value


def ssim(image: Image, reference: Image, *, border: str = "replicate") -> float:
    """Structural similarity of two images, in [-1, 1], 1 for equal ones; source as of SSIM.

    Gaussian window of 11x11 and sigma 1.5, population variances, L = 255.

    Parameters
    ----------
    border : {"replicate", "valid"}
        "replicate" repeats the border outwards and averages over all pixels, as MATLAB's ssim
        does; "valid" averages over the pixels whose window lies inside the image, as the
        authors' code does (sides of at least 11).
    """
    if border not in ("replicate", "valid"):
        raise unknown("border", border, ("replicate", "valid"))
    images = {"image": image, "reference": reference}
    x, y = as_planes(images, metric="SSIM", smallest=11 if border == "valid" else 1)
    moments = [local_covariance(*pair) for pair in ((x, x), (y, y), (x, y))]
    result = _ssim_map(local_mean(x), local_mean(y), *moments, peak=255)
    return float(np.mean(valid(result, 5) if border == "valid" else result))


def _ssim_map(
    mx: np.ndarray, my: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, *, peak: float
) -> np.ndarray:
    """Means, variances and covariance in each window -> similarity in each window."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    shared = (2 * mx * my + c1) * (2 * xy + c2)
    return shared / ((mx**2 + my**2 + c1) * (xx + yy + c2))


@metric(
    "SSIM_a",
    "mean structural similarity to both sources",
    range="-1..1; 1 for a fused image equal to both sources",
    **WANG,
    conventions={
        "standard li": Convention(
            "MATLAB's ssim on images in 0..1 (L = 1): 11x11 Gaussian of sigma 1.5, border "
            "repeated outwards, mean over all pixels"
        )
    },
)
def ssim_a(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Mean of the structural similarities to both sources, Res2NetFuse equation 9; see SSIM."""
    return (ssim(fused, ir) + ssim(fused, vis)) / 2


def _ssim_between(
    x: np.ndarray, y: np.ndarray, mean: Mean, peak: float, sample: float = 1
) -> np.ndarray:
    """Similarity in each window of `mean`; `sample` scales the population variances."""
    mx, my = mean(x), mean(y)
    pairs = ((x, x, mx * mx), (y, y, my * my), (x, y, mx * my))
    moments = [sample * (mean(p * q) - means) for p, q, means in pairs]
    return _ssim_map(mx, my, *moments, peak=peak)


def _ssim_range_one(fused: Plane, ir: Plane, vis: Plane) -> float:
    # Beside constants of L = 1 rounding counts on 0..255, so the kernel is applied as a whole.
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    mean = partial(correlate, weights=kernel, mode="nearest")
    maps = (_ssim_between(fused.values, s.values, mean, peak=1) for s in (ir, vis))
    return sum(float(np.mean(similarity)) / 2 for similarity in maps)


def ssim_map(
    image: Image, reference: Image, *, peak: float = 255, dtype: type[np.floating] = np.float64
) -> np.ndarray:
    """Structural similarity in each window of 7x7 pixels, as scikit-image computes it.

    Parameters
    ----------
    peak : float
        The range L that the constants are made for; gray levels are on 0..255 whatever it is.
    dtype : type
        In which everything is computed.

    Returns
    -------
    ndarray, shape (H - 6, W - 6)
        In [-1, 1]; uniform window, sample variances.
    """
    planes = as_planes({"image": image, "reference": reference}, metric="SSIM", smallest=7)
    x, y = (plane.values.astype(dtype) for plane in planes)
    mean = partial(uniform_filter, size=7)
    return valid(_ssim_between(x, y, mean, peak, sample=float(dtype(49 / 48))), 3)


def ssim_uniform(
    fused: Plane, ir: Plane, vis: Plane, *, peak: float, dtype: type[np.floating]
) -> float:
    """Sum over both sources of the mean of `ssim_map`."""
    maps = (ssim_map(fused, source, peak=peak, dtype=dtype) for source in (ir, vis))
    return sum(float(similarity.mean(dtype=np.float64)) for similarity in maps)


@metric(
    "SSIM",
    "structural similarity",
    range="-1..1, or -2..2 where a convention sums over the sources",
    **WANG,
    smallest=11,
    conventions={
        "standard": Convention(
            "mean over the sources; 11x11 Gaussian of sigma 1.5, L = 255, mean over the pixels "
            "whose window lies inside the image"
        ),
        "cddfuse": Convention(
            "sum over the sources; scikit-image's 7x7 uniform window, sample variances, float32, "
            "and L = 2 on 0..255: scikit-image once took 2 as the range of any float image",
            {"peak": 2, "dtype": np.float32},
            ssim_uniform,
            smallest=7,
        ),
        "cddfuse_255": Convention(
            "cddfuse with the mistake mended: L = 255, float64",
            {"peak": 255, "dtype": np.float64},
            ssim_uniform,
            smallest=7,
        ),
        "tang": Convention(
            "mean over the sources; MATLAB's ssim on 0..255 in double, for which its L stays 1",
            function=_ssim_range_one,
            smallest=1,
        ),
        "vifb": Convention("sum over the sources, else as standard", {"summed": True}),
    },
)
def ssim_of_sources(fused: Plane, ir: Plane, vis: Plane, *, summed: bool = False) -> float:
    r"""Structural similarity to both sources, averaged over windows.

    Per source :math:`(2 \mu_S \mu_F + C_1)(2 \sigma_{SF} + C_2) / ((\mu_S^2 + \mu_F^2 + C_1)
    (\sigma_S^2 + \sigma_F^2 + C_2))` with :math:`C_1 = (0.01 L)^2`, :math:`C_2 = (0.03 L)^2` and
    the means, variances and covariance of each window; L is the range of the data.
    """
    value = ssim(fused, ir, border="valid") + ssim(fused, vis, border="valid")
    return value if summed else value / 2
