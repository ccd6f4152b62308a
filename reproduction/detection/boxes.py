"""Boxes: fitting a picture into a detector's input and back, overlap, non-maximum suppression.

Boxes are float arrays (N, 4) of x0, y0, x1, y1 in pixels, x to the right, y down, x1 and y1
exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusionlib.errors import ImageError
from fusionlib.images import check_image, quantise
from fusionlib.pairs import Box

__all__ = ["Letterbox", "drawn", "letterbox", "suppress"]

#: Gray of the border around a letterboxed picture, of 255.
BORDER = 114

#: Pixels between the detector's coarsest cells: inputs are multiples of it.
STRIDE = 32

#: At most so many boxes enter non-maximum suppression: those of the highest scores.
MOST_CANDIDATES = 30_000


class Letterbox(NamedTuple):
    """A picture in a detector's input.

    Attributes
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    scale_x, scale_y : float
        Pixels of the input per pixel of the picture.
    left, top : int
        Width of the border.
    """

    picture: np.ndarray
    scale_x: float
    scale_y: float
    left: int
    top: int

    def original(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Turn boxes of the input into boxes of the picture, cut off at its edges."""
        offset = np.array([self.left, self.top, self.left, self.top])
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])
        edge = np.array([width, height, width, height])
        return np.clip((boxes - offset) / scale, 0, edge)


def letterbox(picture: np.ndarray, size: int = 640) -> Letterbox:
    """Scale a picture so that its longer side is `size`, and add a gray border.

    Height and width become multiples of 32, 16 to 48 pixels larger than the picture: so the
    published evaluation does for pictures of one shape.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    size : int
        A multiple of 32.

    Raises
    ------
    ImageError
        If `size` is no positive multiple of 32, or the picture too thin to be scaled.
    """
    if size < STRIDE or size % STRIDE:
        raise ImageError(
            f"the detector's input cannot be {size} pixels; give a multiple of {STRIDE}."
        )
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    new = (max(round(width * scale), 1), max(round(height * scale), 1))
    if min(height, width) < 2:
        raise ImageError(f"cannot detect in {width}x{height} pixels; give 2x2 or more.")
    scaled = picture
    if scale != 1:
        how = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
        scaled = cv2.resize(picture, new, interpolation=how)
    target = [math.ceil(side / STRIDE + 0.5) * STRIDE for side in new]
    across, down = (full - side for full, side in zip(target, new, strict=True))
    left, top = across // 2, down // 2
    bordered = cv2.copyMakeBorder(
        scaled,
        top,
        down - top,
        left,
        across - left,
        cv2.BORDER_CONSTANT,
        value=(BORDER, BORDER, BORDER),
    )
    return Letterbox(bordered, new[0] / width, new[1] / height, left, top)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)


def suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    *,
    overlap: float,
    most: int = 300,
) -> np.ndarray:
    """Keep the best boxes: greedy non-maximum suppression within each class.

    Parameters
    ----------
    boxes : ndarray, shape (N, 4)
    scores : ndarray, shape (N,)
    classes : ndarray of int, shape (N,)
    overlap : float
        A box goes whose intersection over union with a better one of its class is larger.
    most : int
        At most so many are kept, of all classes together.

    Returns
    -------
    ndarray of int
        Indices of what stays, best score first; among equal scores in the order given.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    boxes, classes = boxes[order].astype(np.float64), classes[order]
    areas = _areas(boxes)
    left = np.arange(len(order))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, rest = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.clip(high - low, 0, None).prod(-1)
        # Without a division: a union of nothing has nothing in common.
        same = common > overlap * (areas[best] + areas[rest] - common)
        left = rest[~(same & (classes[rest] == classes[best]))]
    return order[np.array(kept, dtype=np.int64)]


#: Okabe and Ito's colours, told apart by the colour-blind; classes take them in turn.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0))


def drawn(image: np.ndarray, boxes: Sequence[Box], texts: Sequence[str]) -> np.ndarray:
    """Draw boxes on a copy of a picture, each with its text.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, 3), values in [0, 1]
    boxes : sequence of Box
    texts : sequence of str
        One per box.

    Returns
    -------
    ndarray of float32, shape (H, W, 3), values in [0, 1]
    """
    picture = quantise(check_image(image))
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    picture = picture.copy()
    thick = max(round(max(picture.shape) / 500), 1)
    labels = list(dict.fromkeys(box.label for box in boxes))
    for box, text in zip(boxes, texts, strict=True):
        colour = COLOURS[labels.index(box.label) % len(COLOURS)]
        x0, y0, x1, y1 = map(round, box[1:])
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, thick)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, thick)
        top = max(y0, height + 4)
        cv2.rectangle(picture, (x0, top - height - 4), (x0 + width, top), colour, -1)
        cv2.putText(
            picture,
            text,
            (x0, top - 3),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4 * thick,
            (255, 255, 255),
            thick,
            cv2.LINE_AA,
        )
    return check_image(picture)
