"""What a detector sees of a picture while it learns: mosaics, shifted, scaled, flipped, recoloured.

As published for YOLOv5's smaller models (its setting "scratch-low"); own code. Each function draws
from a generator, so that a scene is decided by its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from .detector import BORDER


class Scene(NamedTuple):
    """A picture (H, W, 3) of uint8; boxes (N, 4): x0, y0, x1, y1 in pixels; their classes (N,)."""

    picture: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


class Augmentation(NamedTuple):
    """How far pictures are changed.

    They are shifted by `translate` of the side and grow or shrink by `scale`, at most; hue,
    saturation and value are multiplied by 1 plus or minus their number, at most; left and right
    change places with probability `mirror`.
    """

    translate: float = 0.1
    scale: float = 0.5
    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4
    mirror: float = 0.5


#: A box that is cut off stays if it is wider and higher than so many pixels, shows more than this
#: share of its object, and is not longer than so many times its width.
LEAST_SIDE, LEAST_SHARE, LONGEST = 2, 0.1, 100


def augmented(
    load: Callable[[int], Scene],
    index: int,
    count: int,
    size: int,
    random: Generator,
    how: Augmentation,
) -> Scene:
    """Make a scene of size x size pixels of `index` and three others, drawn from `count`."""
    chosen = [index, *random.integers(count, size=3).tolist()]
    random.shuffle(chosen)
    scene = _warped(_mosaic([load(i) for i in chosen], size, random), size, random, how)
    picture, boxes = _recoloured(scene.picture, random, how), scene.boxes
    if random.random() < how.mirror:
        picture = picture[:, ::-1]
        boxes = np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)
    return Scene(np.ascontiguousarray(picture), boxes, scene.classes)


def _mosaic(scenes: Sequence[Scene], size: int, random: Generator) -> Scene:
    """Put four pictures around a point near the middle of a canvas of twice the side."""
    canvas = np.full((2 * size, 2 * size, 3), BORDER, np.uint8)
    x, y = random.integers(size // 2, 2 * size - size // 2, size=2).tolist()
    boxes = []
    for corner, (picture, some, _) in enumerate(scenes):
        height, width = picture.shape[:2]
        left = x - width if corner % 2 == 0 else x
        top = y - height if corner < 2 else y
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, 2 * size), min(top + height, 2 * size)
        canvas[y0:y1, x0:x1] = picture[y0 - top : y1 - top, x0 - left : x1 - left]
        boxes.append(np.clip(some + np.array([left, top, left, top]), 0, 2 * size))
    return Scene(canvas, np.concatenate(boxes), np.concatenate([one.classes for one in scenes]))


def _warped(scene: Scene, size: int, random: Generator, how: Augmentation) -> Scene:
    """Scale a canvas about its middle and cut size x size pixels out, shifted."""
    scale = random.uniform(1 - how.scale, 1 + how.scale)
    shift = size * random.uniform(0.5 - how.translate, 0.5 + how.translate, size=2)
    offset = shift - scale * (scene.picture.shape[0] / 2)
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    picture = cv2.warpAffine(scene.picture, matrix, (size, size), borderValue=(BORDER,) * 3)
    whole = scene.boxes * scale + np.tile(offset, 2)
    boxes = np.clip(whole, 0, size)
    sides, before = boxes[:, 2:] - boxes[:, :2], whole[:, 2:] - whole[:, :2]
    share = sides.prod(1) / np.maximum(before.prod(1), 1e-9)
    lengths = np.sort(sides, axis=1)
    seen = (lengths[:, 0] > LEAST_SIDE) & (share > LEAST_SHARE)
    seen &= lengths[:, 1] < LONGEST * np.maximum(lengths[:, 0], 1e-9)
    return Scene(picture, boxes[seen], scene.classes[seen])


def _recoloured(picture: np.ndarray, random: Generator, how: Augmentation) -> np.ndarray:
    """Multiply hue, saturation and value by factors near 1."""
    gains = 1 + random.uniform(-1, 1, 3) * [how.hue, how.saturation, how.value]
    levels = np.arange(256)
    hue = (levels * gains[0] % 180).astype(np.uint8)  # OpenCV's hue of 8 bits ends at 180
    saturation, value = (np.clip(levels * gain, 0, 255).astype(np.uint8) for gain in gains[1:])
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    tables = np.stack([hue, saturation, value], axis=-1)[None]
    return cv2.cvtColor(cv2.LUT(hsv, tables), cv2.COLOR_HSV2RGB)
