"""Reading a checkpoint in which a whole module was pickled, as Ultralytics does; none of it is run.

Importing this module lets `fusionlib.weights` read such files, too: the format "modules" of
``weights.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionlib.checkpoints import READERS, load_pytorch, plain
from fusionlib.errors import WeightsMismatch


class _Inert(nn.Module):
    """Stands in for every class of a pickle: a module that keeps what it is given, and no more."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            super().__setstate__(state)


def read_modules(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a pickled module, named as in a state dict, and its `names` of classes.

    The file holds a dict with the module as "ema" or "model", as Ultralytics writes, or the module
    alone. Raises WeightsMismatch if it is damaged, or holds no module.
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
    try:
        tensors = nn.Module.state_dict(content)
        names = vars(content).get("names", ())
        names = tuple(names.values() if isinstance(names, dict) else names)
    except Exception as error:  # whatever odd insides make of it
        raise WeightsMismatch(f"{path.name}: its module is damaged ({error}).") from error
    return plain(tensors, path), tuple(map(str, names))


READERS["modules"] = lambda path: read_modules(path)[0]
