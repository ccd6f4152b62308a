"""Errors, correlations and SSIM: scikit-image, scipy, direct sums, known images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from skimage import metrics as skimage

from fusionlib.errors import ImageTooSmall, MetricWarning, PairMismatch, UnknownName
from fusionlib.metrics import METRICS, structure
from fusionlib.metrics.plane import Plane
from fusionlib.metrics.structure import (
    correlation_coefficient,
    mse,
    peak_signal_to_noise_ratio,
    psnr,
    scd,
    ssim,
    ssim_a,
    ssim_of_sources,
    ssim_uniform,
)
from fusionlib.metrics.visual import vif
from tests.fusionlib.metrics.pictures import flat, noise, photos, triples

pytestmark = pytest.mark.filterwarnings("error")


# ---------------------------------------------------------------- squared differences


@given(triples(most=20))
@settings(max_examples=60)
def test_errors_are_those_of_scikit_image(images):
    f, a, b = images
    errors = [skimage.mean_squared_error(f, s) for s in (a, b)]
    assert [mse(f, s) for s in (a, b)] == pytest.approx(errors, rel=1e-14)
    mean, n = np.mean(errors), f.size
    root = np.mean(np.sqrt(errors))
    expected = {
        "MSE": {"standard": mean, "cddfuse": mean, "tang": mean / 255**2},
        "RMSE": {"standard": root, "vifb": root / math.sqrt(n)},
    }
    for name, values in expected.items():
        assert list(values) == list(METRICS[name].conventions)
        for convention, value in values.items():
            # Sums of whole numbers; some divisions and roots of 2**-53 each.
            assert METRICS[name].compute(*images, convention) == pytest.approx(value, rel=1e-14)
    for x, y in [(f, a), (f, b)]:
        if (x == y).all():
            assert mse(x, y) == 0 and psnr(x, y) == math.inf
        else:
            expected = skimage.peak_signal_noise_ratio(y, x, data_range=255)
            # 1e-16 of a ratio is 4.3e-16 dB, on values of up to 96 dB.
            assert psnr(x, y) == pytest.approx(expected, abs=1e-13)


def test_psnr_in_every_convention():
    f, a, b = images = noise()
    mean = np.mean([skimage.mean_squared_error(f, s) for s in (a, b)])
    root = np.mean([math.sqrt(((f - s.astype(float)) ** 2).sum()) / f.size for s in (a, b)])
    expected = {
        "standard": 10 * math.log10(255**2 / mean),
        "cddfuse": 10 * math.log10(int(f.max()) ** 2 / mean),
        "tang": 20 * math.log10(255 / math.sqrt(mean / 255**2)),
        "vifb": 20 * math.log10(255 / math.sqrt(root)),
    }
    assert f.max() < 255 and list(expected) == list(METRICS["PSNR"].conventions)
    for convention, value in expected.items():
        # Some roundings of values near 40 dB.
        ours = METRICS["PSNR"].compute(*images, convention)
        assert ours == pytest.approx(value, abs=1e-13), convention


def test_psnr_without_error_or_without_peak():
    black, gray = flat(0, 9)
    for convention in METRICS["PSNR"].conventions:
        # Equal images have no error, whatever their peak.
        for image in (black, gray):
            assert METRICS["PSNR"].compute(image, image, image, convention) == math.inf
        assert METRICS["PSNR"].compute(gray, gray, black, convention) < math.inf
    assert METRICS["PSNR"].compute(black, gray, gray, "cddfuse") == -math.inf
    assert math.isfinite(peak_signal_to_noise_ratio(black, gray, gray))


# ---------------------------------------------------------------- correlations


def pearson(x, y):
    """Scipy's, or 0 where it is not defined."""
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    return 0 if constant else stats.pearsonr(x.ravel(), y.ravel()).statistic


def constants(*pairs):
    return sum(np.ptp(x) == 0 or np.ptp(y) == 0 for x, y in pairs)


@given(triples(most=16))
@settings(max_examples=80)
@pytest.mark.filterwarnings("ignore::scipy.stats.NearConstantInputWarning")
def test_correlations_are_those_of_scipy(images):
    f, a, b = (image.astype(float) for image in images)
    for function, pairs, expected in [
        (correlation_coefficient, [(f, a), (f, b)], (pearson(f, a) + pearson(f, b)) / 2),
        (scd, [(f - b, a), (f - a, b)], pearson(f - b, a) + pearson(f - a, b)),
    ]:
        if missing := constants(*pairs):
            with pytest.warns(MetricWarning, match="correlation with a constant") as caught:
                value = function(*images)
            assert len(caught) == missing
        else:
            value = function(*images)
        # Ours is exact but for a root; scipy's mean is rounded to 2**-53 of 255, beside a
        # spread of at least 1/16.
        assert value == pytest.approx(expected, abs=1e-11)


# ---------------------------------------------------------------- structural similarity


def ssim_map(x, y, peak):
    """SSIM by its definition: an 11x11 window around every pixel, edges repeated."""
    x, y = x.astype(float), y.astype(float)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
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
        result[i, j] = ((2 * ma * mb + c1) * (2 * cov + c2)) / (
            (ma**2 + mb**2 + c1) * (va + vb + c2)
        )
    return result


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (11, 30), (25, 24)])
def test_ssim_by_its_definition(size):
    f, a, b = noise(size)
    one, other = (ssim_map(f, s, 255).mean() for s in (a, b))
    # Rounding of 5e-11 in a covariance stands beside C2 = 58.
    assert ssim(f, a) == pytest.approx(one, rel=1e-11)
    assert ssim_a(f, a, b) == pytest.approx((one + other) / 2, rel=1e-11)


@pytest.mark.parametrize(
    "images", [noise(), noise((11, 11)), photos()], ids=["noise", "least", "photos"]
)
def test_ssim_inside_is_that_of_scikit_image(images):
    f, a, b = images
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    one, other = (skimage.structural_similarity(f, s, data_range=255, **options) for s in (a, b))
    # As above; the windows are summed in another order.
    assert ssim(f, a, border="valid") == pytest.approx(one, rel=1e-11)
    assert ssim_of_sources(*images) == pytest.approx((one + other) / 2, rel=1e-11)
    assert METRICS["SSIM"].compute(*images, "vifb") == pytest.approx(one + other, rel=1e-11)


@pytest.mark.parametrize(
    "images", [noise(), noise((11, 11)), photos()], ids=["noise", "least", "photos"]
)
def test_ssim_of_uniform_windows_is_that_of_scikit_image(images):
    for convention, peak, dtype in [
        ("cddfuse", 2, np.float32),
        ("cddfuse_255", 255, np.float64),
        (None, 2, np.float64),
    ]:
        f, a, b = (image.astype(dtype) for image in images)
        options = {"data_range": peak, "full": True}
        results = [skimage.structural_similarity(f, s, **options) for s in (a, b)]
        # The same operations in the same order, in float32 too.
        ours = structure.ssim_map(*images[:2], peak=peak, dtype=dtype)
        assert (ours == results[0][1][3:-3, 3:-3]).all()
        close = pytest.approx(sum(float(mean) for mean, _ in results), rel=1e-14)
        assert ssim_uniform(*map(Plane, images), peak=peak, dtype=dtype) == close
        assert convention is None or METRICS["SSIM"].compute(*images, convention) == close


def test_ssim_of_range_one_on_255():
    f, a, b = images = noise((14, 17))
    expected = (ssim_map(f, a, 1).mean() + ssim_map(f, b, 1).mean()) / 2
    # Variances of noise are above 100; their rounding is 5e-11.
    assert METRICS["SSIM"].compute(*images, "tang") == pytest.approx(expected, rel=1e-10)
    border = np.mean([ssim_map(f, s, 1)[5:-5, 5:-5].mean() for s in (a, b)])
    assert abs(border - expected) > 1e-3


# L of each convention, and the similarity that equal images have.
@pytest.mark.parametrize(
    "name, convention, peak, most",
    [
        ("SSIM_a", "standard", 255, 1),
        ("SSIM", "standard", 255, 1),
        ("SSIM", "cddfuse", 2, 2),
        ("SSIM", "cddfuse_255", 255, 2),
        ("SSIM", "tang", 1, 1),
        ("SSIM", "vifb", 255, 2),
    ],
)
def test_ssim_of_constant_images(name, convention, peak, most):
    def luminance(x, y):
        return (2 * x * y + (0.01 * peak) ** 2) / (x * x + y * y + (0.01 * peak) ** 2)

    for f, a, b in [(0, 0, 0), (9, 9, 9), (0, 255, 255), (100, 200, 30), (100, 100, 30)]:
        expected = most * (luminance(f, a) + luminance(f, b)) / 2
        value = METRICS[name].compute(*flat(f, a, b), convention)
        # Variances are rounding: 2e-11 beside C2 >= 9e-4; in float32, levels whose squares are
        # whole numbers below 2**24 leave none.
        assert value == pytest.approx(expected, rel=1e-6 if convention == "cddfuse" else 1e-7)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("function", [mse, psnr, ssim, structure.ssim_map, vif])
def test_two_images_must_have_one_size(function):
    """A product of sums would take 10x20 against 20x10 without a word."""
    x = noise((50, 60), 1)[0]
    with pytest.raises(PairMismatch, match="image and reference must have one size, not 60x50"):
        function(x, x.T)


def test_windows_must_fit():
    x, y = noise((10, 30), 2)
    assert math.isfinite(ssim(x, y))
    with pytest.raises(ImageTooSmall, match="SSIM needs images of at least 11x11"):
        ssim(x, y, border="valid")
    assert structure.ssim_map(x[:7], y[:7]).shape == (1, 24)
    with pytest.raises(ImageTooSmall, match="SSIM needs images of at least 7x7"):
        structure.ssim_map(x[:6], y[:6])
    with pytest.raises(ImageTooSmall, match="VIF needs images of at least 41x41"):
        vif(x, y)
    with pytest.raises(UnknownName, match="Did you mean 'valid'"):
        ssim(x, y, border="vaild")
