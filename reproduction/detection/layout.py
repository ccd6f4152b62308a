"""Data sets in the layout of YOLO: pictures, label files, ``data.yaml``. ::

    FOLDER/data.yaml                    names of the classes, where the parts are
    FOLDER/images/PART/NAME.png
    FOLDER/labels/PART/NAME.txt         a line per object: class, centre x and y, width, height

The numbers are fractions of the picture's width and height. Detectors of any kind can be trained
on it; those of this package are by `reproduction.detection.training`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from tqdm.auto import tqdm

from fusionlib.errors import DatasetNotFound, FusionError, unknown
from fusionlib.files import write_text
from fusionlib.images import quantise, read_image, write_image
from fusionlib.pairs import Box, Dataset, Pair, images_by_stem, pixel_hash

from .average_precision import check_boxes

__all__ = [
    "EVERYTHING",
    "Example",
    "Layout",
    "Renderer",
    "class_names",
    "export",
    "parts_by_block",
    "read_layout",
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


@dataclass(frozen=True)
class Layout:
    """A data set in the layout of YOLO.

    Attributes
    ----------
    folder : Path
    names : tuple of str
        Its classes, in their order.
    parts : mapping of str to tuple of Example
        "train", "val" and "test", as far as they are apart; `EVERYTHING` if they are one.
    """

    folder: Path
    names: tuple[str, ...]
    parts: Mapping[str, tuple[Example, ...]]

    def digest(self) -> str:
        """Hash all pictures and label files with their names; hexadecimal sha256."""
        sha = hashlib.sha256(repr(self.names).encode())
        for kind in ("images", "labels"):
            for path in sorted((self.folder / kind).rglob("*.*")):
                sha.update(f"\n{path.relative_to(self.folder).as_posix()}\n".encode())
                sha.update(path.read_bytes())
        return sha.hexdigest()

    def part(self, name: str) -> tuple[Example, ...]:
        """Return one part; raises UnknownName if there is no such."""
        if name not in self.parts:
            raise unknown(f"part of {self.folder}", name, self.parts)
        return self.parts[name]


# ---------------------------------------------------------------- writing


class Renderer(NamedTuple):
    """What makes a picture of a pair: a source, or a method of fusion.

    Attributes
    ----------
    render : callable
        Pair to picture, (H, W) or (H, W, 3) in [0, 1].
    facts : mapping
        What identifies it: an export by another one is not continued.
    """

    render: Callable[[Pair], np.ndarray]
    facts: Mapping[str, Any]


def class_names(pairs: Sequence[Pair] | Dataset[Pair]) -> tuple[str, ...]:
    """Return the classes of a data set, in their order: its card's, else those of the boxes."""
    card = pairs.card if isinstance(pairs, Dataset) else None
    if card is not None and card.classes:
        return card.classes
    return tuple(dict.fromkeys(box.label for pair in pairs for box in pair.boxes or ()))


def parts_by_block(names: Sequence[str], block: int, blocks: int) -> dict[str, str]:
    """Divide pictures in their order into equal blocks; one is for testing, the rest to learn from.

    Neighbouring frames of one drive show nearly the same: in blocks, few of them are on both sides.

    Parameters
    ----------
    names : sequence of str
    block, blocks : int
        The block for testing, from 1 to `blocks`.

    Returns
    -------
    dict of str to str
        Name to "train" or "test".

    Raises
    ------
    FusionError
        If there is no such block.
    """
    if not (2 <= blocks <= len(names) and 1 <= block <= blocks):
        raise FusionError(
            f"there is no block {block} of {blocks} of {len(names)} pictures; give at least 2 "
            "blocks and as many pictures, and one of the blocks."
        )
    edges = [round(len(names) * i / blocks) for i in range(blocks + 1)]
    test = set(names[edges[block - 1] : edges[block]])
    return {name: "test" if name in test else "train" for name in names}


def export(
    renderer: Renderer,
    pairs: Sequence[Pair] | Dataset[Pair],
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
    pairs : sequence of Pair
        Those that are not annotated are left out, with a warning; an annotated one may show
        nothing.
    folder : path
    parts : mapping of str to str, optional
        Pair to "train", "val" or "test"; by default there is one part, `EVERYTHING`.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Layout

    Raises
    ------
    FusionError
        If no pair is annotated, a box is not inside its picture, the folder holds something
        else, or a file cannot be written.
    """
    folder = Path(folder)
    names = class_names(pairs)
    if not names:
        raise _nothing_annotated(pairs)
    order = pairs.names if isinstance(pairs, Dataset) else [pair.name for pair in pairs]
    facts = {
        **renderer.facts,
        "dataset": _title(pairs),
        "classes": [*names],
        "parts": {name: (parts or {}).get(name, EVERYTHING) for name in order},
    }
    _begin(folder, facts)
    seen = _read_sources(folder)
    bare = []
    for pair in tqdm(pairs, folder.name, disable=not progress):
        part = facts["parts"][pair.name]
        if pair.boxes is None:
            bare.append(pair.name)
            continue
        height, width = pair.ir.shape[:2]
        boxes = check_boxes(pair.boxes, width, height, f"{pair.name} of {_title(pairs)}")
        picture = folder / "images" / part / f"{pair.name}.png"
        source = f"{pixel_hash(pair.ir)} {pixel_hash(pair.vis)}"
        if not picture.is_file() or seen.get(pair.name) != source:
            write_image(picture, renderer.render(pair))
            with (folder / SOURCES).open("a", encoding="utf-8") as file:
                file.write(f"{source} {pair.name}\n")
        lines = "".join(_line(box, names, width, height, pair.name) for box in boxes)
        write_text(folder / "labels" / part / f"{pair.name}.txt", lines)
    if len(bare) == len(pairs):
        raise _nothing_annotated(pairs)
    if bare:
        warnings.warn(
            f"{len(bare)} of {len(pairs)} pairs are not annotated, such as {bare[0]}; left out.",
            stacklevel=2,
        )
    write_text(folder / "data.yaml", _yaml(folder, names, set(facts["parts"].values())))
    return read_layout(folder)


def _read_sources(folder: Path) -> dict[str, str]:
    """Read from which pixels the pictures that are there were made; the last line counts."""
    file = folder / SOURCES
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    whole = [line.split(" ", 2) for line in lines if line.count(" ") >= 2]
    return {name: f"{ir} {vis}" for ir, vis, name in whole}


def _nothing_annotated(pairs: Sequence[Pair] | Dataset[Pair]) -> FusionError:
    return FusionError(
        f"{_title(pairs)} has no boxes, so there is nothing to detect. Use a data set with boxes, "
        "such as msrs or sample, or fetch its label files."
    )


def _title(pairs: Sequence[Pair] | Dataset[Pair]) -> str:
    return pairs.name if isinstance(pairs, Dataset) else f"{len(pairs)} pairs"


def _begin(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make sure that the folder is new, or holds this very export."""
    text = json.dumps(facts, indent=1) + "\n"
    file = folder / FACTS
    if folder.exists() and not folder.is_dir():
        raise FusionError(f"{folder} is a file; name a folder for the data set.")
    if file.is_file():
        if file.read_text(encoding="utf-8", errors="replace") != text:
            raise FusionError(
                f"{folder} holds another export ({FACTS} says of what). Name another folder, or "
                "delete it."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise FusionError(f"{folder} is not empty, and no export. Name a new folder.")
    else:
        write_text(file, text)


def _line(box: Box, names: Sequence[str], width: int, height: int, where: str) -> str:
    if box.label not in names:
        raise unknown(f"class in {where}", box.label, names)
    x, y = (box.x0 + box.x1) / 2 / width, (box.y0 + box.y1) / 2 / height
    w, h = (box.x1 - box.x0) / width, (box.y1 - box.y0) / height
    return f"{names.index(box.label)} {x:.8f} {y:.8f} {w:.8f} {h:.8f}\n"


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
    content = {"path": str(folder.resolve()), **where, "nc": len(names)}
    content["names"] = [*names]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


# ---------------------------------------------------------------- reading


def read_layout(folder: str | os.PathLike[str]) -> Layout:
    """Find the pictures of a data set in the layout of YOLO, and read their labels.

    Parameters
    ----------
    folder : path
        With ``data.yaml``. A picture without label file has no objects, as YOLO reads it.

    Raises
    ------
    DatasetNotFound
        If the folder, or what ``data.yaml`` names, is not there.
    FusionError
        If a file is not as it should be: names it, and the line.
    """
    folder = Path(folder)
    file = folder / "data.yaml"
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
    parts = {part: tuple(_examples(place, names)) for part, place in places.items()}
    return Layout(folder, names, parts)


def _place(given: Any, content: Mapping[str, Any], file: Path) -> Path:
    """Find the folder of a part: beside data.yaml, else where its path says."""
    if not isinstance(given, str):
        raise FusionError(f"{file}: a part must be one folder of pictures, not {given!r}.")
    beside = file.parent / given
    return beside if beside.is_dir() else file.parent / str(content.get("path") or ".") / given


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
    other = file.parent / "classes.txt"
    if other.is_file():
        lines = other.read_text(encoding="utf-8", errors="replace").split("\n")
        listed = [line.strip() for line in lines if line.strip()]
        if listed != [str(name) for name in given]:
            raise FusionError(
                f"{file} and {other} disagree: {', '.join(map(str, given))} and "
                f"{', '.join(listed)}. Correct the one that is wrong, or delete classes.txt."
            )
    return tuple(map(str, given))


def _examples(pictures: Path, names: Sequence[str]) -> list[Example]:
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
    return [
        Example(name, partial(_read_rgb, path), _labels(labels / f"{name}.txt", names))
        for name, path in found.items()
    ]


def _read_rgb(path: Path) -> np.ndarray:
    picture = quantise(read_image(path))
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _labels(file: Path, names: Sequence[str]) -> tuple[Box, ...]:
    """Read a label file; boxes are fractions of the picture until its size is known."""
    if not file.is_file():
        return ()
    boxes = []
    for number, line in enumerate(
        file.read_text(encoding="utf-8", errors="replace").split("\n"), 1
    ):
        if not line.strip():
            continue
        try:
            kind, *numbers = line.split()
            x, y, w, h = map(float, numbers)
            index = int(kind)
            if not 0 <= index < len(names):
                raise IndexError
        except (ValueError, IndexError) as error:
            raise FusionError(
                f"{file}, line {number}: {line!r} is no label, expected a class (0 to "
                f"{len(names) - 1}: {', '.join(names)}) and four fractions. Correct it, or "
                "data.yaml."
            ) from error
        fractions = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        if not all(map(math.isfinite, fractions)) or w <= 0 or h <= 0:
            raise FusionError(f"{file}, line {number}: {line!r} has no area. Remove or correct it.")
        boxes.append(Box(names[index], *fractions))
    return tuple(boxes)
