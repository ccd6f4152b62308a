"""Reading the authors' checkpoints without running anything in them.

A PyTorch checkpoint is a pickle, which could hold any code: it is read by PyTorch's restricted
loader, which builds tensors and plain containers only. A TensorFlow checkpoint is read by
`fusionlib.tensorflow`, a MATLAB file by SciPy. Each may come in a zip file. What reads another
format can be added to `READERS`.

The names of the tensors are the authors', by these rules: containers in containers are joined
by dots; a container that holds nothing but one other (``state_dict``, ``params``) gives no name;
the ``module.`` that DataParallel puts before all names goes; what belongs to an optimiser goes.
Numbers without a dimension get one, as in the files that the registered digests are of.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from .errors import WeightsMismatch
from .tensorflow import read_bundle

__all__ = [
    "READERS",
    "Checkpoint",
    "PublishedFile",
    "load_pytorch",
    "plain",
    "read_checkpoint",
]

#: Containers in containers; a checkpoint that is deeper holds something else.
DEPTH = 4

#: The last part of the names of TensorFlow's optimiser variables.
SLOTS = re.compile(r"(?:^|/)(?:Adam|RMSProp|Momentum|beta[12]_power|global_step)(?:_\d+)?$")


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
    format : str
        A key of `READERS`. "pytorch": one file. "tensorflow": the .index and the
        .data-00000-of-00001 file. "matlab": one file with one matrix.
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

    format: str
    files: tuple[PublishedFile, ...]
    members: tuple[str, ...] = ()
    keep: str = ""
    prefix: str = ""


def read_checkpoint(checkpoint: Checkpoint, files: Sequence[Path]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint that belong to the weight set.

    Parameters
    ----------
    checkpoint : Checkpoint
        What the files are, and which tensors to keep.
    files : sequence of Path
        One per entry of its ``files``, in that order.

    Returns
    -------
    dict of str to Tensor
        Tensors of their own, without gaps in memory.

    Raises
    ------
    WeightsMismatch
        If a file is damaged, or is no such checkpoint, or holds code.
    """
    for path in files:
        _check_no_page(path)
    with _unpacked(checkpoint, files) as parts:
        found = READERS[checkpoint.format](*parts)
        tensors = {n: tensor for n, tensor in found.items() if re.search(checkpoint.keep, n)}
        if not tensors:
            raise WeightsMismatch(
                f"{', '.join(path.name for path in files)}: no tensors of this weight set in it. "
                "Is it the published file?"
            )
        copies = plain(tensors, parts[0])
        return {f"{checkpoint.prefix}{name}": tensor for name, tensor in copies.items()}


def _check_no_page(path: Path) -> None:
    """Refuse what a browser saves, or a server sends, in place of a file that is not there."""
    if _start(path).lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise WeightsMismatch(
            f"{path.name} is an HTML page, no checkpoint: the address was wrong, or the page of "
            "the file was saved instead of the file. Download the file itself."
        )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200)


def plain(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Copy tensors into memory of their own, with one dimension or more.

    Raises
    ------
    WeightsMismatch
        If one is sparse, quantized or without values.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise WeightsMismatch(f"{path.name}: {name} is no plain tensor of values.")
    copies = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return {name: copy if copy.ndim else copy.reshape(1) for name, copy in copies.items()}


# ---------------------------------------------------------------- zip files


@contextlib.contextmanager
def _unpacked(checkpoint: Checkpoint, files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Give the checkpoint's files, unpacked to a temporary folder if they are in a zip file."""
    if not checkpoint.members:
        yield files
        return
    (path,) = files
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [_member(archive, path, pattern) for pattern in checkpoint.members]
                # Only the last part of a name is used, so that none can lead elsewhere.
                parts = [Path(folder, PurePosixPath(member.filename).name) for member in members]
                for member, part in zip(members, parts, strict=True):
                    part.write_bytes(archive.read(member))
        except WeightsMismatch:
            raise
        except Exception as error:  # whatever a damaged file makes zipfile stumble on
            reason = "it is cut off: its end is missing" if _is_cut_zip(path) else error
            raise WeightsMismatch(
                f"{path.name} cannot be unpacked ({reason}). Get the file again."
            ) from error
        yield parts


def _member(archive: zipfile.ZipFile, path: Path, pattern: str) -> zipfile.ZipInfo:
    """Find the one file in an archive whose name fits; macOS adds others beside the real ones."""
    found = [
        member
        for member in archive.infolist()
        if fnmatchcase(member.filename, pattern) and "__MACOSX/" not in member.filename
    ]
    if len(found) != 1:
        raise WeightsMismatch(
            f"{path.name} is not the zip file expected: it holds {len(found)} files {pattern}, "
            f"expected one; in it are {', '.join(archive.namelist()[:10]) or 'none'}."
        )
    return found[0]


def _is_cut_zip(path: Path) -> bool:
    """Whether it begins as a zip file, but lacks the list of contents at the end of one."""
    return _start(path).startswith(b"PK") and not zipfile.is_zipfile(path)


# ---------------------------------------------------------------- the formats


def _read_tensorflow(index: Path, data: Path) -> dict[str, Tensor]:
    return read_bundle(index, data, lambda name: not SLOTS.search(name))


def _read_matlab(path: Path) -> dict[str, Tensor]:
    """Read the one matrix of a MATLAB file (version 5)."""
    try:
        found = loadmat(path, appendmat=False)
    except Exception as error:  # of many types, depending on where a file is damaged
        raise WeightsMismatch(f"{path.name} is not a readable MATLAB file ({error}).") from error
    matrices = [value for name, value in found.items() if not name.startswith("__")]
    if len(matrices) != 1 or matrices[0].dtype.kind != "f":
        raise WeightsMismatch(f"{path.name} does not hold just one matrix of numbers.")
    return {"": torch.from_numpy(np.ascontiguousarray(matrices[0]))}


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    content = load_pytorch(path)
    return _flatten(content, path) if isinstance(content, Mapping) else {}


def load_pytorch(path: Path) -> Any:
    """Read a file of `torch.save` by the restricted loader.

    Raises
    ------
    WeightsMismatch
        If the file is damaged, or is no such file, or asks for anything but tensors and plain
        containers; nothing in it is run.
    """
    start = _start(path)[:20]
    if not start.startswith((b"PK", b"\x80")):  # a zip file, or a pickle before version 1.6
        found = f"it begins with {start!r}" if start else "it is empty"
        raise WeightsMismatch(
            f"{path.name} is no PyTorch checkpoint: {found}. Is it the published file?"
        )
    try:
        if _is_cut_zip(path):
            raise EOFError
        with warnings.catch_warnings(action="ignore"):  # the errors below say what matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to read the file without restrictions.
        name = re.search(r"unsupported global:? (?:global )?(\S+)", str(error), re.IGNORECASE)
        raise WeightsMismatch(
            f"{path.name} is no PyTorch checkpoint of tensors alone"
            f"{f' (it asks for {name[1]})' if name else ''}. It may hold code, so it was refused; "
            "nothing in it was run."
        ) from error
    except Exception as error:  # whatever a damaged file makes the loader stumble on
        cut = isinstance(error, EOFError | IndexError) or "unexpected EOF" in str(error)
        # PyTorch goes on about its own inside.
        reason = "it is cut off" if cut else re.split(r"\n|\. ", str(error))[0]
        raise WeightsMismatch(
            f"{path.name} is not a readable PyTorch checkpoint ({reason}). Get the file again."
        ) from error


def _flatten(content: Mapping[Any, Any], path: Path, depth: int = 1) -> dict[str, Tensor]:
    """Name all tensors in containers in containers, by the rules at the top."""
    if depth > DEPTH:
        raise WeightsMismatch(f"{path.name}: more than {DEPTH} containers in each other.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    inner = {
        str(name): _flatten(value, path, depth + 1)
        for name, value in content.items()
        if isinstance(value, Mapping) and "optim" not in str(name).lower()
    }
    groups = {name: group for name, group in inner.items() if group}
    if not tensors and len(groups) == 1:
        return next(iter(groups.values()))
    for name, group in groups.items():
        tensors |= {f"{name}.{inside}": value for inside, value in group.items()}
    return tensors


#: Format of a `Checkpoint` -> what reads its files and names the tensors.
READERS: dict[str, Callable[..., Mapping[str, Tensor]]] = {
    "pytorch": _read_pytorch,
    "tensorflow": _read_tensorflow,
    "matlab": _read_matlab,
}
