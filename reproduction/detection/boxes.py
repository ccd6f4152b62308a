"""Boxes: checked against a picture, fitted into a detector's input and back, thinned out.

Boxes are float arrays (N, 4) of x0, y0, x1, y1 in pixels, x to the right, y down, x1 and y1
exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusionlib.errors import FusionError, ImageError
from fusionlib.images import check_image, quantise
from fusionlib.pairs import Box

__all__ = ["Letterbox", "check_boxes", "eight_bits", "letterbox", "suppress"]

#: Gray of the border around a letterboxed picture, of 255.
BORDER = 114

#: Pixels between the detector's coarsest cells: inputs are multiples of it.
STRIDE = 32

#: At most so many boxes enter non-maximum suppression: those of the highest scores.
MOST_CANDIDATES = 30_000

#: How far, in pixels, rounding may put the edge of a box beyond the picture.
SLACK = 1.0


def check_boxes(boxes: Sequence[Box], width: int, height: int, where: str) -> tuple[Box, ...]:
    """Return annotated boxes, cut off at the edges of their picture; `where` it is, for the error.

    Raises FusionError if a box is not finite, has no area, or leaves the picture by more than a
    pixel.
    """
    inside = []
    for number, (label, *corners) in enumerate(boxes, 1):
        x0, y0, x1, y1 = corners
        text = f"{where}: box {number} ({label}), {x0:.1f}, {y0:.1f} to {x1:.1f}, {y1:.1f},"
        if not np.isfinite(corners).all() or not (x0 < x1 and y0 < y1):
            raise FusionError(f"{text} has no area. Remove or correct it.")
        if min(x0, y0) < -SLACK or x1 > width + SLACK or y1 > height + SLACK:
            raise FusionError(
                f"{text} leaves the picture of {width}x{height} pixels. Correct it; is the label "
                "file that of this picture, and are its numbers fractions of width and height?"
            )
        cut = Box(label, max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height))
        if not (cut.x0 < cut.x1 and cut.y0 < cut.y1):
            raise FusionError(f"{text} has no area inside the picture. Remove or correct it.")
        inside.append(cut)
    return tuple(inside)


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Return an image as RGB of 8 bits, shape (H, W, 3); raises ImageError if it is none."""
    picture = quantise(check_image(image))
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


class Letterbox(NamedTuple):
    """A picture in a detector's input.

    Attributes
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    scale : ndarray, shape (4,)
        Pixels of the input per pixel of the picture, for each side of a box.
    offset : ndarray, shape (4,)
        Width of the border, for each side of a box.
    """

    picture: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def original(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Turn boxes of the input into boxes of the picture, cut off at its edges."""
        return np.clip((boxes - self.offset) / self.scale, 0, [width, height, width, height])


def letterbox(image: np.ndarray, size: int = 640) -> Letterbox:
    """Scale an image so that its longer side is `size`, in 8 bits, and add a gray border.

    Height and width become multiples of 32, 16 to 48 pixels larger than the picture: so the
    published evaluation does for pictures of one shape. Raises ImageError if it cannot be used.
    """
    picture = eight_bits(image)
    height, width = picture.shape[:2]
    if min(height, width) < 2:
        raise ImageError(f"cannot detect in {width}x{height} pixels; give 2x2 or more.")
    scale = size / max(height, width)
    new = (max(round(width * scale), 1), max(round(height * scale), 1))
    if scale != 1:
        how = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
        picture = cv2.resize(picture, new, interpolation=how)
    across, down = (math.ceil(side / STRIDE + 0.5) * STRIDE - side for side in new)
    left, top = across // 2, down // 2
    border = (top, down - top, left, across - left)
    bordered = cv2.copyMakeBorder(picture, *border, cv2.BORDER_CONSTANT, value=(BORDER,) * 3)
    scales = np.array([new[0] / width, new[1] / height] * 2)
    return Letterbox(bordered, scales, np.array([left, top] * 2))


def suppress(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, overlap: float
) -> np.ndarray:
    """Keep the best boxes: OpenCV's greedy non-maximum suppression within each class.

    A box goes whose intersection over union with a better one of its class is larger than
    `overlap`. Returns the places of what stays, best score first.
    """
    corners = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxesBatched(
        corners.tolist(), scores.tolist(), classes.tolist(), -1.0, overlap, 1.0, MOST_CANDIDATES
    )
    return np.array(kept, dtype=np.int64).reshape(-1)
