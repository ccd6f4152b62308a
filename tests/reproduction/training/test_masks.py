"""Masks: by hand, and against 20 real masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import fusionlib as fl
from fusionlib.pairs import Box, Pair
from reproduction.training.masks import object_mask, read_mask


def image(seed=0, size=(20, 24)):
    return np.random.default_rng(seed).random(size).astype(np.float32)


# ---------------------------------------------------------------- objects


def from_boxes(ir, *corners, name="dusk"):
    return object_mask(Pair(name, ir, ir, boxes=tuple(Box("car", *one) for one in corners)))


def test_bright_pixels_of_a_box():
    """Three of four pixels are at least their mean; the bright one outside does not count."""
    ir = np.zeros((4, 5), np.float32)
    ir[1:3, 1:3] = [[0.1, 0.8], [0.9, 0.7]]
    ir[0, 4] = 1
    expected = np.zeros((4, 5), bool)
    expected[1, 2] = expected[2, 1] = expected[2, 2] = True
    assert np.array_equal(from_boxes(ir, (1, 1, 3, 3)), expected)


def test_boxes_join_and_pixels_touched_in_part_count():
    mask = from_boxes(np.ones((6, 6), np.float32), (0.6, 0.6, 1.2, 1.2), (4, 4, 9, 9))
    expected = np.zeros((6, 6), bool)
    expected[:2, :2] = expected[4:, 4:] = True
    assert np.array_equal(mask, expected)


def test_no_box_and_one_without_end():
    assert not from_boxes(image()).any()
    mask = from_boxes(image(), (-np.inf, 0, np.inf, 24))
    assert np.array_equal(mask, image() >= image().mean())


@pytest.mark.parametrize(
    "corners",
    [(30, 2, 40, 5), (2, 25, 4, 30), (-9, 1, -2, 5), (3, 3, 3, 8), (8, 1, 5, 4), (np.nan, 1, 5, 4)],
)
def test_boxes_that_mark_nothing(corners):
    words = r"pair dusk: the box of car from .* marks nothing .* 24x20 pixels"
    with pytest.raises(fl.FusionError, match=words):
        from_boxes(image(), corners)


def test_a_pairs_own_mask_comes_first():
    ir, mask = image(), image(1) > 0.5
    assert object_mask(Pair("a", ir, ir, mask=mask, boxes=(Box("car", 1, 1, 5, 5),))) is mask
    with pytest.raises(fl.FusionError, match="pair dusk has no labels: neither a mask nor boxes"):
        object_mask(Pair("dusk", ir, ir))


def test_masks_are_black_and_white(tmp_path):
    """Not in colour, and no segmentation."""
    path = tmp_path / "mask.png"
    mask = image(2) > 0.7
    Image.fromarray(mask).save(path)
    assert np.array_equal(read_mask(path), mask)
    for pixels in (np.full((3, 3, 3), (255, 0, 0), np.uint8), np.arange(9, dtype=np.uint8)[None]):
        Image.fromarray(pixels).save(path)
        with pytest.raises(fl.ImageError, match=r"mask .*mask.png is not black and white.*isin"):
            read_mask(path)


@pytest.mark.realdata
def test_against_real_masks(data_root):
    """TNO's salient targets, from the boxes around them, as the docstring says."""
    shares = []
    for pair in fl.load_dataset("tno42", data_dir=data_root):
        if pair.mask is None:
            continue
        places = ndimage.find_objects(ndimage.label(pair.mask)[0])
        found = from_boxes(pair.ir, *((c.start, r.start, c.stop, r.stop) for r, c in places))
        shares.append((found & pair.mask).sum() / (found | pair.mask).sum())
    assert len(shares) == 20
    assert np.mean(shares) == pytest.approx(0.72, abs=0.005)
