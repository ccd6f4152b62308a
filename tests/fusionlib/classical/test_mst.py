"""mst: the pyramid by its filter, the weight by its formula, extreme images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from fusionlib.classical.mst import MST, decompose, low_weight, reconstruct
from fusionlib.errors import WeightsMismatch
from fusionlib.methods import create

SHAPES = [(1, 1), (2, 3), (9, 14), (40, 33)]
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, *shape)).astype(float)


def blurred(image):
    return convolve1d(convolve1d(image, BINOMIAL, 0, mode="mirror"), BINOMIAL, 1, mode="mirror")


def test_the_pyramid():
    """Every other pixel of a binomial blur; back by zeros between and four times the blur."""
    image = images((16, 20))[0]
    low, (detail,) = decompose(image, 1)
    assert low == pytest.approx(blurred(image)[::2, ::2], abs=1e-9)
    spread = np.zeros_like(image)
    spread[::2, ::2] = 4 * low
    inside = (slice(2, -3), slice(2, -3))  # at the border OpenCV repeats the small image
    assert detail[inside] == pytest.approx((image - blurred(spread))[inside], abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("levels", [1, 3])
def test_the_pyramid_is_undone(shape, levels):
    image = images(shape)[0]
    assert reconstruct(*decompose(image, levels)) == pytest.approx(image, abs=1e-10)


def test_low_weight():
    weights = low_weight(np.array([[0.0, 60, 200, -100]]))
    expected = [math.atan(10 * share) / math.atan(10) for share in (0, 0.3, 1, 0.5)]
    assert weights[0] == pytest.approx(expected)
    assert 0.84 < weights[0, 1] < 0.86  # as the module's text says
    assert not low_weight(np.zeros((2, 2))).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_by_hand(shape):
    ir, vis = images(shape)
    (low, (detail,)), (other_low, (other,)) = decompose(ir, 1), decompose(vis, 1)
    larger = np.array(
        [a if abs(a) >= abs(b) else b for a, b in zip(detail.flat, other.flat, strict=True)]
    )
    weight = np.arctan(10 * low / low.max()) / np.arctan(10)
    expected = reconstruct(weight * low + (1 - weight) * other_low, [larger.reshape(shape)])
    assert MST().fuse(ir, vis) == pytest.approx(expected, abs=1e-9)


def test_the_images_exchanged():
    ir, vis = (image.astype(np.uint8) for image in images((31, 22)))
    text, exchanged = (create("mst", pipeline=key) for key in ("text", "exchanged"))
    assert np.array_equal(exchanged.fuse(ir, vis), text.fuse(vis, ir))
    assert not np.array_equal(exchanged.fuse(ir, vis), text.fuse(ir, vis))


def test_weights_that_a_method_does_not_take():
    with pytest.raises(WeightsMismatch, match=r"MST takes no weights \(given: x\.npz\)"):
        MST().load({}, "x.npz")


def test_a_black_infrared_image():
    """No target: the low frequencies are the visible image's."""
    vis = images((20, 20))[1]
    assert MST().fuse(np.zeros((20, 20)), vis) == pytest.approx(vis, abs=1e-10)
