"""Boxes to average precision: COCO's, by faster-coco-eval, with intervals over pictures.

What is in pictures stands in the form of COCO's annotation files: a dict of images, annotations
and categories.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.errors import DatasetNotFound, FusionError
from fusionlib.pairs import Box

from .detector import TO_SCORE, Detections, Detector, Thresholds
from .layout import Example

#: Resamples of a bootstrap.
DRAWS = 1000

#: COCO's limit of boxes per picture and class.
MOST = 100


def search(
    detector: Detector,
    examples: Sequence[Example],
    names: Sequence[str],
    *,
    thresholds: Thresholds = TO_SCORE,
    title: str = "",
) -> tuple[dict[str, Sequence[Box]], dict[str, Detections]]:
    """Detect objects of some classes in pictures, under a bar with a title.

    Return, by the picture's name, what is annotated, and what was found; its classes are places
    among `names`. Raises UnknownName if the detector does not know one of them.
    """
    boxes, found = {}, {}
    for example in tqdm(examples, title, disable=not title):
        picture, boxes[example.name] = example.load()
        found[example.name] = detector.detect(picture, thresholds, names)
    return boxes, found


# ---------------------------------------------------------------- annotations


def annotated(boxes: Mapping[str, Sequence[Box]], names: Sequence[str]) -> dict[str, Any]:
    """Write boxes by the picture's name in COCO's form; those of other classes are left out."""
    categories = {name: i for i, name in enumerate(names, 1)}
    objects = [
        {"image_id": image, "category_id": categories[label], "iscrowd": 0}
        | {"bbox": [x0, y0, x1 - x0, y1 - y0]}
        for image, some in enumerate(boxes.values(), 1)
        for label, x0, y0, x1, y1 in some
        if label in categories
    ]
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(boxes, 1)],
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
        "annotations": _numbered(objects),
    }


def _numbered(objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give areas, and numbers from 1: the library takes a 0 for none."""
    areas = [one["bbox"][2] * one["bbox"][3] for one in objects]
    return [{**one, "area": areas[i], "id": i + 1} for i, one in enumerate(objects)]


def read_coco(file: Path) -> dict[str, Any]:
    """Read a file of COCO's annotations, such as ``instances_val2017.json``, as far as boxes go.

    Numbers then count from 1. Raises DatasetNotFound if there is no such file; FusionError if it
    holds something else, or no box.
    """
    if not file.is_file():
        raise DatasetNotFound(f"no such file: {file}. Check the spelling.")
    truth, places, objects = {}, {}, []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for kind, key in (("images", "file_name"), ("categories", "name")):
            places[kind] = {one["id"]: i for i, one in enumerate(content[kind], 1)}
            names = [str(one[key]) for one in content[kind]]
            if min(len(places[kind]), len({*names})) < len(names):
                raise ValueError(f"one of the {kind} is there twice")
            truth[kind] = [{"id": i, key: name} for i, name in enumerate(names, 1)]
        for one in content["annotations"]:
            category = places["categories"][one["category_id"]]
            x, y, width, height = map(float, one["bbox"])
            found = {"category_id": category, "iscrowd": int(one.get("iscrowd", 0))}
            if image := places["images"].get(one["image_id"]):
                objects.append({"image_id": image, **found, "bbox": [x, y, width, height]})
    except (LookupError, TypeError, ValueError) as error:
        raise FusionError(
            f"{file} holds no annotations of COCO ({type(error).__name__}: {error}). Give a file "
            "such as instances_val2017.json."
        ) from error
    truth["annotations"] = _numbered(objects)
    _check_annotated(truth)
    return truth


def _check_annotated(truth: Mapping[str, Any]) -> None:
    if not truth["annotations"]:
        raise FusionError(
            f"nothing is annotated in any of the {len(truth['images'])} pictures, so there is "
            "nothing to find. Give pictures with boxes."
        )


# ---------------------------------------------------------------- precision


class Matches:
    """Which detections are right, for every picture: what average precision is computed from."""

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
    """Compare detections, by the picture's name, with annotations.

    Raises FusionError if nothing is annotated.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    _check_annotated(truth)
    categories = {one["id"]: one["name"] for one in truth["categories"]}
    ids = [*categories]
    results = [
        {"image_id": i, "category_id": ids[place], "bbox": [x0, y0, x1 - x0, y1 - y0], "score": s}
        for i, name in ((image["id"], image["file_name"]) for image in truth["images"])
        for (x0, y0, x1, y1), s, place in zip(*(x.tolist() for x in found[name]), strict=True)
    ]
    annotated = COCO(truth)
    silent: Any = {"print_function": lambda *_: None, "separate_eval": True}
    evaluator = COCOeval_faster(annotated, annotated.loadRes(results), "bbox", **silent)
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0.0, 1e10]], ["all"]
    evaluator.params.maxDets = [MOST]
    evaluator.evaluate()
    return Matches(evaluator, [categories[i] for i in evaluator.params.catIds])


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
