"""The plain code that benchmarks.metrics measures against: the same values as fusionlib's."""

from __future__ import annotations

import math

import pytest

from benchmarks.metrics import CONTESTS, SIZES, compute, triple
from benchmarks.refinefuse_widths import (
    CHOSEN,
    WITHIN,
    counted,
    printed,
    readings,
    size,
)


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


# ---------------------------------------------------------------- RefineFuse's widths


def test_numbers_of_the_chosen_reading_are_the_networks():
    """The closed form counts what the layers of the network have, to one."""
    assert tuple(size(CHOSEN)) == tuple(counted())


def test_no_reading_of_round_grids_is_nearer_than_the_chosen():
    """Of multiples of 16, as the benchmark prints them."""
    found = readings(16)
    assert all(0 < far <= WITHIN for far, _ in found)
    round_grids = [r for _, r in found if all((g & (g - 1)) == 0 for g in r.grids)]
    assert round_grids[0] == CHOSEN
    assert printed() == (2.21e6, 12.73e9, 48.11e9)
