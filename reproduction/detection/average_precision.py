"""Boxes to average precision: COCO's, by faster-coco-eval, with intervals over pictures.

What is in pictures stands in the form of COCO's annotation files: a dict of images, annotations
and categories, each numbered from 1.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.errors import DatasetNotFound, FusionError
from fusionlib.pairs import Box

from .detector import TO_SCORE, Detections, Detector, Thresholds
from .layout import Example, read_picture

__all__ = [
    "DRAWS",
    "Matches",
    "annotated",
    "coco_examples",
    "interval",
    "match",
    "mean_over_classes",
    "precision_table",
    "read_coco",
    "search",
]

#: Resamples of a bootstrap.
DRAWS = 1000

#: COCO's limit of boxes per picture and class.
MOST = 100


# ---------------------------------------------------------------- annotations and detections


def search(
    detector: Detector,
    examples: Sequence[Example],
    names: Sequence[str],
    *,
    thresholds: Thresholds = TO_SCORE,
    title: str = "",
    progress: bool = True,
) -> tuple[dict[str, Sequence[Box]], dict[str, Detections]]:
    """Detect objects of some classes in pictures, as average precision wants them.

    Returns
    -------
    boxes : dict of str to sequence of Box
        What is annotated, by the picture's name.
    found : dict of str to Detections
        By the picture's name; their classes are indices into `names`.

    Raises
    ------
    UnknownName
        If the detector does not know one of the classes.
    FusionError
        If a picture cannot be read, or a box is not inside it.
    """
    detector.indices(names)  # also where there is no picture
    boxes, found = {}, {}
    for example in tqdm(examples, title, disable=not progress):
        picture, boxes[example.name] = example.load()
        found[example.name] = detector.detect(picture, thresholds, names)
    return boxes, found


def annotated(boxes: Mapping[str, Sequence[Box]], names: Sequence[str]) -> dict[str, Any]:
    """Write boxes by the picture's name in COCO's form; those of other classes are left out."""
    truth: dict[str, Any] = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(boxes, 1)],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    categories = {name: i for i, name in enumerate(names, 1)}
    for image, some in enumerate(boxes.values(), 1):
        for label, x0, y0, x1, y1 in some:
            if label in categories:
                _annotate(truth, image, categories[label], (x0, y0, x1 - x0, y1 - y0))
    return truth


def _annotate(
    truth: Mapping[str, Any], image: int, category: int, box: Sequence[float], crowd: int = 0
) -> None:
    annotations = truth["annotations"]
    annotations.append(
        {
            "id": len(annotations) + 1,
            "image_id": image,
            "category_id": category,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": crowd,
        }
    )


def read_coco(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of COCO's annotations, such as ``instances_val2017.json``, as far as boxes go.

    Numbers then count from 1, in the file's order: the library takes a 0 for none.

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
    truth: dict[str, Any] = {"annotations": []}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        places = {}
        for kind, name in (("images", "file_name"), ("categories", "name")):
            names = [str(one[name]) for one in content[kind]]
            if len({*names}) < len(names):
                raise ValueError(f"one of the {kind} is there twice")
            places[kind] = {one["id"]: i for i, one in enumerate(content[kind], 1)}
            truth[kind] = [{"id": i, name: text} for i, text in enumerate(names, 1)]
        for one in content["annotations"]:
            category = places["categories"][one["category_id"]]
            x, y, width, height = map(float, one["bbox"])
            if image := places["images"].get(one["image_id"]):
                box, crowd = (x, y, width, height), int(one.get("iscrowd", 0))
                _annotate(truth, image, category, box, crowd)
    except (KeyError, TypeError, ValueError) as error:
        raise FusionError(
            f"{file} holds no annotations of COCO ({type(error).__name__}: {error}). Give a file "
            "such as instances_val2017.json."
        ) from error
    _check_annotated(truth, str(file))
    return truth


def _check_annotated(truth: Mapping[str, Any], where: str) -> None:
    if not truth["annotations"]:
        raise FusionError(
            f"nothing is annotated in any of the {len(truth['images'])} pictures of {where}, so "
            "there is nothing to find. Give pictures with boxes."
        )


def coco_examples(folder: Path, truth: Mapping[str, Any]) -> list[Example]:
    """Return the pictures of a file of COCO's annotations, without boxes, for `search`.

    Raises DatasetNotFound if the folder is not there, or an image that is listed.
    """
    if not folder.is_dir():
        raise DatasetNotFound(f"no such folder: {folder}. Check the spelling.")
    names = [image["file_name"] for image in truth["images"]]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DatasetNotFound(
            f"{len(missing)} of {len(names)} images that are listed are not in {folder}, such as "
            f"{missing[0]}. Are these the images of that file?"
        )
    return [Example(name, partial(read_picture, folder / name), ()) for name in names]


# ---------------------------------------------------------------- precision


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
        # The library has no public way to score other pictures than those that it has matched.
        self._params = evaluator._paramsEval
        # Its results of one picture each, of all pictures of the first class, then of the second,
        # and so on.
        self._each = np.array([*evaluator._evalImgs_cpp, None], dtype=object)[:-1]
        self._each = self._each.reshape(len(self.names), self.pictures)

    def average_precision(self, pictures: np.ndarray | None = None) -> np.ndarray:
        """Compute AP per class at IoU 0.5 and over 0.5:0.95, shape (classes, 2), in [0, 1].

        Only of these `pictures`, if given: places, of which one may be there several times. It is
        NaN for a class of which they hold no object.
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
        """Return `average_precision` of pictures drawn with replacement, (draws, classes, 2).

        With one seed, differences of `Matches` of the same pictures are paired.
        """
        drawn = np.random.default_rng(seed).integers(self.pictures, size=(draws, self.pictures))
        return np.stack([self.average_precision(pictures) for pictures in drawn])


def match(truth: dict[str, Any], found: Mapping[str, Detections]) -> Matches:
    """Compare detections with annotations, of `annotated` or `read_coco`.

    Detections are by the picture's name, their classes places among the categories. Raises
    FusionError if nothing is annotated.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    _check_annotated(truth, "the data set")
    annotated, detected = COCO(), COCO()
    annotated.dataset = truth
    annotated.createIndex()
    results = [
        {"image_id": i, "category_id": category + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": s}
        for i, image in enumerate(truth["images"], 1)
        for (x0, y0, x1, y1), s, category in zip(
            *(array.tolist() for array in found[image["file_name"]]), strict=True
        )
    ]
    if results:
        detected = annotated.loadRes(results)
    else:  # which loadRes refuses
        detected.dataset = truth | {"annotations": []}
        detected.createIndex()
    evaluator = COCOeval_faster(
        annotated, detected, "bbox", print_function=lambda *_: None, separate_eval=True
    )
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0.0, 1e10]], ["all"]
    evaluator.params.maxDets = [MOST]
    evaluator.evaluate()
    return Matches(evaluator, [category["name"] for category in truth["categories"]])


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Append the mean over the classes that are there to AP, (..., classes, 2)."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # where all are NaN
        mean = np.nanmean(values, axis=-2, keepdims=True)
    return np.concatenate([values, mean], axis=-2)


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile interval over the first dimension, leaving NaN out."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # where all are NaN
        low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return low, high


def precision_table(matches: Matches, draws: int = DRAWS) -> pd.DataFrame:
    """Tabulate average precision in percent: a row per class and one for "all", their mean.

    Columns class, AP50, AP and, with draws, the ends of their 95 % bootstrap intervals.
    """
    values = 100 * mean_over_classes(matches.average_precision())
    table = pd.DataFrame({"class": [*matches.names, "all"]})
    if draws:
        low, high = interval(100 * mean_over_classes(matches.bootstrap(draws)))
    for column, name in enumerate(("AP50", "AP")):
        table[name] = values[:, column]
        if draws:
            table[f"{name} low"], table[f"{name} high"] = low[:, column], high[:, column]
    return table
