"""SSIM, SCD, MSE and PSNR: direct sums, scikit-image, scipy, known images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from skimage import metrics as skimage

from fusionlib.metrics.structure import mse, psnr, scd, ssim, ssim_a

several = st.tuples(st.integers(2, 20), st.integers(2, 20)).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.integers(0, 255))] * 3)
)


def noise(size=(40, 53), count=3):
    """Correlated pictures: a common part and one of each."""
    generator = np.random.default_rng(0)
    common = generator.integers(0, 128, size)
    return [(common + generator.integers(0, 128, size)).astype(np.uint8) for _ in range(count)]


def ssim_map(x, y):
    """spec item 1 by its definition: an 11x11 window around every pixel, edges repeated."""
    x, y = (image / 255.0 for image in (x, y))
    axis = np.arange(-5, 6)
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    window /= window.sum()
    padded = [np.pad(image, 5, mode="edge") for image in (x, y)]
    result = np.empty(x.shape)
    for i, j in np.ndindex(x.shape):
        a, b = (image[i : i + 11, j : j + 11] for image in padded)
        ma, mb = np.sum(window * a), np.sum(window * b)
        va, vb = np.sum(window * (a - ma) ** 2), np.sum(window * (b - mb) ** 2)
        cov = np.sum(window * (a - ma) * (b - mb))
        result[i, j] = ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4)) / (
            (ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)
        )
    return result


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (11, 30), (25, 24)])
def test_ssim_by_its_definition(size):
    x, y, _ = noise(size)
    assert ssim(x, y) == pytest.approx(ssim_map(x, y).mean(), rel=1e-11)


def test_ssim_inside_is_that_of_scikit_image():
    """Away from the border the map is scikit-image's; the definition above links the two."""
    x, y, _ = noise()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = skimage.structural_similarity(x, y, data_range=255, full=True, **options)[1]
    inside = (slice(5, -5),) * 2
    assert ssim_map(x, y)[inside] == pytest.approx(theirs[inside], rel=1e-10)


@pytest.mark.parametrize("a, b", [(0, 0), (0, 255), (100, 200)])
def test_ssim_of_constant_images(a, b):
    x, y = (np.full((9, 12), level, np.uint8) for level in (a, b))
    expected = (2 * a * b + 1e-4 * 255**2) / (a * a + b * b + 1e-4 * 255**2)
    # Variances of rounding 1e-16 stand beside C2 = 9e-4.
    assert ssim(x, y) == pytest.approx(expected, rel=1e-12)


@given(several)
@settings(max_examples=50, deadline=None)
def test_ssim_properties(images):
    x, y, z = images
    assert ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert ssim(x, y) == pytest.approx(ssim(y, x), abs=1e-12)
    assert -1 <= ssim(x, y) <= 1 + 1e-12
    # Sums of a separable filter in another order: the two differ by rounding.
    assert ssim(x.T, y.T) == pytest.approx(ssim(x, y), abs=1e-10)
    assert ssim_a(x, y, z) == pytest.approx((ssim(x, y) + ssim(x, z)) / 2, abs=1e-12)


@given(several)
@settings(max_examples=60, deadline=None)
def test_scd_is_that_of_scipy(images):
    f, a, b = (image.astype(float) for image in images)
    parts = [(f - b, a), (f - a, b)]
    if any(np.ptp(image) == 0 for part in parts for image in part):
        assert math.isnan(scd(*images))
    else:
        expected = sum(stats.pearsonr(x.ravel(), y.ravel()).statistic for x, y in parts)
        assert scd(*images) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(several)
@settings(max_examples=40, deadline=None)
def test_scd_properties(images):
    f, a, b = images
    value, swapped = scd(f, a, b), scd(f, b, a)
    assert math.isnan(value) == math.isnan(swapped)
    if not math.isnan(value):
        assert value == pytest.approx(swapped, abs=1e-12) and abs(value) <= 2 + 1e-12


def test_scd_of_the_sum_is_two():
    a, b, _ = (image // 2 for image in noise())
    assert scd(a + b, a, b) == pytest.approx(2, rel=1e-14)


def test_scd_is_undefined_where_nothing_changes():
    a, b, c = noise()
    flat = np.full_like(a, 9)
    for triple in [(a, a, b), (b, a, b), (c, flat, b), (c, a, flat), (a // 2 + 9, a // 2, b)]:
        assert math.isnan(scd(*triple))


@given(several)
@settings(max_examples=40, deadline=None)
def test_mse_and_psnr_are_those_of_scikit_image(images):
    x, y, _ = images
    expected = skimage.mean_squared_error(x / 255.0, y / 255.0)
    assert mse(x, y) == pytest.approx(expected, rel=1e-12)
    if (x == y).all():
        assert mse(x, y) == 0 and psnr(x, y) == math.inf
    else:
        expected = skimage.peak_signal_noise_ratio(x, y, data_range=255)
        assert psnr(x, y) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_black_against_white():
    black, white = np.zeros((3, 4), np.uint8), np.full((3, 4), 255, np.uint8)
    assert mse(black, white) == 1 and psnr(white, black) == 0
