"""Metrics of edges: OpenCV and numpy, loops over pixels, ramps and constant images."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from fusionlib.errors import MetricWarning
from fusionlib.metrics import METRICS
from fusionlib.metrics.gradient import (
    nabf,
    qabf,
)
from tests.fusionlib.metrics.pictures import flat, noise, photos, triples

pytestmark = pytest.mark.filterwarnings("error")


def few_levels(step=37):
    """The maximum of sources of four levels: rounding on 0..1 decides whether edges are equal."""
    _, a, b = (image // 64 * step for image in noise((9, 12)))
    return [np.maximum(a, b), a, b]


PICTURES = pytest.mark.parametrize(
    "images",
    [
        noise((9, 12)),
        noise((2, 7), seed=3),
        photos((13, 11)),
        few_levels(),
        [image.T.copy() for image in few_levels()],
        few_levels(1),
    ],
    ids=["noise", "low", "photos", "few levels", "turned", "weak"],
)


def ramp(step, size=(6, 9)):
    """Levels that grow by `step` per column."""
    return np.tile(np.arange(size[1], dtype=np.uint8) * step, (size[0], 1)).astype(np.uint8)


# ---------------------------------------------------------------- contrast of one image


@given(triples(least=2, most=16))
@settings(max_examples=60)
def test_contrast_in_every_convention(images):
    f, _, _ = images
    v, (height, width) = f.astype(float), f.shape
    across = [v[i, j + 1] - v[i, j] for i in range(height) for j in range(width - 1)]
    down = [v[i + 1, j] - v[i, j] for i in range(height - 1) for j in range(width)]
    squares = sum(d * d for d in across), sum(d * d for d in down)
    gy, gx = np.gradient(v)
    strengths = np.hypot(gx, gy).sum() / math.sqrt(2)
    inner = (height - 1) * (width - 1)
    expected = {
        "SD": {
            **dict.fromkeys(["standard", "cddfuse", "tang", "vifb"], np.std(v)),
            "li": math.sqrt(((v / 255 - (v / 255).mean()) ** 2).sum()),
        },
        "SF": {
            **dict.fromkeys(
                ["standard", "cddfuse", "tang"],
                math.sqrt(squares[0] / len(across) + squares[1] / len(down)),
            ),
            "vifb": math.sqrt(sum(squares) / f.size),
        },
        "AG": {
            **dict.fromkeys(["standard", "cddfuse"], strengths / f.size),
            **dict.fromkeys(["tang", "vifb"], strengths / inner),
        },
    }
    for name, values in expected.items():
        assert sorted(values) == sorted(METRICS[name].conventions)
        for convention, value in values.items():
            # Sums of at most 256 terms; numpy's deviation of a constant is rounding of its mean.
            ours = METRICS[name].compute(*images, convention)
            assert ours == pytest.approx(value, rel=1e-12, abs=1e-12), (name, convention)


@given(triples(most=16))
@settings(max_examples=40)
def test_edge_intensity_is_that_of_opencv(images):
    image = images[0]
    border = {"ksize": 3, "borderType": cv2.BORDER_REPLICATE}
    x, y = (cv2.Sobel(image, cv2.CV_64F, *axis, **border) for axis in ((1, 0), (0, 1)))
    # Whole numbers; a mean of at most 256 roots.
    expected = np.sqrt(x**2 + y**2).mean()
    for convention in METRICS["EI"].conventions:
        value = METRICS["EI"].compute(*images, convention)
        assert value == pytest.approx(expected, rel=1e-14)


# ---------------------------------------------------------------- Qabf

ORDERS = {
    "matlab": [(p, q) for q in (0, 1, 2) for p in (0, 1, 2)],
    # Image columns ascending, inside a column kernel rows ascending.
    "octave": [(0, 2), (1, 2), (2, 2), (0, 1), (1, 1), (2, 1), (0, 0), (1, 0), (2, 0)],
}
SOBEL = {"x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "y": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]}
BEST_STRENGTH, BEST_ANGLE = 0.9994 / (1 + math.exp(-7.5)), 0.9879 / (1 + math.exp(-4.4))


def transfer(strength, direction):
    kept = 0.9994 / (1 + math.exp(-15 * (strength - 0.5)))
    return kept * 0.9879 / (1 + math.exp(-22 * (direction - 0.8)))


def convolved(image, kernel, order):
    """Zeros outside; nine products per pixel, added one by one in an order."""
    result = np.zeros(image.shape)
    for i, j in np.ndindex(image.shape):
        value = 0.0
        for p, q in ORDERS[order]:
            m, n = i + 1 - p, j + 1 - q
            if 0 <= m < image.shape[0] and 0 <= n < image.shape[1]:
                value += kernel[p][q] * float(image[m, n])
        result[i, j] = value
    return result


def qabf_by_pixels(f, a, b, peak, ties, order="matlab"):
    strengths, angles = [], []
    for image in (f, a, b):
        x, y = (convolved(image / 255 * peak, SOBEL[axis], order) for axis in "xy")
        strengths.append(np.sqrt(x * x + y * y))
        angles.append(
            [
                [math.pi / 2 if u == 0 else math.atan(v / u) for u, v in zip(*rows, strict=True)]
                for rows in zip(x, y, strict=True)
            ]
        )
    kept = there = 0.0
    for i, j in np.ndindex(f.shape):
        g = strengths[0][i, j]
        for strength, angle in zip(strengths[1:], angles[1:], strict=True):
            s = strength[i, j]
            ratio = min(s, g) / max(s, g) if s != g else g if ties == "strength" else 1
            direction = 1 - abs(angle[i][j] - angles[0][i][j]) / (math.pi / 2)
            kept += transfer(ratio, direction) * s
            there += s
    return kept / there


@PICTURES
def test_qabf_pixel_by_pixel(images):
    expected = {
        "standard": qabf_by_pixels(*images, 255, "one"),
        "tang": qabf_by_pixels(*images, 255, "strength"),
        "cddfuse": qabf_by_pixels(*images, 255, "strength"),
        "vifb": qabf_by_pixels(*images, 255 * 255, "strength"),
        "li": qabf_by_pixels(*images, 1, "strength"),
    }
    assert sorted(expected) == sorted(METRICS["Qabf"].conventions)
    for convention, value in expected.items():
        # Exponentials of rounded arguments: 22 * 2**-53 each. In float32: 22 * 2**-24.
        close = pytest.approx(value, rel=2e-6 if convention == "cddfuse" else 1e-13)
        assert METRICS["Qabf"].compute(*images, convention) == close, convention
    octave = qabf_by_pixels(*images, 1, "strength", "octave")
    value = qabf(*images, own_strength=True, peak=1, octave=True)
    assert value == pytest.approx(octave, rel=1e-13)


def test_qabf_of_equal_images():
    for image in (noise()[0], *flat(9), ramp(3)):
        # A mean of equal numbers.
        assert qabf(image, image, image) == pytest.approx(BEST_STRENGTH * BEST_ANGLE, rel=1e-14)
    # Strengths of at least 1 in the place of ratios: the limit of the logistic function.
    strong = np.array([[0, 255], [255, 0]], np.uint8)
    for convention in ("tang", "vifb"):
        value = METRICS["Qabf"].compute(strong, strong, strong, convention)
        assert value == pytest.approx(0.9994 * BEST_ANGLE, rel=1e-14)


@pytest.mark.parametrize("convention", METRICS["Qabf"].conventions)
def test_qabf_of_black_sources(convention):
    black = flat(0)[0]
    for fused in (black, noise(black.shape)[0]):
        with pytest.warns(MetricWarning, match="Qabf") as caught:
            value = METRICS["Qabf"].compute(fused, black, black, convention)
        assert value == pytest.approx(BEST_STRENGTH * BEST_ANGLE, rel=1e-15) and len(caught) == 1


# ---------------------------------------------------------------- Nabf


def artifact_edges(image, peak):
    """Sobel over 8, mirrored without the edge: three sums down the columns, then along."""
    padded = np.pad(image / 255 * peak, 1, mode="reflect")
    strengths, angles = np.zeros(image.shape), np.zeros(image.shape)
    for i, j in np.ndindex(image.shape):
        block = padded[i : i + 3, j : j + 3].tolist()
        responses = []
        for kernel in ([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]):
            columns = [
                kernel[0][q] / 8 * block[0][q]
                + kernel[1][q] / 8 * block[1][q]
                + kernel[2][q] / 8 * block[2][q]
                for q in range(3)
            ]
            responses.append(columns[0] + columns[1] + columns[2])
        v, h = responses
        strengths[i, j] = math.sqrt(h * h + v * v)
        if h == 0:
            angles[i, j] = 0 if v == 0 else math.copysign(math.pi / 2, v)
        else:
            angles[i, j] = math.atan(v / h)
    return strengths, angles


def nabf_by_pixels(f, a, b, peak):
    (g, angle), *sources = (artifact_edges(image, peak) for image in (f, a, b))
    lost = weights = 0.0
    for i, j in np.ndindex(f.shape):
        new = all(g[i, j] > s[i, j] for s, _ in sources)
        for s, t in ((s[i, j], t[i, j]) for s, t in sources):
            ratio = 0 if min(s, g[i, j]) == 0 else min(s, g[i, j]) / max(s, g[i, j])
            direction = abs(abs(t - angle[i, j]) - math.pi / 2) * 2 / math.pi
            weight = s**1.5 if s >= 2 else 0.001
            weights += weight
            if new:
                lost += (1 - artifact_quality(ratio, direction)) * weight
    return lost / weights


def artifact_quality(ratio, direction):
    kept = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
    return math.sqrt(kept * 0.9995 / (1 + math.exp(-22 * (direction - 0.5))))


@PICTURES
def test_nabf_pixel_by_pixel(images):
    f, a, b = images
    expected = {
        "standard": nabf_by_pixels(f, a, b, 255),
        "li": nabf_by_pixels(f, a, b, 1),
        "tang": nabf_by_pixels(a, b, f, 255),
    }
    assert list(expected) == list(METRICS["Nabf"].conventions)
    for convention, value in expected.items():
        # Exponentials of rounded arguments: 22 * 2**-53 each.
        ours = METRICS["Nabf"].compute(f, a, b, convention)
        assert ours == pytest.approx(value, rel=1e-13), convention


def test_nabf_of_weak_and_strong_gradients():
    """Gradients of exactly 2 are the least that weigh by their strength."""
    images = ramp(20), ramp(2), ramp(1)
    assert artifact_edges(images[1], 255)[0].max() == 2
    assert nabf(*images) == pytest.approx(nabf_by_pixels(*images, 255), rel=1e-13)
