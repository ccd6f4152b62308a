"""Boxes to average precision: COCO's, by faster-coco-eval, with intervals over pictures."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..datasets import Box
from ..errors import DatasetNotFound, FusionError, unknown
from ..images import read_image
from .detector import TO_SCORE, Detections, Detector

if TYPE_CHECKING:
    from .layout import Example

__all__ = [
    "DRAWS",
    "Matches",
    "Truth",
    "check_boxes",
    "interval",
    "match",
    "match_coco",
    "mean_over_classes",
    "precision_table",
    "resamples",
    "search",
    "search_files",
]

#: Resamples of a bootstrap.
DRAWS = 1000

#: COCO's limit of boxes per picture and class.
MOST = 100

#: How far, in pixels, rounding may put the edge of a box beyond the picture.
SLACK = 1.0


class Truth(NamedTuple):
    """What is in a picture: its size and the annotated boxes, of which there may be none."""

    width: int
    height: int
    boxes: tuple[Box, ...]


def check_boxes(boxes: Sequence[Box], width: int, height: int, where: str) -> tuple[Box, ...]:
    """Return annotated boxes, cut off at the edges of their picture.

    Parameters
    ----------
    boxes : sequence of Box
    width, height : int
        Of the picture, in pixels.
    where : str
        What the error calls the source.

    Raises
    ------
    FusionError
        If a box is not finite, has no area, or leaves the picture by more than a pixel.
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
        inside.append(Box(label, max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)))
    return tuple(inside)


class Matches:
    """Which detections are right, for every picture: what average precision is computed from.

    Attributes
    ----------
    names : tuple of str
        The classes.
    pictures : int
    """

    def __init__(self, evaluator: Any, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.pictures = len(evaluator.params.imgIds)
        self._params = evaluator._paramsEval
        # The library's results of one picture each, of all pictures of the first class, then of
        # the second, and so on.
        self._each = np.array([*evaluator._evalImgs_cpp, None], dtype=object)[:-1]
        self._each = self._each.reshape(len(self.names), self.pictures)

    def average_precision(self, pictures: np.ndarray | None = None) -> np.ndarray:
        """Compute AP per class at IoU 0.5 and over 0.5:0.95.

        Parameters
        ----------
        pictures : ndarray of int, optional
            Only these, in the order in which `match` had them; one may be there several times.

        Returns
        -------
        ndarray, shape (classes, 2)
            In [0, 1]; NaN for a class of which the pictures hold no object.
        """
        from faster_coco_eval.faster_eval_api_cpp import COCOevalAccumulate

        chosen = self._each if pictures is None else self._each[:, pictures]
        params = self._params
        params.imgIds = list(range(chosen.shape[1]))
        precision = np.asarray(
            COCOevalAccumulate(params, chosen.reshape(-1).tolist())["precision"]
        ).reshape(len(params.iouThrs), len(params.recThrs), len(self.names))
        precision = np.where(precision < 0, np.nan, precision).mean(axis=1)
        return np.stack([precision[0], precision.mean(axis=0)], axis=1)

    def bootstrap(self, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
        """Return `average_precision` of resampled pictures, shape (draws, classes, 2).

        With one seed all `Matches` of as many pictures draw the same pictures: their differences
        are paired.
        """
        return np.stack(
            [self.average_precision(one) for one in resamples(self.pictures, draws, seed)]
        )


def resamples(pictures: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Draw pictures with replacement: indices, shape (draws, pictures)."""
    return np.random.default_rng(seed).integers(pictures, size=(draws, pictures))


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Append the mean over the classes that are there to AP, (..., classes, 2)."""
    with np.errstate(invalid="ignore"):
        there = np.isfinite(values)
        total = np.where(there, values, 0).sum(axis=-2, keepdims=True)
        mean = total / there.sum(axis=-2, keepdims=True)
    return np.concatenate([values, mean], axis=-2)


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile interval over the first dimension, leaving NaN out."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # where all are NaN
        low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return low, high


def search(
    detector: Detector,
    examples: Sequence[Example],
    names: Sequence[str],
    *,
    title: str = "",
    progress: bool = True,
) -> tuple[dict[str, Truth], dict[str, Detections]]:
    """Detect objects of some classes in pictures, as average precision wants them.

    Parameters
    ----------
    detector : Detector
    examples : sequence of Example
    names : sequence of str
        The classes; the detector may know others.
    title : str
        For the progress bar.
    progress : bool

    Returns
    -------
    truths : dict of str to Truth
    found : dict of str to Detections
        Their classes are indices into `names`.

    Raises
    ------
    UnknownName
        If the detector does not know one of the classes.
    FusionError
        If a picture cannot be read, or a box is not inside it.
    """
    places = {index: place for place, index in enumerate(detector.indices(names))}
    truths, found = {}, {}
    for example in tqdm(examples, title, disable=not progress):
        picture, boxes = example.load()
        truths[example.name] = Truth(picture.shape[1], picture.shape[0], boxes)
        some = detector.detect(picture, TO_SCORE, only=names)
        classes = np.array([places[index] for index in some.classes.tolist()], dtype=np.int64)
        found[example.name] = some._replace(classes=classes)
    return truths, found


def search_files(
    detector: Detector,
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    *,
    progress: bool = True,
) -> tuple[dict[str, Any], dict[str, Detections]]:
    """Detect objects in the images of a folder that a file of COCO's annotations lists.

    Returns
    -------
    annotations : dict
        As read.
    found : dict of str to Detections
        By file name; `match_coco` takes both.

    Raises
    ------
    DatasetNotFound
        If the folder or the file is not there, or an image that is listed.
    FusionError
        If the file is no such file.
    """
    folder, file = Path(folder), Path(annotations)
    if not folder.is_dir() or not file.is_file():
        absent = file if folder.is_dir() else folder
        raise DatasetNotFound(f"no such file or folder: {absent}. Check the spelling.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = [str(one["file_name"]) for one in content["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _no_annotations(error, file) from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DatasetNotFound(
            f"{len(missing)} of {len(names)} images that {file} lists are not in {folder}, such as "
            f"{missing[0]}. Are these the images of that file?"
        )
    found = {
        name: detector.detect(read_image(folder / name), TO_SCORE)
        for name in tqdm(names, folder.name, disable=not progress)
    }
    return content, found


def _no_annotations(error: Exception, file: object = "these") -> FusionError:
    return FusionError(
        f"{file}: no annotations of COCO ({type(error).__name__}: {error}). Give a file such as "
        "instances_val2017.json."
    )


def precision_table(matches: Matches, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Tabulate average precision in percent.

    Parameters
    ----------
    matches : Matches
    draws, seed : int
        Of the bootstrap; 0 draws: no intervals.

    Returns
    -------
    DataFrame
        A row per class and one for "all", their mean: AP50, AP, and with draws the ends of their
        95 % intervals.
    """
    values = 100 * mean_over_classes(matches.average_precision())
    table = pd.DataFrame({"class": [*matches.names, "all"]})
    if draws:
        low, high = interval(100 * mean_over_classes(matches.bootstrap(draws, seed)))
    for column, name in enumerate(("AP50", "AP")):
        table[name] = values[:, column]
        if draws:
            table[f"{name} low"], table[f"{name} high"] = low[:, column], high[:, column]
    return table


def match(
    truths: Mapping[str, Truth], found: Mapping[str, Detections], names: Sequence[str]
) -> Matches:
    """Compare detections with annotations.

    Parameters
    ----------
    truths : mapping of str to Truth
        By the picture's name.
    found : mapping of str to Detections
        Of the same pictures; `Detections.classes` are indices into `names`.
    names : sequence of str
        The classes.

    Raises
    ------
    FusionError
        If there is no picture, nothing is annotated in any, or a picture is without detections'
        entry (an empty one says that nothing was found).
    UnknownName
        If a box is of another class.
    """
    if not any(truth.boxes for truth in truths.values()):
        raise FusionError(
            f"nothing is annotated in any of {len(truths)} pictures, so there is nothing to find. "
            "Give pictures with boxes."
        )
    if without := truths.keys() - found.keys():
        raise FusionError(f"{len(without)} pictures were not searched, such as {min(without)}.")
    categories = {name: number for number, name in enumerate(names, 1)}
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for picture, (name, truth) in enumerate(truths.items(), 1):
        for box in truth.boxes:
            if box.label not in categories:
                raise unknown(f"class in {name}", box.label, names)
            width, height = box.x1 - box.x0, box.y1 - box.y0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": categories[box.label],
                    "bbox": [box.x0, box.y0, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        results += _results(picture, found[name], range(1, len(names) + 1))
    truth_set = {
        "images": [
            {"id": picture, "width": truth.width, "height": truth.height, "file_name": name}
            for picture, (name, truth) in enumerate(truths.items(), 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    return Matches(_evaluator(truth_set, results), names)


def _results(picture: int, found: Detections, categories: Sequence[int]) -> list[dict[str, Any]]:
    """Write detections as COCO wants them: x, y, width, height."""
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    boxes = np.hstack([found.boxes[:, :2], sizes]).tolist()
    return [
        {"image_id": picture, "category_id": categories[index], "bbox": box, "score": score}
        for box, score, index in zip(
            boxes, found.scores.tolist(), found.classes.tolist(), strict=True
        )
    ]


def match_coco(
    annotations: Mapping[str, Any], found: Mapping[str, Detections], names: Sequence[str]
) -> Matches:
    """Compare detections with a file of COCO, ``instances_*.json``, as read.

    Parameters
    ----------
    annotations : mapping
        With images, annotations (among them crowds, which count for nothing) and categories.
    found : mapping of str to Detections
        By file name; pictures that are not in it are left out.
    names : sequence of str
        The classes that `Detections.classes` are indices into.

    Raises
    ------
    FusionError
        If the file holds something else, or none of the pictures.
    UnknownName
        If the detector does not know one of the classes.
    """
    try:
        by_name = {one["file_name"]: one["id"] for one in annotations["images"]}
        categories = {str(one["name"]): one["id"] for one in annotations["categories"]}
        boxes = annotations["annotations"]
        pictures = {by_name[name] for name in found if name in by_name}
        kept = [one for one in boxes if one["image_id"] in pictures]
    except (KeyError, TypeError) as error:
        raise _no_annotations(error) from error
    if not pictures:
        raise FusionError("none of the pictures is in the file of annotations, by its file name.")
    for name in categories:
        if name not in names:
            raise unknown("class of this detector", name, names)
    numbers = [categories.get(name, 0) for name in names]
    results = []
    for name, detections in found.items():
        if name in by_name:
            results += _results(by_name[name], detections, numbers)
    truth_set = {
        "images": [one for one in annotations["images"] if one["id"] in pictures],
        "annotations": kept,
        "categories": annotations["categories"],
    }
    results = [one for one in results if one["category_id"]]
    ordered = sorted(categories, key=lambda name: categories[name])
    return Matches(_evaluator(truth_set, results), ordered)


def _evaluator(truth_set: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    """Let faster-coco-eval match detections and annotations."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth, detected = COCO(), COCO()
    truth.dataset = truth_set
    truth.createIndex()
    if results:
        detected = truth.loadRes(results)
    else:  # which loadRes refuses
        detected.dataset = truth_set | {"annotations": []}
        detected.createIndex()
    evaluator = COCOeval_faster(
        truth, detected, "bbox", print_function=lambda *_: None, separate_eval=True
    )
    everything = [0.0, 1e10]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [everything], ["all"]
    evaluator.params.maxDets = [MOST]
    evaluator.evaluate()
    return evaluator
