"""Entropy: known images, scipy, and the authors' code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fusionlib.metrics.information import entropy

images = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 255)
)


@pytest.mark.parametrize(
    "image, bits",
    [
        (np.indices((8, 8)).sum(axis=0) % 2 * 255, 1),
        (np.arange(256).reshape(16, 16), 8),
        (np.arange(256).repeat(3).reshape(32, 24), 8),
        (np.array([[0, 0, 0, 255]]), 2 - 0.75 * math.log2(3)),
        (np.array([[7]]), 0),
    ],
)
def test_known_images(image, bits):
    assert entropy(image.astype(np.uint8)) == pytest.approx(bits, rel=1e-14)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_constant_image_has_no_negative_zero(level):
    value = entropy(np.full((5, 6), level, np.uint8))
    assert value == 0 and math.copysign(1, value) == 1


@given(images)
def test_entropy_is_that_of_scipy(image):
    counts = np.unique(image, return_counts=True)[1]
    assert entropy(image) == pytest.approx(stats.entropy(counts, base=2), rel=1e-12, abs=1e-12)


@given(images, st.randoms(use_true_random=False))
def test_only_the_histogram_counts(image, random):
    levels = list(range(256))
    random.shuffle(levels)
    relabelled = np.array(levels, np.uint8)[image.ravel()]
    random.shuffle(relabelled)
    assert entropy(relabelled.reshape(image.shape)) == pytest.approx(entropy(image), abs=1e-12)
    assert 0 <= entropy(image) <= min(8, math.log2(image.size)) + 1e-12
