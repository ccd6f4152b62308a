"""labels: boxes in files of YOLO and of Pascal VOC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusionlib.errors import FusionError
from fusionlib.pairs import Box, read_labels

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
