"""Feature mutual information: window by window, transforms by their sums, known windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt

from fusionlib.errors import MetricWarning
from fusionlib.metrics import METRICS, feature
from fusionlib.metrics.feature import fmi_dct, fmi_gradient, fmi_pixel, fmi_w, meyer102
from fusionlib.metrics.plane import Plane
from tests.fusionlib.metrics.pictures import flat, noise, photos

pytestmark = pytest.mark.filterwarnings("error")

LOCAL = [fmi_pixel, fmi_gradient]


# ---------------------------------------------------------------- one window


def distribution(window):
    p = np.ones(9) if np.ptp(window) == 0 else (window - window.min()) / np.ptp(window)
    return p / p.sum()


def spread(p):
    position = np.arange(1, 10)
    return math.sqrt(max(np.sum(position**2 * p) - np.sum(position * p) ** 2, 0))


def entropy(p):
    """In bits; of joint distributions entries may be negative, zeros do not count."""
    p = p[p != 0]
    return -np.sum(p * np.log2(np.abs(p)))


def information(f, s):
    """Two windows of nine values, column by column: their normalised mutual information."""
    if np.array_equal(f, s) or (np.ptp(f) == 0 and np.ptp(s) == 0):
        return 1.0
    if np.ptp(f) == 0 or np.ptp(s) == 0:
        return 0.0
    p, q = distribution(f), distribution(s)
    product = np.outer(p, q)
    x, y = np.cumsum(p)[:, None], np.cumsum(q)
    correlation = np.corrcoef(p, q)[0, 1]
    bound = np.minimum(x, y) if correlation >= 0 else np.maximum(x + y - 1, 0)
    covariance = np.sum(bound - x * y)
    share = 0.0
    if spread(p) * spread(q) > 0 and covariance * correlation > 0:
        share = correlation / (covariance / (spread(p) * spread(q)))
    padded = np.pad(bound, ((1, 0), (1, 0)))
    joint = share * np.diff(np.diff(padded, axis=0), axis=1) + (1 - share) * product
    both = entropy(p) + entropy(q)
    return 2 * (both - entropy(joint)) / both if both > 0 else 0.0


def by_windows(f, a, b):
    """Mean over all 3x3 windows of three feature maps."""
    return np.mean(
        [
            information(f[i : i + 3, j : j + 3].T.ravel(), s[i : i + 3, j : j + 3].T.ravel())
            for i, j in np.ndindex(f.shape[0] - 2, f.shape[1] - 2)
            for s in (a, b)
        ]
    )


# ---------------------------------------------------------------- feature maps


def gradient(image):
    """Along the rows: half the difference of both neighbours, one-sided at the ends."""
    x = image / 255
    inside = (x[:, 2:] - x[:, :-2]) / 2
    return np.column_stack([x[:, 1] - x[:, 0], inside, x[:, -1] - x[:, -2]])


def cosine_transform(image):
    def basis(n):
        k, i = np.mgrid[:n, :n]
        rows = np.cos(np.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
        rows[0] /= math.sqrt(2)
        return rows

    height, width = image.shape
    return basis(height) @ (image / 255) @ basis(width).T


def mosaic(image, taps):
    """Bands of one level, half-point symmetric borders; `taps` rebuild from the averages."""
    low, high = taps[::-1], (taps[::-1] * (-1) ** np.arange(len(taps)))[::-1]

    def band(array, decompose):
        long = np.pad(array, ((0, 0), (len(taps) - 1,) * 2), mode="symmetric")
        return np.array([np.convolve(row, decompose, "valid")[1::2] for row in long])

    bands = [
        [band(band(image / 255, along).T, down).T for along, down in row]
        for row in [[(low, low), (low, high)], [(high, low), (high, high)]]
    ]
    result = np.block(bands)
    return (result - result.min()) / np.ptp(result)


def small(count=3, seed=0):
    return noise((12, 14), count, seed)


def few_levels():
    """Many windows that are constant, equal or have one bright pixel."""
    generator = np.random.default_rng(0)
    return [(generator.random((12, 14)) < 0.2).astype(np.uint8) * 50 for _ in range(3)]


PICTURES = pytest.mark.parametrize(
    "images",
    [small(), photos((12, 14)), few_levels(), noise((3, 3)), noise((3, 7))],
    ids=["noise", "photos", "few levels", "one window", "one row"],
)


@PICTURES
def test_pixels_window_by_window(images):
    f, a, b = images
    # Distributions of nine exact quotients; joint entropies of 81 terms.
    assert fmi_pixel(*images) == pytest.approx(by_windows(f, a, b), rel=1e-12)


@PICTURES
def test_gradients_window_by_window(images):
    # On 0..1 equal gradients may differ by 1e-17, which the window normalises: 2e-6 at most.
    expected = by_windows(*map(gradient, images))
    assert fmi_gradient(*images) == pytest.approx(expected, rel=2e-6)


@PICTURES
def test_cosine_transforms_window_by_window(images):
    expected = by_windows(*map(cosine_transform, images))
    # The transforms round to 1e-15 of the coefficients.
    for convention in ("standard", "li"):
        value = METRICS["FMI_dct"].compute(*images, convention)
        assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("size", [(2, 3), (12, 14), (103, 110)])
@pytest.mark.parametrize("name, length", [("dmey102", 102), ("dmey", 62)])
def test_wavelet_bands(name, length, size):
    image = noise(size)[0]
    wavelet = meyer102() if name == "dmey102" else pywt.Wavelet("dmey")
    taps = np.array(wavelet.rec_lo)
    ours = feature._wavelet(Plane(image), name)
    assert ours.shape == tuple(2 * ((n + length - 1) // 2) for n in size)
    # 102 products each way of values up to 2; PyWavelets' own high-pass may differ in sign.
    expected = mosaic(image, taps if name == "dmey102" else taps[:62])
    assert ours == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("convention", ["standard", "pywt"])
def test_wavelets_window_by_window(convention):
    images = noise((3, 4))
    taps = np.array((meyer102() if convention == "standard" else pywt.Wavelet("dmey")).rec_lo)
    expected = by_windows(*(mosaic(image, taps) for image in images))
    # The same noise of rounding is normalised in windows without signal.
    assert METRICS["FMI_w"].compute(*images, convention) == pytest.approx(expected, rel=1e-6)


def test_meyer_wavelet_is_the_one_of_matlab():
    """The centre and its neighbours as MATLAB prints them, and what makes it a wavelet."""
    taps = np.array(meyer102().rec_lo)
    assert len(taps) == 102 and taps[101] == 0
    # The printed taps have 15 decimals; their sum is sqrt(2) to 5e-9.
    centre = [0.743751004903787, 0.444095030766529, -0.035048287390595]
    assert taps[50:53] == pytest.approx(centre, rel=1e-8)
    assert taps[:101] == pytest.approx(taps[100::-1], abs=1e-15)
    assert taps.sum() == pytest.approx(math.sqrt(2), rel=1e-15)
    # A band-limited wavelet cut to 102 taps: orthogonal to its even shifts to 2e-6.
    for shift in range(0, 102, 2):
        product = np.dot(taps[shift:], taps[: 102 - shift])
        assert product == pytest.approx(float(shift == 0), abs=2e-6)
    high = [(-1) ** k * taps[101 - k] for k in range(102)]
    filters = [taps[::-1], high[::-1], taps, high]
    assert np.array(meyer102().filter_bank) == pytest.approx(np.array(filters), abs=1e-16)


# ---------------------------------------------------------------- known windows

OTHERS = [0, 0, 0, 0, 0, 0, 3, 2]
ONE = np.array([[0, 10, 20], [200, 30, 0], [40, 90, 50]], np.uint8)


def test_equal_images_and_one_equal_source():
    f, a, _ = small()
    for function in (fmi_pixel, fmi_gradient, fmi_dct, fmi_w):
        assert function(f, f, f) == 1
        both = function(f, a, a)
        # A mean over the windows of both sources.
        assert function(f, f, a) == pytest.approx((1 + both) / 2, rel=1e-12)
        assert function(f, a, f) == pytest.approx((1 + both) / 2, rel=1e-12)
        assert both < 0.9


def test_constant_windows():
    f, a, b = small()
    gray, other = flat(9, 200, size=f.shape)
    for function in LOCAL:
        assert function(gray, other, other) == 1  # constant as well, whatever the level
        assert function(gray, a, b) == 0 and function(f, gray, other) == 0
        assert function(f, f, gray) == 1 / 2
    black = np.zeros_like(f)
    for function in (fmi_dct, fmi_w):
        with pytest.warns(MetricWarning, match="a constant image has no features but its mean"):
            assert function(black, black, black) == 1 == function(gray, gray, gray)
            assert function(black, a, b) == 0


def test_constant_images_have_no_rounding_for_features():
    """Their transforms are 0 but for the mean, so no window normalises the noise of an FFT."""
    gray, other, white = (Plane(image) for image in flat(9, 200, 255, size=(12, 14)))
    with pytest.warns(MetricWarning):
        coefficients = feature._dct(other)
    expected = np.zeros((12, 14))
    expected[0, 0] = 200 / 255 * math.sqrt(12 * 14)
    assert coefficients == pytest.approx(expected, rel=1e-14, abs=0)
    with pytest.warns(MetricWarning):
        mosaics = [feature._wavelet(image, "dmey102") for image in (gray, other, white)]
    rows, columns = (size // 2 for size in mosaics[0].shape)
    for mosaic in mosaics:
        assert (mosaic[:rows, :columns] == 1).all() and mosaic.sum() == rows * columns


# ---------------------------------------------------------------- properties


def test_a_window_may_exceed_1():
    """The pdfs' correlation is set against that of the positions, so the share may exceed 1."""
    f, s = (np.array(w, np.uint8).reshape(3, 3).T for w in ([1, *OTHERS], [0, *OTHERS]))
    value = fmi_pixel(f, s, s)
    assert value == pytest.approx(information(f.T.ravel(), s.T.ravel()), rel=1e-13)
    assert value > 1.6
