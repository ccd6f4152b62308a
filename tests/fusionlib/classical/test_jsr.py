"""jsr: patches put back one by one, coded as by OMP-Box, and the authors' output and images."""

from __future__ import annotations

import numpy as np
import pytest

from fusionlib.classical import jsr
from fusionlib.classical.jsr import JSR, average_patches, l1_norms, relative
from fusionlib.classical.jsrsd import JSRSD
from fusionlib.classical.pursuit import Codes
from fusionlib.datasets import load_dataset
from fusionlib.methods import create
from reproduction.published import PublishedImages
from tests import parity
from tests.fusionlib.classical.given import GivenDictionary, atoms, pair
from tests.fusionlib.classical.ompbox import pursue


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
    monkeypatch.setattr(jsr, "STRIP", strip)
    assert np.abs(fuser.fuse(*images) - whole).max() <= 1e-15


def joint_codes(ir, vis, y, x):
    """Codes (3, 256) of the patches at one place: common, infrared, visible."""
    private = atoms()
    none, common = np.zeros_like(private), private / np.sqrt(2)
    joint = np.block([[common, private, none], [common, none, private]])
    signal = [image[y : y + 7, x : x + 7].T.ravel() for image in (ir, vis)]
    picked, values = pursue(joint, np.concatenate(signal), 16)
    codes = np.zeros(768)
    codes[picked] = values
    return codes.reshape(3, 256)


def test_patch_by_patch():
    ir, vis = pair((9, 10))
    expected = np.zeros((9, 10))
    for y in range(3):
        for x in range(4):
            common, first, second = joint_codes(ir, vis, y, x)
            norms = np.abs(first).sum(), np.abs(second).sum()
            fused = common + (norms[0] * first + norms[1] * second) / max(norms)
            patch = (atoms() @ fused).reshape(7, 7).T
            expected[y : y + 7, x : x + 7] = (patch + expected[y : y + 7, x : x + 7]) / 2
    assert JSR(GivenDictionary()).fuse(ir, vis) == pytest.approx(expected, abs=1e-12)


def test_equal_images_come_out_brighter():
    """Only common codes; they are put together with D, not D / sqrt 2. The corner is half black."""
    image = np.full((12, 12), 0.4)
    fused = JSR(GivenDictionary()).fuse(image, image)
    assert fused[0, 0] == pytest.approx(0.4 * np.sqrt(2) / 2, rel=1e-9)
    assert fused[6, 6] == pytest.approx(0.4 * np.sqrt(2), rel=1e-9)


@pytest.mark.realdata
@pytest.mark.parametrize("method", ["jsr", "jsrsd"])
def test_authors_output(golden_root, method):
    assert parity.main([method, str(golden_root / "networks" / f"{method}.npz")]) == 0


@pytest.mark.realdata
@pytest.mark.parametrize("method", ["jsr", "jsrsd"])
def test_authors_image(data_root, weights_root, golden_root, tmp_path, method):
    """A whole pair with its published dictionary: the published image, every pixel."""
    pairs = load_dataset("tno20", data_dir=data_root)
    (found,) = [pair for pair in pairs if pair.name == "11"]
    fused = create(method, pipeline="published").fuse_pair(found)
    (tmp_path / "published_tno20").symlink_to(golden_root / "published_tno20")
    theirs = PublishedImages(method, f"published_tno20_{method}", data_dir=tmp_path)
    assert np.array_equal(fused, theirs.fuse_pair(found))
