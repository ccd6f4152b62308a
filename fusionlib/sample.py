"""What the built-in sample takes from other Python packages: real pictures, nothing downloaded.

The rendered scenes and phantoms are files of fusionlib itself, in ``data/sample``; its
``README.md`` says what each is.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .errors import DatasetNotFound
from .images import check_image, quantise
from .pairs import Pair

__all__ = ["package_path", "sentinel2"]


def package_path(package: str, inside: str, remedy: str) -> Path:
    """Locate what an installed package ships, without importing it; `remedy` is for the error."""
    spec = find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    if path is None or not path.exists():
        raise DatasetNotFound(f"{inside} of the Python package {package} is not here. {remedy}")
    return path


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
