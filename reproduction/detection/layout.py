"""Data sets in the layout of YOLO: pictures, label files, ``data.yaml``. ::

    FOLDER/data.yaml                    names of the classes, where the parts are
    FOLDER/images/PART/NAME.png
    FOLDER/labels/PART/NAME.txt         a line per object: class, centre x and y, width, height

The numbers are fractions of the picture's width and height. Detectors of any kind can be trained
on it; those of this project are by `reproduction.detection.training`.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from tqdm.auto import tqdm

from fusionlib.errors import DatasetNotFound, FusionError, unknown
from fusionlib.files import write_text
from fusionlib.images import read_image, write_image
from fusionlib.methods import Method, registry
from fusionlib.pairs import Box, Dataset, Pair, images_by_stem, pixel_hash

from .boxes import check_boxes, eight_bits

__all__ = [
    "EVERYTHING",
    "Example",
    "Layout",
    "Renderer",
    "export",
    "parts_by_block",
    "read_layout",
    "read_picture",
]

#: The part of pictures that are not divided.
EVERYTHING = "all"

#: Parts in the order in which ``data.yaml`` lists them.
PARTS = ("train", "val", "test")

#: What an export is of, and from which pixels each picture was made, beside its ``data.yaml``.
FACTS, SOURCES = "export.json", "sources.txt"


class Example(NamedTuple):
    """A picture with its objects.

    Attributes
    ----------
    name : str
    read : callable
        Gives the picture: uint8, (H, W, 3), RGB.
    fractions : tuple of Box
        The objects, in fractions of the picture's width and height.
    """

    name: str
    read: Callable[[], np.ndarray]
    fractions: tuple[Box, ...]

    def load(self) -> tuple[np.ndarray, tuple[Box, ...]]:
        """Return the picture and its boxes in pixels; raises FusionError if one is not inside."""
        picture = self.read()
        height, width = picture.shape[:2]
        boxes = [
            Box(label, x0 * width, y0 * height, x1 * width, y1 * height)
            for label, x0, y0, x1, y1 in self.fractions
        ]
        return picture, check_boxes(boxes, width, height, self.name)


class Layout(NamedTuple):
    """A data set in the layout of YOLO: its classes in their order, and its parts.

    These are "train", "val" and "test", as far as they are apart; `EVERYTHING` if they are one.
    """

    names: tuple[str, ...]
    parts: Mapping[str, tuple[Example, ...]]


def read_picture(path: Path) -> np.ndarray:
    """Read an image file as RGB of 8 bits, shape (H, W, 3)."""
    return eight_bits(read_image(path))


# ---------------------------------------------------------------- writing


class Renderer(NamedTuple):
    """What makes a picture (H, W) or (H, W, 3) in [0, 1] of a pair: a source, or a method.

    By its facts it is told from others, whose exports are not continued.
    """

    render: Callable[[Pair], np.ndarray]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, given: Method | str) -> Renderer:
        """Return that of a method, or of a source, "ir" or "vis"."""
        if isinstance(given, str):
            return cls(lambda pair: getattr(pair, given), {"source": given})
        identity = given.identity
        version = registry()[identity.method].version
        return cls(given.fuse_pair, {**identity._asdict(), "version": version})


def parts_by_block(names: Sequence[str], block: int, blocks: int) -> dict[str, str]:
    """Divide pictures in their order into equal blocks; one is "test", the rest "train".

    Neighbouring frames of one drive show nearly the same: in blocks, few of them are on both sides.
    Blocks count from 1. Raises FusionError if there is no such block.
    """
    if not (2 <= blocks <= len(names) and 1 <= block <= blocks):
        raise FusionError(
            f"there is no block {block} of {blocks} of {len(names)} pictures; give at least 2 "
            "blocks and as many pictures, and one of the blocks."
        )
    first, last = (round(len(names) * i / blocks) for i in (block - 1, block))
    return {name: "test" if first <= i < last else "train" for i, name in enumerate(names)}


def export(
    renderer: Renderer,
    pairs: Dataset[Pair],
    folder: str | os.PathLike[str],
    *,
    parts: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Layout:
    """Write pictures of pairs, and their boxes, as a data set in the layout of YOLO.

    Pictures are 8-bit PNG files. What is there of the same export and the same pixels is kept, so a
    stopped one continues; ``data.yaml`` is written last.

    Parameters
    ----------
    renderer : Renderer
    pairs : Dataset of Pair
        With a card that names the classes. Pairs that are not annotated are left out, with a
        warning; an annotated one may show nothing.
    folder : path
    parts : mapping of str to str, optional
        Pair to "train", "val" or "test"; by default there is one part, `EVERYTHING`.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    FusionError
        If no pair is annotated, a box is not inside its picture, the folder holds something
        else, or a file cannot be written.
    """
    folder = Path(folder)
    names = pairs.card.classes if pairs.card else ()
    nothing = FusionError(
        f"{pairs.name} has no boxes, so there is nothing to detect. Use a data set with boxes, "
        "such as msrs or sample, or fetch its label files."
    )
    if not names:
        raise nothing
    places = {name: (parts or {}).get(name, EVERYTHING) for name in pairs.names}
    facts = {**renderer.facts, "dataset": pairs.name, "classes": [*names], "parts": places}
    _begin(folder, json.dumps(facts, indent=1) + "\n")
    seen = _read_sources(folder / SOURCES)
    bare = []
    for pair in tqdm(pairs, folder.name, disable=not progress):
        if pair.boxes is None:
            bare.append(pair.name)
            continue
        part = places[pair.name]
        labels = _label_lines(pair, names, pairs.name)
        picture = folder / "images" / part / f"{pair.name}.png"
        source = f"{pixel_hash(pair.ir)} {pixel_hash(pair.vis)}"
        if not picture.is_file() or seen.get(pair.name) != source:
            write_image(picture, renderer.render(pair))
            with (folder / SOURCES).open("a", encoding="utf-8") as file:
                file.write(f"{source} {pair.name}\n")
        write_text(folder / "labels" / part / f"{pair.name}.txt", labels)
    if len(bare) == len(pairs):
        raise nothing
    if bare:
        warnings.warn(
            f"{len(bare)} of {len(pairs)} pairs are not annotated, such as {bare[0]}; left out.",
            stacklevel=2,
        )
    write_text(folder / "data.yaml", _yaml(folder, names, {*places.values()}))
    return read_layout(folder)


def _begin(folder: Path, facts: str) -> None:
    """Make sure that the folder is new, or holds this very export."""
    file = folder / FACTS
    if folder.exists() and not folder.is_dir():
        raise FusionError(f"{folder} is a file; name a folder for the data set.")
    if file.is_file():
        if file.read_text(encoding="utf-8", errors="replace") != facts:
            raise FusionError(
                f"{folder} holds another export ({FACTS} says of what). Name another folder, or "
                "delete it."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise FusionError(f"{folder} is not empty, and no export. Name a new folder.")
    else:
        write_text(file, facts)


def _read_sources(file: Path) -> dict[str, str]:
    """Read from which pixels the pictures that are there were made; the last line counts."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    whole = [line.split(" ", 2) for line in lines if line.count(" ") >= 2]
    return {name: f"{ir} {vis}" for ir, vis, name in whole}


def _label_lines(pair: Pair, names: Sequence[str], dataset: str) -> str:
    height, width = pair.ir.shape[:2]
    lines = []
    for box in check_boxes(pair.boxes or (), width, height, f"{pair.name} of {dataset}"):
        if box.label not in names:
            raise unknown(f"class in {pair.name}", box.label, names)
        x, y = (box.x0 + box.x1) / 2 / width, (box.y0 + box.y1) / 2 / height
        w, h = (box.x1 - box.x0) / width, (box.y1 - box.y0) / height
        lines.append(f"{names.index(box.label)} {x:.8f} {y:.8f} {w:.8f} {h:.8f}\n")
    return "".join(lines)


def _yaml(folder: Path, names: Sequence[str], parts: set[str]) -> str:
    """Say where the parts are.

    Trainers want "train" and "val" in any case, and choose the best epoch by the latter: never let
    that be what is to be tested. Release 6.1 of YOLOv5 wants "nc", and takes a relative path as
    one from its own folder.
    """
    found = [part for part in (*PARTS, EVERYTHING) if part in parts]
    where = {part: f"images/{part}" for part in found if part != EVERYTHING}
    where.setdefault("train", f"images/{found[0]}")
    where.setdefault("val", where["train"])
    content = {"path": str(folder.resolve()), **where, "nc": len(names), "names": [*names]}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


# ---------------------------------------------------------------- reading


def read_layout(folder: str | os.PathLike[str]) -> Layout:
    """Find the pictures of a data set in the layout of YOLO, and read their labels.

    A picture without label file has no objects, as YOLO reads it.

    Raises
    ------
    DatasetNotFound
        If the folder, or what ``data.yaml`` names, is not there.
    FusionError
        If a file is not as it should be: names it, and the line.
    """
    file = Path(folder) / "data.yaml"
    if not file.is_file():
        raise DatasetNotFound(
            f"{folder} is no data set in the layout of YOLO: there is no data.yaml in it. "
            "`python -m reproduction detect export METHOD DATASET -o FOLDER` writes one."
        )
    content = _read_yaml(file)
    names = _names(content, file)
    places = {part: _place(content[part], content, file) for part in PARTS if content.get(part)}
    if not places:
        raise FusionError(f"{file} names no pictures: none of {', '.join(PARTS)} is in it.")
    if len({*places.values()}) == 1:
        places = {EVERYTHING: next(iter(places.values()))}
    elif places.get("val") in (places.get("train"), places.get("test")):
        places.pop("val")  # a stopgap for trainers that want one
    return Layout(names, {part: _examples(place, names) for part, place in places.items()})


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise FusionError(f"{file} is no YAML file ({reason}). Restore it.") from error
    if not isinstance(content, dict):
        raise FusionError(f"{file} holds no keys such as train, val and names. Restore it.")
    return content


def _names(content: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """Return the classes, which are a list or numbered; a number of them must agree."""
    given = content.get("names")
    if isinstance(given, dict) and {*given} == {*range(len(given))}:
        given = [given[i] for i in range(len(given))]
    if not isinstance(given, list) or not given or len(set(map(str, given))) < len(given):
        raise FusionError(
            f"{file}: names must be the classes, a list or numbered from 0, each once; it is "
            f"{content.get('names')!r}."
        )
    if content.get("nc", len(given)) != len(given):
        raise FusionError(f"{file}: nc is {content['nc']}, but there are {len(given)} names.")
    return tuple(map(str, given))


def _place(given: Any, content: Mapping[str, Any], file: Path) -> Path:
    """Find the folder of a part: beside data.yaml, else where its path says."""
    if not isinstance(given, str):
        raise FusionError(f"{file}: a part must be one folder of pictures, not {given!r}.")
    beside = file.parent / given
    return beside if beside.is_dir() else file.parent / str(content.get("path") or ".") / given


def _examples(pictures: Path, names: Sequence[str]) -> tuple[Example, ...]:
    """List a folder of pictures; their labels are where the path has "labels" for "images"."""
    if "images" not in pictures.parts:
        raise FusionError(
            f"{pictures} is not in a folder images, so its labels cannot be found. Use the layout "
            "images/PART and labels/PART."
        )
    place = len(pictures.parts) - 1 - pictures.parts[::-1].index("images")
    labels = Path(*pictures.parts[:place], "labels", *pictures.parts[place + 1 :])
    found = images_by_stem(pictures)
    if not found:
        raise DatasetNotFound(f"there are no pictures in {pictures}.")
    return tuple(
        Example(name, partial(read_picture, path), _labels(labels / f"{name}.txt", names))
        for name, path in found.items()
    )


def _labels(file: Path, names: Sequence[str]) -> tuple[Box, ...]:
    """Read a label file; boxes are fractions of the picture until its size is known."""
    if not file.is_file():
        return ()
    text = file.read_text(encoding="utf-8", errors="replace")
    boxes = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            kind, *numbers = line.split()
            x, y, w, h = map(float, numbers)
            label = dict(enumerate(names))[int(kind)]
        except (ValueError, KeyError) as error:
            raise FusionError(
                f"{file}, line {number}: {line!r} is no label, expected a class (0 to "
                f"{len(names) - 1}: {', '.join(names)}) and four fractions. Correct it, or "
                "data.yaml."
            ) from error
        box = Box(label, x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        if not all(map(math.isfinite, box[1:])) or w <= 0 or h <= 0:
            raise FusionError(f"{file}, line {number}: {line!r} has no area. Remove or correct it.")
        boxes.append(box)
    return tuple(boxes)
