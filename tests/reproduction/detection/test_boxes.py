"""Letterboxes and back, suppression against independent code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fusionlib.errors import ImageError
from fusionlib.pairs import Box
from reproduction.detection.boxes import BORDER, drawn, letterbox, suppress
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
    scale = np.array([fitted.scale_x, fitted.scale_y] * 2)
    inside = box * scale + np.array([fitted.left, fitted.top] * 2)
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
    inside = fitted.picture[fitted.top : fitted.top + 16, fitted.left : fitted.left + 64]
    assert set(inside.flatten().tolist()) == {64}


def test_boxes_are_cut_off_at_the_edges():
    fitted = letterbox(np.zeros((100, 100, 3), np.uint8), 320)
    assert fitted.original(np.array([[-50, 5, 900, 900.0]]), 100, 100).tolist() == [
        [0, 0, 100, 100]
    ]


@pytest.mark.parametrize("size", [0, 33, 16])
def test_inputs_that_cannot_be(size):
    with pytest.raises(ImageError, match="multiple of 32"):
        letterbox(np.zeros((8, 8, 3), np.uint8), size)


def test_too_thin():
    with pytest.raises(ImageError, match="1x9"):
        letterbox(np.zeros((9, 1, 3), np.uint8))


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
    random = np.random.default_rng(seed)
    boxes, scores = some_boxes(count, seed), random.permutation(count) / 60
    classes = random.integers(3, size=count)
    kept = suppress(boxes, scores, classes, overlap=overlap)
    assert kept.tolist() == naive(boxes, scores, classes, overlap)


def test_suppression_keeps_at_most_so_many_and_the_order_of_equals():
    boxes = np.array([[10.0 * i, 0, 10 * i + 5, 5] for i in range(9)])
    kept = suppress(boxes, np.ones(9), np.zeros(9, int), overlap=0.5, most=4)
    assert kept.tolist() == [0, 1, 2, 3]


def test_nothing_to_suppress():
    kept = suppress(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), overlap=0.5)
    assert kept.shape == (0,)


def test_boxes_without_area_do_not_suppress():
    boxes = np.array([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]])
    kept = suppress(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3, int), overlap=0.5)
    assert kept.tolist() == [0, 1, 2]


# ---------------------------------------------------------------- drawing


def test_boxes_are_drawn_on_a_copy():
    image = np.zeros((60, 80), np.float32)
    boxes = [Box("car", 10, 20, 50, 50), Box("person", -3, 0, 20, 30)]
    picture = drawn(image, boxes, ["car 0.90", "person 0.50"])
    assert picture.shape == (60, 80, 3) and picture.dtype == np.float32
    assert not image.any() and picture[50, 30].any() and not picture[40, 40].any()
    assert (picture[50, 30] != picture[20, 20]).any()
