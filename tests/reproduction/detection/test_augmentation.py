"""Pictures to learn from: boxes stay around their objects, whatever is done to the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from reproduction.detection.augmentation import Augmentation, Scene, _warped, augmented, fitted
from reproduction.detection.boxes import BORDER

STILL = Augmentation(translate=0, scale=0, hue=0, saturation=0, value=0, mirror=0)
PLAIN = Augmentation(hue=0, saturation=0, value=0)


def scene(index, width=96, height=72):
    """One object, a rectangle of a colour that no other scene has."""
    picture = np.full((height, width, 3), 20, np.uint8)
    x, y = 10 + 5 * index, 8 + 4 * index
    picture[y : y + 30, x : x + 40] = 0, 60 + 40 * index, 250
    return Scene(picture, np.array([[x, y, x + 40, y + 30]], float), np.array([index]))


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

    def load(index):
        drawn.append(index)
        return scene(index)

    made = augmented(load, 0, 4, 96, np.random.default_rng(seed), PLAIN)
    assert made.picture.shape == (96, 96, 3) and made.picture.dtype == np.uint8
    inside = (made.boxes >= 0) & (made.boxes <= 96)
    assert inside.all()
    for index in {*drawn}:
        visible = seen(made.picture, index)
        if drawn.count(index) > 1 or visible is None:
            continue
        if (visible[2:] - visible[:2]).min() > 8 and index not in made.classes:
            # A box goes only if nearly all of its object is cut off.
            assert (visible[2:] - visible[:2]).prod() < 0.2 * 1.5**2 * 40 * 30
    for index in set(made.classes.tolist()):
        visible = seen(made.picture, index)
        if visible is None or drawn.count(index) > 1:
            continue
        np.testing.assert_allclose(made.boxes[made.classes == index][0], visible, atol=2.5)


def test_the_same_numbers_give_the_same_picture():
    first, second, coloured = (
        augmented(scene, 1, 4, 96, np.random.default_rng(5), how)
        for how in (PLAIN, PLAIN, Augmentation())
    )
    np.testing.assert_array_equal(first.picture, second.picture)
    for other in (second, coloured):
        np.testing.assert_array_equal(first.boxes, other.boxes)
    assert (first.picture != coloured.picture).any()


def test_the_asked_picture_is_among_the_four():
    """Three are drawn from one that has another class."""
    found = set()
    for seed in range(20):
        made = augmented(
            lambda i: scene(3 if i else 2), 1, 1, 96, np.random.default_rng(seed), STILL
        )
        found |= set(made.classes.tolist())
    assert found == {2, 3}


def test_mirrored():
    """The same draw, with and without."""
    plain, turned = (
        augmented(scene, 0, 4, 96, np.random.default_rng(3), STILL._replace(mirror=m))
        for m in (0, 1)
    )
    np.testing.assert_array_equal(turned.picture, plain.picture[:, ::-1])
    np.testing.assert_allclose(turned.boxes[:, 0], 96 - plain.boxes[:, 2])
    np.testing.assert_allclose(turned.boxes[:, 2], 96 - plain.boxes[:, 0])


def test_colour_factors_of_1_change_nothing():
    """But for the rounding of OpenCV's 8-bit hue: 3 levels."""
    made = augmented(scene, 0, 4, 96, np.random.default_rng(3), STILL)
    colours = {tuple(c) for c in made.picture.reshape(-1, 3)}
    known = [(20, 20, 20), (BORDER,) * 3, *((0, 60 + 40 * i, 250) for i in range(4))]
    for colour in colours:
        assert min(np.abs(np.subtract(colour, one)).max() for one in known) <= 3


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
    made = _warped(canvas, 640, np.random.default_rng(0), STILL)
    assert len(made.boxes) == stays
    if stays:
        np.testing.assert_allclose(made.boxes[0], np.clip(np.array(box) - 320, 0, 640))


def test_scenes_without_objects():
    bare = Scene(np.zeros((50, 96, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, int))
    made = augmented(lambda _: bare, 0, 1, 96, np.random.default_rng(0), PLAIN)
    assert made.boxes.shape == (0, 4) and made.classes.shape == (0,)


@pytest.mark.parametrize(("width", "height"), [(96, 72), (48, 36), (30, 60)])
def test_fitted(width, height):
    made = fitted(scene(0, width, height), 96)
    assert max(made.picture.shape) == 96
    ratio = made.picture.shape[1] / width
    np.testing.assert_allclose(made.boxes, scene(0).boxes * ratio, rtol=0.02)
