"""The built-in sample: rendered scenes, phantoms, Sentinel-2 and photographs."""

from __future__ import annotations

import importlib.util
import socket

import numpy as np
import pytest
from fusionlib.pairs import Box, Pair

from fusionlib import scenes
from fusionlib.errors import DatasetNotFound, ImageError, UnknownName

KINDS = ("mri_ct", "mri_pet", "mri_spect")


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    return {pair.name: pair for pair in scenes.infrared_visible()}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.setattr(pooch.Pooch, "fetch", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def assert_eight_bit(image: np.ndarray) -> None:
    assert image.dtype == np.float32
    levels = np.round(image.astype(np.float64) * 255)
    assert levels.min() >= 0 and levels.max() <= 255
    np.testing.assert_array_equal(image, (levels / 255).astype(np.float32))


def luma(pair: Pair) -> np.ndarray:
    return pair.vis @ np.array([0.299, 0.587, 0.114], np.float32)


def ring_contrast(image: np.ndarray, mask: np.ndarray, box: Box) -> float:
    """How much the target in a box stands out from what surrounds it there."""
    x0, y0, x1, y1 = (int(c) for c in box[1:])
    window = slice(max(y0 - 6, 0), y1 + 6), slice(max(x0 - 6, 0), x1 + 6)
    return abs(float(image[window][mask[window]].mean() - image[window][~mask[window]].mean()))


def test_the_sample_is_large_enough(pairs: dict[str, Pair]) -> None:
    assert tuple(pairs) == scenes.SCENES
    assert len(pairs) >= 12


@pytest.mark.parametrize("name", scenes.SCENES)
def test_images_are_eight_bit_pictures(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    assert pair.ir.shape == (240, 320)
    assert pair.vis.shape == (240, 320, 3)
    for image in (pair.ir, pair.vis):
        assert_eight_bit(image)
        assert image.std() > 0.02
    assert pair.source == "rendered (fusionlib.scenes, seed 0)"


@pytest.mark.parametrize("name", scenes.SCENES)
def test_mask_and_boxes_agree(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    assert pair.mask is not None and pair.boxes
    assert pair.mask.dtype == bool and pair.mask.shape == pair.ir.shape
    covered = np.zeros_like(pair.mask)
    for box in pair.boxes:
        assert box.label in {"person", "bicycle", "car"}
        x0, y0, x1, y1 = (int(c) for c in box[1:])
        assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 240
        assert pair.mask[y0:y1, x0:x1].any()
        covered[y0:y1, x0:x1] = True
    assert covered[pair.mask].all()


@pytest.mark.parametrize("name", scenes.SCENES)
def test_the_cameras_see_different_things(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    assert np.corrcoef(pair.ir.ravel(), luma(pair).ravel())[0, 1] < 0.8
    assert pair.ir[pair.mask].mean() > pair.ir[~pair.mask].mean()


def test_boxes_are_tight_around_an_unhidden_target(pairs: dict[str, Pair]) -> None:
    pair = pairs["field_path"]
    x0, y0, x1, y1 = (int(c) for c in pair.boxes[0][1:])
    inside = pair.mask[y0:y1, x0:x1]
    assert inside[0].any() and inside[-1].any()
    assert inside[:, 0].any() and inside[:, -1].any()


def test_infrared_sees_a_person_through_smoke(pairs: dict[str, Pair]) -> None:
    pair = pairs["smoke"]
    people = [box for box in pair.boxes if box.label == "person"]
    hidden = min(people, key=lambda box: ring_contrast(luma(pair), pair.mask, box))
    heat = ring_contrast(pair.ir, pair.mask, hidden)
    assert heat > 0.2
    assert heat > 3 * ring_contrast(luma(pair), pair.mask, hidden)


def test_headlights_blind_only_the_visible_camera(pairs: dict[str, Pair]) -> None:
    pair = pairs["night_headlights"]
    blinded = pair.vis.min(axis=2) > 0.95
    assert np.count_nonzero(blinded) > 60
    assert np.count_nonzero(pair.ir[blinded] > 0.95) < 0.2 * np.count_nonzero(blinded)


def test_lettering_is_only_in_the_visible(pairs: dict[str, Pair]) -> None:
    pair = pairs["shop_night"]
    sign = slice(78, 90), slice(12, 130)
    assert luma(pair)[sign].std() > 0.15
    assert pair.ir[sign].std() < 0.03


def test_a_departed_car_left_only_heat(pairs: dict[str, Pair]) -> None:
    pair = pairs["car_park"]
    bay, beside = (slice(160, 172), slice(184, 194)), (slice(160, 172), slice(230, 240))
    assert pair.ir[bay].mean() - pair.ir[beside].mean() > 0.15
    assert abs(luma(pair)[bay].mean() - luma(pair)[beside].mean()) < 0.08


@pytest.mark.parametrize("name", scenes.SCENES)
def test_rendering_is_a_pure_function(pairs: dict[str, Pair], name: str) -> None:
    again = scenes.render(name)
    np.testing.assert_array_equal(again.ir, pairs[name].ir)
    np.testing.assert_array_equal(again.vis, pairs[name].vis)
    np.testing.assert_array_equal(again.mask, pairs[name].mask)
    assert again.boxes == pairs[name].boxes


def test_the_seed_changes_the_pictures() -> None:
    first, second = (scenes.render("field_path", size=(96, 72), seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.vis, second.vis)
    assert not np.array_equal(first.ir, second.ir)
    assert second.source == "rendered (fusionlib.scenes, seed 1)"


def test_misregistration_moves_only_the_infrared(pairs: dict[str, Pair]) -> None:
    still, moved = pairs["night_yard"], scenes.render("night_yard", misregistration=4.0)
    np.testing.assert_array_equal(moved.vis, still.vis)
    np.testing.assert_array_equal(moved.mask, still.mask)
    assert moved.boxes == still.boxes
    assert_eight_bit(moved.ir)
    assert "misregistered by 4 px" in moved.source
    change = np.hypot(*(b - a for a, b in zip(hot_spot(still), hot_spot(moved), strict=True)))
    assert 2 < change < 6.5


def hot_spot(pair: Pair) -> tuple[float, float]:
    """Centre of the crouching man, the hottest object on the left."""
    rows, columns = np.nonzero(pair.ir[:, :130] > 0.75)
    assert len(rows) > 50
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("size", [(64, 64), (200, 75), (70, 160), (321, 241)])
@pytest.mark.parametrize("name", ["day_street", "wet_evening", "smoke"])
def test_any_size_renders(name: str, size: tuple[int, int]) -> None:
    pair = scenes.render(name, size=size)
    assert pair.ir.shape == size[::-1]
    assert pair.vis.shape == (*size[::-1], 3)
    assert_eight_bit(pair.vis)
    for box in pair.boxes:
        assert 0 <= box.x0 < box.x1 <= size[0] and 0 <= box.y0 < box.y1 <= size[1]


def test_limit_takes_the_first_scenes() -> None:
    names = [pair.name for pair in scenes.infrared_visible(size=(64, 64), limit=3)]
    assert names == list(scenes.SCENES[:3])


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown scene 'smok'.*'smoke'"):
        scenes.render("smok")
    with pytest.raises(ImageError, match=r"63x80.*64x64"):
        scenes.render("smoke", size=(63, 80))
    with pytest.raises(UnknownName, match="mri_pet"):
        scenes.medical("mri_pets")


@pytest.mark.parametrize("kind", KINDS)
def test_phantoms(kind: str) -> None:
    slices, again = scenes.medical(kind), scenes.medical(kind)
    assert len({pair.name for pair in slices}) == len(slices) >= 1
    for pair, same in zip(slices, again, strict=True):
        assert pair.ir.shape == (256, 256)
        assert pair.vis.shape == ((256, 256) if kind == "mri_ct" else (256, 256, 3))
        assert_eight_bit(pair.ir)
        assert_eight_bit(pair.vis)
        assert pair.mask is None and pair.boxes is None
        assert pair.source.startswith("rendered")
        np.testing.assert_array_equal(pair.vis, same.vis)
        np.testing.assert_array_equal(pair.ir, same.ir)
    assert not np.array_equal(slices[0].ir, scenes.medical(kind, seed=1)[0].ir)


def test_bone_is_bright_in_ct_and_dark_in_mri() -> None:
    for pair in scenes.medical("mri_ct"):
        bone = pair.ir > 0.85
        assert np.count_nonzero(bone) > 1500
        assert pair.vis[bone].mean() < 0.25
        assert pair.ir[112:144, 60:90].std() < pair.vis[112:144, 60:90].std()


@pytest.mark.parametrize("kind", ["mri_pet", "mri_spect"])
def test_functional_pictures_are_coloured_and_blurred(kind: str) -> None:
    for pair in scenes.medical(kind):
        assert np.ptp(pair.vis, axis=2).max() > 0.5
        fine = [np.abs(np.diff(image, axis=1)).max() for image in (luma(pair), pair.ir)]
        assert fine[0] < fine[1]


def test_sentinel2_is_one_real_pair_with_crops() -> None:
    (whole,) = scenes.sentinel2()
    assert whole.ir.shape == (300, 300) and whole.vis.shape == (300, 300, 3)
    assert whole.source == "real: Sentinel-2 L2A bands 4/3/2 and 8, from spyndex 0.12 (MIT)"
    assert_eight_bit(whole.ir)
    assert_eight_bit(whole.vis)
    first, *crops = scenes.sentinel2(crops=True)
    np.testing.assert_array_equal(first.vis, whole.vis)
    assert [pair.name for pair in crops] == ["s2_0", "s2_1", "s2_2", "s2_3"]
    for crop, (top, left) in zip(crops, [(0, 0), (0, 108), (108, 0), (108, 108)], strict=True):
        window = slice(top, top + 192), slice(left, left + 192)
        np.testing.assert_array_equal(crop.ir, whole.ir[window])
        np.testing.assert_array_equal(crop.vis, whole.vis[window])


def test_woods_are_green_and_bright_in_the_near_infrared() -> None:
    (pair,) = scenes.sentinel2()
    red, green, _ = np.moveaxis(pair.vis, 2, 0)
    woods = green > 1.3 * red
    assert 0.1 < woods.mean() < 0.6
    assert pair.ir[woods].mean() > pair.ir[~woods].mean() + 0.1


def test_natural_images_come_from_the_wheel(offline: None) -> None:
    gray, colour = scenes.natural_images(), scenes.natural_images(colour=True)
    assert [image.name for image in gray] == [image.name for image in colour]
    assert {"astronaut", "camera", "coffee"} <= {image.name for image in gray}
    for flat, rgb in zip(gray, colour, strict=True):
        assert rgb.image.shape == (*flat.image.shape, 3)
        assert_eight_bit(flat.image)
        assert_eight_bit(rgb.image)
        assert flat.source.startswith(f"real: scikit-image data/{flat.name}.")
    assert (
        np.ptp(dict(zip([i.name for i in colour], colour, strict=True))["coffee"].image, 2).max()
        > 0.2
    )


@pytest.mark.parametrize(
    ("package", "read", "remedy"),
    [
        ("spyndex", scenes.sentinel2, r"pip install spyndex==0\.12"),
        ("skimage", scenes.natural_images, "pip install scikit-image"),
    ],
)
def test_a_missing_package_is_explained(monkeypatch, package, read, remedy) -> None:  # type: ignore[no-untyped-def]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == package else find(name, *a)
    )
    with pytest.raises(DatasetNotFound, match=remedy):
        read()
