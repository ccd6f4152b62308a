"""The data set registry, where data is found and how it is fetched.

A data set is one text file, ``data/splits/<name>.csv``: a card in comment lines, then
one row per pair with its files, their sha256 and their public addresses. See
``data/README.md`` for how to add one.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin
from xml.etree import ElementTree

import numpy as np

from .errors import DatasetNotFound, FusionError, unknown
from .images import collapse_gray, decode_image, require_gray
from .pairs import Box, Dataset, DatasetCard, Item, Pair, PathLike, match_folders, pixel_hash

if TYPE_CHECKING:
    import pandas

__all__ = [
    "data_roots",
    "dataset_parts",
    "fetch_dataset",
    "find_data",
    "list_datasets",
    "load_dataset",
    "load_images",
    "package_data",
]


# ---------------------------------------------------------------- the registry


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
