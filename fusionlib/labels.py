"""Annotated objects, and the two kinds of label files that list them: YOLO and Pascal VOC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from .errors import FusionError

__all__ = ["Box", "read_labels"]


class Box(NamedTuple):
    """An annotated object: its class and its corners in pixels, x to the right, y down.

    ``x1`` and ``y1`` are exclusive, so the width is ``x1 - x0``.
    """

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


def read_labels(
    data: bytes, path: Path, classes: Sequence[str], width: int, height: int
) -> tuple[Box, ...]:
    """Read the objects in a label file.

    Parameters
    ----------
    data : bytes
        The content of the file.
    path : Path
        Its name: .xml means Pascal VOC, any other suffix YOLO.
    classes : sequence of str
        YOLO files give the place of a class in this list.
    width, height : int
        Size of the image in pixels, of which YOLO files give fractions.

    Returns
    -------
    tuple of Box

    Raises
    ------
    FusionError
        If the file is no such label file, or names a class that is not listed.
    """
    if path.suffix == ".xml":
        return tuple(_voc_boxes(data, path, classes))
    return tuple(_yolo_boxes(data, path, classes, width, height))


def _yolo_boxes(
    data: bytes, path: Path, classes: Sequence[str], width: int, height: int
) -> Iterator[Box]:
    """Read lines of class, centre x, centre y, width, height, as fractions."""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *numbers = line.split()
            x, y, w, h = map(float, numbers)
            label = dict(enumerate(classes))[int(kind)]
        except (ValueError, KeyError) as error:
            raise FusionError(
                f"{path}, line {number}: {line!r} is no label, expected a class (0 to "
                f"{len(classes) - 1}) and four numbers. Restore the file."
            ) from error
        yield Box(
            label, (x - w / 2) * width, (y - h / 2) * height,
            (x + w / 2) * width, (y + h / 2) * height
        )  # fmt: skip


def _voc_boxes(data: bytes, path: Path, classes: Sequence[str]) -> Iterator[Box]:
    """Read objects with the numbers of their first and last column and row, counted from 1."""
    try:
        for entry in ElementTree.fromstring(data).iter("object"):
            label = (entry.findtext("name") or "").strip()
            x0, y0, x1, y1 = (
                float(entry.findtext(f"bndbox/{side}") or "")
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if label not in classes:
                raise ValueError(f"class {label!r}")
            yield Box(label, x0 - 1, y0 - 1, x1, y1)
    except (ElementTree.ParseError, ValueError) as error:
        raise FusionError(
            f"{path} is no label file of Pascal VOC for {', '.join(classes)} ({error}). "
            "Restore the file."
        ) from error
