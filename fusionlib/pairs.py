"""A pair of registered images, its annotated objects, folders matched into pairs."""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, overload
from xml.etree import ElementTree

import numpy as np

from .errors import DatasetNotFound, FusionError, PairMismatch, unknown
from .images import SUFFIXES, check_one_size, collapse_gray, quantise, read_image, require_gray

__all__ = [
    "Box",
    "Dataset",
    "DatasetCard",
    "Pair",
    "images_by_stem",
    "match_folders",
    "pixel_hash",
    "read_labels",
    "read_pair",
    "read_pairs",
]

PathLike = str | os.PathLike[str]


class Box(NamedTuple):
    """An annotated object: its class and its corners in pixels, x to the right, y down.

    ``x1`` and ``y1`` are exclusive, so the width is ``x1 - x0``.
    """

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, eq=False)
class Pair:
    """Two registered images of one scene.

    Attributes
    ----------
    name : str
        Identifier, unique within its data set.
    ir : ndarray of float32, shape (H, W), values in [0, 1]
        The infrared image. In medical pairs: the structural (gray) image.
    vis : ndarray of float32, shape (H, W) or (H, W, 3), values in [0, 1]
        The visible image, gray or RGB. In medical pairs: the functional image.
    mask : ndarray of bool, shape (H, W), or None
        True where a salient target is.
    boxes : tuple of Box, or None
        Annotated objects; an empty tuple means "annotated, and there is none".
    source : str
        What the pictures are: "rendered", or where real ones come from.

    Raises
    ------
    PairMismatch
        If the images, or the mask, differ in height or width.
    """

    name: str
    ir: np.ndarray
    vis: np.ndarray
    mask: np.ndarray | None = None
    boxes: tuple[Box, ...] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        check_one_size([self.ir, self.vis], f"pair {self.name!r}: infrared and visible")
        if self.mask is not None:
            if np.ndim(self.mask) != 2:
                raise PairMismatch(
                    f"pair {self.name!r}: the mask must have the shape (H, W), "
                    f"not {np.shape(self.mask)}."
                )
            check_one_size([self.mask, self.ir], f"pair {self.name!r}: the mask and the images")

    @property
    def colour(self) -> bool:
        """Whether the visible image is RGB."""
        return self.vis.ndim == 3


def pixel_hash(image: np.ndarray) -> str:
    """Hash what an image shows, so that it survives a lossless re-encoding of its file.

    It is the sha256 of the shape, as text, and of the pixels as little-endian 16-bit integers.
    """
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(quantise(image, 16).astype("<u2").tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- a sequence of them


@dataclass(frozen=True)
class DatasetCard:
    """What is known about a data set; ``data/README.md`` explains the facts."""

    name: str
    title: str
    kind: str  # "infrared-visible", "medical", or "images" (single pictures, not pairs)
    folder: str  # below the data folder, or in the package
    package: str = ""  # the installed Python package that ships the files, if one does
    about: str = ""
    home: str = "not stated"
    licence: str = "not stated"
    reference: str = "not stated"
    remedy: str = ""  # how to get it where no direct addresses are known
    ir: str = "ir"  # subfolders of a set whose files are not listed: every pair there counts
    vis: str = "vi"
    pairs: int | None = None  # number of pairs, or of images
    classes: tuple[str, ...] = ()  # of the label files, in their order


Item = TypeVar("Item")


class Dataset(Sequence[Item], Generic[Item]):
    """A lazy sequence: an item is read from disk each time it is asked for, by place or name.

    Attributes
    ----------
    name : str
    card : DatasetCard or None
        None for a user's own folders.
    names : tuple of str
        The names of the items, in order.
    """

    def __init__(
        self,
        name: str,
        card: DatasetCard | None,
        names: Iterable[str],
        read: Callable[[int], Item],
    ) -> None:
        self.name = name
        self.card = card
        self.names = tuple(names)
        self._read = read

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int | str) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset[Item]: ...

    def __getitem__(self, index: int | str | slice) -> Item | Dataset[Item]:
        if isinstance(index, str):
            if index not in self.names:
                raise unknown(f"item of data set {self.name!r},", index, self.names)
            index = self.names.index(index)
        if isinstance(index, slice):
            chosen = range(len(self))[index]
            names = [self.names[i] for i in chosen]
            return Dataset(self.name, self.card, names, lambda i: self._read(chosen[i]))
        return self._read(range(len(self))[index])

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} items)"


# ---------------------------------------------------------------- a user's own files


def read_pair(ir: PathLike, vis: PathLike, *, name: str | None = None) -> Pair:
    """Read a pair from two files, infrared first.

    Parameters
    ----------
    ir : path
        The infrared image: gray, or RGB with equal channels.
    vis : path
        The visible image: gray or RGB. With equal channels it becomes gray.
    name : str, optional
        Name of the pair; the stem of the infrared file if omitted.

    Raises
    ------
    ImageError
        If a file cannot be used, or the infrared image is in colour.
    PairMismatch
        If the images differ in size.
    """
    ir, vis = Path(ir), Path(vis)
    return Pair(
        name=ir.stem if name is None else name,
        ir=require_gray(read_image(ir), what=f"infrared image {ir}"),
        vis=collapse_gray(read_image(vis)),
        source=f"{ir} + {vis}",
    )


def read_pairs(ir_dir: PathLike, vis_dir: PathLike) -> Dataset[Pair]:
    """Make a lazy sequence of the pairs in two folders; warns of images without partner.

    Images are matched by file name without suffix; hidden files and files that are no images are
    ignored; 2 comes before 10. A pair is read when it is asked for, as by `read_pair`.

    Raises
    ------
    DatasetNotFound
        If one of the folders does not exist.
    PairMismatch
        If no name is in both folders, or a folder has one name twice (a.png and a.jpg).
    """
    matched, alone = match_folders(ir_dir, vis_dir)
    if alone:
        few = _few([*map(str, alone)])
        warnings.warn(f"{len(alone)} images without partner are left out: {few}.", stacklevel=2)

    def read(index: int) -> Pair:
        name, ir, vis = matched[index]
        return read_pair(ir, vis, name=name)

    return Dataset(Path(ir_dir).name, None, [name for name, _, _ in matched], read)


def match_folders(
    ir_dir: PathLike, vis_dir: PathLike
) -> tuple[list[tuple[str, Path, Path]], list[Path]]:
    """Match the images of two folders; rules and errors as of `read_pairs`.

    Returns (name, infrared file, visible file) of each pair, and files without partner.
    """
    ir, vis = images_by_stem(Path(ir_dir)), images_by_stem(Path(vis_dir))
    matched = [(name, path, vis[name]) for name, path in ir.items() if name in vis]
    if not matched:
        raise PairMismatch(
            f"no infrared image has a visible partner of the same name: {ir_dir} holds "
            f"{_few(ir)}, {vis_dir} holds {_few(vis)}. Give both images of a pair one name (the "
            "suffix may differ)."
        )
    files = *ir.items(), *vis.items()
    return matched, [path for name, path in files if name not in ir or name not in vis]


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without suffix, 2 before 10."""
    if not folder.is_dir():
        raise DatasetNotFound(f"{folder}: no such folder. Check the spelling.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (_natural(path.stem), path.name)):
        if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            raise PairMismatch(
                f"{folder}: {found[path.stem].name} and {path.name} have the same name, so the "
                "partner is ambiguous. Remove or rename one of them."
            )
        found[path.stem] = path
    return found


def _natural(name: str) -> list[str | int]:
    parts: list[str | int] = list(re.split(r"([0-9]+)", name))
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts


def _few(names: Collection[str]) -> str:
    if not names:
        return "no images"
    return ", ".join([*names][:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")


# ---------------------------------------------------------------- label files


def read_labels(
    data: bytes, path: Path, classes: Sequence[str], width: int, height: int
) -> tuple[Box, ...]:
    """Read the content of a label file: of Pascal VOC if its name ends in .xml, else of YOLO.

    YOLO files give the place of a class in `classes`, and fractions of the image's size.
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
        if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
            raise FusionError(f"{path}, line {number}: {line!r} has no area. Remove or correct it.")
        yield Box(
            label, (x - w / 2) * width, (y - h / 2) * height,
            (x + w / 2) * width, (y + h / 2) * height
        )  # fmt: skip


def _voc_boxes(data: bytes, path: Path, classes: Sequence[str]) -> Iterator[Box]:
    """Read objects with the numbers of their first and last column and row, counted from 1."""
    try:
        for entry in ElementTree.fromstring(data).iter("object"):
            label = (entry.findtext("name") or "").strip()
            sides = ("xmin", "ymin", "xmax", "ymax")
            x0, y0, x1, y1 = (float(entry.findtext(f"bndbox/{side}") or "") for side in sides)
            if label not in classes:
                raise ValueError(f"class {label!r}")
            yield Box(label, x0 - 1, y0 - 1, x1, y1)
    except (ElementTree.ParseError, ValueError) as error:
        raise FusionError(
            f"{path} is no label file of Pascal VOC for {', '.join(classes)} ({error}). "
            "Restore the file."
        ) from error
