"""Masks: by hand, and against 20 real masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import fusionlib as fl
from fusionlib.pairs import Box, Pair
from reproduction.training.masks import object_mask, object_mask_from_boxes, read_mask


def image(seed=0, size=(20, 24)):
    return np.random.default_rng(seed).random(size).astype(np.float32)


# ---------------------------------------------------------------- objects


def test_bright_pixels_of_a_box():
    """Three of four pixels are at least their mean; the bright one outside does not count."""
    ir = np.zeros((4, 5), np.float32)
    ir[1:3, 1:3] = [[0.1, 0.8], [0.9, 0.7]]
    ir[0, 4] = 1
    mask = object_mask_from_boxes(ir, [Box("person", 1, 1, 3, 3)])
    expected = np.zeros((4, 5), bool)
    expected[1, 2] = expected[2, 1] = expected[2, 2] = True
    assert np.array_equal(mask, expected)


def test_boxes_join_and_pixels_touched_in_part_count():
    ir = np.ones((6, 6), np.float32)
    mask = object_mask_from_boxes(ir, [Box("car", 0.6, 0.6, 1.2, 1.2), Box("car", 4, 4, 9, 9)])
    expected = np.zeros((6, 6), bool)
    expected[:2, :2] = expected[4:, 4:] = True
    assert np.array_equal(mask, expected)


def test_box_without_end():
    mask = object_mask_from_boxes(image(), [Box("car", -np.inf, 0, np.inf, 24)])
    assert np.array_equal(mask, image() >= image().mean())


def test_no_box_is_no_object():
    assert not object_mask_from_boxes(image(), []).any()


@pytest.mark.parametrize(
    "corners",
    [
        (30, 2, 40, 5),
        (2, 25, 4, 30),
        (-9, 1, -2, 5),
        (3, 3, 3, 8),
        (8, 1, 5, 4),
        (np.nan, 1, 5, 4),
        (np.inf, 1, np.inf, 4),
    ],
)
def test_boxes_that_mark_nothing(corners):
    with pytest.raises(fl.FusionError, match=r"box of car from .* marks nothing .* 24x20 pixels"):
        object_mask_from_boxes(image(), [Box("car", *corners)])


def test_a_pairs_own_mask_comes_first():
    ir, mask = image(), image(1) > 0.5
    boxes = (Box("car", 1, 1, 5, 5),)
    assert object_mask(Pair("a", ir, ir, mask=mask, boxes=boxes)) is mask
    found = object_mask(Pair("a", ir, ir, boxes=boxes))
    assert np.array_equal(found, object_mask_from_boxes(ir, boxes))
    assert not object_mask(Pair("a", ir, ir, boxes=())).any()


def test_pairs_without_labels_and_with_wrong_ones():
    ir = image()
    with pytest.raises(fl.FusionError, match="pair dusk has no labels: neither a mask nor boxes"):
        object_mask(Pair("dusk", ir, ir))
    with pytest.raises(fl.FusionError, match="pair dusk: the box of car"):
        object_mask(Pair("dusk", ir, ir, boxes=(Box("car", 50, 1, 60, 5),)))
    with pytest.raises(fl.PairMismatch, match="mask is 5x4 but the images are 24x20"):
        Pair("dusk", ir, ir, mask=np.zeros((4, 5), bool))


def test_masks_are_black_and_white(tmp_path):
    mask = image(2) > 0.7
    path = tmp_path / "mask.png"
    Image.fromarray(mask).save(path)
    assert np.array_equal(read_mask(path), mask)


@pytest.mark.parametrize(
    "pixels", [np.full((3, 3, 3), (255, 0, 0), np.uint8), np.arange(9, dtype=np.uint8)[None]]
)
def test_file_that_is_no_mask(tmp_path, pixels):
    """In colour, or a segmentation."""
    path = tmp_path / "mask.png"
    Image.fromarray(pixels).save(path)
    with pytest.raises(fl.ImageError, match=r"the mask .*mask.png is not black and white.*isin"):
        read_mask(path)


@pytest.mark.realdata
def test_against_real_masks(data_root):
    """TNO's salient targets, from the boxes around them, as the docstring says."""
    shares = []
    for pair in fl.load_dataset("tno42", data_dir=data_root):
        if pair.mask is None:
            continue
        places = ndimage.find_objects(ndimage.label(pair.mask)[0])
        boxes = [Box("", c.start, r.start, c.stop, r.stop) for r, c in places]
        found = object_mask_from_boxes(pair.ir, boxes)
        shares.append((found & pair.mask).sum() / (found | pair.mask).sum())
    assert len(shares) == 20
    assert np.mean(shares) == pytest.approx(0.72, abs=0.005)
