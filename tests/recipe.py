"""Weights by recipe: what the reference outputs ``*_recipe.npz`` were made with.

Trained weights of some networks cannot be had here. The authors' code was run under weights
that follow from each tensor's name and shape alone, so the same can be given to our network.
The names are in ``tests/golden/keys``.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

#: Variance of a layer's output, by system: chosen so that outputs neither die nor saturate.
GAINS = {"rfn_nest": 3.0, "cddfuse": 0.4, "emma": 0.8, "swinfusion": 1.5, "aefusion": 0.5}


def recipe_state(system: str) -> dict[str, Tensor]:
    """Return a system's tensors under the authors' names."""
    path = Path(__file__).parent / "golden" / "keys" / f"{system}.json"
    shapes = json.loads(path.read_text())
    return {name: _tensor(name, shape, GAINS[system]) for name, shape in shapes.items()}


def _tensor(name: str, shape: list[int], gain: float) -> Tensor:
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    part = name.rpartition(".")[2]
    if part == "running_mean":
        values = 0.1 * noise
    elif part == "running_var":
        values = 1 + 0.2 * np.abs(noise)
    elif part in ("temperature", "scale") or (part == "weight" and len(shape) == 1):
        values = 1 + 0.1 * noise
    elif "relative" in name:
        values = 0.2 * noise
    elif len(shape) >= 2:
        values = noise * math.sqrt(gain / math.prod(shape[1:]))
    else:
        values = 0.1 * noise
    return torch.from_numpy(values.astype(np.float32))
