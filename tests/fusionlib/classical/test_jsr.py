"""jsr: patch by patch with the arithmetic of OMP-Box, and the authors' output and images."""

from __future__ import annotations

import numpy as np
import pytest

from fusionlib.classical.jsr import JSR, METHOD
from fusionlib.classical.jsrsd import METHOD as JSRSD_METHOD
from fusionlib.datasets import load_dataset
from fusionlib.methods import create
from reproduction.published import PublishedImages
from tests import parity
from tests.fusionlib.classical.given import GivenDictionary, atoms, pair
from tests.fusionlib.classical.ompbox import pursue


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


def test_black_images():
    black = np.zeros((9, 9))
    assert not JSR(GivenDictionary()).fuse(black, black).any()


@pytest.mark.realdata
def test_authors_output(golden_root):
    assert parity.main(["jsr", str(golden_root / "networks" / "jsr.npz")]) == 0


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


def test_both_methods_share_the_dictionaries():
    for key, configuration in METHOD.configurations.items():
        assert configuration.weights == JSRSD_METHOD.configurations[key].weights
    assert METHOD.configurations["fixed"].weights[0].origin == ""
