"""Average precision against pycocotools, and by hand."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fusionlib.errors import FusionError, UnknownName
from fusionlib.images import write_image
from fusionlib.pairs import Box
from reproduction.detection.average_precision import (
    annotated,
    interval,
    match,
    mean_over_classes,
    precision_table,
    read_coco,
    search,
)
from reproduction.detection.detector import Detections
from reproduction.detection.layout import Example
from tests.reproduction.detection.given import NAMES, detector

NONE = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))


def scenes(count=12, seed=0, equal_scores=False):
    """Random objects, and detections that are near them, off them, double and of wrong classes."""
    random = np.random.default_rng(seed)
    truths, found = {}, {}
    for i in range(count):
        low = random.uniform(0, 60, (random.integers(0, 5), 2))
        corners = np.hstack([low, low + random.uniform(5, 40, low.shape)])
        labels = random.integers(3, size=len(corners))
        boxes = zip(labels, corners.tolist(), strict=True)
        truths[f"p{i}"] = tuple(Box(NAMES[label], *box) for label, box in boxes)
        near = np.repeat(corners, 2, axis=0) + random.normal(0, 3, (2 * len(corners), 4))
        off = random.uniform(0, 50, (4, 4)) + np.array([0, 0, 50, 50])
        which = np.concatenate([np.repeat(labels, 2), random.integers(3, size=4)])
        wrong = random.random(len(which)) < 0.1
        which = np.where(wrong, random.integers(3, size=len(which)), which)
        scores = np.round(random.random(len(which)), 1 if equal_scores else 9)
        order = np.argsort(-scores, kind="stable")
        found[f"p{i}"] = Detections(np.vstack([near, off])[order], scores[order], which[order])
    return truths, found


def matched(truths, found):
    return match(annotated(truths, NAMES), found)


def by_pycocotools(truths, found, pictures):
    """AP per class at 0.5 and over 0.5:0.95 of pictures, of which one may be there twice."""
    names = [list(truths)[place] for place in pictures]
    results = [
        {"image_id": number, "category_id": int(label) + 1, "score": float(score),
         "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for number, name in enumerate(names, 1)
        for (x0, y0, x1, y1), score, label in zip(*found[name], strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            **annotated({i: truths[name] for i, name in enumerate(names)}, NAMES),
            "info": {},
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.maxDets = [1, 10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    precision = np.where(precision < 0, np.nan, precision).mean(axis=1)
    return np.stack([precision[0], precision.mean(axis=0)], axis=1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("equal_scores", [False, True])
def test_average_precision_is_that_of_pycocotools(seed, equal_scores):
    """Of all pictures; and resampled ones are scored as copies of them."""
    truths, found = scenes(seed=seed, equal_scores=equal_scores)
    matches, every = matched(truths, found), range(len(truths))
    ours = matches.average_precision()
    np.testing.assert_allclose(ours, by_pycocotools(truths, found, every), rtol=0, atol=1e-12)
    assert 0.1 < np.nanmean(ours) < 0.95
    chosen = np.random.default_rng(seed).integers(len(truths), size=len(truths))
    theirs = by_pycocotools(truths, found, chosen)
    np.testing.assert_allclose(matches.average_precision(chosen), theirs, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(matches.average_precision(), ours)


def test_what_is_annotated_is_worth_1_and_nothing_is_worth_0():
    truths, _ = scenes()
    right = {
        name: Detections(
            np.array([box[1:] for box in boxes]).reshape(-1, 4),
            np.ones(len(boxes)),
            np.array([NAMES.index(box.label) for box in boxes], int),
        )
        for name, boxes in truths.items()
    }
    assert (matched(truths, right).average_precision() == 1).all()
    assert (matched(truths, dict.fromkeys(truths, NONE)).average_precision() == 0).all()
    with pytest.raises(FusionError, match=r"nothing is annotated in any of the 2 pictures"):
        matched({"a": (), "b": ()}, {"a": NONE, "b": NONE})


def test_by_hand():
    """Two cars, one found first, then a wrong box: precision 1 up to recall 0.5 is 51 of 101.

    What is of none of the classes is left out.
    """
    truths = {"a": (Box("car", 0, 0, 10, 10), Box("car", 50, 50, 60, 60), Box("dog", 0, 0, 9, 9))}
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    found = {"a": Detections(boxes, np.array([0.9, 0.8]), np.array([2, 2]))}
    precision = matched(truths, found).average_precision()
    assert np.isnan(precision[:2]).all()  # no person, no bicycle
    assert precision[2].tolist() == [pytest.approx(51 / 101)] * 2
    assert mean_over_classes(precision)[-1].tolist() == precision[2].tolist()


def test_at_most_a_hundred_boxes_of_a_class_count():
    """As COCO has it: the right one is the 100th, or the 101st."""
    truths = {"a": (Box("car", 0, 0, 10, 10),)}
    for wrong, expected in ((99, 1 / 100), (100, 0)):
        boxes = np.array([[50, 50, 60, 60.0]] * wrong + [[0, 0, 10, 10]])
        scores = np.linspace(0.9, 0.1, wrong + 1)
        found = {"a": Detections(boxes, scores, np.full(wrong + 1, 2))}
        precision = matched(truths, found).average_precision()[2, 0]
        assert precision == pytest.approx(expected)


# ---------------------------------------------------------------- intervals


def test_intervals_hold_the_value_and_are_paired():
    truths, found = scenes(30)
    matches, again = matched(truths, found), matched(truths, found)
    draws = matches.bootstrap(200)
    np.testing.assert_array_equal(draws, again.bootstrap(200))
    low, high = interval(draws)
    value = matches.average_precision()
    assert (low <= value).all() and (value <= high).all() and (low < high).all()
    assert not np.array_equal(draws, matches.bootstrap(200, seed=1))
    table = precision_table(matches, draws=50)
    assert list(table["class"]) == [*NAMES, "all"]
    assert table["AP50"].iloc[:3].mean() == pytest.approx(table["AP50"].iloc[3])
    assert (table["AP low"] <= table["AP"]).all() and (table["AP"] <= table["AP high"]).all()
    assert list(precision_table(matches, draws=0)) == ["class", "AP50", "AP"]


def test_interval_of_a_class_that_some_resamples_lack():
    draws = np.array([[[0.0, 0.0]], [[np.nan, np.nan]], [[1.0, 0.5]]])
    low, high = interval(draws)
    assert low.tolist() == [[pytest.approx(0.025), pytest.approx(0.0125)]]
    assert high[0, 0] == pytest.approx(0.975)


# ---------------------------------------------------------------- searching


def test_search_gives_classes_as_places_among_the_names(tmp_path):
    write_image(tmp_path / "a.png", np.random.default_rng(0).random((48, 64, 3)))
    examples = [Example("a", tmp_path / "a.png", (Box("car", 0.1, 0.1, 0.5, 0.5),))]
    some = detector(("dog", *NAMES))
    truths, found = search(some, examples, ["car", "person"])
    (car,) = truths["a"]
    assert car.label == "car" and car[1:] == pytest.approx((6.4, 4.8, 32, 24))
    assert set(found["a"].classes.tolist()) == {0, 1}
    with pytest.raises(UnknownName, match="'bus'"):
        search(some, examples, ["bus"])


def coco_file(folder, first=3, **changes):
    """Two images, a car in one, and a crowd of persons, which is no object, in the other."""
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 0, "file_name": "b.png"}],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": first, "bbox": [1, 2, 30, 20], "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 1},
        ],
        "categories": [{"id": first, "name": "car"}, {"id": 1, "name": "person"}],
    } | changes  # fmt: skip
    file = folder / "instances.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("first", [0, 3])
def test_annotations_of_coco(tmp_path, first):
    """Numbers have gaps, are in no order, and may begin with 0."""
    truth = read_coco(coco_file(tmp_path, first))
    exact = Detections(np.array([[1, 2, 31, 22.0]]), np.array([0.9]), np.array([0]))
    matches = match(truth, {"a.png": exact, "b.png": NONE})
    car, person = (matches.names.index(name) for name in ("car", "person"))
    assert matches.average_precision()[car].tolist() == [1, 1] and matches.pictures == 2
    assert np.isnan(matches.average_precision()[person]).all()
    # No crowd unless it says so; images that are not listed do not count.
    some = [{"image_id": image, "category_id": first, "bbox": [1, 2, 3, 4]} for image in (7, 99)]
    (car,) = read_coco(coco_file(tmp_path, first, annotations=some))["annotations"]
    assert car["iscrowd"] == 0
    with pytest.raises(FusionError, match="nothing is annotated in any of the 2 pictures"):
        read_coco(coco_file(tmp_path, annotations=[]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{"image_id": 7, "category_id": 3, "iscrowd": 0}]}, "KeyError: 'bbox'"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2]}]}, "ValueError"),
        ({"annotations": [{"image_id": 7, "category_id": 9, "bbox": [1] * 4}]}, "KeyError: 9"),
        (
            {"categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "car"}]},
            "categories is there twice",
        ),
        (
            {"images": [{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]},
            "images is there twice",
        ),
        (
            {"images": [{"id": 7, "file_name": "a"}, {"id": 8, "file_name": "a"}]},
            "images is there twice",
        ),
        ({"images": [{}]}, "KeyError: 'id'"),
        ({"categories": 3}, "TypeError"),
    ],
)
def test_files_of_annotations_that_cannot_be(tmp_path, changes, words):
    with pytest.raises(FusionError, match=f"holds no annotations of COCO .*{words}"):
        read_coco(coco_file(tmp_path, **changes))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_files_of_something_else(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FusionError, match="holds no annotations of COCO"):
        read_coco(tmp_path / "x.json")
