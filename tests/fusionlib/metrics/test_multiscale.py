"""MS-SSIM: pytorch_msssim and direct sums for Wang's, blocks one by one for the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim
from scipy import signal

from fusionlib.errors import MetricWarning
from fusionlib.metrics import METRICS
from fusionlib.metrics.multiscale import multi_exposure_scores, multiscale_ssim
from fusionlib.metrics.plane import Plane
from tests.fusionlib.metrics.pictures import flat, noise, photos

pytestmark = pytest.mark.filterwarnings("error")

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = 6.5025, 58.5225  # (0.01 * 255)**2, (0.03 * 255)**2
OFFSETS = np.arange(-5, 6)
GAUSSIAN = np.exp(-(OFFSETS[:, None] ** 2 + OFFSETS**2) / 4.5)
GAUSSIAN /= GAUSSIAN.sum()


def multi_exposure(*images):
    return METRICS["MS_SSIM"].compute(*images, "li")


def halved(image):
    """Means of a pixel and its right, lower and diagonal neighbours, every second pixel."""
    padded = np.pad(image, ((0, 1), (0, 1)), mode="symmetric")
    return signal.convolve2d(padded, np.full((2, 2), 0.25), mode="valid")[::2, ::2]


# ---------------------------------------------------------------- Wang's index


def wang(x, y):
    """Wang's index with two-dimensional windows, for any size."""
    x, y = x.astype(float), y.astype(float)
    value = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = halved(x), halved(y)
        mean = [signal.convolve2d(m, GAUSSIAN, "valid") for m in (x, y, x * x, y * y, x * y)]
        mx, my = mean[:2]
        similarity = (2 * (mean[4] - mx * my) + C2) / (mean[2] - mx * mx + mean[3] - my * my + C2)
        if scale == 4:
            similarity = similarity * (2 * mx * my + C1) / (mx * mx + my * my + C1)
        value *= similarity.mean() ** weight
    return value


@pytest.mark.parametrize("size", [(176, 192), (177, 190), (183, 179)])
@pytest.mark.parametrize("pictures", [noise, photos])
def test_standard_by_its_definition(pictures, size):
    f, a, b = pictures(size)
    # Rounding of 5e-11 in a covariance stands beside C2 = 58.
    expected = (wang(f, a) + wang(f, b)) / 2
    assert multiscale_ssim(f, a, b) == pytest.approx(expected, rel=1e-10)
    if all(side % 16 == 0 for side in size):  # pytorch-msssim pads other sizes in another way
        x, *sources = (torch.tensor(image, dtype=torch.float64)[None, None] for image in (f, a, b))
        # Its own window is built in float32, whose sum is off by 1e-7.
        window = torch.tensor(GAUSSIAN.sum(axis=0))[None, None, None]
        one, other = (float(ms_ssim(x, s, data_range=255, win=window)) for s in sources)
        assert expected == pytest.approx((one + other) / 2, rel=1e-10)


def test_negative_similarity_gives_0_with_a_warning():
    f = noise((176, 176))[0]
    for images, convention, times in [
        ((f, 255 - f, 255 - f), "standard", 2),
        ((f, f, 255 - f), "standard", 1),
        ((f, 255 - f, 255 - f), "li", 1),
    ]:
        with pytest.warns(MetricWarning, match="MS_SSIM.*negative") as caught:
            value = METRICS["MS_SSIM"].compute(*images, convention)
        assert len(caught) == times
        assert value == pytest.approx(0.5 if times == 1 and convention == "standard" else 0)


# ---------------------------------------------------------------- the multi-exposure index


def desired_similarity(f, *sources):
    """One scale, block by block: how alike to the block that the sources would ideally give."""
    eps = 2.0**-52
    scores = []
    for i, j in np.ndindex(f.shape[0] - 10, f.shape[1] - 10):
        block = np.s_[i : i + 11, j : j + 11]
        centred = [s[block] - s[block].mean() for s in sources]
        norms = [np.linalg.norm(c) for c in centred]
        strengths = [
            math.sqrt(max(121 * ((s[block] ** 2).mean() - s[block].mean() ** 2), 0)) + 0.001
            for s in sources
        ]
        both = sources[0][block] + sources[1][block]
        consistency = (np.linalg.norm(both - both.mean()) + eps) / (sum(norms) + eps)
        if consistency > 1:
            consistency = 1 - eps
        power = min(math.tan(math.pi / 2 * consistency), 10)
        weights = [(e / 11) ** power + eps for e in strengths]
        desired = sum(
            w / sum(weights) * c / e for w, c, e in zip(weights, centred, strengths, strict=True)
        )
        if (norm := np.linalg.norm(desired)) > 0:
            desired = desired / norm * max(strengths)
        d, g = (x - np.sum(GAUSSIAN * x) for x in (desired, f[block]))
        scores.append(
            (2 * np.sum(GAUSSIAN * d * g) + C2)
            / (np.sum(GAUSSIAN * d * d) + np.sum(GAUSSIAN * g * g) + C2)
        )
    return np.mean(scores)


def half_empty(size):
    """A constant fused image, and a source that is constant in its upper half."""
    f, a, b = noise(size)
    f[:], a[: size[0] // 2] = 9, 200
    return f, a, b


@pytest.mark.parametrize("size", [(44, 44), (48, 50), (45, 47)])
@pytest.mark.parametrize("pictures", [noise, photos, half_empty])
def test_multi_exposure_by_its_definition(pictures, size):
    images = pictures(size)
    scaled = [image.astype(float) for image in images]
    expected = []
    for _ in range(3):
        expected.append(desired_similarity(*scaled))
        scaled = [halved(image) for image in scaled]
    # Rounding of some 1e-10 in a covariance of desired blocks stands beside C2 = 58.
    assert multi_exposure_scores(*map(Plane, images)) == pytest.approx(expected, rel=1e-10)
    product = math.prod(
        score ** (w / sum(WEIGHTS[:3])) for score, w in zip(expected, WEIGHTS, strict=False)
    )
    assert multi_exposure(*images) == pytest.approx(product, rel=1e-10)


def test_multi_exposure_of_constant_images():
    # Without any structure to keep, luminance does not count; rounding beside C2 = 58.
    for levels in [(9, 9, 9), (0, 0, 0), (100, 200, 30)]:
        assert multi_exposure(*flat(*levels)) == pytest.approx(1, rel=1e-11)
