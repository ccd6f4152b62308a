"""The files of the sample against the renderer that made them."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from fusionlib import scenes
from fusionlib.datasets import package_data
from fusionlib.images import read_image

FOLDERS = {"mri_ct": ("ct", "mri"), "mri_pet": ("mri", "pet"), "mri_spect": ("mri", "spect")}


@pytest.mark.parametrize("name", scenes.SCENES)
def test_scenes_equal_the_renderer(name):
    folder = package_data("sample/scenes")
    pair = scenes.render(name)
    assert np.array_equal(read_image(folder / f"infrared/{name}.png"), pair.ir)
    assert np.array_equal(read_image(folder / f"visible/{name}.png"), pair.vis)
    assert np.array_equal(read_image(folder / f"mask/{name}.png"), pair.mask)
    labels = ElementTree.parse(folder / f"labels/{name}.xml").iter("object")
    # Pascal VOC counts from 1, and its last column and row are in the box.
    boxes = [
        (o.findtext("name"), *(int(side.text) - side.tag.endswith("min") for side in o[1]))
        for o in labels
    ]
    assert boxes == [tuple(box) for box in pair.boxes]


@pytest.mark.parametrize("kind", FOLDERS)
def test_phantoms_equal_the_renderer(kind):
    ir, vis = (package_data(f"sample/{kind}/{modality}") for modality in FOLDERS[kind])
    pairs = scenes.medical(kind)
    names = {f"{pair.name}.png" for pair in pairs}
    assert names == {path.name for path in ir.iterdir()} == {path.name for path in vis.iterdir()}
    for pair in pairs:
        assert np.array_equal(read_image(ir / f"{pair.name}.png"), pair.ir)
        assert np.array_equal(read_image(vis / f"{pair.name}.png"), pair.vis)


def test_there_are_no_other_files():
    folder = package_data("sample")
    kinds = (
        *("scenes/infrared", "scenes/visible", "scenes/mask", "scenes/labels"),
        *(f"{kind}/{modality}" for kind in FOLDERS for modality in FOLDERS[kind]),
    )
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).parent.as_posix() for path in files} == {".", *kinds}
    assert len(files) == 4 * len(scenes.SCENES) + 2 * 3 * 3 + 1
