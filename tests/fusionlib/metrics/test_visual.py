"""VIF, Q_CB, Q_CV: direct convolutions and centred spectra, known images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import signal

from fusionlib.errors import MetricWarning
from fusionlib.metrics import METRICS
from fusionlib.metrics.visual import q_cb, q_cv, vif, vif_of_sources
from tests.fusionlib.metrics.pictures import flat, noise, photos, stretch

pytestmark = pytest.mark.filterwarnings("error")


# ---------------------------------------------------------------- visual information fidelity


def vif_by_convolution(image, reference):
    """Scale by scale with two-dimensional windows, decisions pixel by pixel."""
    x, y = image.astype(float), reference.astype(float)
    kept = there = 0.0
    for size in (17, 9, 5, 3):
        axis = np.arange(size) - size // 2
        window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (size / 5) ** 2))
        window /= window.sum()

        def mean(array, window=window):
            return signal.convolve2d(array, window, mode="valid")

        if size < 17:
            x, y = mean(x)[::2, ::2], mean(y)[::2, ::2]
        mx, my = mean(x), mean(y)
        moments = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
        for xx, yy, xy in zip(*(m.ravel() for m in moments), strict=True):
            xx, yy = max(xx, 0), max(yy, 0)
            gain = xy / (yy + 1e-10)
            rest = xx - gain * xy
            if yy < 1e-10:
                gain, rest, yy = 0, xx, 0
            if xx < 1e-10:
                gain, rest = 0, 0
            if gain < 0:
                gain, rest = 0, xx
            kept += math.log10(1 + gain**2 * yy / (max(rest, 1e-10) + 2))
            there += math.log10(1 + yy / 2)
    return kept / there if there > 0 else 1


def half_empty(size):
    """Flat regions of the source, of the fused image and of both; opposite contrast elsewhere."""
    f, a, b = noise(size)
    half, third = size[0] // 2, size[1] // 3
    f[:half, : 2 * third], a[:half, third:] = 9, 200
    f[half:] = 255 - f[half:]
    return f, a, b


@pytest.mark.parametrize("size", [(41, 41), (41, 60), (58, 51)])
@pytest.mark.parametrize("pictures", [noise, photos, half_empty])
def test_vif_by_its_definition(pictures, size):
    f, a, b = images = pictures(size)
    one, other = vif_by_convolution(f, a), vif_by_convolution(f, b)
    # Rounding of 5e-11 in a variance stands beside 2; flat regions are at the threshold of 1e-10.
    assert vif(f, a) == pytest.approx(one, rel=1e-9)
    assert vif_of_sources(*images) == pytest.approx((one + other) / 2, rel=1e-9)
    for convention in ("cddfuse", "tang"):
        value = METRICS["VIF"].compute(*images, convention)
        assert value == pytest.approx(one + other, rel=1e-9)


def test_vif_of_changed_contrast():
    """Enhanced, halved, inverted, gone."""
    f = noise((44, 45))[0]
    assert vif(f, f) == pytest.approx(1, abs=1e-10)  # beside variances above 1 and the 2
    assert vif(f, f // 2) > 1 > vif(f // 2, f) > 0
    assert vif(255 - f, f) == 0 == vif(*flat(9, size=f.shape), f)


def test_vif_against_constant_sources():
    f, a, _ = noise((41, 43))
    white, gray, black = flat(255, 9, 0, size=f.shape)
    for images, constants, expected in [
        ((white, white, white), 2, 1),
        ((black, black, black), 2, 1),
        ((gray, black, white), 2, 1),
        ((f, black, white), 2, 1),
        ((f, f, gray), 1, 1),
        ((gray, a, gray), 1, 1 / 2),
    ]:
        with pytest.warns(MetricWarning, match="VIF against a constant source") as caught:
            assert vif_of_sources(*images) == pytest.approx(expected, abs=1e-10)
        assert len(caught) == constants


def test_no_constant_level_is_taken_for_contrast():
    """Rounding of a level's square must stay below the threshold of 1e-10, for every level."""
    for level in range(256):
        image = flat(level, size=(41, 42))[0]
        with pytest.warns(MetricWarning):
            assert vif(image, image) == 1


# ---------------------------------------------------------------- Chen and Blum, Chen and Varshney


def filtered(image, sensitivity, cycles):
    """Filter in the centred spectrum, frequencies from -1 to 1 per side."""
    down, along = ((np.arange(n) - n // 2) * 2 / n * (n / cycles) for n in image.shape)
    response = sensitivity(np.sqrt(down[:, None] ** 2 + along**2))
    spectrum = np.fft.fftshift(np.fft.fft2(image)) * response
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


def band(r):
    return np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))


def eye(r):
    return 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))


def masked_contrast(image):
    seen = filtered(stretch(image).astype(float), band, 30)
    axis = np.arange(-15, 16)
    near, far = (
        signal.convolve2d(
            seen,
            np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * s * s)) / (2 * np.pi * s * s),
            mode="full",
        )[15:-15, 15:-15]
        for s in (2, 4)
    )
    contrast = np.abs(near / far - 1)
    return contrast**3 / (contrast**2 + 1e-4)


def q_cb_by_pixels(*images):
    contrasts = [masked_contrast(image).ravel().tolist() for image in images]
    values = []
    for f, a, b in zip(*contrasts, strict=True):
        weight = a * a / (a * a + b * b)
        one, other = (s / f if s < f else f / s for s in (a, b))
        values.append(weight * one + (1 - weight) * other)
    return np.mean(values)


def q_cv_by_blocks(f, a, b):
    f, *sources = (stretch(image).astype(float) for image in (f, a, b))
    height, width = f.shape
    visible = weights = 0.0
    for source in sources:
        seen = filtered(source - f, eye, 8)
        sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        gx, gy = (
            signal.correlate2d(np.pad(source, 1), kernel, "valid") for kernel in (sobel, sobel.T)
        )
        strength = np.sqrt(gx**2 + gy**2) ** 5
        for i in range(0, height, 16):
            for j in range(0, width, 16):
                block = np.s_[i : i + 16, j : j + 16]
                visible += strength[block].sum() * (seen[block] ** 2).sum() / 256
                weights += strength[block].sum()
    return visible / weights


SIZES = pytest.mark.parametrize("size", [(3, 4), (7, 5), (16, 32), (33, 40), (48, 50)])


@SIZES
@pytest.mark.parametrize("pictures", [noise, photos])
def test_q_cb_by_its_definition(pictures, size):
    images = pictures(size)
    # Spectra round to 1e-13 of 255; where an average passes through 0 the quotient enlarges that.
    expected = pytest.approx(q_cb_by_pixels(*images), rel=1e-9)
    for convention in METRICS["Q_CB"].conventions:
        assert METRICS["Q_CB"].compute(*images, convention) == expected


@SIZES
@pytest.mark.parametrize("pictures", [noise, photos])
def test_q_cv_by_its_definition(pictures, size):
    images = pictures(size)
    # Spectra round to 1e-13 of 255.
    expected = pytest.approx(q_cv_by_blocks(*images), rel=1e-11)
    for convention in METRICS["Q_CV"].conventions:
        assert METRICS["Q_CV"].compute(*images, convention) == expected


def test_constant_images_are_stretched_to_black():
    """Equal contrasts of 0 are kept; a contrast beside none is lost."""
    f, a, b = noise()
    black, gray, white = flat(0, 9, 255, size=f.shape)
    for images, constants, expected in [
        ((black, black, black), 0, 1),
        ((gray, gray, gray), 3, 1),
        ((gray, black, white), 2, 1),
        ((gray, a, b), 1, 0),
        ((black, a, b), 0, 0),
        ((f, gray, black), 1, 0),
        ((f, f, gray), 1, 1),
    ]:
        if constants:
            with pytest.warns(MetricWarning, match="constant") as caught:
                value = q_cb(*images)
            assert len(caught) == constants
        else:
            value = q_cb(*images)
        # The weight of a contrast beside none is exactly 1.
        assert value == expected


def test_q_cv_of_constant_sources():
    """Blocks without edges weigh the same: the mean square of what is seen of the fused image."""
    f = noise((32, 48))[0]
    black, gray = flat(0, 9, size=f.shape)
    expected = np.mean(filtered(stretch(f).astype(float), eye, 8) ** 2)
    for sources, warnings in [((black, black), 1), ((black, gray), 2), ((gray, gray.copy()), 3)]:
        with pytest.warns(MetricWarning) as caught:
            assert q_cv(f, *sources) == pytest.approx(expected, rel=1e-12)
        assert len(caught) == warnings and "Q_CV of sources without edges" in str(
            caught[-1].message
        )
    with pytest.warns(MetricWarning, match="without edges"):
        assert q_cv(black, black, black) == 0
