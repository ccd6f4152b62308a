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

import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from .errors import WeightsMismatch
from .tensorflow import ENDS, read_bundle

__all__ = ["READERS", "Checkpoint", "load_pytorch", "plain", "read_checkpoint"]

#: Containers in containers; a checkpoint that is deeper holds something else.
DEPTH = 4

#: The last part of the names of TensorFlow's optimiser variables.
SLOTS = re.compile(r"(?:^|/)(?:Adam|RMSProp|Momentum|beta[12]_power|global_step)(?:_\d+)?$")


@dataclass(frozen=True)
class Checkpoint:
    """A file that authors publish, and which of its tensors belong to a weight set.

    Attributes
    ----------
    format : str
        A key of `READERS`: "pytorch", "tensorflow", or "matlab" of one matrix.
    address : str
        Where to download it; of TensorFlow what its two files have in common.
    member : str
        Where it is in a zip file: a pattern of its name there.
    keep : str
        Regular expression: only tensors with such names belong to the set.
    prefix : str
        What the tensors' names get in front, where a set has several checkpoints. A MATLAB matrix
        is called just that.
    """

    format: str
    address: str
    member: str = ""
    keep: str = ""
    prefix: str = ""

    @property
    def addresses(self) -> list[str]:
        """Where to download its files."""
        return [self.address] if self.member else self.each(self.address)

    def each(self, name: str) -> list[str]:
        """Return the names of its files, which in `address` and `member` are one."""
        return [name + end for end in ENDS] if self.format == "tensorflow" else [name]


def read_checkpoint(checkpoint: Checkpoint, files: Sequence[Path]) -> dict[str, Tensor]:
    """Read the tensors that belong to the weight set from the checkpoint's files.

    Raises `WeightsMismatch` if one is damaged, or is no such checkpoint, or holds code.
    """
    for path in files:
        if _start(path).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise WeightsMismatch(
                f"{path.name} is an HTML page, no checkpoint: the address was wrong, or the page "
                "of the file was saved instead of the file. Download the file itself."
            )
    with tempfile.TemporaryDirectory() as folder:
        members = checkpoint.each(checkpoint.member)
        parts = _unpack(files[0], members, folder) if checkpoint.member else files
        found = READERS[checkpoint.format](*parts)
        tensors = {name: one for name, one in found.items() if re.search(checkpoint.keep, name)}
        if not tensors:
            raise WeightsMismatch(
                f"{', '.join(path.name for path in files)}: no tensors of this weight set in it. "
                "Is it the published file?"
            )
        copies = plain(tensors, parts[0])
    return {f"{checkpoint.prefix}{name}": tensor for name, tensor in copies.items()}


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200)


def plain(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Copy tensors into memory of their own, with one dimension or more.

    Raises `WeightsMismatch` if one is sparse, quantized or without values.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise WeightsMismatch(f"{path.name}: {name} is no plain tensor of values.")
    copies = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return {name: copy if copy.ndim else copy.reshape(1) for name, copy in copies.items()}


def _unpack(path: Path, patterns: Sequence[str], folder: str) -> list[Path]:
    """Unpack the one file of each pattern; macOS adds others beside the real ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if "__MACOSX/" not in name]
            found = {one: [n for n in names if fnmatchcase(n, one)] for one in patterns}
            for pattern, fitting in found.items():
                if len(fitting) != 1:
                    raise WeightsMismatch(
                        f"{path.name} is not the zip file expected: it holds {len(fitting)} files "
                        f"{pattern}, expected one; in it are {', '.join(names[:10]) or 'none'}."
                    )
            return [Path(archive.extract(name, folder)) for (name,) in found.values()]
    except WeightsMismatch:
        raise
    except Exception as error:  # whatever a damaged file makes zipfile stumble on
        reason = "it is cut off: its end is missing" if _is_cut_zip(path) else error
        raise WeightsMismatch(
            f"{path.name} cannot be unpacked ({reason}). Get the file again."
        ) from error


def _is_cut_zip(path: Path) -> bool:
    """Whether it begins as a zip file, but lacks the list of contents at the end of one."""
    return _start(path).startswith(b"PK") and not zipfile.is_zipfile(path)


# ---------------------------------------------------------------- the formats


def load_pytorch(path: Path) -> Any:
    """Read a file of `torch.save` by the restricted loader.

    Raises `WeightsMismatch` if the file is damaged, or is no such file, or asks for anything but
    tensors and plain containers; nothing in it is run.
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


def _flatten(content: Any, path: Path, depth: int = 1) -> dict[str, Tensor]:
    """Name all tensors in containers in containers, by the rules at the top."""
    if not isinstance(content, Mapping):
        return {}
    if depth > DEPTH:
        raise WeightsMismatch(f"{path.name}: more than {DEPTH} containers in each other.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    inner = {
        str(name): _flatten(value, path, depth + 1)
        for name, value in content.items()
        if "optim" not in str(name).lower()
    }
    groups = {name: group for name, group in inner.items() if group}
    if not tensors and len(groups) == 1:
        return next(iter(groups.values()))
    for name, group in groups.items():
        tensors |= {f"{name}.{inside}": value for inside, value in group.items()}
    return tensors


def _read_tensorflow(index: Path, data: Path) -> dict[str, Tensor]:
    found = read_bundle(index, data)
    return {name: tensor for name, tensor in found.items() if not SLOTS.search(name)}


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


#: Format of a `Checkpoint` -> what reads its files and names the tensors.
READERS: dict[str, Callable[..., Mapping[str, Tensor]]] = {
    "pytorch": lambda path: _flatten(load_pytorch(path), path),
    "tensorflow": _read_tensorflow,
    "matlab": _read_matlab,
}
