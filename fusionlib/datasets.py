"""Pair, the data set registry, where data is found and how it is fetched.

A data set is one text file, ``data/splits/<name>.csv``: a card in comment lines, then
one row per pair with its files, their sha256 and their public addresses. See
``data/README.md`` for how to add one.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, overload
from urllib.parse import urljoin
from xml.etree import ElementTree

import numpy as np

from .errors import DatasetNotFound, FusionError, PairMismatch, unknown
from .images import SUFFIXES, collapse_gray, decode_image, quantise, read_image, require_gray

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Box",
    "DatasetCard",
    "Dataset",
    "FolderMatch",
    "Pair",
    "data_roots",
    "dataset_parts",
    "fetch_dataset",
    "find_data",
    "images_by_stem",
    "list_datasets",
    "load_dataset",
    "load_images",
    "match_folders",
    "package_data",
    "pixel_hash",
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
        if self.ir.shape[:2] != self.vis.shape[:2]:
            raise PairMismatch(
                f"pair {self.name!r}: infrared is {_size(self.ir)} and visible is "
                f"{_size(self.vis)} (width x height); a pair must be registered and of "
                "one size. Register or crop the images first."
            )
        if self.mask is not None and self.mask.shape != self.ir.shape[:2]:
            raise PairMismatch(
                f"pair {self.name!r}: the mask is {_size(self.mask)} but the images are "
                f"{_size(self.ir)} (width x height)."
            )

    @property
    def colour(self) -> bool:
        """Whether the visible image is RGB."""
        return self.vis.ndim == 3


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


# ---------------------------------------------------------------- a user's own files


def read_pair(ir: PathLike, vis: PathLike, *, name: str | None = None) -> Pair:
    """Read a pair from two files, infrared first.

    Parameters
    ----------
    ir : path-like
        The infrared image: gray, or RGB with equal channels.
    vis : path-like
        The visible image: gray or RGB. With equal channels it becomes gray.
    name : str, optional
        Name of the pair; the stem of the infrared file if omitted.

    Returns
    -------
    Pair

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


class FolderMatch(NamedTuple):
    """What `match_folders` found."""

    matched: list[tuple[str, Path, Path]]  # name, infrared file, visible file
    only_ir: list[Path]
    only_vis: list[Path]


def match_folders(ir_dir: PathLike, vis_dir: PathLike) -> FolderMatch:
    """Match the images of two folders by file name without suffix.

    Hidden files and files that are no images are ignored; 2 is sorted before 10.

    Parameters
    ----------
    ir_dir, vis_dir : path-like
        Folder of infrared and folder of visible images.

    Returns
    -------
    FolderMatch

    Raises
    ------
    DatasetNotFound
        If one of the folders does not exist.
    PairMismatch
        If no name is in both folders, or a folder has one name twice (a.png and a.jpg).
    """
    ir, vis = images_by_stem(Path(ir_dir)), images_by_stem(Path(vis_dir))
    names = sorted(ir.keys() & vis.keys(), key=_natural)
    if not names:
        raise PairMismatch(
            f"no infrared image has a visible partner of the same name: {ir_dir} holds "
            f"{_few(ir)}, {vis_dir} holds {_few(vis)}. Give both images of a pair one name (the "
            "suffix may differ)."
        )
    return FolderMatch(
        [(name, ir[name], vis[name]) for name in names],
        [ir[name] for name in sorted(ir.keys() - vis.keys(), key=_natural)],
        [vis[name] for name in sorted(vis.keys() - ir.keys(), key=_natural)],
    )


def read_pairs(ir_dir: PathLike, vis_dir: PathLike) -> Dataset[Pair]:
    """Make a lazy sequence of the pairs in two folders; warns of images without partner.

    Parameters
    ----------
    ir_dir, vis_dir : path-like
        As `match_folders` takes them.

    Returns
    -------
    Dataset
        A pair is read when it is asked for, as by `read_pair`.

    Raises
    ------
    DatasetNotFound, PairMismatch
        As `match_folders`.
    """
    match = match_folders(ir_dir, vis_dir)
    alone = match.only_ir + match.only_vis
    if alone:
        warnings.warn(
            f"{len(alone)} images without partner are left out: {_few(map(str, alone))}.",
            stacklevel=2,
        )
    files = match.matched

    def read(index: int) -> Pair:
        name, ir, vis = files[index]
        return read_pair(ir, vis, name=name)

    return Dataset(Path(ir_dir).name, None, [name for name, _, _ in files], read)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without suffix, 2 before 10.

    Raises
    ------
    DatasetNotFound
        If the folder does not exist.
    PairMismatch
        If it has one name twice (a.png and a.jpg).
    """
    if not folder.is_dir():
        raise DatasetNotFound(f"{folder}: no such folder. Check the spelling.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: _natural(path.name)):
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


def _few(names: Iterable[str]) -> str:
    names = sorted(names, key=_natural)
    if not names:
        return "no images"
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")


# ---------------------------------------------------------------- the registry


@dataclass(frozen=True)
class DatasetCard:
    """What is known about a data set.

    Attributes
    ----------
    name : str
        The name to load it by.
    title : str
        One line.
    kind : str
        "infrared-visible", "medical", or "images" (single pictures, not pairs).
    folder : str
        Its folder below the data folder; empty if built in.
    about, home, licence, reference : str
        What it is, where it is published, under which licence, and what to cite.
    remedy : str
        How to get it where no direct addresses are known.
    ir, vis : str
        Subfolders, for a set whose files are not listed: every pair found there counts.
    pairs : int or None
        Number of pairs (or images).
    classes : tuple of str
        Names of the classes in the label files, in their order.
    urls : dict
        Role -> the address that the addresses in the rows are relative to.
    """

    name: str
    title: str
    kind: str
    folder: str
    about: str = ""
    home: str = "not stated"
    licence: str = "not stated"
    reference: str = "not stated"
    remedy: str = ""
    ir: str = "ir"
    vis: str = "vi"
    pairs: int | None = None
    classes: tuple[str, ...] = ()
    urls: dict[str, str] = field(default_factory=dict)


Row = dict[str, str]

_ROLES = ("ir", "vis", "image", "mask", "labels")
_OPTIONAL = ("mask", "labels")
_TEXTS = (
    "title", "kind", "folder", "about", "home", "licence", "reference", "remedy", "ir", "vis"
)  # fmt: skip

#: What boxes of rendered scenes are around.
_SCENE_CLASSES = ("person", "bicycle", "car")

_BUILT_IN = {
    name: DatasetCard(
        name,
        title,
        kind,
        folder="",
        about=about,
        classes=_SCENE_CLASSES if name == "sample" else (),
    )
    for name, title, kind, about in (
        (
            "sample",
            "Built-in infrared-visible pairs",
            "infrared-visible",
            "Rendered scenes with masks and boxes, and a real Sentinel-2 pair",
        ),
        ("sample_mri_ct", "Built-in MRI-CT-like phantoms", "medical", "Rendered"),
        ("sample_mri_pet", "Built-in MRI-PET-like phantoms", "medical", "Rendered"),
        ("sample_mri_spect", "Built-in MRI-SPECT-like phantoms", "medical", "Rendered"),
        ("sample_images", "Photographs that scikit-image ships", "images", "Real, gray and RGB"),
    )
}


def package_data(relative: str) -> Path:
    """Locate a file or folder that comes with fusionlib, installed or in a checkout.

    Parameters
    ----------
    relative : str
        Path below the repository's ``data`` folder, such as "splits".

    Raises
    ------
    FusionError
        If the installation is incomplete.
    """
    here = Path(__file__).resolve().parent
    for base in (here / "_data", here.parent / "data"):
        if (base / relative).exists():
            return base / relative
    raise FusionError(
        f"{relative!r} is neither in {here / '_data'} nor in {here.parent / 'data'}. The "
        "installation is incomplete: install fusionlib again."
    )


def _split_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(package_data("splits").glob("*.csv"))}


def _card_and_rows(name: str) -> tuple[DatasetCard, list[Row]]:
    """Look a data set up; built-in ones have no rows."""
    if name in _BUILT_IN:
        return _BUILT_IN[name], []
    files = _split_files()
    if name not in files:
        raise unknown("data set", name, [*_BUILT_IN, *files])
    return _read_split(files[name])


def _read_split(path: Path) -> tuple[DatasetCard, list[Row]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = dict(_header_line(path, line) for line in lines if line.startswith("#"))
    rows = list(csv.DictReader(line for line in lines if line and not line.startswith("#")))
    missing = {"title", "kind", "folder"} - header.keys()
    if missing:
        raise FusionError(
            f"{path}: the header lacks {', '.join(sorted(missing))}. Add `# key: value` lines."
        )
    pairs = len(rows) if rows else header.get("pairs")
    card = DatasetCard(
        name=path.stem,
        **{key: header[key] for key in _TEXTS if key in header},
        pairs=None if pairs is None else int(pairs),
        classes=tuple(header.get("classes", "").replace(",", " ").split()),
        urls={role: header[f"{role}_url"] for role in _ROLES if f"{role}_url" in header},
    )
    return card, rows


def _header_line(path: Path, line: str) -> tuple[str, str]:
    key, colon, value = line.removeprefix("#").partition(":")
    key, value = key.strip(), value.strip()
    known = [*_TEXTS, "pairs", "classes", *(f"{role}_url" for role in _ROLES)]
    if not colon or key not in known or (key == "pairs" and not value.isdecimal()):
        raise FusionError(
            f"{path}: cannot use the header line {line!r}, expected `# key: value` with one of "
            f"the keys {', '.join(known)}."
        )
    return key, value


def list_datasets(data_dir: PathLike | None = None) -> pandas.DataFrame:
    """List all data sets.

    Parameters
    ----------
    data_dir : path-like, optional
        Searched first, as in `find_data`.

    Returns
    -------
    pandas.DataFrame
        One row per data set: name, title, kind, pairs, licence, found (a folder,
        "built in" or "no"), home.
    """
    import pandas

    rows = []
    for name in [*_BUILT_IN, *_split_files()]:
        card, _ = _card_and_rows(name)
        try:
            found = "built in" if name in _BUILT_IN else str(find_data(name, data_dir))
        except DatasetNotFound:
            found = "no"
        rows.append([name, card.title, card.kind, card.pairs, card.licence, found, card.home])
    columns = ["name", "title", "kind", "pairs", "licence", "found", "home"]
    return pandas.DataFrame(rows, columns=columns).astype({"pairs": "Int64"})


# ---------------------------------------------------------------- finding and reading


def find_data(dataset: str, data_dir: PathLike | None = None) -> Path:
    """Find the folder of a data set.

    Searched in this order: ``data_dir``, ``$FUSIONLIB_DATA``, the repository's ``data``
    folder (``./data`` where fusionlib is installed without its repository).

    Parameters
    ----------
    dataset : str
        Name of the data set.
    data_dir : path-like, optional
        The folder that holds the folders of the data sets.

    Returns
    -------
    Path

    Raises
    ------
    UnknownName
        If no data set has this name.
    DatasetNotFound
        If it is in none of these places; says where to get it and where to put it.
    """
    card, rows = _card_and_rows(dataset)
    if dataset in _BUILT_IN:
        raise _built_in(card)
    places = list(dict.fromkeys(root / card.folder for root in data_roots(data_dir)))
    for place in places:
        if place.is_dir():
            return place
    raise DatasetNotFound(
        f"data set {dataset!r} ({card.title}) is not here. Searched: "
        f"{', '.join(map(str, places))}. {_how_to_get(card, rows, places[0])}"
    )


def _built_in(card: DatasetCard) -> DatasetNotFound:
    loader = "load_images" if card.kind == "images" else "load_dataset"
    return DatasetNotFound(
        f"data set {card.name!r} is built in: it has no folder and needs no download. Use "
        f"`{loader}({card.name!r})`."
    )


def data_roots(data_dir: PathLike | None) -> list[Path]:
    """Return the folders that may hold data sets, in the order in which they are searched."""
    roots = [Path(data_dir)] if data_dir is not None else []
    if os.environ.get("FUSIONLIB_DATA"):
        roots.append(Path(os.environ["FUSIONLIB_DATA"]))
    repository = Path(__file__).resolve().parent.parent
    checkout = (repository / "data" / "splits").is_dir()
    return [*roots, (repository if checkout else Path.cwd()) / "data"]


def _how_to_get(card: DatasetCard, rows: list[Row], place: Path) -> str:
    if _fetchable(card, rows):
        return f"Run `fusionlib datasets fetch {card.name}`, or put its files in {place}."
    example = rows[0] if rows else {"ir": f"{card.ir}/NAME.png", "vis": f"{card.vis}/NAME.png"}
    files = [example[role] for role in _ROLES if example.get(role)]
    remedy = f" {card.remedy}" if card.remedy else ""
    return f"Get it from {card.home} and put it in {place} as {', '.join(files)}, ...{remedy}"


def _fetchable(card: DatasetCard, rows: list[Row]) -> bool:
    return bool(rows) and all(url for _, _, url in _files(card, rows))


def _files(card: DatasetCard, rows: list[Row]) -> list[tuple[str, str, str]]:
    """All files of a data set: path below its folder, sha256, address (or "")."""
    return [
        (row[role], row.get(f"{role}_sha256", ""), _address(card, role, row))
        for row in rows
        for role in _ROLES
        if row.get(role)
    ]


def _address(card: DatasetCard, role: str, row: Row) -> str:
    url = row.get(f"{role}_url", "")
    return urljoin(card.urls.get(role, ""), url) if url else ""


Item = TypeVar("Item")


class Dataset(Sequence[Item], Generic[Item]):
    """A lazy sequence: an item is read from disk each time it is asked for.

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
        """Read one item, by place or name, or make a Dataset of a slice of them.

        Raises
        ------
        IndexError
            Beyond the end.
        UnknownName
            If no item has this name.
        """
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


def load_dataset(
    name: str,
    *,
    data_dir: PathLike | None = None,
    limit: int | None = None,
    verify: bool = True,
) -> Dataset[Pair]:
    """Open a data set of pairs.

    Parameters
    ----------
    name : str
        One of `list_datasets`; "sample" needs no files.
    data_dir : path-like, optional
        Searched first, as in `find_data`.
    limit : int, optional
        Take only the first pairs.
    verify : bool
        Compare the sha256 of every file with the published one when it is read.

    Returns
    -------
    Dataset of Pair
        Masks and boxes are None where their folder was not downloaded.

    Raises
    ------
    UnknownName
        If no data set has this name.
    DatasetNotFound
        If the data set, or a file of it, is not there; when a pair is read also if a
        file is not the published one.
    FusionError
        If the data set holds single images, or ``limit`` is below 1.
    """
    card, rows = _card_and_rows(name)
    if card.kind == "images":
        raise FusionError(
            f"data set {name!r} holds single images, expected pairs. Use `load_images({name!r})`."
        )
    if name in _BUILT_IN:
        return _limited(_built_in_pairs(card), limit)

    def read(folder: Path, row: Row) -> Pair:
        ir = _picture(card, folder, row, "ir", verify)
        return Pair(
            name=row["name"],
            ir=require_gray(ir, what=f"infrared image {folder / row['ir']}"),
            vis=collapse_gray(_picture(card, folder, row, "vis", verify)),
            mask=_mask(card, folder, row, verify),
            boxes=_boxes(card, folder, row, ir.shape, verify),
            source=card.title,
        )

    return _open(card, rows, data_dir, limit, read)


def load_images(
    name: str,
    *,
    data_dir: PathLike | None = None,
    limit: int | None = None,
    verify: bool = True,
) -> Dataset[tuple[str, np.ndarray]]:
    """Open a data set of single images, such as the COCO ones.

    Parameters
    ----------
    name, data_dir, limit, verify
        As in `load_dataset`.

    Returns
    -------
    Dataset of (name, image)
        The image is float32 in [0, 1], shape (H, W) or (H, W, 3).

    Raises
    ------
    UnknownName, DatasetNotFound, FusionError
        As in `load_dataset`.
    """
    card, rows = _card_and_rows(name)
    if card.kind != "images":
        raise FusionError(
            f"data set {name!r} holds pairs, expected single images. Use `load_dataset({name!r})`."
        )
    if name in _BUILT_IN:
        from .scenes import natural_images

        items = [(item.name, collapse_gray(item.image)) for item in natural_images(colour=True)]
        names = [name for name, _ in items]
        return _limited(Dataset(name, card, names, items.__getitem__), limit)

    def read(folder: Path, row: Row) -> tuple[str, np.ndarray]:
        return row["name"], _picture(card, folder, row, "image", verify)

    return _open(card, rows, data_dir, limit, read)


def dataset_parts(name: str) -> dict[str, str]:
    """Return how a data set is divided for learning: pair -> "train", "val" or "test".

    Empty where its list of files does not say so.

    Raises
    ------
    UnknownName
        If no data set has this name.
    """
    _, rows = _card_and_rows(name)
    return {row["name"]: row["part"] for row in rows if row.get("part")}


def _built_in_pairs(card: DatasetCard) -> Dataset[Pair]:
    from . import scenes

    if card.name == "sample":
        names = [*scenes.SCENES, "s2"]
        return Dataset(card.name, card, names, lambda i: _scene(names[i]))
    pairs = _phantoms(card.name.removeprefix("sample_"))
    return Dataset(card.name, card, [pair.name for pair in pairs], pairs.__getitem__)


# Rendering takes a good part of a second, and a benchmark asks for a pair once per method.


@cache
def _scene(name: str) -> Pair:
    from . import scenes

    return scenes.sentinel2()[0] if name == "s2" else scenes.render(name)


@cache
def _phantoms(kind: str) -> list[Pair]:
    from . import scenes

    return scenes.medical(kind)


def _open(
    card: DatasetCard,
    rows: list[Row],
    data_dir: PathLike | None,
    limit: int | None,
    read: Callable[[Path, Row], Item],
) -> Dataset[Item]:
    folder = find_data(card.name, data_dir)
    items = rows or _rows_of_folders(card, folder)
    names = [row["name"] for row in items]
    data = _limited(Dataset(card.name, card, names, lambda i: read(folder, items[i])), limit)
    files = [
        row[role]
        for row in items[: len(data)]
        for role in _ROLES
        if role not in _OPTIONAL and row.get(role)
    ]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise DatasetNotFound(
            f"data set {card.name!r}: {len(missing)} of {len(files)} files are missing in "
            f"{folder}, such as {missing[0]}. {_how_to_get(card, rows, folder)}"
        )
    return data


def _limited(data: Dataset[Item], limit: int | None) -> Dataset[Item]:
    if limit is not None and limit < 1:
        raise FusionError(f"limit is {limit}, expected at least 1, or None for all.")
    return data if limit is None else data[:limit]


def _rows_of_folders(card: DatasetCard, folder: Path) -> list[Row]:
    """List a data set that has no list of files: all pairs in its two subfolders."""
    match = match_folders(folder / card.ir, folder / card.vis)
    if card.pairs is not None and len(match.matched) != card.pairs:
        raise DatasetNotFound(
            f"data set {card.name!r}: {folder} holds {len(match.matched)} pairs in {card.ir} and "
            f"{card.vis}, expected {card.pairs}. Complete it from {card.home}, or read what is "
            "there with `read_pairs`."
        )
    return [
        {
            "name": name,
            "ir": ir.relative_to(folder).as_posix(),
            "vis": vis.relative_to(folder).as_posix(),
        }
        for name, ir, vis in match.matched
    ]


def pixel_hash(image: np.ndarray) -> str:
    """Hash what an image shows, so that it survives a lossless re-encoding of its file.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W) or (H, W, 3), values in [0, 1]

    Returns
    -------
    str
        sha256 of the shape, as text, and of the pixels as little-endian 16-bit integers.
    """
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(quantise(image, 16).astype("<u2").tobytes())
    return digest.hexdigest()


def _picture(card: DatasetCard, folder: Path, row: Row, role: str, verify: bool) -> np.ndarray:
    path = folder / row[role]
    data = _file_bytes(card, path)
    differs = verify and _differs(data, row, role)
    pixels = row.get(f"{role}_pixels")
    if differs and not pixels:
        raise _damaged(card, path, data, row, role)
    image = decode_image(data, str(path))
    if differs and pixel_hash(image) != pixels:
        raise _damaged(card, path, data, row, role)
    return image


def _mask(card: DatasetCard, folder: Path, row: Row, verify: bool) -> np.ndarray | None:
    if not _has(folder, row, "mask"):
        return None
    return require_gray(_picture(card, folder, row, "mask", verify), what="mask") > 0.5


def _boxes(
    card: DatasetCard, folder: Path, row: Row, shape: tuple[int, ...], verify: bool
) -> tuple[Box, ...] | None:
    """Read a label file, YOLO's or, if it ends in .xml, that of Pascal VOC."""
    if not _has(folder, row, "labels"):
        return None
    path = folder / row["labels"]
    data = _file_bytes(card, path)
    if verify and _differs(data, row, "labels"):
        raise _damaged(card, path, data, row, "labels")
    if path.suffix == ".xml":
        return tuple(_voc_boxes(card, path, data))
    return tuple(_yolo_boxes(card, path, data, *shape[:2]))


def _yolo_boxes(
    card: DatasetCard, path: Path, data: bytes, height: int, width: int
) -> Iterator[Box]:
    """Read lines of class, centre x, centre y, width, height, as fractions."""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *numbers = line.split()
            x, y, w, h = map(float, numbers)
            label = dict(enumerate(card.classes))[int(kind)]
        except (ValueError, KeyError) as error:
            raise FusionError(
                f"{path}, line {number}: {line!r} is no label, expected a class (0 to "
                f"{len(card.classes) - 1}) and four numbers. Restore the file."
            ) from error
        yield Box(
            label, (x - w / 2) * width, (y - h / 2) * height,
            (x + w / 2) * width, (y + h / 2) * height
        )  # fmt: skip


def _voc_boxes(card: DatasetCard, path: Path, data: bytes) -> Iterator[Box]:
    """Read objects with the numbers of their first and last column and row, counted from 1."""
    try:
        for entry in ElementTree.fromstring(data).iter("object"):
            label = (entry.findtext("name") or "").strip()
            x0, y0, x1, y1 = (float(entry.findtext(f"bndbox/{side}") or "") for side in _VOC_SIDES)
            if label not in card.classes:
                raise ValueError(f"class {label!r}")
            yield Box(label, x0 - 1, y0 - 1, x1, y1)
    except (ElementTree.ParseError, ValueError) as error:
        raise FusionError(
            f"{path} is no label file of Pascal VOC for {', '.join(card.classes)} ({error}). "
            "Restore the file."
        ) from error


_VOC_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _has(folder: Path, row: Row, role: str) -> bool:
    """Tell if an optional file is listed, and its folder was downloaded."""
    return bool(row.get(role)) and (folder / row[role]).parent.is_dir()


def _file_bytes(card: DatasetCard, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetNotFound(
            f"data set {card.name!r}: {path} cannot be read ({error.strerror}). Fetch the data set "
            f"again, or get the file from {card.home}."
        ) from error


def _differs(data: bytes, row: Row, role: str) -> bool:
    expected = row.get(f"{role}_sha256")
    return bool(expected) and hashlib.sha256(data).hexdigest() != expected


def _damaged(card: DatasetCard, path: Path, data: bytes, row: Row, role: str) -> DatasetNotFound:
    return DatasetNotFound(
        f"data set {card.name!r}: {path} is damaged or another file: its sha256 is "
        f"{hashlib.sha256(data).hexdigest()}, expected {row[f'{role}_sha256']}. Delete it and "
        "fetch the data set again; to read it as it is, pass `verify=False`."
    )


# ---------------------------------------------------------------- fetching


def fetch_dataset(name: str, *, data_dir: PathLike | None = None, progress: bool = True) -> Path:
    """Download a data set; files that are there and intact are kept, so it resumes.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    data_dir : path-like, optional
        The data folder to use; if omitted ``$FUSIONLIB_DATA``, else the repository's ``data``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder of the data set.

    Raises
    ------
    UnknownName
        If no data set has this name.
    DatasetNotFound
        If its files have no direct addresses (says where to get it and where to put it),
        a download fails, or what arrives is not the published file.
    """
    import pooch
    from tqdm.auto import tqdm

    card, rows = _card_and_rows(name)
    if name in _BUILT_IN:
        raise _built_in(card)
    folder = data_roots(data_dir)[0] / card.folder
    if not _fetchable(card, rows):
        raise DatasetNotFound(
            f"data set {name!r} ({card.title}) cannot be fetched: no direct addresses are known. "
            f"{_how_to_get(card, rows, folder)}"
        )
    files = _files(card, rows)
    pooch.get_logger().setLevel("WARNING")  # else one line per file
    store = pooch.create(
        path=folder,
        base_url="",
        registry={file: f"sha256:{sha256}" for file, sha256, _ in files},
        urls={file: url for file, _, url in files},
        retry_if_failed=1,
    )

    def fetch(file: str) -> None:
        # pooch would fail where two threads make the same folder.
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        store.fetch(file)

    with ThreadPoolExecutor(8) as pool:
        jobs = {pool.submit(fetch, file): (file, url) for file, _, url in files}
        try:
            for job in tqdm(as_completed(jobs), name, len(jobs), unit="file", disable=not progress):
                _check_download(job, card, folder, *jobs[job])
        finally:  # after an error or Ctrl-C, start no further download
            pool.shutdown(wait=False, cancel_futures=True)
    return folder


def _check_download(job: Future, card: DatasetCard, folder: Path, file: str, url: str) -> None:
    try:
        job.result()
    except Exception as error:  # of requests, of the file system, or a wrong hash
        raise DatasetNotFound(
            f"data set {card.name!r}: {file} could not be fetched from {url} "
            f"({type(error).__name__}: {error}). Try again, the files that arrived are kept; or "
            f"get it from {card.home} and put it at {folder / file}."
        ) from error
