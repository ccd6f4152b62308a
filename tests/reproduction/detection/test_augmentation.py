"""Pictures to learn from: boxes stay around their objects, whatever is done to the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from reproduction.detection.augmentation import Augmentation, Scene, _warped, augmented

STILL = Augmentation(translate=0, scale=0, hue=0, saturation=0, value=0, mirror=0)
PLAIN = Augmentation(hue=0, saturation=0, value=0)


def scene(index, width=96, height=72):
    """One object, a rectangle of a colour that no other scene has."""
    picture = np.full((height, width, 3), 20, np.uint8)
    x, y = 10 + 5 * index, 8 + 4 * index
    picture[y : y + 30, x : x + 40] = 0, 60 + 40 * index, 250
    return Scene(picture, np.array([[x, y, x + 40, y + 30]], float), np.array([index]))


def made(how, seed=3, index=0, load=scene, count=4):
    return augmented(load, index, count, 96, np.random.default_rng(seed), how)


def seen(picture, index):
    """The box around the pixels of a scene's colour, or None."""
    colour = np.array([0, 60 + 40 * index, 250])
    near = np.abs(picture.astype(int) - colour).max(-1) < 12
    if near.sum() < 30:
        return None
    rows, columns = (np.flatnonzero(near.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_boxes_stay_around_their_objects(seed):
    """An edge between pixels may blur by one when a picture shrinks or grows."""
    drawn = []
    some = made(PLAIN, seed, load=lambda index: drawn.append(index) or scene(index))
    assert some.picture.shape == (96, 96, 3) and some.picture.dtype == np.uint8
    assert ((some.boxes >= 0) & (some.boxes <= 96)).all()
    for index in {*drawn}:
        visible = seen(some.picture, index)
        if drawn.count(index) > 1 or visible is None:
            continue
        sides = visible[2:] - visible[:2]
        if index in some.classes:
            np.testing.assert_allclose(some.boxes[some.classes == index][0], visible, atol=2.5)
        elif sides.min() > 8:  # a box goes only if nearly all of its object is cut off
            assert sides.prod() < 0.2 * 1.5**2 * 40 * 30


def test_the_same_numbers_give_the_same_picture():
    first, second, coloured = (made(how, 5, 1) for how in (PLAIN, PLAIN, Augmentation()))
    np.testing.assert_array_equal(first.picture, second.picture)
    for other in (second, coloured):
        np.testing.assert_array_equal(first.boxes, other.boxes)
    assert (first.picture != coloured.picture).any()


def test_the_asked_picture_is_among_the_four():
    """Three are drawn from one that has another class."""
    found = set()
    for seed in range(20):
        some = made(STILL, seed, 1, lambda i: scene(2 + (i == 0)), count=1)
        found |= set(some.classes.tolist())
    assert found == {2, 3}


def test_mirrored():
    """The same draw, with and without."""
    plain, turned = (made(STILL._replace(mirror=mirror)) for mirror in (0, 1))
    np.testing.assert_array_equal(turned.picture, plain.picture[:, ::-1])
    np.testing.assert_allclose(turned.boxes[:, 0], 96 - plain.boxes[:, 2])
    np.testing.assert_allclose(turned.boxes[:, 2], 96 - plain.boxes[:, 0])


@pytest.mark.parametrize(
    ("box", "stays"),
    [
        ((0, 400, 350, 500), False),  # 30 of 350 columns are inside: less than a tenth
        ((0, 400, 360, 500), True),
        ((400, 400, 402, 420), False),  # two pixels wide
        ((400, 400, 403, 420), True),
        ((330, 500, 735, 504), False),  # more than a hundred times as long as high
        ((330, 500, 725, 504), True),
        ((0, 0, 100, 100), False),  # outside
    ],
)
def test_slivers_go(box, stays):
    """The middle 640x640 pixels of a canvas of 1280x1280, neither scaled nor shifted."""
    canvas = Scene(np.zeros((1280, 1280, 3), np.uint8), np.array([box], float), np.array([0]))
    some = _warped(canvas, 640, np.random.default_rng(0), STILL)
    assert len(some.boxes) == stays
    if stays:
        np.testing.assert_allclose(some.boxes[0], np.clip(np.array(box) - 320, 0, 640))


def test_scenes_without_objects():
    bare = Scene(np.zeros((50, 96, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, int))
    some = made(PLAIN, load=lambda _: bare, count=1)
    assert some.boxes.shape == (0, 4) and some.classes.shape == (0,)
