"""Reading a checkpoint in which a whole module was pickled, as Ultralytics does; none of it is run.

Each class in the file is replaced by one that does nothing but keep what it is given, and the
tensors are collected from there. Importing this module lets `fusionlib.weights` read such files,
too: the format "modules" of ``weights.toml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusionlib.checkpoints import READERS, load_pytorch, plain
from fusionlib.errors import WeightsMismatch

__all__ = ["PickledModule", "read_modules"]

#: Modules, in one another or not; a checkpoint with more holds something else.
MODULES = 5000


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
    try:
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no zip file, or a damaged one: loading it says what is wrong
        wanted = []
    stand_ins: list[Any] = [(type(name, (_Inert,), {}), name) for name in wanted]
    with torch.serialization.safe_globals(stand_ins):
        content = load_pytorch(path)
    if isinstance(content, Mapping):
        content = content["ema"] if isinstance(content.get("ema"), _Inert) else content.get("model")
    if not isinstance(content, _Inert):
        raise WeightsMismatch(f"{path.name}: no pickled module in it. Is it the published file?")
    tensors = {
        f"{prefix}{name}": tensor
        for prefix, state in _modules(content, path)
        for name, tensor in _own_tensors(state)
    }
    found = getattr(content, "names", ())
    names = [*found.values()] if isinstance(found, dict) else found
    if not tensors or not isinstance(names, list | tuple):
        raise WeightsMismatch(f"{path.name}: no tensors, or no names of classes, in its module.")
    return PickledModule(plain(tensors, path), tuple(map(str, names)))


def _modules(module: Any, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a module's attributes and those of all modules in it, each with its name and a dot."""
    waiting, count = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        count += 1
        if count > MODULES:
            raise WeightsMismatch(f"{path.name}: more than {MODULES} modules in it.")
        state = vars(module) if isinstance(module, _Inert) else {}
        yield prefix, state
        waiting += [(f"{prefix}{name}.", part) for name, part in _entries(state, "_modules")]


def _own_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield what a module itself adds to a state dict."""
    passing = state.get("_non_persistent_buffers_set")
    passing = passing if isinstance(passing, set) else ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _entries(state, kind):
            if isinstance(tensor, Tensor) and name not in passing:
                yield name, tensor


def _entries(state: Mapping[str, Any], kind: str) -> list[tuple[Any, Any]]:
    found = state.get(kind)
    return list(found.items()) if isinstance(found, Mapping) else []


READERS["modules"] = lambda path: read_modules(path).tensors
