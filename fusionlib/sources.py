"""Where the authors publish their weights, and downloading the files as they are published.

The facts are in ``weight_sources.toml`` beside this file: one table per weight set. What a
downloaded file holds is never trusted: see `fusionlib.checkpoints` for how it is read.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from .errors import WeightsMismatch, WeightsNotFound, unknown

__all__ = [
    "Checkpoint",
    "PublishedFile",
    "Source",
    "check_file",
    "download",
    "find_source",
    "sources",
]

#: Addresses of a file at a full commit, and at a short one or a branch.
FULL = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"
SHORT = "https://github.com/{repository}/raw/{commit}/{path}"
#: Of a file that was attached to a release.
RELEASE = "https://github.com/{repository}/releases/download/{commit}/{path}"

#: More files than these are not listed one by one in a text.
FEW = 4


@dataclass(frozen=True)
class PublishedFile:
    """One file of a repository.

    Attributes
    ----------
    path : str
        In the repository.
    url : str
        Where to download it.
    size : int or None
        In bytes, if known.
    sha256, blob : str
        Hash of the file, and the id that git gives it, if known.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        size = "" if self.size is None else f"{self.size:,} bytes"
        hashes = {"sha256": self.sha256, "git blob": self.blob}
        known = [size, *(f"{kind} {value}" for kind, value in hashes.items() if value)]
        return f"{self.url} ({', '.join(filter(None, known))})" if any(known) else self.url


@dataclass(frozen=True)
class Checkpoint:
    """A file, or the few files that belong together, as written by one program.

    Attributes
    ----------
    format : {"pytorch", "modules", "tensorflow", "matlab"}
        PyTorch: one file. Modules: one file of PyTorch with a pickled module. TensorFlow: the
        .index and the .data-00000-of-00001 file. MATLAB: one file with one matrix.
    files : tuple of PublishedFile
        In that order, or one zip file that holds them.
    members : tuple of str
        For a zip file: one pattern (as for file names) per file in it.
    keep : str
        Regular expression: only tensors with such names belong to the set.
    prefix : str
        What the tensors' names get in front, where a set has several checkpoints. A MATLAB matrix
        is called just that.
    """

    format: Literal["pytorch", "modules", "tensorflow", "matlab"]
    files: tuple[PublishedFile, ...]
    members: tuple[str, ...] = ()
    keep: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class Source:
    """Where one weight set is published: a repository on GitHub, a commit, its checkpoints."""

    repository: str
    commit: str
    checkpoints: tuple[Checkpoint, ...]

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """All files of all checkpoints."""
        return tuple(file for one in self.checkpoints for file in one.files)

    def __str__(self) -> str:
        if len(self.files) > FEW:
            return f"{len(self.files)} files, {self.files[0]} to {self.files[-1]}"
        return " and ".join(map(str, self.files))


@functools.cache
def sources() -> dict[str, Source]:
    """Return every known source by the name of its weight set."""
    path = Path(__file__).with_name("weight_sources.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _source(table) for name, table in tables.items()}


def _source(table: Mapping[str, Any]) -> Source:
    """Turn a table of the file into objects; whatever does not belong there is an error."""
    address = {"repository": table["repository"], "commit": table["commit"]}
    form = FULL if len(table["commit"]) == 40 else SHORT
    if table.get("release"):
        form = RELEASE

    def published(file: dict[str, Any]) -> PublishedFile:
        return PublishedFile(url=form.format(**address, path=quote(file["path"])), **file)

    checkpoints = tuple(
        Checkpoint(
            **{
                **one,
                "files": tuple(map(published, one["files"])),
                "members": tuple(one.get("members", ())),
            }
        )
        for one in table["checkpoints"]
    )
    return Source(**address, checkpoints=checkpoints)


def find_source(name: str) -> Source:
    """Return where the weight set of that name is published.

    Raises
    ------
    UnknownName
        If nothing is known of it.
    """
    if name not in sources():
        raise unknown("published weight set", name, sources())
    return sources()[name]


def download(published: PublishedFile, folder: Path, *, progress: bool = True) -> Path:
    """Download a file into a folder and check it.

    Raises
    ------
    WeightsNotFound
        If the download fails.
    WeightsMismatch
        If what arrives is not the published file.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # else it prints the hash of a file without a known one
    try:
        # Known hashes are checked below, with the size and git's id.
        pooch.retrieve(
            published.url,
            known_hash=None,
            fname=published.name,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=progress),
        )
    except Exception as error:  # of requests or of the file system
        reason = " ".join(str(error).split())
        raise WeightsNotFound(
            f"Downloading {published.name} failed ({type(error).__name__}: {reason})."
        ) from error
    check_file(folder / published.name, published)
    return folder / published.name


def check_file(path: Path, published: PublishedFile) -> None:
    """Compare a file with what is known of the published one, before anything opens it.

    Raises
    ------
    WeightsNotFound
        If there is no such file.
    WeightsMismatch
        If its size or a hash differs.
    """
    if not path.is_file():
        raise WeightsNotFound(f"no such file: {path}")
    for kind, found, expected in (
        ("size", path.stat().st_size, published.size),
        ("sha256", sha256(path), published.sha256),
        ("git blob", _git_blob(path), published.blob),
    ):
        if expected not in (None, "", found):
            raise WeightsMismatch(
                f"{path.name} is not the file published at {published.url}: its {kind} is {found}, "
                f"expected {expected}. It was not opened."
            )


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    """Return what ``git hash-object`` gives: the sha1 of the file behind a heading."""
    sha1 = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: sha1).hexdigest()
