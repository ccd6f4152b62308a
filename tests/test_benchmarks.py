"""The plain code that benchmarks.metrics measures against: the same values as fusionlib's."""

from __future__ import annotations

import math

import pytest

from benchmarks.metrics import CONTESTS, SIZES, compute, triple


@pytest.mark.parametrize(
    ("name", "plain", "tolerance"),
    [
        pytest.param(name, plain, contest.tolerance, id=name)
        for contest in CONTESTS.values()
        for name, plain in zip(contest.names, contest.plain, strict=True)
    ],
)
def test_plain_code_gives_the_same_values(name, plain, tolerance):
    images = triple(52, 48)
    # Windows without contrast take branches of their own.
    for image, level in zip(images, (90, 90, 70), strict=True):
        image[10:30, 8:36] = level
    assert plain(*images) == pytest.approx(compute(name, images), rel=tolerance)


@pytest.mark.parametrize("size", [(52, 48), *SIZES])
def test_images_are_pictures_of_the_size_asked_for(size):
    for image in triple(*size):
        assert image.shape == size[::-1]
        assert math.sqrt(image.var()) > 5
