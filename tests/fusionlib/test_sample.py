"""The built-in data sets: rendered scenes and phantoms, a Sentinel-2 pair, photographs."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest

from fusionlib import datasets
from fusionlib.datasets import find_data, load_dataset, load_images, package_data, sentinel2
from fusionlib.errors import DatasetNotFound
from fusionlib.images import luminance

MEDICAL = ("sample_mri_ct", "sample_mri_pet", "sample_mri_spect")
SCENES = load_dataset("sample").names[:16]


@pytest.fixture(scope="module")
def pairs():
    """Read with their hashes compared."""
    return {pair.name: pair for pair in load_dataset("sample")}


# ---------------------------------------------------------------- scenes


def test_names_and_order(pairs):
    assert tuple(pairs) == (*SCENES, "s2") and SCENES[0] == "day_street"


@pytest.mark.parametrize("name", SCENES)
def test_the_cameras_see_different_things(pairs, name):
    """Targets are warm; all of them are in boxes."""
    pair = pairs[name]
    assert pair.ir.shape == (240, 320) and pair.vis.shape == (240, 320, 3)
    assert pair.source == "rendered"
    assert np.corrcoef(pair.ir.ravel(), luminance(pair.vis).ravel())[0, 1] < 0.8
    assert pair.ir[pair.mask].mean() > pair.ir[~pair.mask].mean()
    covered = np.zeros_like(pair.mask)
    for label, *sides in pair.boxes:
        x0, y0, x1, y1 = map(int, sides)
        assert label in {"person", "bicycle", "car"}
        assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 240
        assert pair.mask[y0:y1, x0:x1].any()
        covered[y0:y1, x0:x1] = True
    assert pair.mask.dtype == bool and covered[pair.mask].all()


# ---------------------------------------------------------------- phantoms


@pytest.mark.parametrize("name", MEDICAL)
def test_phantoms(name):
    slices = load_dataset(name)
    assert slices.names == tuple(f"{name.removeprefix('sample_')}_{k}" for k in range(3))
    for pair in slices:
        assert pair.ir.shape == pair.vis.shape[:2] == (256, 256)
        assert pair.colour == (name != "sample_mri_ct")
        assert pair.mask is None and pair.boxes is None and pair.source == "rendered"


# ---------------------------------------------------------------- files and packages


def test_another_folder_of_that_name_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "sample").mkdir()
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    assert find_data("sample", tmp_path) == package_data("sample/scenes")
    assert load_dataset("sample", data_dir=tmp_path)[0].name == "day_street"


def test_every_file_is_listed():
    folder = package_data("sample")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    listed = {
        f"{split.card.folder.removeprefix('sample/')}/{file}"
        for split in map(datasets._find_split, ("sample", *MEDICAL))
        for file, _, _ in split.files()
    }
    assert there == {"README.md", *listed}


def test_a_damaged_file(tmp_path, monkeypatch):
    shutil.copytree(package_data("sample"), tmp_path / "sample")
    shutil.copytree(package_data("splits"), tmp_path / "splits")
    monkeypatch.setattr(datasets, "package_data", lambda relative: tmp_path / relative)
    shutil.copy(*(tmp_path / f"sample/mri_ct/{kind}/mri_ct_0.png" for kind in ("mri", "ct")))
    with pytest.raises(DatasetNotFound, match=r"mri_ct_0.png is damaged.*Install fusionlib again"):
        load_dataset("sample_mri_ct")[0]
    shutil.rmtree(tmp_path / "sample/mri_ct/ct")
    with pytest.raises(DatasetNotFound, match=r"3 of 6 files .*Install fusionlib again"):
        load_dataset("sample_mri_ct")


def test_sentinel2_is_real():
    """Woods are green, and bright in the near infrared."""
    pair = sentinel2()
    assert pair.ir.shape == (300, 300) and pair.vis.shape == (300, 300, 3)
    assert pair.source == "real: Sentinel-2 L2A bands 4/3/2 and 8, from spyndex 0.12 (MIT)"
    levels = np.rint(pair.vis * 255)
    assert levels.min() == 0 and np.array_equal(pair.vis, levels / np.float32(255))
    red, green, _ = np.moveaxis(pair.vis, 2, 0)
    woods = green > 1.3 * red
    assert 0.1 < woods.mean() < 0.6
    assert pair.ir[woods].mean() > pair.ir[~woods].mean() + 0.1


def test_photographs():
    images = dict(load_images("sample_images"))
    assert len(images) == 11 and images["camera"].ndim == 2 and images["coffee"].ndim == 3


@pytest.mark.parametrize(
    ("package", "read", "remedy"),
    [
        ("spyndex", lambda: load_dataset("sample")["s2"], r"pip install spyndex==0\.12"),
        ("skimage", lambda: load_images("sample_images"), "pip install scikit-image"),
    ],
)
def test_a_missing_package_is_explained(monkeypatch, package, read, remedy):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "fusionlib.datasets.find_spec", lambda name: None if name == package else find(name)
    )
    sentinel2.cache_clear()
    with pytest.raises(DatasetNotFound, match=remedy):
        read()
