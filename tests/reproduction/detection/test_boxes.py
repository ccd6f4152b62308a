"""Letterboxes and back, suppression against independent code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fusionlib.errors import FusionError
from fusionlib.pairs import Box
from reproduction.detection.boxes import BORDER, check_boxes, letterbox, suppress
from tests.reproduction.detection.given import iou


def some_boxes(count, seed=0, side=100):
    random = np.random.default_rng(seed)
    low = random.uniform(0, side, (count, 2))
    return np.hstack([low, low + random.uniform(1, side / 2, (count, 2))])


# ---------------------------------------------------------------- letterbox


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, (672, 512)),
        (480, 640, (512, 672)),
        (640, 640, (672, 672)),
        (320, 240, (672, 512)),
    ],
)
def test_letterbox_has_the_published_size(width, height, expected):
    """Of the published evaluation, with half a stride of border: 640x480 becomes 672x512."""
    fitted = letterbox(np.zeros((height, width, 3), np.uint8))
    assert fitted.picture.shape == (*expected[::-1], 3)
    assert tuple(fitted.picture[0, 0]) == (BORDER,) * 3


@given(st.integers(2, 300), st.integers(2, 300), st.sampled_from([64, 320]))
def test_boxes_come_back(width, height, size):
    fitted = letterbox(np.zeros((height, width, 3), np.uint8), size)
    assert not any(side % 32 for side in fitted.picture.shape[:2])
    box = np.array([[0.25 * width, 0.5 * height, 0.75 * width, height]])
    inside = box * fitted.scale + fitted.offset
    np.testing.assert_allclose(fitted.original(inside, height, width), box, atol=1e-9)


def test_a_white_patch_lands_where_the_letterbox_says():
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[30:60, 40:80] = 255
    fitted = letterbox(picture, 640)
    rows, columns = (np.flatnonzero((fitted.picture[..., 0] > 200).any(axis)) for axis in (1, 0))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], float)
    # An edge in the enlarged picture is sharp to one pixel of the small one.
    np.testing.assert_allclose(fitted.original(found, 90, 120), [[40, 30, 80, 60]], atol=0.5)


def test_small_details_do_not_vanish_when_a_picture_shrinks():
    """Every fourth column is white: a quarter of white everywhere, not all or nothing."""
    picture = np.zeros((64, 256, 3), np.uint8)
    picture[:, ::4] = 255
    fitted = letterbox(picture, 64)
    left, top = fitted.offset[:2]
    inside = fitted.picture[top : top + 16, left : left + 64]
    assert set(inside.flatten().tolist()) == {64}


def test_boxes_are_cut_off_at_the_edges():
    fitted = letterbox(np.zeros((100, 100, 3), np.uint8), 320)
    found = fitted.original(np.array([[-50, 5, 900, 900.0]]), 100, 100)
    assert found.tolist() == [[0, 0, 100, 100]]


# ---------------------------------------------------------------- suppression


def naive(boxes, scores, classes, overlap):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if not rivals or iou(boxes[[i]], boxes[rivals]).max() <= overlap:
            kept.append(i)
    return kept


@given(st.integers(0, 60), st.integers(0, 10**6), st.sampled_from([0.2, 0.45, 0.6]))
def test_suppression_is_the_naive_one(count, seed, overlap):
    """Among equal scores the first stays."""
    random = np.random.default_rng(seed)
    boxes, scores = some_boxes(count, seed), random.integers(20, size=count) / 20
    classes = random.integers(3, size=count)
    kept = suppress(boxes, scores, classes, overlap)
    assert kept.tolist() == naive(boxes, scores, classes, overlap)


def test_nothing_to_suppress():
    assert suppress(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.5).shape == (0,)


# ---------------------------------------------------------------- annotated boxes


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((5, 5, 5, 9), "has no area"),
        ((5, 9, 9, 5), "has no area"),
        ((0, 0, float("nan"), 5), "has no area"),
        ((-3, 0, 5, 5), "leaves the picture of 20x10"),
        ((0, 0, 22, 5), "leaves the picture"),
        ((0, 0, 5, 12), "leaves the picture"),
        ((-0.9, 2, -0.5, 5), "no area inside"),
        ((20.2, 2, 20.8, 5), "no area inside"),
    ],
)
def test_boxes_that_cannot_be(box, message):
    with pytest.raises(FusionError, match=f"set: box 2 .car.*{message}"):
        check_boxes([Box("person", 0, 0, 1, 1), Box("car", *box)], 20, 10, "set")


def test_boxes_that_rounding_put_outside_are_cut_off():
    (box,) = check_boxes([Box("car", -0.4, 0, 20.3, 10.9)], 20, 10, "set")
    assert box == ("car", 0, 0, 20, 10)
