"""A detector: pictures to boxes, with published weights or a user's own."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionlib.card import WeightFile
from fusionlib.errors import FusionError, WeightsMismatch, WeightsNotFound, unknown
from fusionlib.files import check_folder
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.pairs import Box
from fusionlib.tiles import check_device
from fusionlib.weights import (
    find_weights,
    load_into,
    read_facts,
    read_weights,
    save_weights,
    verify_weights,
    weight_files,
)

from .boxes import letterbox, suppress
from .pickled import read_modules
from .yolov5 import SIZES, YOLOv5

__all__ = [
    "COCO_CLASSES",
    "DETECTORS",
    "TO_SCORE",
    "TO_SEE",
    "Detections",
    "Detector",
    "DetectorSpec",
    "Thresholds",
    "create_detector",
    "save_detector",
]

#: COCO's 80 classes as of 2017, in the order of the published weights.
COCO_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)


@dataclass(frozen=True)
class DetectorSpec:
    """A detector with trained weights: size of the network, its classes, its input in pixels."""

    size: str
    names: tuple[str, ...]
    input: int
    weights: WeightFile

    #: As a `fusionlib.card.WeightUser` it has no fusion rules.
    rules: tuple[str, ...] = ()

    def build(self) -> YOLOv5:
        """Return the network without trained weights."""
        return YOLOv5(self.size, len(self.names))

    @staticmethod
    def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give numbers without a dimension back, which a weight file keeps as one value each."""
        return {
            name: tensor.reshape(()) if name.endswith("num_batches_tracked") else tensor
            for name, tensor in tensors.items()
        }


#: Detectors by the name of their weights.
DETECTORS = {
    file.name: DetectorSpec(file.name.removeprefix("yolov5"), COCO_CLASSES, 640, file)
    for file in weight_files("yolov5n", "yolov5s")
}


class Thresholds(NamedTuple):
    """Which boxes a detector gives: at most `most` of a score above `confidence`.

    Of two boxes of a class with a larger intersection over union than `overlap` the better stays.
    A box counts for every class that is likely enough, or for the likeliest alone.
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
    """What a detector found in a picture, best first.

    Attributes
    ----------
    boxes : ndarray of float64, shape (N, 4)
        x0, y0, x1, y1 in pixels, inside the picture.
    scores : ndarray of float64, shape (N,)
        Objectness times class, in [0, 1].
    classes : ndarray of int, shape (N,)
        Index into the names that were looked for.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def named(self, names: Sequence[str]) -> tuple[Box, ...]:
        """Return the boxes with names of classes."""
        found = zip(self.classes, self.boxes.tolist(), strict=True)
        return tuple(Box(names[index], *box) for index, box in found)


class Detector:
    """A network, the names of its classes and the size of its input.

    Attributes
    ----------
    network : YOLOv5
    names : tuple of str
    input : int
        The longer side, in pixels, to which pictures are scaled; a multiple of 32.
    device : str
    """

    def __init__(
        self, network: YOLOv5, names: Sequence[str], *, input: int = 640, device: str = "cpu"
    ) -> None:
        check_device(device)
        if input < 32 or input % 32:
            raise FusionError(
                f"the detector's input must be a positive multiple of 32 pixels, not {input}."
            )
        if network.classes != len(names):
            raise FusionError(
                f"the detector has {network.classes} classes, given are {len(names)} names."
            )
        self.network = network
        self.names = tuple(names)
        self.input = input
        self.device = device
        self._fast = _without_batch_norm(network).to(device)
        self._fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def detect(
        self, image: np.ndarray, thresholds: Thresholds, names: Sequence[str] | None = None
    ) -> Detections:
        """Find objects in a picture.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, 3)
            uint8, uint16 or float in [0, 1]; a gray one is taken for RGB with equal channels. It
            is rounded to 8 bits, as from a file.
        thresholds : Thresholds
        names : sequence of str, optional
            Look for these classes alone.

        Raises
        ------
        ImageError
            If the image cannot be used.
        UnknownName
            If the detector does not know one of the classes.
        """
        fitted = letterbox(image, self.input)
        tensor = torch.from_numpy(np.ascontiguousarray(fitted.picture)).to(self.device)
        tensor = tensor.permute(2, 0, 1)[None].float() / 255
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        height, width = image.shape[:2]
        with (
            memory_errors(f"detecting in {width}x{height} pixels", "smaller pictures"),
            torch.inference_mode(),
            keep_pages() if self.device == "cpu" else contextlib.nullcontext(),
        ):
            found = self._fast.decode(self._fast(tensor))[0].cpu()
        wanted = self.indices(self.names if names is None else names)
        boxes, scores, classes = _candidates(found, wanted, thresholds)
        kept = suppress(boxes, scores, classes, thresholds.overlap)[: thresholds.most]
        inside = fitted.original(boxes[kept], height, width)
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


def _candidates(
    found: Tensor, wanted: list[int], thresholds: Thresholds
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn decoded outputs (N, 5 + classes) into boxes of the classes that are wanted."""
    found = found[found[:, 4] > thresholds.confidence]
    scores = found[:, 4:5] * found[:, 5:]
    if not thresholds.every_class:
        scores = torch.where(scores == scores.amax(1, keepdim=True), scores, 0)
    scores = scores[:, wanted]
    places, classes = (scores > thresholds.confidence).nonzero(as_tuple=True)
    centre, half = found[places, :2].double(), found[places, 2:4].double() / 2
    boxes = torch.cat([centre - half, centre + half], 1)
    return boxes.numpy(), scores[places, classes].double().numpy(), classes.numpy()


def _without_batch_norm(network: YOLOv5) -> YOLOv5:
    """Copy a network for inference, with batch normalisation inside the convolutions."""
    fused = copy.deepcopy(network).eval()
    for module in fused.modules():
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)  # type: ignore
            module.bn = nn.Identity()
    return fused


# ---------------------------------------------------------------- weights


def create_detector(
    weights: str | os.PathLike[str] = "yolov5n",
    *,
    input: int | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> Detector:
    """Create a detector from weights.

    Parameters
    ----------
    weights : str or path
        A key of `DETECTORS`, a .safetensors file of `save_detector`, or a .pt file of Ultralytics'
        YOLOv5, n or s: read without running anything in it.
    input : int, optional
        As of `Detector`; by default as the weights were trained.
    weights_dir : path, optional
        Where to look first.
    device : str

    Raises
    ------
    WeightsNotFound
        If there are no such weights; says where to get them.
    WeightsMismatch
        If the file is damaged, or of another network.
    FusionError
        If the device cannot be used, or there is no such folder.
    """
    check_folder(weights_dir, "weights")
    path = Path(weights)
    if str(weights) in DETECTORS:
        spec = DETECTORS[str(weights)]
        path = find_weights(spec.weights, weights_dir, program="python -m reproduction")
        tensors = verify_weights(spec.weights, path)
    elif path.suffix == ".pt":
        if not path.is_file():
            raise WeightsNotFound(f"no such weight file: {path}. Check the spelling.")
        module = read_modules(path)
        tensors = module.tensors
        spec = _spec_of(path, tensors, module.names, 640)
    elif path.suffix == ".safetensors":
        tensors = read_weights(path)
        spec = _spec_of(path, tensors, *_written_facts(path))
    else:
        raise unknown("detector", str(weights), DETECTORS)
    network = spec.build()
    load_into(spec, network, tensors, path)
    return Detector(
        network, spec.names, input=spec.input if input is None else input, device=device
    )


def _spec_of(
    path: Path, tensors: Mapping[str, Tensor], names: Sequence[str], input: int
) -> DetectorSpec:
    """Tell size and classes of a user's weights."""
    stem = tensors.get("model.0.conv.weight", torch.zeros(0))
    channels = len(stem) if stem.ndim else 0
    size = {64 * width: size for size, (width, _) in SIZES.items()}.get(channels)
    if size is None or not names:
        raise WeightsMismatch(
            f"{path} is no YOLOv5 {' or '.join(SIZES)} of release 6 with names of its classes. Use "
            "weights that `python -m reproduction detect train` or Ultralytics' YOLOv5 wrote."
        )
    file = WeightFile(path.stem, "", sum(t.numel() for t in tensors.values()), "", "")
    return DetectorSpec(size, tuple(names), input, file)


def _written_facts(path: Path) -> tuple[list[str], int]:
    """Read what `save_detector` wrote."""
    facts = read_facts(path)
    try:
        names, input = json.loads(facts["names"]), int(facts["input"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(names)
        return names, input
    except (KeyError, ValueError) as error:
        raise WeightsMismatch(
            f"{path} does not say which classes it detects. Use weights that `python -m "
            "reproduction detect train` wrote."
        ) from error


def save_detector(
    path: str | os.PathLike[str], detector: Detector, facts: Mapping[str, object]
) -> None:
    """Write a detector's weights in 16 bits, with facts about its training."""
    own = {"names": json.dumps(detector.names), "input": detector.input}
    save_weights(path, detector.network.cpu(), {**facts, **own}, half=True)
