"""Reading the authors' checkpoints without running anything in them.

A PyTorch checkpoint is a pickle, which could hold any code: it is read by PyTorch's restricted
loader, which builds tensors and plain containers only. Where whole modules were pickled, as
Ultralytics does, each class in the file is replaced by one that does nothing but keep what it is
given, and the tensors are collected from there. A TensorFlow checkpoint is read by
`fusionlib.tensor_bundle`. Either may come in a zip file. A MATLAB file is read by SciPy.

The names of the tensors are the authors', by these rules: containers in containers are joined
by dots; a container that holds nothing but one other (``state_dict``, ``params``) gives no name;
the ``module.`` that DataParallel puts before all names goes; what belongs to an optimiser goes.
Numbers without a dimension get one, as in the files that the registered hashes are of.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from .errors import WeightsMismatch
from .sources import Checkpoint
from .tensor_bundle import read_bundle

__all__ = ["PickledModule", "read_checkpoint", "read_modules"]

#: More bytes than any set of weights has, in a zip file or in tensors.
LIMIT = 1 << 30

#: Containers in containers; a checkpoint that is deeper holds something else.
DEPTH = 4
#: Modules, in one another or not; the same.
MODULES = 5000

#: The last part of the names of TensorFlow's optimiser variables.
SLOTS = re.compile(r"(?:^|/)(?:Adam|RMSProp|Momentum|beta[12]_power|global_step)(?:_\d+)?$")


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
    keep = re.compile(checkpoint.keep)

    def wanted(name: str) -> bool:
        return bool(keep.search(name))

    for path in files:
        _check_no_page(path)
    with _unpacked(checkpoint, files) as parts:
        if checkpoint.format == "tensorflow":
            index, data = parts
            tensors = read_bundle(index, data, lambda name: wanted(name) and not SLOTS.search(name))
        elif checkpoint.format == "matlab":
            (path,) = parts
            tensors = {"": _read_matlab(path)}
        elif checkpoint.format == "modules":
            (path,) = parts
            tensors = {n: tensor for n, tensor in read_modules(path).tensors.items() if wanted(n)}
        else:
            (path,) = parts
            tensors = {n: tensor for n, tensor in _read_pytorch(path).items() if wanted(n)}
    if not tensors:
        raise WeightsMismatch(
            f"{', '.join(path.name for path in files)}: no tensors of this weight set in it. Is it "
            "the published file?"
        )
    return {f"{checkpoint.prefix}{name}": tensor for name, tensor in _plain(tensors).items()}


def _read_matlab(path: Path) -> Tensor:
    """Read the one matrix of a MATLAB file (version 5)."""
    try:
        found = loadmat(path, appendmat=False)
    except Exception as error:  # of many types, depending on where a file is damaged
        raise WeightsMismatch(f"{path.name} is not a readable MATLAB file ({error}).") from error
    matrices = [value for name, value in found.items() if not name.startswith("__")]
    if len(matrices) != 1 or matrices[0].dtype.kind != "f" or matrices[0].size * 8 > LIMIT:
        raise WeightsMismatch(f"{path.name} does not hold just one matrix of numbers.")
    return torch.from_numpy(np.ascontiguousarray(matrices[0]))


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


def _is_cut_zip(path: Path) -> bool:
    """Whether it begins as a zip file, but lacks the list of contents at the end of one."""
    return _start(path).startswith(b"PK") and not zipfile.is_zipfile(path)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors into memory of their own, with one dimension or more."""
    # Views may show more values than they have in memory.
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > LIMIT:
        raise WeightsMismatch(f"the tensors have more than {LIMIT:,} bytes; they were not read.")
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
    """Find the one file in an archive whose name fits."""
    found = [
        member
        for member in archive.infolist()
        if fnmatchcase(member.filename, pattern) and not _is_shadow(member.filename)
    ]
    if len(found) != 1:
        raise WeightsMismatch(
            f"{path.name} is not the zip file expected: it holds {len(found)} files {pattern}, "
            f"expected one; in it are {', '.join(archive.namelist()[:10]) or 'none'}."
        )
    if found[0].file_size > LIMIT:
        raise WeightsMismatch(
            f"{found[0].filename} in {path.name} would have {found[0].file_size:,} bytes; it was "
            "not unpacked."
        )
    return found[0]


def _is_shadow(name: str) -> bool:
    """Whether macOS added this beside the real file."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


# ---------------------------------------------------------------- PyTorch


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    content = _load(path)
    return _flatten(content, path) if isinstance(content, Mapping) else {}


def _load(path: Path) -> Any:
    """Read a checkpoint by the restricted loader."""
    start = _start(path)[:20]
    if not start.startswith((b"PK", b"\x80")):  # a zip file, or a pickle before version 1.6
        found = f"it begins with {start!r}" if start else "it is empty"
        raise WeightsMismatch(
            f"{path.name} is no PyTorch checkpoint: {found}. Is it the published file?"
        )
    try:
        if _is_cut_zip(path):
            raise EOFError
        _check_size(path)
        with warnings.catch_warnings(action="ignore"):  # the errors below say what matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsMismatch:
        raise
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


def _check_size(path: Path) -> None:
    """Refuse what would fill the memory; a file that is none of this kind is left to its reader."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LIMIT:
            raise WeightsMismatch(
                f"{path.name} is not a readable PyTorch checkpoint (it would unpack to more than "
                f"{LIMIT:,} bytes). Get the file again."
            )


def _flatten(content: Mapping[Any, Any], path: Path, depth: int = 1) -> dict[str, Tensor]:
    """Name all tensors in containers in containers, by the rules at the top."""
    if depth > DEPTH:
        raise WeightsMismatch(f"{path.name}: more than {DEPTH} containers in each other.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        _check_plain(name, value, path)
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


def _check_plain(name: str, tensor: Tensor, path: Path) -> None:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise WeightsMismatch(f"{path.name}: {name} is no plain tensor of values.")


# ---------------------------------------------------------------- pickled modules


class PickledModule(NamedTuple):
    """What was in a checkpoint of a whole module.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Parameters and buffers, by the names of a state dict.
    names : tuple of str
        The classes of a detector; empty if it has none.
    """

    tensors: dict[str, Tensor]
    names: tuple[str, ...]


class _Inert:
    """Stands in for any class of a pickle: takes whatever it is given, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_modules(path: Path) -> PickledModule:
    """Read a checkpoint in which a whole module was pickled, without its classes or any code.

    Parameters
    ----------
    path : path
        Of a file that holds a dict with the module as "ema" or "model", as Ultralytics writes,
        or the module alone.

    Raises
    ------
    WeightsMismatch
        If the file is damaged, or holds no module.
    """
    _check_size(path)
    try:
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no zip file, or a damaged one: loading it says what is wrong
        wanted = []
    stand_ins: list[Any] = [(type(name, (_Inert,), {}), name) for name in wanted]
    with torch.serialization.safe_globals(stand_ins):
        content = _load(path)
    if isinstance(content, Mapping):
        content = content["ema"] if isinstance(content.get("ema"), _Inert) else content.get("model")
    if not isinstance(content, _Inert):
        raise WeightsMismatch(f"{path.name}: no pickled module in it. Is it the published file?")
    tensors: dict[str, Tensor] = {}
    try:
        _collect(content, "", tensors, [MODULES], path)
    except RecursionError as error:
        raise WeightsMismatch(f"{path.name}: modules in each other without end.") from error
    found = getattr(content, "names", ())
    names = [*found.values()] if isinstance(found, dict) else found
    if not tensors or not isinstance(names, list | tuple):
        raise WeightsMismatch(f"{path.name}: no tensors, or no names of classes, in its module.")
    for name, tensor in tensors.items():
        _check_plain(name, tensor, path)
    return PickledModule(_plain(tensors), tuple(map(str, names)))


def _collect(
    module: Any, prefix: str, tensors: dict[str, Tensor], left: list[int], path: Path
) -> None:
    """Collect what would be the state dict of a module; `left` modules may follow."""
    left[0] -= 1
    if left[0] < 0:
        raise WeightsMismatch(f"{path.name}: more than {MODULES} modules in it.")
    state = vars(module) if isinstance(module, _Inert) else {}
    passing = state.get("_non_persistent_buffers_set")
    passing = passing if isinstance(passing, set) else ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _entries(state, kind):
            if isinstance(tensor, Tensor) and name not in passing:
                tensors[f"{prefix}{name}"] = tensor
    for name, part in _entries(state, "_modules"):
        _collect(part, f"{prefix}{name}.", tensors, left, path)


def _entries(state: Mapping[str, Any], kind: str) -> list[tuple[Any, Any]]:
    found = state.get(kind)
    return list(found.items()) if isinstance(found, Mapping) else []
