"""pipelines: levels, preparations and post-processings by exact arithmetic, Pillow and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from fusionlib.errors import UnknownName
from fusionlib.images import luminance
from fusionlib.pipelines import (
    GRAY_LEVELS,
    POSTS,
    Levels,
    find_post,
    prepare_minmax,
    prepare_pillow,
    prepare_rounded,
)

ALL = [GRAY_LEVELS, Levels(0, 1), Levels(-1, 1)]
LEVELS = pytest.mark.parametrize("levels", ALL, ids=str)
RAW = hnp.arrays(float, (3, 4), elements=st.floats(-2, 2).map(lambda x: round(x, 6)))


def gray():
    """Every gray level once, in [0, 1]."""
    return (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(16, 16)


# ---------------------------------------------------------------- levels


@pytest.mark.parametrize("levels, text", [*zip(ALL, ["0..255", "0..1", "-1..1"], strict=True)])
def test_black_and_white(levels, text):
    assert str(levels) == text
    assert levels.unscale(np.array(levels)).tolist() == [0, 1]
    for dtype in (np.float32, np.float64):
        scaled = levels.scale(np.array([0, 0.25, 1], dtype))
        assert scaled.dtype == dtype
        black, white = levels
        assert scaled.tolist() == [black, black + 0.25 * (white - black), white]


def test_levels_as_the_authors_compute_them():
    """(g - 127.5) / 127.5 of AT-GAN, SDNet and FusionGAN, to one float32 rounding of 1."""
    theirs = (np.arange(256) - 127.5) / 127.5
    levels = Levels(-1, 1)
    scaled = levels.scale(gray())
    assert np.abs(scaled.ravel() - theirs).max() <= 2**-23
    assert np.abs(levels.unscale(scaled.astype(float)) - gray()).max() <= 2**-23


# ---------------------------------------------------------------- preparations


@pytest.mark.parametrize("kind", ["gray", "colour"])
def test_as_pillow_reads(kind):
    """The oracle is Pillow: as RGB, to YCbCr, its Y, each of R, G and B rounded by itself."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    if kind == "colour":
        levels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(levels).convert("RGB").convert("YCbCr").getchannel("Y")
    ours, read = prepare_pillow(levels / np.float32(255)), np.asarray(image)
    assert np.array_equal(ours, read / np.float32(255))
    others = np.count_nonzero(ours != prepare_rounded(levels / np.float32(255)))
    assert others == 22 if kind == "gray" else others > 0.1 * read.size


def test_rounded_luminance():
    """float32 luminance is off by 1e-5 of a level at most; that near to a half either is right."""
    levels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exact = levels @ np.array([0.299, 0.587, 0.114])
    ours = prepare_rounded(levels / np.float32(255))
    assert ours.dtype == np.float32
    decided = np.abs(exact % 1 - 0.5) > 1e-4
    assert np.array_equal(ours[decided], np.rint(exact).astype(np.float32)[decided] / 255)
    finer = gray() / 2
    assert np.array_equal(prepare_rounded(finer), finer)


def test_minmax_preparation():
    prepared = prepare_minmax(np.float32([[0.25, 0.5], [0.75, 0.5]]))
    assert prepared.dtype == np.float32
    assert prepared.tolist() == [[0, 0.5], [1, 0.5]]
    assert not prepare_minmax(np.full((2, 3), 0.5, np.float32)).any()
    colour = np.random.default_rng(0).random((4, 5, 3), np.float32)
    assert np.array_equal(prepare_minmax(colour), prepare_minmax(luminance(colour)))


# ---------------------------------------------------------------- post-processing


def finished(name, raw, levels=GRAY_LEVELS):
    return find_post(name)(np.array(raw, float), levels)  # a copy, which may be overwritten


@LEVELS
@given(raw=RAW)
def test_clip_scales_and_minmax_stretches(levels, raw):
    expected = (raw - levels.black) / (levels.white - levels.black) * 255
    assert np.array_equal(finished("clip", raw, levels), expected)
    low, high = raw.min(), raw.max()
    if high > low:
        expected = (raw - low) / (high - low) * 255
        assert np.array_equal(finished("minmax", raw, levels), expected)
        widened = finished("minmax_eps", raw, levels)
        assert widened.min() == 0
        # 255 * range / (range + 1e-5), by hand.
        assert widened.max() == pytest.approx(255 / (1 + 1e-5 / (high - low)), rel=1e-12)


@LEVELS
@pytest.mark.parametrize("name", ["minmax", "minmax_eps", "clip"])
def test_a_constant_keeps_its_level(levels, name):
    middle = (levels.black + levels.white) / 2
    assert np.array_equal(finished(name, np.full((2, 2), middle), levels), np.full((2, 2), 127.5))


def test_lrrnets_brightest_pixel_is_254():
    """As in the authors' pictures: the range 0.2245 widened by 1e-5, then truncated."""
    levels = finished("minmax_eps", [0.04275, 0.26723], Levels(0, 1))
    assert np.floor(levels).tolist() == [0, 254]


def test_white():
    """The brightest becomes 255, zero stays, what is below is clipped later."""
    assert finished("white", [0, 0.25, 0.5], Levels(0, 1)).tolist() == [0, 127.5, 255]
    assert finished("white", [-1, 0, 0], Levels(-1, 1)).tolist() == [0, 255, 255]
    assert finished("white", [0, 0], Levels(0, 1)).tolist() == [0, 0]


@pytest.mark.parametrize(
    "raw, expected",
    [
        ([0.2, 0.4], [51, 102]),
        ([0.0, 1.0], [0, 255]),
        ([0.5, 1.5], [0, 255]),
        ([-0.5, 0.5], [0, 255]),
    ],
)
def test_imageio_stretches_what_leaves_the_range(raw, expected):
    assert finished("imageio", raw, Levels(0, 1)) == pytest.approx(np.array(expected), rel=1e-12)


def test_clahe_is_that_of_opencv_on_the_truncated_image():
    # Tiles large enough that a limit of 2 is reached, and not one of 3.
    raw = np.random.default_rng(0).normal(0, 0.2, (400, 480))
    saved = np.clip((raw + 1) * 127.5, 0, 255).astype(np.uint8)
    expected = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(saved)
    assert np.array_equal(finished("clahe", raw, Levels(-1, 1)), expected)


@pytest.mark.parametrize("name", POSTS)
@LEVELS
@given(raw=RAW)
def test_every_post_processing_is_finite(name, levels, raw):
    result = finished(name, raw, levels)
    assert result.shape == raw.shape and np.isfinite(result).all()
    assert POSTS[name].summary


def test_a_stretch_by_hand():
    # From 0.25 to 0.75: half way, black is at 0.125 and white at 0.875.
    half = finished("stretch:0.5", [[0.25, 0.5, 0.75]], Levels(0, 1))
    np.testing.assert_allclose(half, [[255 / 6, 127.5, 255 * 5 / 6]], rtol=1e-12)
    assert "0.35 of the way" in find_post("stretch:0.35").summary


@LEVELS
@given(raw=RAW)
def test_a_stretch_ends_at_clip_and_minmax(levels, raw):
    for share, name in (("0", "clip"), ("1.0", "minmax")):
        assert find_post(f"stretch:{share}") is POSTS[name]
    # Between its ends a pixel lies between theirs, within float64 rounding; constant images stay.
    low, high = finished("clip", raw, levels), finished("minmax", raw, levels)
    between = finished("stretch:0.3", raw, levels)
    slack = 1e-9 * (1 + np.abs(low) + np.abs(high))
    assert (between >= np.minimum(low, high) - slack).all()
    assert (between <= np.maximum(low, high) + slack).all()


@pytest.mark.parametrize(
    "name, message",
    [
        ("strech:0.5", "Did you mean"),
        ("stretch:half", "share 'half'; it must be a number from 0"),
        ("stretch:nan", "share 'nan'"),
        ("stretch:1.5", "share '1.5'"),
    ],
)
def test_post_processings_that_are_none(name, message):
    with pytest.raises(UnknownName, match=message):
        find_post(name)
