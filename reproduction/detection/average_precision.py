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

from fusionlib.errors import DatasetNotFound, FusionError, unknown
from fusionlib.images import read_image
from fusionlib.pairs import Box

from .detector import TO_SCORE, Detections, Detector, Thresholds

if TYPE_CHECKING:
    from .layout import Example

__all__ = [
    "DRAWS",
    "CocoAnnotations",
    "Matches",
    "Truth",
    "check_boxes",
    "interval",
    "match",
    "match_coco",
    "mean_over_classes",
    "of_classes",
    "precision_table",
    "read_coco",
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
        cut = Box(label, max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height))
        if not (cut.x0 < cut.x1 and cut.y0 < cut.y1):
            raise FusionError(f"{text} has no area inside the picture. Remove or correct it.")
        inside.append(cut)
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


def of_classes(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Leave out what is annotated of other classes."""
    return [
        example._replace(fractions=tuple(box for box in example.fractions if box.label in names))
        for example in examples
    ]


def search(
    detector: Detector,
    examples: Sequence[Example],
    names: Sequence[str],
    *,
    thresholds: Thresholds = TO_SCORE,
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
    thresholds : Thresholds
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
    detector.indices(names)  # also where there is no picture
    truths, found = {}, {}
    for example in tqdm(examples, title, disable=not progress):
        picture, boxes = example.load()
        truths[example.name] = Truth(picture.shape[1], picture.shape[0], boxes)
        found[example.name] = _as_asked(detector, picture, names, thresholds)
    return truths, found


class CocoAnnotations(NamedTuple):
    """What is in a file of COCO's annotations, as far as boxes go.

    Attributes
    ----------
    names : tuple of str
        The categories, in the file's order.
    images : mapping of str to object
        File name -> the image's number.
    boxes : list of dict
        With image_id, category_id, bbox, area and iscrowd; a crowd counts for nothing.
    categories : mapping of object to str
        A category's number -> its name.
    """

    names: tuple[str, ...]
    images: Mapping[str, Any]
    boxes: list[dict[str, Any]]
    categories: Mapping[Any, str]


def read_coco(path: str | os.PathLike[str]) -> CocoAnnotations:
    """Read a file of COCO's annotations, such as ``instances_val2017.json``.

    Raises
    ------
    DatasetNotFound
        If there is no such file.
    FusionError
        If it holds something else, or no box.
    """
    file = Path(path)
    if not file.is_file():
        raise DatasetNotFound(f"no such file: {file}. Check the spelling.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        categories = {one["id"]: str(one["name"]) for one in content["categories"]}
        images = {str(one["file_name"]): one["id"] for one in content["images"]}
        boxes = [_coco_box(one) for one in content["annotations"]]
        if len({*categories.values()}) < len(content["categories"]):
            raise ValueError("a category is there twice")
        if any(box["category_id"] not in categories for box in boxes):
            raise ValueError("a box of no category")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FusionError(
            f"{file} holds no annotations of COCO ({type(error).__name__}: {error}). Give a file "
            "such as instances_val2017.json."
        ) from error
    if not any(box["image_id"] in {*images.values()} for box in boxes):
        raise FusionError(f"nothing is annotated in any of the {len(images)} images of {file}.")
    return CocoAnnotations(tuple(categories.values()), images, boxes, categories)


def _coco_box(one: Mapping[str, Any]) -> dict[str, Any]:
    x, y, width, height = map(float, one["bbox"])
    return {
        "image_id": one["image_id"],
        "category_id": one["category_id"],
        "bbox": [x, y, width, height],
        "area": float(one.get("area", width * height)),
        "iscrowd": int(one.get("iscrowd", 0)),
    }


def search_files(
    detector: Detector,
    folder: str | os.PathLike[str],
    annotations: CocoAnnotations,
    *,
    thresholds: Thresholds = TO_SCORE,
    progress: bool = True,
) -> dict[str, Detections]:
    """Detect objects in the images of a folder that a file of COCO's annotations lists.

    Returns
    -------
    dict of str to Detections
        By file name; their classes are indices into `CocoAnnotations.names`.

    Raises
    ------
    DatasetNotFound
        If the folder is not there, or an image that is listed.
    UnknownName
        If the detector does not know one of the categories.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetNotFound(f"no such folder: {folder}. Check the spelling.")
    names = list(annotations.images)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DatasetNotFound(
            f"{len(missing)} of {len(names)} images that are listed are not in {folder}, such as "
            f"{missing[0]}. Are these the images of that file?"
        )
    return {
        name: _as_asked(detector, read_image(folder / name), annotations.names, thresholds)
        for name in tqdm(names, folder.name, disable=not progress)
    }


def _as_asked(
    detector: Detector, image: np.ndarray, names: Sequence[str], thresholds: Thresholds
) -> Detections:
    """Detect objects of some classes, as indices into their names."""
    places = {index: place for place, index in enumerate(detector.indices(names))}
    some = detector.detect(image, thresholds, only=names)
    classes = np.array([places[index] for index in some.classes.tolist()], dtype=np.int64)
    return some._replace(classes=classes)


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


def match_coco(annotations: CocoAnnotations, found: Mapping[str, Detections]) -> Matches:
    """Compare detections with a file of COCO's annotations.

    Parameters
    ----------
    annotations : CocoAnnotations
    found : mapping of str to Detections
        Of `search_files`.
    """
    # The library takes a number of 0 for none: all are counted from 1 anew.
    pictures = {annotations.images[name]: i for i, name in enumerate(found, 1)}
    categories = {name: i for i, name in enumerate(annotations.names, 1)}
    results = []
    for i, detections in enumerate(found.values(), 1):
        results += _results(i, detections, range(1, len(categories) + 1))
    boxes = [box for box in annotations.boxes if box["image_id"] in pictures]
    truth_set = {
        "images": [{"id": i} for i in pictures.values()],
        "annotations": [
            box
            | {
                "id": number,
                "image_id": pictures[box["image_id"]],
                "category_id": categories[annotations.categories[box["category_id"]]],
            }
            for number, box in enumerate(boxes, 1)
        ],
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
    }
    return Matches(_evaluator(truth_set, results), annotations.names)


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
