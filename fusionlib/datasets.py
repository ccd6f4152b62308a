"""The data sets: their cards and lists, where their files are, how they are read and fetched.

A data set is one text file, ``data/splits/<name>.csv``: a card in comment lines, then one row per
pair with its files, their sha256 and their public addresses. ``data/README.md`` tells how to add
one.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import numpy as np

from .errors import DatasetNotFound, FusionError, unknown
from .images import check_image, collapse_gray, decode_image, quantise, require_gray
from .pairs import Dataset, DatasetCard, Pair, PathLike, match_folders, pixel_hash, read_labels

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

#: Keys of the comment lines: facts of the card, and what the addresses in the rows are relative to.
_FACTS = [field.name for field in fields(DatasetCard) if field.name != "name"]
_KEYS = [*_FACTS, *(f"{role}_url" for role in _ROLES)]


def package_data(relative: str) -> Path:
    """Locate a file or folder of the repository's ``data`` that fusionlib brings, such as "splits".

    It is in a checkout, or in the installed package.
    """
    here = Path(__file__).resolve().parent
    bases = here / "_data", here.parent / "data"
    for base in bases:
        if (base / relative).exists():
            return base / relative
    raise FusionError(
        f"{relative!r} is neither in {bases[0]} nor in {bases[1]}. The installation is "
        "incomplete: install fusionlib again."
    )


def package_path(package: str, inside: str, remedy: str) -> Path:
    """Locate what an installed package ships, without importing it; `remedy` is for the error."""
    spec = find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    if path is None or not path.exists():
        raise DatasetNotFound(f"{inside} of the Python package {package} is not here. {remedy}")
    return path


@dataclass(frozen=True)
class _Split:
    """What the list of a data set says."""

    card: DatasetCard
    header: dict[str, str]
    rows: list[Row]  # one per pair or image

    def files(self) -> list[tuple[str, str, str]]:
        """All files: path below the folder, sha256 (or ""), address (or "")."""
        found = []
        for row, role in itertools.product(self.rows, _ROLES):
            if file := row.get(role):
                url = row.get(f"{role}_url", "")
                address = url and urljoin(self.header.get(f"{role}_url", ""), url)
                found.append((file, row.get(f"{role}_sha256", ""), address))
        return found

    def fetchable(self) -> bool:
        """Tell if every file has an address."""
        return bool(self.rows) and all(address for _, _, address in self.files())

    def find(self, data_dir: PathLike | None) -> Path:
        """Find the folder of the files."""
        card = self.card
        if card.package == "fusionlib":
            return package_data(card.folder)
        if card.package:
            return package_path(card.package, card.folder, card.remedy)
        places = list(dict.fromkeys(root / card.folder for root in data_roots(data_dir)))
        for place in places:
            if place.is_dir():
                return place
        raise DatasetNotFound(
            f"data set {card.name!r} ({card.title}) is not here. Searched: "
            f"{', '.join(map(str, places))}. {self.how_to_get(places[0])}"
        )

    def how_to_get(self, place: Path) -> str:
        """Say how to get the files to a folder."""
        card = self.card
        if card.package:
            return card.remedy or "Install fusionlib again."
        if self.fetchable():
            return f"Run `fusionlib datasets fetch {card.name}`, or put its files in {place}."
        unlisted = {"ir": f"{card.ir}/NAME.png", "vis": f"{card.vis}/NAME.png"}
        example = self.rows[0] if self.rows else unlisted
        files = ", ".join(example[role] for role in _ROLES if example.get(role))
        return (
            f"Get it from {card.home} and put it in {place} as {files}, ... {card.remedy}".strip()
        )


def _split_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(package_data("splits").glob("*.csv"))}


def _find_split(name: str) -> _Split:
    files = _split_files()
    if name not in files:
        raise unknown("data set", name, files)
    return _read_split(files[name])


def _read_split(path: Path) -> _Split:
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = [line[1:].partition(":") for line in lines if line.startswith("#")]
    header = {key.strip(): value.strip() for key, _, value in entries}
    wrong = [key for key in header if key not in _KEYS]
    if wrong or not header.get("pairs", "0").isdecimal():
        raise FusionError(
            f"{path}: cannot use the header lines of {', '.join(wrong) or 'pairs'}, expected "
            f"`# key: value` with the keys {', '.join(_KEYS)}; pairs is a number."
        )
    if missing := [key for key in ("title", "kind", "folder") if not header.get(key)]:
        raise FusionError(
            f"{path}: the header lacks {', '.join(missing)}. Add lines `# key: value`."
        )
    rows = list(csv.DictReader(line for line in lines if line and not line.startswith("#")))
    facts: dict[str, Any] = {key: header[key] for key in _FACTS if key in header}
    facts["pairs"] = len(rows) or int(header.get("pairs", 0)) or None
    facts["classes"] = tuple(header.get("classes", "").replace(",", " ").split())
    return _Split(DatasetCard(path.stem, **facts), header, rows)


def list_datasets(data_dir: PathLike | None = None) -> pandas.DataFrame:
    """Return one row per data set, those that are built in first.

    Columns name, title, kind, pairs, licence, found (a folder, "built in" or "no"), home;
    `data_dir` is searched first, as in `find_data`.
    """
    import pandas

    rows = []
    splits = map(_read_split, _split_files().values())
    for split in sorted(splits, key=lambda split: not split.card.package):
        card = split.card
        try:
            found = "built in" if card.package else str(split.find(data_dir))
        except DatasetNotFound:
            found = "no"
        rows.append([card.name, card.title, card.kind, card.pairs, card.licence, found, card.home])
    columns = ["name", "title", "kind", "pairs", "licence", "found", "home"]
    return pandas.DataFrame(rows, columns=columns).astype({"pairs": "Int64"})


def dataset_parts(name: str) -> dict[str, str]:
    """Return how a data set is divided for learning: pair -> "train", "val" or "test".

    Empty where its list of files does not say so.
    """
    return {row["name"]: row["part"] for row in _find_split(name).rows if row.get("part")}


# ---------------------------------------------------------------- finding


def find_data(dataset: str, data_dir: PathLike | None = None) -> Path:
    """Find the folder of a data set.

    Searched in this order: ``data_dir``, ``$FUSIONLIB_DATA``, the repository's ``data``
    folder (``./data`` where fusionlib is installed without its repository); each holds the
    folders of data sets. What is built in is in the package that ships it, and nowhere else.

    Raises
    ------
    UnknownName
        If no data set has this name.
    DatasetNotFound
        If it is in none of these places; says where to get it and where to put it.
    """
    return _find_split(dataset).find(data_dir)


def data_roots(data_dir: PathLike | None) -> list[Path]:
    """Return the folders that may hold data sets, in the order in which they are searched."""
    roots = [Path(data_dir)] if data_dir is not None else []
    if os.environ.get("FUSIONLIB_DATA"):
        roots.append(Path(os.environ["FUSIONLIB_DATA"]))
    repository = Path(__file__).resolve().parent.parent
    checkout = (repository / "data" / "splits").is_dir()
    return [*roots, (repository if checkout else Path.cwd()) / "data"]


# ---------------------------------------------------------------- loading


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
        One of `list_datasets`; "sample" is built in.
    data_dir : path, optional
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
    return _open(name, data_dir, limit, verify, single=False)


def load_images(
    name: str,
    *,
    data_dir: PathLike | None = None,
    limit: int | None = None,
    verify: bool = True,
) -> Dataset[tuple[str, np.ndarray]]:
    """Open a data set of single images, such as the COCO ones.

    Arguments and errors are those of `load_dataset`; an item is (name, image), the image float32
    in [0, 1] of shape (H, W) or (H, W, 3).
    """
    return _open(name, data_dir, limit, verify, single=True)


def _open(
    name: str, data_dir: PathLike | None, limit: int | None, verify: bool, *, single: bool
) -> Dataset[Any]:
    split = _find_split(name)
    card = split.card
    if single != (card.kind == "images"):
        held, other = ("pairs", "load_dataset") if single else ("single images", "load_images")
        wanted = "single images" if single else "pairs"
        raise FusionError(
            f"data set {name!r} holds {held}, expected {wanted}. Use `{other}({name!r})`."
        )
    if limit is not None and limit < 1:
        raise FusionError(f"limit is {limit}, expected at least 1, or None for all.")
    folder = split.find(data_dir)
    rows = (split.rows or _rows_of_folders(card, folder))[:limit]
    needed = [
        row[role] for row in rows for role in _ROLES if role not in _OPTIONAL and row.get(role)
    ]
    if missing := [file for file in needed if not (folder / file).is_file()]:
        raise DatasetNotFound(
            f"data set {name!r}: {len(missing)} of {len(needed)} files are missing in {folder}, "
            f"such as {missing[0]}. {split.how_to_get(folder)}"
        )
    reader = _Reader(card, folder, verify)
    read = reader.image if single else reader.pair
    return Dataset(name, card, [row["name"] for row in rows], lambda i: read(rows[i]))


def _rows_of_folders(card: DatasetCard, folder: Path) -> list[Row]:
    """List a data set that has no list of files: all pairs in its two subfolders."""
    matched, _ = match_folders(folder / card.ir, folder / card.vis)
    if card.pairs is not None and len(matched) != card.pairs:
        raise DatasetNotFound(
            f"data set {card.name!r}: {folder} holds {len(matched)} pairs in {card.ir} and "
            f"{card.vis}, expected {card.pairs}. Complete it from {card.home}, or read what is "
            "there with `read_pairs`."
        )
    return [
        {"name": name, "ir": f"{card.ir}/{ir.name}", "vis": f"{card.vis}/{vis.name}"}
        for name, ir, vis in matched
    ]


@dataclass(frozen=True)
class _Reader:
    """Reads the files of a data set in a folder, and compares them with the listed hashes."""

    card: DatasetCard
    folder: Path
    verify: bool

    def pair(self, row: Row) -> Pair:
        if not row["ir"]:  # the one built-in pair that is no picture file
            return sentinel2()
        # Optional files are those of a folder that was downloaded.
        listed = {role for role in _OPTIONAL if row.get(role)}
        there = {role for role in listed if (self.folder / row[role]).parent.is_dir()}
        ir = self._decoded(row, "ir")
        mask = boxes = None
        if "mask" in there:
            mask = require_gray(self._decoded(row, "mask"), what="mask") > 0.5
        if "labels" in there:
            path, data = self._read(row, "labels")
            boxes = read_labels(data, path, self.card.classes, ir.shape[1], ir.shape[0])
        return Pair(
            name=row["name"],
            ir=require_gray(ir, what=f"infrared image {self.folder / row['ir']}"),
            vis=collapse_gray(self._decoded(row, "vis")),
            mask=mask,
            boxes=boxes,
            source=row.get("source") or self.card.title,
        )

    def image(self, row: Row) -> tuple[str, np.ndarray]:
        return row["name"], self._decoded(row, "image")

    def _decoded(self, row: Row, role: str) -> np.ndarray:
        path, data = self._read(row, role)
        return decode_image(data, str(path))

    def _read(self, row: Row, role: str) -> tuple[Path, bytes]:
        """Read a file; its sha256 must be the listed one, or its pixels where they are listed."""
        path = self.folder / row[role]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DatasetNotFound(
                f"data set {self.card.name!r}: {path} cannot be read ({error.strerror}). "
                f"Fetch the data set again, or get the file from {self.card.home}."
            ) from error
        expected, pixels = row.get(f"{role}_sha256"), row.get(f"{role}_pixels")
        found = hashlib.sha256(data).hexdigest()
        if not self.verify or not expected or found == expected:
            return path, data
        if pixels and pixel_hash(decode_image(data, str(path))) == pixels:  # encoded otherwise
            return path, data
        package = self.card.package
        again = f"Install {package} again" if package else "Delete it and fetch the data set again"
        raise DatasetNotFound(
            f"data set {self.card.name!r}: {path} is damaged or another file: its sha256 is "
            f"{found}, expected {expected}. {again}; to read it as it is, pass `verify=False`."
        )


@cache  # reading it takes 0.2 s, and a benchmark asks for a pair once per method
def sentinel2() -> Pair:
    """Read a real registered pair: Sentinel-2 RGB and near-infrared, 300x300 pixels of 10 m.

    ``ir`` is band 8, NEAR-infrared reflectance (842 nm): sunlight that plants reflect, not heat.
    Each of ``ir`` and ``vis`` is stretched linearly from its own 1st to its own 99th percentile
    (the three visible bands share one stretch, which keeps their hues) and rounded to 8 bits.

    The file's band order is 2, 3, 4, 8. The data agree: the first three bands correlate above 0.95
    with each other and the fourth with none of them, it is five times as high as the third where
    the three are dark (vegetation), and fields turn reddish and woods green when the third is shown
    as red.
    """
    path = package_path("spyndex", "data/S2_10m.json", "Install it: pip install spyndex==0.12.0")
    blue, green, red, near = np.asarray(json.loads(path.read_text()), np.float32)
    return Pair(
        name="s2",
        ir=_stretched(near),
        vis=_stretched(np.stack([red, green, blue], -1)),
        source="real: Sentinel-2 L2A bands 4/3/2 and 8, from spyndex 0.12 (MIT)",
    )


def _stretched(bands: np.ndarray) -> np.ndarray:
    low, high = np.percentile(bands, [1, 99])
    return check_image(quantise(np.clip((bands - low) / (high - low), 0, 1)))


# ---------------------------------------------------------------- fetching


def fetch_dataset(name: str, *, data_dir: PathLike | None = None, progress: bool = True) -> Path:
    """Download a data set; files that are there and intact are kept, so it resumes.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    data_dir : path, optional
        The data folder to use; if omitted ``$FUSIONLIB_DATA``, else the repository's ``data``.

    Returns
    -------
    Path
        The folder of the data set.

    Raises
    ------
    UnknownName
        If no data set has this name.
    DatasetNotFound
        If it is built in, its files have no direct addresses (says where to get it and
        where to put it), a download fails, or what arrives is not the published file.
    """
    import pooch
    from tqdm.auto import tqdm

    split = _find_split(name)
    card = split.card
    if card.package:
        loader = "load_images" if card.kind == "images" else "load_dataset"
        raise DatasetNotFound(
            f"data set {name!r} is built in and needs no download. Use `{loader}({name!r})`."
        )
    folder = data_roots(data_dir)[0] / card.folder
    if not split.fetchable():
        raise DatasetNotFound(
            f"data set {name!r} ({card.title}) cannot be fetched: no direct addresses are known. "
            f"{split.how_to_get(folder)}"
        )
    pooch.get_logger().setLevel("WARNING")  # else one line per file
    store = pooch.create(
        path=folder,
        base_url="",
        registry={file: f"sha256:{sha256}" for file, sha256, _ in split.files()},
        urls={file: url for file, _, url in split.files()},
        retry_if_failed=1,
    )

    def fetch(file: str) -> None:
        # pooch would fail where two threads make the same folder.
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        store.fetch(file)

    with ThreadPoolExecutor(8) as pool:
        jobs = {pool.submit(fetch, file): file for file in store.registry}
        try:
            for job in tqdm(as_completed(jobs), name, len(jobs), unit="file", disable=not progress):
                if error := job.exception():  # of requests, of the file system, or a wrong hash
                    file = jobs[job]
                    raise DatasetNotFound(
                        f"data set {name!r}: {file} could not be fetched from "
                        f"{store.get_url(file)} ({type(error).__name__}: {error}). Try again, the "
                        f"files that arrived are kept; or get it from {card.home} and put it at "
                        f"{folder / file}."
                    ) from error
        finally:  # after an error or Ctrl-C, start no further download
            pool.shutdown(wait=False, cancel_futures=True)
    return folder
