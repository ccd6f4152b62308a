"""pairs: two images of one size, files and folders read as pairs, lazy sequences, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from fusionlib import pairs
from fusionlib.errors import DatasetNotFound, FusionError, ImageError, PairMismatch, UnknownName
from fusionlib.pairs import (
    Box,
    Dataset,
    Pair,
    match_folders,
    pixel_hash,
    read_labels,
    read_pair,
    read_pairs,
)


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
    with pytest.raises(
        PairMismatch, match="infrared and visible must have one size, not 4x5 and 5x4"
    ):
        Pair("a", gray, gray.T)
    with pytest.raises(PairMismatch, match=r"mask and the images .* 5x4 and 4x5"):
        Pair("a", gray, gray, mask=gray.T > 0)
    for shape in ((4, 5, 3), (4,)):
        with pytest.raises(PairMismatch, match=r"mask must have the shape \(H, W\)"):
            Pair("a", gray, gray, mask=np.ones(shape, bool))


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
    with pytest.raises(PairMismatch, match=r"infrared and visible .* not 8x6 and 7x6"):
        read_pair(ir, small)
    with pytest.raises(ImageError, match="no such file"):
        read_pair(ir, tmp_path / "absent.png")


def test_match_folders(tmp_path):
    for name in ("10.png", "2.png", "a1.PNG", "only.png", ".hidden.png", "notes.txt"):
        save(tmp_path / "ir" / name, random((4, 4)), format="PNG")
    for name in ("2.JPG", "10.tif", "a1.png", "b2.png", "b10.png"):
        save(tmp_path / "vi" / name, random((4, 4)))
    matched, alone = match_folders(tmp_path / "ir", str(tmp_path / "vi"))
    assert [name for name, _, _ in matched] == ["2", "10", "a1"]
    assert matched[0][1:] == (tmp_path / "ir" / "2.png", tmp_path / "vi" / "2.JPG")
    assert [path.name for path in alone] == ["only.png", "b2.png", "b10.png"]
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
    assert pixel_hash(image) == pixel_hash(image.copy()) != pixel_hash(image.reshape(4, 3, 3))
    assert pixel_hash(image) != pixel_hash(image[::-1])


# ---------------------------------------------------------------- labels

CLASSES = ("person", "bicycle", "car")
TXT, XML = Path("0.txt"), Path("0.xml")


def voc(label, *corners):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<a><object><name>{label}</name><bndbox>{box}</bndbox></object></a>"


def test_yolo():
    """Class, centre x and y, width, height, as fractions of 30 x 20 pixels."""
    text = b"2  0.5 0.25 0.2 0.5  \n\n0 0.1 0.9 0.2 0.2\n"
    car, person = read_labels(text, TXT, CLASSES, 30, 20)
    assert car.label == "car" and person.label == "person"
    assert np.allclose(car[1:], (12, 0, 18, 10)) and np.allclose(person[1:], (0, 16, 6, 20))
    assert read_labels(b"", TXT, CLASSES, 30, 20) == ()


def test_pascal_voc():
    """Columns and rows count from 1, and the last ones are in the box."""
    whole = read_labels(voc("car", 1, 1, 30, 20).encode(), XML, CLASSES, 30, 20)
    assert whole == (Box("car", 0, 0, 30, 20),)
    assert read_labels(b"<annotation/>", XML, CLASSES, 30, 20) == ()


@pytest.mark.parametrize(
    "line", ["3 0.5 0.5 1 1", "-1 0.5 0.5 1 1", "0 0.5 0.5 1", "person 0 0 1 1", "0 a b c d"]
)
def test_bad_labels(line):
    with pytest.raises(FusionError, match=r"0.txt, line 2: .*0 to 2.*four numbers"):
        read_labels(f"0 0.5 0.5 1 1\n{line}\n".encode(), TXT, CLASSES, 30, 20)


@pytest.mark.parametrize("box", ["0.5 0.5 0 1", "0.5 0.5 1 -1", "nan 0 1 1", "0 0 inf 1"])
def test_labels_without_area(box):
    with pytest.raises(FusionError, match=rf"0.txt, line 3: '1 {box}' has no area"):
        read_labels(f"0 0.5 0.5 1 1\n\n1 {box}\n".encode(), TXT, CLASSES, 30, 20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object>", "no label file of Pascal VOC for person, bicycle, car"),
        (voc("bus", 1, 1, 2, 2), "class 'bus'"),
        (voc("car"), "could not convert"),
    ],
)
def test_bad_labels_of_pascal_voc(text, words):
    with pytest.raises(FusionError, match=rf"0\.xml .*{words}"):
        read_labels(text.encode(), XML, CLASSES, 30, 20)
