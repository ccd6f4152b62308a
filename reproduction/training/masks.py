"""Object masks for RefineFuse's loss (equation 6 and the text before it), from labels or files.

The contrast mask, which compares the images, is in `fusionlib.losses`.
"""

from __future__ import annotations

import os

import numpy as np

from fusionlib.errors import FusionError, ImageError
from fusionlib.images import collapse_gray, read_image
from fusionlib.pairs import Pair

__all__ = ["object_mask", "read_mask"]


def object_mask(pair: Pair) -> np.ndarray:
    """Return a pair's own mask, bool (H, W), or else the bright infrared pixels in its boxes.

    Those of at least the mean of their box. Of 20 real masks of salient targets (TNO) they hit,
    given their boxes, 0.72 of the union on average; Otsu's threshold 0.71, half-way between the
    box's extremes 0.69, all of the box 0.51 (tests/reproduction/training/test_masks.py).

    Raises
    ------
    FusionError
        If the pair has neither, or a box is empty or lies outside the image altogether; what
        reaches beyond it is cut off.
    """
    if pair.mask is not None:
        return pair.mask
    if pair.boxes is None:
        raise FusionError(
            f"pair {pair.name} has no labels: neither a mask nor boxes. Fetch those of the data "
            "set, or give masks of your own; black ones say that there is no object."
        )
    height, width = pair.ir.shape
    mask = np.zeros((height, width), bool)
    for box in pair.boxes:
        inside = _touched(box.y0, box.y1, height), _touched(box.x0, box.x1, width)
        levels = pair.ir[inside]
        if not levels.size:
            raise FusionError(
                f"pair {pair.name}: the box of {box.label} from ({box.x0:g}, {box.y0:g}) to "
                f"({box.x1:g}, {box.y1:g}) marks nothing in an image of {width}x{height} pixels. "
                "Correct or remove it."
            )
        mask[inside] |= levels >= levels.mean()
    return mask


def _touched(low: float, high: float, size: int) -> slice:
    """Pixels between two coordinates, those touched in part included."""
    if not low < high:  # NaN, too
        return slice(0, 0)
    low, high = np.clip((np.floor(low), np.ceil(high)), 0, size)
    return slice(int(low), int(high))


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an object mask, black and white: black for none, white for objects; bool (H, W)."""
    levels = collapse_gray(read_image(path))
    if levels.ndim != 2 or not np.isin(levels, (0, 1)).all():
        raise ImageError(
            f"the mask {path} is not black and white. Of a segmentation "
            "`numpy.isin(labels, numbers)` makes a mask, with the numbers of the classes that are "
            "objects."
        )
    return levels == 1
