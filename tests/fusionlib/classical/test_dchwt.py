"""dchwt: sub-bands from cosines, weights by loops, MATLAB's bicubic, the authors' output."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn, idctn

from fusionlib.classical.dchwt import DCHWT, analyse, bicubic, significance, synthesise
from tests import parity

SHAPES = [(8, 8), (16, 24), (64, 40)]


def images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, *shape)).astype(float)


def cosine_basis(n):
    """The orthonormal DCT-II as a matrix, written out."""
    frequency, place = np.mgrid[:n, :n]
    basis = np.cos(np.pi * (place + 0.5) * frequency / n) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    return basis


@pytest.mark.parametrize("shape", SHAPES)
def test_sub_bands(shape):
    """Each is a block of the coefficients of the whole image, transformed back at its own size."""
    image = images(shape)[0]
    plane = cosine_basis(shape[0]) @ image @ cosine_basis(shape[1]).T
    approximation, details = analyse(image)
    height, width = shape
    for level in details:
        height, width = height // 2, width // 2
        rows, columns = cosine_basis(height), cosine_basis(width)
        corners = [(0, width), (height, 0), (height, width)]
        for band, (top, left) in zip(level, corners, strict=True):
            block = plane[top : top + height, left : left + width]
            assert band == pytest.approx(rows.T @ block @ columns, abs=1e-10)
    low = plane[:height, :width]
    assert approximation == pytest.approx(rows.T @ low @ columns, abs=1e-10)
    assert synthesise(approximation, details) == pytest.approx(image, abs=1e-10)


def test_significance_by_loops():
    """Of the coarser bands, a coefficient and all below it; of the finest, nine neighbours."""
    _, details = analyse(images((32, 48))[0])
    coarse, weights = significance(details)
    for orientation in range(3):
        finest = details[0][orientation]
        for y, x in ((0, 0), (3, 7), (15, 23), (0, 23)):
            square = [
                finest[abs(y + dy) - 2 * max(0, y + dy - 15), abs(x + dx) - 2 * max(0, x + dx - 23)]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            assert weights[0][orientation][y, x] == pytest.approx(np.mean(np.square(square)))
        for level, (y, x) in ((1, (2, 5)), (2, (3, 4))):
            expected = sum(
                np.abs(
                    details[level - down][orientation][
                        y << down : (y + 1) << down, x << down : (x + 1) << down
                    ]
                ).sum()
                for down in range(level + 1)
            )
            assert weights[level][orientation][y, x] == pytest.approx(expected)
    assert coarse == pytest.approx(sum(weights[2]))


def test_detail_of_one_image_is_kept():
    """Beside a constant image, all details come from the other, also where both are 0."""
    image = images((32, 32))[0]
    fused = DCHWT().fuse(image, np.full((32, 32), 90.0))
    (low, details), (fused_low, fused_details) = analyse(image), analyse(fused)
    for level, fused_level in zip(details, fused_details, strict=True):
        for band, fused_band in zip(level, fused_level, strict=True):
            assert fused_band == pytest.approx(band, abs=1e-10)
    assert fused_low == pytest.approx(low, abs=1e-10)


# ---------------------------------------------------------------- other sizes


@pytest.mark.parametrize(
    "old, new", [((8, 16), (15, 16)), ((8, 16), (8, 23)), ((40, 24), (47, 31))]
)
def test_bicubic_as_pillow_inside(old, new):
    """Pillow has the same kernel; at the border, within two pixels, it does not mirror."""
    levels = images(old)[0]
    ours = bicubic(levels, new)
    assert ours.shape == new and np.array_equal(ours, np.clip(np.rint(ours), 0, 255))
    theirs = Image.fromarray(levels.astype(np.float32))
    for axis in sorted((0, 1), key=lambda axis: new[axis] / old[axis]):
        size = (new[1], theirs.height) if axis == 1 else (theirs.width, new[0])
        theirs = theirs.resize(size, Image.Resampling.BICUBIC)
        rounded = np.floor(np.clip(np.asarray(theirs), 0, 255) + 0.5).astype(np.float32)
        theirs = Image.fromarray(rounded)
    inner = tuple(slice(2 * n // o + 1, n - 2 * n // o - 1) for n, o in zip(new, old, strict=True))
    assert np.array_equal(ours[inner], np.asarray(theirs)[inner])


def test_bicubic_at_the_border():
    """From 2 to 4 pixels the first centre is at -0.25; Keys' weights there, with a = -0.5."""
    weights = {-2: -0.0234375, -1: 0.2265625, 0: 0.8671875, 1: -0.0703125}
    mirrored = {-2: 200, -1: 40, 0: 40, 1: 200}
    expected = sum(weight * mirrored[place] for place, weight in weights.items())
    enlarged = bicubic(np.array([[40.0, 200.0]]), (1, 4))
    assert enlarged[0, 0] == np.floor(expected + 0.5)
    assert enlarged[0, 0] + enlarged[0, 3] == 240


def test_a_size_that_cannot_be_split_by_hand():
    """Rounded to whole levels before it is enlarged, as after it."""
    ir, vis = images((13, 18))
    small = [idctn(dctn(image, norm="ortho")[:8, :16], norm="ortho") for image in (ir, vis)]
    levels = np.floor(np.clip(DCHWT().fuse(*small), 0, 255) + 0.5)
    assert np.array_equal(DCHWT().fuse(ir, vis), bicubic(levels, (13, 18)))


@pytest.mark.realdata
def test_authors_output(golden_root):
    assert parity.main(["dchwt", str(golden_root / "networks" / "dchwt.npz")]) == 0
