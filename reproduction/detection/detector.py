"""A detector: pictures to boxes, with published weights or a user's own.

Boxes are float arrays (N, 4) of x0, y0, x1, y1 in pixels, x to the right, y down, x1 and y1
exclusive.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionlib.card import WeightFile
from fusionlib.errors import FusionError, ImageError, WeightsMismatch, unknown
from fusionlib.files import check_folder
from fusionlib.images import check_image, quantise
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.pairs import Box
from fusionlib.tiles import check_device
from fusionlib.weights import (
    find_weights,
    load_state,
    read_facts,
    read_weights,
    save_weights,
    verify_weights,
    weight_files,
)

from .pickled import read_modules
from .yolov5 import SIZES, STRIDES, YOLOv5

#: COCO's 80 classes as of 2017, in the order of the published weights.
COCO_CLASSES = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
    fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant,
    bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
    wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
    vase, scissors, teddy bear, hair drier, toothbrush""".replace("\n    ", " ").split(", ")
)

#: Side of the pictures that the published weights learnt from.
INPUT = 640

#: Gray of the border around a picture, of 255.
BORDER = 114

#: At most so many boxes enter non-maximum suppression: those of the highest scores.
MOST_CANDIDATES = 30_000


class Thresholds(NamedTuple):
    """Which boxes a detector gives: at most `most` of a score above `confidence`.

    Of two boxes of a class that overlap (IoU) by more than `overlap` the better stays. A box counts
    for `every_class` that is likely enough, or for the likeliest alone.
    """

    confidence: float
    overlap: float
    most: int
    every_class: bool


#: For pictures, and for average precision, which wants every box; both as published. (For COCO
#: itself the authors take an overlap of 0.65.)
TO_SEE = Thresholds(0.25, 0.45, 1000, every_class=False)
TO_SCORE = Thresholds(0.001, 0.6, 300, every_class=True)


class Detections(NamedTuple):
    """Boxes (N, 4) inside a picture, best first; scores (N,): objectness times class; classes (N,).

    Classes are places among the names that were looked for.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def named(self, names: Sequence[str]) -> tuple[Box, ...]:
        """Return the boxes with names of classes."""
        found = zip(self.classes, self.boxes.tolist(), strict=True)
        return tuple(Box(names[index], *box) for index, box in found)


class Detector:
    """A network, the names of its classes, the longer side of its input in pixels, its device."""

    def __init__(
        self, network: YOLOv5, names: Sequence[str], *, input: int = INPUT, device: str = "cpu"
    ) -> None:
        check_device(device)
        if input < 32 or input % 32:
            raise FusionError(
                f"the detector's input must be a positive multiple of 32 pixels, not {input}."
            )
        self.network, self.names, self.input, self.device = network, tuple(names), input, device
        self._fast = copy.deepcopy(network).eval()
        for module in self._fast.modules():  # batch normalisation goes into the convolutions
            if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
                module.conv = fuse_conv_bn_eval(module.conv, module.bn)  # type: ignore
                module.bn = nn.Identity()
        self._fast.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def detect(
        self, image: np.ndarray, thresholds: Thresholds, names: Sequence[str] | None = None
    ) -> Detections:
        """Find objects in a picture, of all classes or of these.

        It is one of (H, W) or (H, W, 3), rounded to 8 bits, as from a file. Raises ImageError if
        it cannot be used, and UnknownName if the detector does not know one of the classes.
        """
        wanted = self.indices(self.names if names is None else names)
        picture, scale, offset = letterbox(image, self.input)
        tensor = torch.from_numpy(np.ascontiguousarray(picture)).to(self.device)
        tensor = tensor.permute(2, 0, 1)[None].float() / 255
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        height, width = image.shape[:2]
        with (
            memory_errors(f"detecting in {width}x{height} pixels", "smaller pictures"),
            torch.inference_mode(),
            keep_pages() if self.device == "cpu" else nullcontext(),
        ):
            found = self._fast.decode(self._fast(tensor))[0].cpu()
        found = found[found[:, 4] > thresholds.confidence]
        likely = found[:, 4:5] * found[:, 5:]
        if not thresholds.every_class:
            likely = torch.where(likely == likely.amax(1, keepdim=True), likely, 0)
        likely = likely[:, wanted]
        places, labels = (likely > thresholds.confidence).nonzero(as_tuple=True)
        centre, half = found[places, :2].double(), found[places, 2:4].double() / 2
        boxes = torch.cat([centre - half, centre + half], 1).numpy()
        scores, classes = likely[places, labels].double().numpy(), labels.numpy()
        kept = suppress(boxes, scores, classes, thresholds.overlap)[: thresholds.most]
        inside = np.clip((boxes[kept] - offset) / scale, 0, [width, height, width, height])
        return Detections(inside, scores[kept], classes[kept])

    def indices(self, names: Sequence[str]) -> list[int]:
        """Return the places of classes among the detector's; raises UnknownName.

        Capitals do not count, and "People" is "person": M3FD's name for COCO's class.
        """
        places = {name.lower(): place for place, name in enumerate(self.names)}
        if "person" in places:
            places.setdefault("people", places["person"])
        for name in names:
            if name.lower() not in places:
                raise unknown("class of this detector", name, self.names)
        return [places[name.lower()] for name in names]


# ---------------------------------------------------------------- pictures and boxes


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Return an image as RGB of 8 bits, shape (H, W, 3); raises ImageError if it is none."""
    picture = quantise(check_image(image))
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def scaled(
    picture: np.ndarray, size: int, shrink: int = cv2.INTER_LINEAR
) -> tuple[np.ndarray, np.ndarray]:
    """Scale a picture so that its longer side is `size`; return it, and the factors of a box."""
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    new = (max(round(width * scale), 1), max(round(height * scale), 1))
    if scale != 1:
        how = cv2.INTER_LINEAR if scale > 1 else shrink
        picture = cv2.resize(picture, new, interpolation=how)
    return picture, np.array([new[0] / width, new[1] / height] * 2)


def letterbox(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale an image so that its longer side is `size`, in 8 bits, and add a gray border.

    Return it with factor and offset of a box's four sides. Height and width become multiples of
    32, 16 to 48 pixels larger than the picture: so the published evaluation does for pictures of
    one shape.
    """
    picture = eight_bits(image)
    height, width = picture.shape[:2]
    if min(height, width) < 2:
        raise ImageError(f"cannot detect in {width}x{height} pixels; give 2x2 or more.")
    picture, scale = scaled(picture, size, cv2.INTER_AREA)
    coarsest = STRIDES[-1]
    down, across = (
        math.ceil(side / coarsest + 0.5) * coarsest - side for side in picture.shape[:2]
    )
    left, top = across // 2, down // 2
    border = (top, down - top, left, across - left)
    bordered = cv2.copyMakeBorder(picture, *border, cv2.BORDER_CONSTANT, value=(BORDER,) * 3)
    return bordered, scale, np.array([left, top] * 2)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, overlap: float
) -> np.ndarray:
    """Return the places of the best boxes, best first: greedy suppression within each class.

    A box goes whose intersection over union with a better one of its class is larger.
    """
    corners = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxesBatched(
        corners.tolist(), scores.tolist(), classes.tolist(), -1.0, overlap, 1.0, MOST_CANDIDATES
    )
    return np.array(kept, dtype=np.int64).reshape(-1)


# ---------------------------------------------------------------- weights


class Published(NamedTuple):
    """Weights that Ultralytics trained on COCO, as a `fusionlib.card.WeightUser`."""

    weights: WeightFile
    rules: tuple[str, ...] = ()

    def build(self) -> YOLOv5:
        """Return the network without trained weights."""
        return YOLOv5(self.weights.name.removeprefix("yolov5"), len(COCO_CLASSES))

    @staticmethod
    def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give numbers without a dimension back, which a weight file keeps as one value each."""
        return {
            name: tensor.reshape(()) if name.endswith("num_batches_tracked") else tensor
            for name, tensor in tensors.items()
        }


#: Published detectors by the name of their weights.
DETECTORS = {file.name: Published(file) for file in weight_files("yolov5n", "yolov5s")}


def create_detector(
    weights: str | os.PathLike[str] = "yolov5n",
    *,
    input: int | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> Detector:
    """Create a detector from weights, with the input that they were trained with or another.

    They are a key of `DETECTORS`, looked for in `weights_dir` first; a .safetensors file of
    `save_detector`; or a .pt file of Ultralytics' YOLOv5, n or s: read without running anything in
    it. Raises WeightsNotFound or WeightsMismatch.
    """
    check_folder(weights_dir, "weights")
    path, side = Path(weights), INPUT
    names: Sequence[str] = COCO_CLASSES
    if str(weights) in DETECTORS:
        file = DETECTORS[str(weights)].weights
        path = find_weights(file, weights_dir, program="python -m reproduction")
        tensors = verify_weights(file, path)
    elif path.suffix == ".pt":
        tensors, names = read_modules(path)
    elif path.suffix == ".safetensors":
        tensors, facts = read_weights(path), read_facts(path)
        try:
            names, side = json.loads(facts.get("names", "[]")), int(facts.get("input", INPUT))
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError(names)
        except ValueError as error:
            raise WeightsMismatch(
                f"{path} does not say which classes it detects. Use weights that `python -m "
                "reproduction detect train` wrote."
            ) from error
    else:
        raise unknown("detector", str(weights), DETECTORS)
    stem = tensors.get("model.0.conv.weight", torch.zeros(1))
    size = {64 * width: size for size, (width, _) in SIZES.items()}.get(len(stem))
    if size is None or not names:
        raise WeightsMismatch(
            f"{path} is no YOLOv5 {' or '.join(SIZES)} of release 6 with names of its classes. Use "
            "weights that `python -m reproduction detect train` or Ultralytics' YOLOv5 wrote."
        )
    network = YOLOv5(size, len(names))
    load_state(network, Published.adapt(tensors), path)
    return Detector(network, names, input=side if input is None else input, device=device)


def save_detector(
    path: str | os.PathLike[str], detector: Detector, facts: Mapping[str, object]
) -> None:
    """Write a detector's weights in 16 bits, with facts about its training."""
    own = {"names": json.dumps(detector.names), "input": detector.input}
    save_weights(path, detector.network.cpu(), {**facts, **own}, half=True)
