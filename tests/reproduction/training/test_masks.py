"""Masks: by hand, against scipy, and against 20 real masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from scipy import ndimage

import fusionlib as fl
from fusionlib.losses import contrast_mask, local_contrast, source_masks
from fusionlib.pairs import Box, Pair
from reproduction.training.masks import object_mask, read_mask


def image(seed=0, size=(20, 24)):
    return np.random.default_rng(seed).random(size).astype(np.float32)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))[None, None]


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


# ---------------------------------------------------------------- contrast


@pytest.mark.parametrize("window", [3, 11])
def test_local_contrast_by_scipy(window):
    """Sums of at most 121 float32 values in 0..1: 1e-6."""
    x = image().astype(np.float64)
    expected = (x - ndimage.uniform_filter(x, window, mode="nearest")) ** 2
    found = local_contrast(tensor(image()), window)[0, 0].numpy()
    assert np.abs(found - expected).max() < 1e-6


def test_contrast_mask_prefers_the_more_varied():
    flat, varied = np.full((20, 24), 0.5, np.float32), image()
    assert contrast_mask(tensor(varied), tensor(flat)).float().mean() > 0.99
    assert not contrast_mask(tensor(flat), tensor(varied)).any()
    assert not contrast_mask(tensor(varied), tensor(varied)).any()


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_exactly_one_image_is_followed_everywhere(seed, share):
    rng = np.random.default_rng(seed)
    ir, vis = (tensor(np.round(rng.random((9, 12)) * 3).astype(np.float32) / 3) for _ in range(2))
    objects = torch.from_numpy(rng.random((1, 1, 9, 12)) < share)
    ir_mask, vis_mask = source_masks(ir, vis, objects)
    assert torch.equal(ir_mask + vis_mask, torch.ones_like(ir))
    assert (ir_mask[objects] == 1).all()
    elsewhere = ~objects
    assert torch.equal(ir_mask[elsewhere] == 1, contrast_mask(ir, vis)[elsewhere])


def test_masks_of_another_size():
    a, b = tensor(image()), tensor(image(size=(20, 23)))
    objects = torch.zeros(1, 1, 20, 24, dtype=torch.bool)
    with pytest.raises(fl.PairMismatch, match=r"\(1, 1, 20, 23\).*do not belong together"):
        source_masks(a, b, objects)
    with pytest.raises(fl.PairMismatch, match=r"objects of \(1, 1, 20, 23\)"):
        source_masks(a, a, objects[..., 1:])
