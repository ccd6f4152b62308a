"""Where the fused image is to follow the infrared image, and where the visible one.

For RefineFuse's loss (equation 6 and the text before it): an object mask, made from boxes or from
a segmentation. The contrast mask, which compares the images, is in `fusionlib.losses`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusionlib.errors import FusionError, ImageError
from fusionlib.images import collapse_gray, read_image

if TYPE_CHECKING:
    import os

    from fusionlib.pairs import Box, Pair

__all__ = [
    "MSRS_CLASSES",
    "MSRS_OBJECTS",
    "object_mask",
    "object_mask_from_boxes",
    "object_mask_from_segmentation",
    "read_mask",
]

#: What the values 0 to 8 of MSRS's segmentation labels stand for.
MSRS_CLASSES = (
    *("background", "car", "person", "bike", "curve"),
    *("car stop", "guardrail", "color cone", "bump"),
)
#: Those that `object_mask_from_segmentation` takes for objects: what the boxes mark, too.
MSRS_OBJECTS = ("car", "person", "bike")


# ---------------------------------------------------------------- objects


def object_mask_from_boxes(ir: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Mark the bright infrared pixels in boxes: those of at least the mean of their box.

    Of 20 real masks of salient targets (TNO) it hits, given their boxes, 0.72 of the union on
    average; Otsu's threshold 0.71, half-way between the box's extremes 0.69, all of the box 0.51
    (tests/test_masks.py).

    Parameters
    ----------
    ir : ndarray, shape (H, W)
        The infrared image, on any scale.
    boxes : sequence of Box
        What reaches beyond the image is cut off.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    FusionError
        If a box is empty or lies outside the image altogether.
    """
    height, width = ir.shape
    mask = np.zeros(ir.shape, bool)
    for box in boxes:
        rows = _touched(box.y0, box.y1, height)
        columns = _touched(box.x0, box.x1, width)
        inside = ir[rows, columns]
        if not inside.size:
            raise FusionError(
                f"the box of {box.label} from ({box.x0:g}, {box.y0:g}) to ({box.x1:g}, "
                f"{box.y1:g}) marks nothing in an image of {width}x{height} pixels. Correct or "
                "remove it."
            )
        mask[rows, columns] |= inside >= inside.mean()
    return mask


def _touched(low: float, high: float, size: int) -> slice:
    """Pixels between two coordinates, those touched in part included."""
    if not low < high:  # NaN, too
        return slice(0, 0)
    low, high = np.clip((np.floor(low), np.ceil(high)), 0, size)
    return slice(int(low), int(high))


def object_mask_from_segmentation(
    labels: np.ndarray,
    objects: Collection[str] = MSRS_OBJECTS,
    classes: Sequence[str] = MSRS_CLASSES,
) -> np.ndarray:
    """Mark the objects of a segmentation.

    Parameters
    ----------
    labels : ndarray of int, shape (H, W)
        The number of each pixel's class.
    objects : collection of str
        Classes that are objects.
    classes : sequence of str
        Names of the classes 0, 1, ...

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    FusionError
        If `objects` holds what is no class, or the labels are not whole numbers of classes.
    """
    if strange := [name for name in objects if name not in classes]:
        raise FusionError(f"{', '.join(strange)}: no such class. Classes: {', '.join(classes)}.")
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise FusionError(
            "a segmentation is an array (H, W) of whole numbers, not "
            f"{labels.dtype} of shape {labels.shape}."
        )
    unknown = np.setdiff1d(labels, np.arange(len(classes)))
    if len(unknown):
        raise FusionError(
            f"the segmentation holds {', '.join(map(str, unknown[:5]))}; its classes are 0 to "
            f"{len(classes) - 1} ({', '.join(classes)}). Give the names of all its classes."
        )
    return np.isin(labels, [classes.index(name) for name in objects])


def object_mask(pair: Pair) -> np.ndarray:
    """Return a pair's own mask, or else the one from its boxes.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    FusionError
        If the pair has neither, or a box marks nothing in the image.
    """
    if pair.mask is not None:
        return pair.mask
    if pair.boxes is None:
        raise FusionError(
            f"pair {pair.name} has no labels: neither a mask nor boxes. Fetch those of the data "
            "set, or give masks of your own; black ones say that there is no object."
        )
    try:
        return object_mask_from_boxes(pair.ir, pair.boxes)
    except FusionError as error:
        raise FusionError(f"pair {pair.name}: {error}") from error


def read_mask(mask: np.ndarray | str | os.PathLike[str], what: str = "mask") -> np.ndarray:
    """Read an object mask: black for none, white for objects.

    Parameters
    ----------
    mask : ndarray or path
        Gray (H, W): bool, uint8 of 0 and 255, or floats of 0 and 1.
    what : str
        How errors call it.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    ImageError
        If it cannot be read, or has other values than black and white.
    """
    if isinstance(mask, np.ndarray):
        levels = mask / 255 if mask.dtype == np.uint8 else mask.astype(np.float64)
    else:
        levels = collapse_gray(read_image(mask))
        what = f"{what} ({mask})"
    if levels.ndim != 2 or not np.isin(levels, (0, 1)).all():
        raise ImageError(
            f"the {what} is not black and white. Of a segmentation "
            "`reproduction.masks.object_mask_from_segmentation` makes a mask."
        )
    return levels == 1
