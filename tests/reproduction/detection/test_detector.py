"""The detector: letterboxes, suppression, the plain network's boxes, weights in and out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from fusionlib.errors import FusionError, ImageError, UnknownName, WeightsMismatch, WeightsNotFound
from fusionlib.methods import list_weights
from fusionlib.weights import save_weights
from reproduction.commands.detect import weight_users
from reproduction.detection.detector import (
    BORDER,
    COCO_CLASSES,
    DETECTORS,
    TO_SCORE,
    TO_SEE,
    Thresholds,
    create_detector,
    letterbox,
    save_detector,
    suppress,
)
from reproduction.detection.yolov5 import YOLOv5
from tests.reproduction.detection.given import NAMES, detector, iou

EVERYTHING = Thresholds(0.0001, 0.9, 10**6, every_class=True)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0, 1, (48, 64, 3)).astype(np.float32)


# ---------------------------------------------------------------- letterbox and suppression


def test_letterbox_has_the_published_size():
    """Of the published evaluation, with half a stride of border: 640x480 becomes 672x512."""
    for size, expected in (
        ((480, 640), (512, 672)),
        ((640, 480), (672, 512)),
        ((3, 4), (512, 672)),
    ):
        picture, _, _ = letterbox(np.zeros(size, np.uint8), 640)
        assert picture.shape == (*expected, 3) and tuple(picture[0, 0]) == (BORDER,) * 3


def test_a_white_patch_lands_where_the_letterbox_says():
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[30:60, 40:80] = 255
    fitted, scale, offset = letterbox(picture, 640)
    rows, columns = (np.flatnonzero((fitted[..., 0] > 200).any(axis)) for axis in (1, 0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    # An edge in the enlarged picture is sharp to one pixel of the small one.
    np.testing.assert_allclose((found - offset) / scale, [40, 30, 80, 60], atol=0.5)


def test_small_details_do_not_vanish_when_a_picture_shrinks():
    """Every fourth column is white: a quarter of white everywhere, not all or nothing."""
    picture = np.zeros((64, 256, 3), np.uint8)
    picture[:, ::4] = 255
    fitted, _, (left, top, *_) = letterbox(picture, 64)
    assert set(fitted[top : top + 16, left : left + 64].flatten().tolist()) == {64}


def naive(boxes, scores, classes, overlap):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if not rivals or iou(boxes[[i]], boxes[rivals]).max() <= overlap:
            kept.append(i)
    return kept


@given(st.integers(0, 60), st.integers(0, 10**6), st.sampled_from([0.2, 0.45, 0.6]))
def test_suppression_is_the_naive_one(count, seed, overlap):
    """Among equal scores the first stays."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 100, (count, 2))
    boxes = np.hstack([low, low + random.uniform(1, 50, (count, 2))])
    scores, classes = random.integers(20, size=count) / 20, random.integers(3, size=count)
    kept = suppress(boxes, scores, classes, overlap)
    assert kept.tolist() == naive(boxes, scores, classes, overlap)


# ---------------------------------------------------------------- detecting


def test_boxes_are_those_of_the_plain_network(image):
    """Batch normalisation inside the convolutions: float32 rounding of some sixty layers, 1e-4."""
    some = detector(input=64)
    found = some.detect(image, EVERYTHING)
    picture = np.full((64, 96, 3), 114, np.uint8)  # 64x48 becomes 96x64: see letterbox
    picture[8:56, 16:80] = np.floor(image * 255 + 0.5)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        decoded = some.network.eval().decode(some.network(tensor))[0].numpy()
    best = int(found.scores.argmax())
    scores = decoded[:, 4:5] * decoded[:, 5:]
    place, label = np.unravel_index(scores.argmax(), scores.shape)
    assert found.scores[best] == pytest.approx(scores.max(), rel=1e-4)
    assert found.classes[best] == label
    x, y, w, h = decoded[place, :4]
    corners = np.array([x - w / 2 - 16, y - h / 2 - 8, x + w / 2 - 16, y + h / 2 - 8])
    inside = np.clip(corners, 0, [64, 48, 64, 48])
    np.testing.assert_allclose(found.boxes[best], inside, atol=2e-2)


def test_order_and_thresholds(image):
    some = detector()
    every = some.detect(image, EVERYTHING)
    assert len(every.scores) > 20 and (np.diff(every.scores) <= 0).all()
    middle = float(np.median(every.scores))
    fewer = some.detect(image, EVERYTHING._replace(confidence=middle))
    assert 0 < len(fewer.scores) < len(every.scores) and fewer.scores.min() > middle
    assert len(some.detect(image, EVERYTHING._replace(most=3)).scores) == 3
    none = some.detect(image, EVERYTHING._replace(confidence=0.9999))
    assert none.boxes.shape == (0, 4) and not none.named(NAMES)
    assert TO_SEE == (0.25, 0.45, 1000, False) and TO_SCORE == (0.001, 0.6, 300, True)  # published


def test_a_box_counts_once_or_for_every_class(image):
    some, likeliest = detector(), EVERYTHING._replace(overlap=0.9999, every_class=False)
    every = some.detect(image, EVERYTHING._replace(overlap=0.9999))
    once = some.detect(image, likeliest)
    assert len(every.scores) == 3 * len(once.scores)
    rows = [
        {(*box, score, label) for box, score, label in zip(*d, strict=True)} for d in (every, once)
    ]
    assert rows[1] < rows[0]
    # Of the wanted classes only boxes that are likeliest of one of them.
    cars = some.detect(image, likeliest, ["car"])
    np.testing.assert_array_equal(cars.boxes, once.boxes[once.classes == 2])
    assert {box.label for box in cars.named(["car"])} == {"car"}


def test_names_of_m3fd_are_understood():
    some = detector(("dog", "person", "car"))
    assert some.indices(["Car", "People", "person", "DOG"]) == [2, 1, 1, 0]
    with pytest.raises(UnknownName, match="class of this detector 'Lamp'"):
        some.indices(["Lamp"])


def test_gray_is_rgb_with_equal_channels_and_bits_do_not_matter(image):
    some, gray = detector(), image[..., 0]
    colour = np.repeat(np.floor(gray * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(
        some.detect(gray, EVERYTHING).boxes, some.detect(colour, EVERYTHING).boxes
    )


def test_what_is_refused():
    with pytest.raises(ImageError, match=r"NaN|nan"):
        detector().detect(np.full((8, 8), np.nan), TO_SEE)
    with pytest.raises(ImageError, match="1x8"):
        detector().detect(np.zeros((8, 1)), TO_SEE)
    for input in (0, -32, 100):
        with pytest.raises(FusionError, match="positive multiple of 32 pixels"):
            detector(input=input)


# ---------------------------------------------------------------- weights


def test_saved_and_created_again(tmp_path, image):
    """16 bits of each weight: scores differ by less than a hundredth."""
    some = detector()
    save_detector(tmp_path / "d.safetensors", some, {"seed": 3})
    again = create_detector(tmp_path / "d.safetensors")
    assert (again.names, again.input, again.network.size) == (NAMES, 64, "n")
    mine, theirs = (d.detect(image, EVERYTHING) for d in (some, again))
    assert theirs.scores[:20] == pytest.approx(mine.scores[:20], abs=0.01)


class Holder(torch.nn.Module):
    """Pickles like Ultralytics' model: a module of this test that no loader may import."""

    def __init__(self, network, names):
        super().__init__()
        self.model = network.model
        self.names = names


@pytest.mark.parametrize("names", [[*NAMES], dict(enumerate(NAMES))])
def test_a_pickled_model_is_read(tmp_path, image, names):
    some = detector()
    torch.save({"model": Holder(some.network, names), "epoch": -1}, tmp_path / "best.pt")
    again = create_detector(tmp_path / "best.pt", input=64)
    assert again.names == NAMES
    np.testing.assert_array_equal(
        again.detect(image, EVERYTHING).boxes, some.detect(image, EVERYTHING).boxes
    )


def test_weights_of_another_network(tmp_path):
    file = tmp_path / "x.safetensors"
    for network, facts in ((torch.nn.Conv2d(3, 5, 6), {"names": '["a"]'}), (YOLOv5("n", 1), {})):
        save_weights(file, network, facts)
        with pytest.raises(WeightsMismatch, match="no YOLOv5 n or s of release 6 with names of"):
            create_detector(file)
    save_weights(file, YOLOv5("n", 1), {"names": '["a", "b"]', "input": 640})
    with pytest.raises(WeightsMismatch, match="does not fit YOLOv5"):
        create_detector(file)


@pytest.mark.parametrize(
    "facts", [{"names": "a, b"}, {"names": '"ab"'}, {"names": '["a"]', "input": "large"}]
)
def test_weights_with_facts_that_cannot_be(tmp_path, facts):
    save_weights(tmp_path / "x.safetensors", YOLOv5("n", 1), facts)
    with pytest.raises(WeightsMismatch, match="does not say which classes it detects"):
        create_detector(tmp_path / "x.safetensors")


def test_no_such_weights(tmp_path, monkeypatch):
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)
    with pytest.raises(UnknownName, match="yolov5n, "):
        create_detector("yolov5x")
    with pytest.raises(WeightsNotFound, match="no such weight file"):
        create_detector(tmp_path / "a.safetensors")
    with pytest.raises(FusionError, match="no such folder of weights"):
        create_detector("yolov5n", weights_dir=tmp_path / "none")


def test_published_detectors_are_listed_with_the_weights():
    assert len(COCO_CLASSES) == len({*COCO_CLASSES}) == 80
    listed = list_weights(users=weight_users()).set_index("name")
    for name, spec in DETECTORS.items():
        assert listed.loc[name, "method"] == "detector"
        built = sum(p.numel() for p in spec.build().parameters())
        assert listed.loc[name, "parameters"] == spec.weights.parameters == built
    assert listed.loc["yolov5n", "licence"] == "AGPL-3.0"
