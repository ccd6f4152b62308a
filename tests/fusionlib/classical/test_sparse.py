"""sparse: patches put back one by one, activities of codes, strips that do not matter."""

from __future__ import annotations

import numpy as np
import pytest

from fusionlib.classical import sparse
from fusionlib.classical.jsr import JSR
from fusionlib.classical.jsrsd import JSRSD
from fusionlib.classical.pursuit import Codes
from fusionlib.classical.sparse import average_patches, l1_norms, relative
from tests.fusionlib.classical.given import GivenDictionary, pair


@pytest.mark.parametrize("shape", [(7, 7), (9, 8), (20, 30)])
def test_patches_are_averaged_in_raster_order(shape):
    """As the authors' loop: each patch with what is there, beginning with black."""
    rows, width = shape[0] - 6, shape[1] - 6
    vectors = np.random.default_rng(0).random((49, rows, width))
    expected = np.zeros(shape)
    for y in range(rows):
        for x in range(width):
            patch = vectors[:, y, x].reshape(7, 7).T
            expected[y : y + 7, x : x + 7] = (patch + expected[y : y + 7, x : x + 7]) / 2
    whole, in_strips = np.zeros(shape), np.zeros(shape)
    average_patches(whole, vectors, 0)
    for top in range(0, rows, 3):
        average_patches(in_strips, vectors[:, top : top + 3], top)
    assert np.array_equal(whole, expected) and np.array_equal(in_strips, expected)


def test_l1_norms():
    atoms = np.array([[3, 256, 512], [256, 300, 767], [600, 511, 0]], np.int16)
    values = np.array([[1.0, -2, 4], [-8, 16, -32], [64, -128, 256]])
    assert l1_norms(Codes(atoms, values)).tolist() == [[8, 146, 0], [64, 0, 36]]


def test_relative():
    given = np.array([[3.0, 0, 0], [4, 0, 7]])
    assert relative(given).tolist() == [[0.75, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("method", [JSR, JSRSD])
@pytest.mark.parametrize("strip", [1, 40, 130])
def test_strips_do_not_matter(method, strip, monkeypatch):
    fuser, images = method(GivenDictionary()), pair((17, 21))
    whole = fuser.fuse(*images)
    monkeypatch.setattr(sparse, "STRIP", strip)
    assert np.abs(fuser.fuse(*images) - whole).max() <= 1e-15


@pytest.mark.parametrize("method", [JSR, JSRSD])
def test_the_smallest_image(method):
    """One patch, averaged with black."""
    assert method(GivenDictionary()).fuse(*pair((7, 7))).shape == (7, 7)
