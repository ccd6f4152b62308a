"""Data sets in the layout of YOLO, on which detectors of any kind can be trained. ::

    FOLDER/data.yaml                    names of the classes, where the parts are
    FOLDER/images/PART/NAME.png
    FOLDER/labels/PART/NAME.txt         a line per object: class, centre x and y, width, height

The numbers are fractions of the picture's width and height.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from tqdm.auto import tqdm

from fusionlib.errors import DatasetNotFound, FusionError
from fusionlib.files import write_text
from fusionlib.images import read_image, write_image
from fusionlib.methods import Method, registry
from fusionlib.pairs import Box, Dataset, Pair, images_by_stem, pixel_hash, read_labels

from .detector import eight_bits

#: Parts in the order in which ``data.yaml`` lists them; and that of pictures that are not divided.
PARTS, EVERYTHING = ("train", "val", "test"), "all"

#: Beside ``data.yaml``: what an export is of, then from which pixels each picture was made.
SOURCES = "sources.txt"

#: How far, in pixels, rounding may put the edge of a box beyond the picture.
SLACK = 1.0


class Example(NamedTuple):
    """A picture and its objects, in fractions of its width and height."""

    name: str
    path: Path
    fractions: tuple[Box, ...]

    def load(self) -> tuple[np.ndarray, tuple[Box, ...]]:
        """Return the picture, (H, W, 3) of 8 bits, and its boxes in pixels, as `check_boxes`."""
        picture = eight_bits(read_image(self.path))
        height, width = picture.shape[:2]
        boxes = [
            Box(label, x0 * width, y0 * height, x1 * width, y1 * height)
            for label, x0, y0, x1, y1 in self.fractions
        ]
        return picture, check_boxes(boxes, width, height, self.name)


class Layout(NamedTuple):
    """The classes of a data set, and its parts: `PARTS`, or `EVERYTHING` if they are one."""

    names: tuple[str, ...]
    parts: Mapping[str, tuple[Example, ...]]


def check_boxes(boxes: Sequence[Box], width: int, height: int, where: str) -> tuple[Box, ...]:
    """Return annotated boxes, cut off at the edges of their picture; `where` it is, for the error.

    Raises FusionError if a box has no area in it, or leaves it by more than rounding explains.
    """
    inside = []
    for number, (label, x0, y0, x1, y1) in enumerate(boxes, 1):
        box = Box(label, max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height))
        beyond = max(-x0, -y0, x1 - width, y1 - height)
        if not (box.x0 < box.x1 and box.y0 < box.y1 and beyond <= SLACK):
            raise FusionError(
                f"{where}: box {number} ({label}), {x0:.1f}, {y0:.1f} to {x1:.1f}, {y1:.1f}, has "
                f"no area, or leaves the picture of {width}x{height} pixels. Correct it; is the "
                "label file that of this picture, and are its numbers fractions of width and "
                "height?"
            )
        inside.append(box)
    return tuple(inside)


# ---------------------------------------------------------------- writing


def render(source: Method | str, pair: Pair) -> np.ndarray:
    """Return a picture of a pair in [0, 1]: what a method makes of it, or its "ir" or "vis"."""
    return getattr(pair, source) if isinstance(source, str) else source.fuse_pair(pair)


def facts_of(source: Method | str) -> dict[str, Any]:
    """Tell pictures of a source from those of others."""
    if isinstance(source, str):
        return {"source": source}
    return {**source.identity._asdict(), "version": registry()[source.identity.method].version}


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
    source: Method | str,
    pairs: Dataset[Pair],
    folder: str | os.PathLike[str],
    *,
    parts: Mapping[str, str] | None = None,
) -> Layout:
    """Write 8-bit pictures of pairs, as `render`, and their boxes in the layout of YOLO.

    What is there of the same export and the same pixels is kept, so a stopped one continues;
    ``data.yaml`` is written last. Pairs that are not annotated are left out, with a warning; an
    annotated one may show nothing. `parts` are of `PARTS`, by the pair; by default there is
    one, `EVERYTHING`. Raises FusionError if no pair is annotated, a box is not inside its picture,
    the folder holds something else, or a file cannot be written.
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
    facts = {**facts_of(source), "dataset": pairs.name, "classes": [*names], "parts": places}
    seen = _begin(folder, json.dumps(facts))
    bare = []
    for pair in tqdm(pairs, folder.name):
        if pair.boxes is None:
            bare.append(pair.name)
            continue
        height, width = pair.ir.shape[:2]
        labels = "".join(
            f"{names.index(label)} {(x0 + x1) / 2 / width:.8f} {(y0 + y1) / 2 / height:.8f} "
            f"{(x1 - x0) / width:.8f} {(y1 - y0) / height:.8f}\n"
            for label, x0, y0, x1, y1 in check_boxes(
                pair.boxes, width, height, f"{pair.name} of {pairs.name}"
            )
        )
        picture = folder / "images" / places[pair.name] / f"{pair.name}.png"
        pixels = pixel_hash(pair.ir) + pixel_hash(pair.vis)
        if not picture.is_file() or seen.get(pair.name) != pixels:
            write_image(picture, render(source, pair))
            with (folder / SOURCES).open("a", encoding="utf-8") as file:
                file.write(f"{pixels} {pair.name}\n")
        write_text(folder / "labels" / places[pair.name] / f"{pair.name}.txt", labels)
    if len(bare) == len(pairs):
        raise nothing
    if bare:
        warnings.warn(
            f"{len(bare)} of {len(pairs)} pairs are not annotated, such as {bare[0]}; left out.",
            stacklevel=2,
        )
    write_text(folder / "data.yaml", _yaml(folder, names, {*places.values()}))
    return read_layout(folder)


def _begin(folder: Path, facts: str) -> dict[str, str]:
    """Begin an export, or go on with this very one; return the pixels of what is there, by name."""
    file = folder / SOURCES
    lines = (
        file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    )
    if not lines:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise FusionError(f"{folder} is not empty, and no export. Name a new folder.")
        write_text(file, facts + "\n")
        lines = [facts]
    if lines[0] != facts:
        raise FusionError(
            f"{folder} holds another export ({SOURCES} says of what). Name another folder, or "
            "delete it."
        )
    return {name: pixels for pixels, _, name in (line.partition(" ") for line in lines[1:])}


def _yaml(folder: Path, names: Sequence[str], parts: set[str]) -> str:
    """Say where the parts are.

    Trainers want "train" and "val" in any case, and choose the best epoch by the latter: never let
    that be what is to be tested. Release 6.1 of YOLOv5 wants "nc", and takes a relative path as
    one from its own folder.
    """
    where = {part: f"images/{part}" for part in PARTS if part in parts}
    where.setdefault("train", next(iter(where.values()), f"images/{EVERYTHING}"))
    where.setdefault("val", where["train"])
    content = {"path": str(folder.resolve()), **where, "nc": len(names), "names": [*names]}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


# ---------------------------------------------------------------- reading


def read_layout(folder: str | os.PathLike[str]) -> Layout:
    """Find the pictures of a data set in the layout of YOLO, and read their labels.

    A picture without label file has no objects, as YOLO reads it. Raises DatasetNotFound if the
    folder, or what ``data.yaml`` names, is not there; FusionError if a file is not as it should be.
    """
    file = Path(folder) / "data.yaml"
    if not file.is_file():
        raise DatasetNotFound(
            f"{folder} is no data set in the layout of YOLO: there is no data.yaml in it. "
            "`python -m reproduction detect export METHOD DATASET -o FOLDER` writes one."
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = _names(content["names"])
        if content.get("nc", len(names)) != len(names):
            raise ValueError(f"nc is {content['nc']}, but there are {len(names)} names")
        where = {part: content[part] for part in PARTS if content.get(part)}
        if not where:
            raise ValueError("it names no pictures")
        if not all(isinstance(place, str) for place in where.values()):
            raise TypeError(f"a part must be one folder, not as in {where}")
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise FusionError(
            f"{file} is not as YOLO has it ({type(error).__name__}: {error}). Expected are names, "
            f"a list or numbered from 0, and a folder of pictures for {', '.join(PARTS)}."
        ) from error
    root = file.parent
    if not all((root / place).is_dir() for place in where.values()):
        root /= str(content.get("path") or "")
    if len({*where.values()}) == 1:
        where = {EVERYTHING: next(iter(where.values()))}
    elif where.get("val") in (where.get("train"), where.get("test")):
        where.pop("val")  # a stopgap for trainers that want one
    return Layout(names, {part: _examples(root / place, names) for part, place in where.items()})


def _names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | dict):
        raise TypeError(f"names is {given!r}")
    names = tuple(str(given[i]) for i in range(len(given)))
    if not names or len({*names}) < len(names):
        raise ValueError(f"names must be the classes, each once, not {given!r}")
    return names


def _examples(pictures: Path, names: Sequence[str]) -> tuple[Example, ...]:
    """List a folder of pictures; their labels are where the path has "labels" for "images"."""
    before, images, after = f"{pictures.absolute().as_posix()}/".rpartition("/images/")
    if not images:
        raise FusionError(
            f"{pictures} is not in a folder images, so its labels cannot be found. Use the layout "
            "images/PART and labels/PART."
        )
    examples = []
    for name, path in images_by_stem(pictures).items():
        file = Path(before, "labels", after, f"{name}.txt")
        there = file.is_file()
        fractions = read_labels(file.read_bytes(), file, names, 1, 1) if there else ()
        examples.append(Example(name, path, fractions))
    if not examples:
        raise DatasetNotFound(f"there are no pictures in {pictures}.")
    return tuple(examples)
