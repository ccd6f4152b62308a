"""The built-in data sets: rendered scenes and phantoms, a Sentinel-2 pair, photographs."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest

from fusionlib import datasets
from fusionlib.datasets import find_data, load_dataset, load_images, package_data
from fusionlib.errors import DatasetNotFound
from fusionlib.images import luminance
from fusionlib.sample import sentinel2

MEDICAL = ("sample_mri_ct", "sample_mri_pet", "sample_mri_spect")
SCENES = (
    *("day_street", "night_headlights", "smoke", "low_light_park", "dusk_crossing"),
    *("forest_camouflage", "car_park", "cyclist_road", "courtyard", "foggy_morning"),
    *("shop_night", "alley_shadow", "field_path", "overcast_square", "night_yard", "wet_evening"),
)
PHOTOGRAPHS = (
    *("astronaut", "camera", "chelsea", "coffee", "rocket", "motorcycle_left", "coins", "brick"),
    *("grass", "gravel", "moon"),
)


@pytest.fixture(scope="module")
def pairs():
    """Read with their hashes compared."""
    return {pair.name: pair for pair in load_dataset("sample")}


def corners(box):
    return tuple(int(side) for side in box[1:])


# ---------------------------------------------------------------- scenes


def test_names_and_order(pairs):
    assert tuple(pairs) == load_dataset("sample").names == (*SCENES, "s2")
    assert load_dataset("sample", limit=1).names == ("day_street",)


@pytest.mark.parametrize("name", SCENES)
def test_the_cameras_see_different_things(pairs, name):
    pair = pairs[name]
    assert pair.ir.shape == (240, 320) and pair.vis.shape == (240, 320, 3)
    assert pair.source == "rendered"
    assert np.corrcoef(pair.ir.ravel(), luminance(pair.vis).ravel())[0, 1] < 0.8
    assert pair.ir[pair.mask].mean() > pair.ir[~pair.mask].mean()  # targets are warm


@pytest.mark.parametrize("name", SCENES)
def test_mask_and_boxes_agree(pairs, name):
    pair = pairs[name]
    assert pair.mask.dtype == bool and pair.boxes
    covered = np.zeros_like(pair.mask)
    for box in pair.boxes:
        assert box.label in {"person", "bicycle", "car"}
        x0, y0, x1, y1 = corners(box)
        assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 240
        assert pair.mask[y0:y1, x0:x1].any()
        covered[y0:y1, x0:x1] = True
    assert covered[pair.mask].all()


def test_boxes_are_tight_around_an_unhidden_target(pairs):
    pair = pairs["field_path"]
    x0, y0, x1, y1 = corners(pair.boxes[0])
    inside = pair.mask[y0:y1, x0:x1]
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def contrast(image, mask, box):
    """How much the target in a box stands out from what surrounds it there."""
    x0, y0, x1, y1 = corners(box)
    window = slice(max(y0 - 6, 0), y1 + 6), slice(max(x0 - 6, 0), x1 + 6)
    return abs(float(image[window][mask[window]].mean() - image[window][~mask[window]].mean()))


def test_infrared_sees_a_person_through_smoke(pairs):
    ir, seen, mask = pairs["smoke"].ir, luminance(pairs["smoke"].vis), pairs["smoke"].mask
    people = [box for box in pairs["smoke"].boxes if box.label == "person"]
    hidden = min(people, key=lambda box: contrast(seen, mask, box))
    assert contrast(ir, mask, hidden) > max(0.2, 3 * contrast(seen, mask, hidden))


def test_headlights_blind_only_the_visible_camera(pairs):
    pair = pairs["night_headlights"]
    blinded = pair.vis.min(axis=2) > 0.95
    assert np.count_nonzero(blinded) > 60
    assert np.count_nonzero(pair.ir[blinded] > 0.95) < 0.2 * np.count_nonzero(blinded)


def test_a_departed_car_left_only_heat(pairs):
    ir, seen = pairs["car_park"].ir, luminance(pairs["car_park"].vis)
    bay, beside = (slice(160, 172), slice(184, 194)), (slice(160, 172), slice(230, 240))
    assert ir[bay].mean() - ir[beside].mean() > 0.15
    assert abs(seen[bay].mean() - seen[beside].mean()) < 0.08


# ---------------------------------------------------------------- phantoms


@pytest.mark.parametrize("name", MEDICAL)
def test_phantoms(name):
    slices = load_dataset(name)
    assert slices.names == tuple(f"{name.removeprefix('sample_')}_{k}" for k in range(3))
    for pair in slices:
        assert pair.ir.shape == pair.vis.shape[:2] == (256, 256)
        assert pair.colour == (name != "sample_mri_ct")
        assert pair.mask is None and pair.boxes is None and pair.source == "rendered"


def test_bone_is_bright_in_ct_and_dark_in_mri():
    for pair in load_dataset("sample_mri_ct"):
        bone = pair.ir > 0.85
        assert np.count_nonzero(bone) > 1500
        assert pair.vis[bone].mean() < 0.25
        assert pair.ir[112:144, 60:90].std() < pair.vis[112:144, 60:90].std()


@pytest.mark.parametrize("name", MEDICAL[1:])
def test_functional_pictures_are_coloured_and_blurred(name):
    for pair in load_dataset(name):
        assert np.ptp(pair.vis, axis=2).max() > 0.5
        functional, structural = (
            np.abs(np.diff(image, axis=1)).max() for image in (luminance(pair.vis), pair.ir)
        )
        assert functional < structural


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
    images = load_images("sample_images")
    assert images.names == PHOTOGRAPHS
    assert {name: image.ndim for name, image in images if name in ("camera", "coffee")} == {
        "camera": 2, "coffee": 3,
    }  # fmt: skip


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
        "fusionlib.sample.find_spec", lambda name: None if name == package else find(name)
    )
    sentinel2.cache_clear()
    with pytest.raises(DatasetNotFound, match=remedy):
        read()
