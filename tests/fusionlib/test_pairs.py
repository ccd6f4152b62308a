"""pairs: two images of one size, files and folders read as pairs, lazy sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from fusionlib import pairs
from fusionlib.errors import DatasetNotFound, ImageError, PairMismatch, UnknownName
from fusionlib.pairs import Dataset, Pair, match_folders, pixel_hash, read_pair, read_pairs


def random(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_pair_checks_sizes():
    gray = np.zeros((5, 4), np.float32)
    assert not Pair("a", gray, gray).colour
    assert Pair("a", gray, np.zeros((5, 4, 3), np.float32)).colour
    with pytest.raises(PairMismatch, match="infrared is 4x5 and visible is 5x4"):
        Pair("a", gray, gray.T)
    with pytest.raises(PairMismatch, match="the mask is 5x4"):
        Pair("a", gray, gray, mask=gray.T > 0)


def test_read_pair(tmp_path):
    gray, colour = random((6, 8)), random((6, 8, 3))
    ir = save(tmp_path / "ir.png", np.stack([gray] * 3, axis=-1))
    vis = save(tmp_path / "vis.png", colour)
    pair = read_pair(ir, str(vis))
    assert pair.name == "ir" and pair.colour and str(vis) in pair.source
    assert np.array_equal(pair.ir, gray / np.float32(255))
    assert np.array_equal(pair.vis, colour / np.float32(255))
    again = read_pair(ir, ir, name="same")
    assert again.name == "same" and again.vis.ndim == 2  # gray stored as RGB is gray
    with pytest.raises(ImageError, match=r"vis.png.*colour.*swapped"):
        read_pair(vis, ir)
    small = save(tmp_path / "small.png", random((6, 7)))
    with pytest.raises(PairMismatch, match="infrared is 8x6 and visible is 7x6"):
        read_pair(ir, small)
    with pytest.raises(ImageError, match="no such file"):
        read_pair(ir, tmp_path / "absent.png")


def test_match_folders(tmp_path):
    for name in ("10.png", "2.png", "a1.PNG", "only.png", ".hidden.png", "notes.txt"):
        save(tmp_path / "ir" / name, random((4, 4)), format="PNG")
    for name in ("2.JPG", "10.tif", "a1.png", "b2.png", "b10.png"):
        save(tmp_path / "vi" / name, random((4, 4)))
    match = match_folders(tmp_path / "ir", str(tmp_path / "vi"))
    assert [name for name, _, _ in match.matched] == ["2", "10", "a1"]
    assert match.matched[0][1:] == (tmp_path / "ir" / "2.png", tmp_path / "vi" / "2.JPG")
    assert [path.name for path in match.only_ir] == ["only.png"]
    assert [path.name for path in match.only_vis] == ["b2.png", "b10.png"]
    with pytest.warns(UserWarning, match=r"3 images without partner.*only.png"):
        found = read_pairs(tmp_path / "ir", tmp_path / "vi")
    assert found.names == ("2", "10", "a1") and found[1].name == "10"
    assert [pair.name for pair in found] == list(found.names)


@given(st.lists(st.text("0a1²b. ٣_", min_size=1, max_size=6)))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=pairs._natural)) == sorted(names)


def test_match_folders_refuses(tmp_path):
    save(tmp_path / "ir" / "IR1.png", random((4, 4)))
    save(tmp_path / "vi" / "VIS1.png", random((4, 4)))
    with pytest.raises(PairMismatch, match=r"holds IR1, .* holds VIS1.*one name"):
        match_folders(tmp_path / "ir", tmp_path / "vi")
    save(tmp_path / "ir" / "IR1.bmp", random((4, 4)))
    with pytest.raises(PairMismatch, match=r"IR1.bmp and IR1.png"):
        match_folders(tmp_path / "ir", tmp_path / "vi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairMismatch, match="no images"):
        match_folders(tmp_path / "empty", tmp_path / "vi")
    with pytest.raises(DatasetNotFound, match="absent: no such folder"):
        match_folders(tmp_path / "absent", tmp_path / "vi")


def test_sequence():
    """Items by place, name and slice, as a list gives them; each is read when it is asked for."""
    asked = []
    items = Dataset("toy", None, "0123", lambda i: asked.append(i) or f"item {i}")
    assert len(items) == 4 and items.names == ("0", "1", "2", "3") and "4" in repr(items)
    part = items[1:][::-2]
    assert part.names == ("3", "1") and len(items[10:]) == 0 and not asked
    assert [*part] == ["item 3", "item 1"] and asked == [3, 1]
    assert items[-1] == items["3"] == part["3"] == "item 3"
    for index in (4, -5):
        with pytest.raises(IndexError):
            items[index]
    with pytest.raises(UnknownName, match=r"item of data set 'toy', '2'\. Known: 1, 3\."):
        part["2"]


def test_pixel_hash():
    image = random((3, 4, 3)) / np.float32(255)
    assert pixel_hash(image) == pixel_hash(image.copy())
    assert pixel_hash(image) != pixel_hash(image.reshape(4, 3, 3))
    other = image.copy()
    other[0, 0, 0] = abs(other[0, 0, 0] - 1 / 255)
    assert pixel_hash(image) != pixel_hash(other)
