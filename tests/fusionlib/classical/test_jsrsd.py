"""jsrsd: patch by patch in the arithmetic of OMP-Box, differences by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusionlib.classical.jsrsd import JSRSD, differences
from tests.fusionlib.classical.given import GivenDictionary, atoms, pair
from tests.fusionlib.classical.test_jsr import joint_codes


def around(codes, y, x):
    """Mean of the weighted distances to the 24 neighbours."""
    total = 0.0
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            if (dy, dx) != (0, 0):
                distance = np.linalg.norm(codes[y, x] - codes[y + dy, x + dx])
                total += distance / (1 + 2 * math.hypot(dy, dx))
    return total / 24


def test_differences():
    codes = np.random.default_rng(0).random((7, 9, 5))
    ours = differences(codes)
    for y in range(2, 5):
        for x in range(2, 7):
            assert ours[y, x] == pytest.approx(around(codes, y, x), rel=1e-12)


def test_patch_by_patch():
    """Of 6 x 7 patches the 2 x 3 in the middle are weighted by saliency, the others as in JSR."""
    ir, vis = pair((12, 13))
    codes = np.array([[joint_codes(ir, vis, y, x) for x in range(7)] for y in range(6)])
    norms = np.abs(codes[:, :, 1:]).sum(axis=3)
    expected = np.zeros((12, 13))
    for y in range(6):
        for x in range(7):
            activity = norms[y, x]
            if 2 <= y < 4 and 2 <= x < 5:
                local = np.array([around(codes[:, :, kind], y, x) for kind in (1, 2)])
                activity = 0.4 * (1 - np.exp(-local)) + 0.6 * norms[y, x]
            weights = activity / activity.max()
            fused = codes[y, x, 0] / np.sqrt(2) + weights @ codes[y, x, 1:]
            patch = (atoms() @ fused).reshape(7, 7).T
            expected[y : y + 7, x : x + 7] = (patch + expected[y : y + 7, x : x + 7]) / 2
    assert JSRSD(GivenDictionary()).fuse(ir, vis) == pytest.approx(expected, abs=1e-12)


def test_equal_images_keep_their_brightness():
    """The corner is half black."""
    image = np.full((12, 12), 0.4)
    fused = JSRSD(GivenDictionary()).fuse(image, image)
    assert fused[0, 0] == pytest.approx(0.2, rel=1e-9)
    assert fused[6, 6] == pytest.approx(0.4, rel=1e-9)
