"""The detector: the plain network's boxes, weights in and out, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.errors import FusionError, ImageError, UnknownName, WeightsMismatch, WeightsNotFound
from fusionlib.methods import list_weights
from fusionlib.weights import save_weights
from reproduction.commands.detect import weight_users
from reproduction.detection.detector import (
    DETECTORS,
    TO_SCORE,
    TO_SEE,
    Detector,
    Thresholds,
    create_detector,
    save_detector,
)
from reproduction.detection.yolov5 import YOLOv5
from tests.reproduction.detection.given import NAMES, detector

EVERYTHING = Thresholds(0.0001, 0.9, 10**6, every_class=True)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0, 1, (48, 64, 3)).astype(np.float32)


def test_boxes_are_those_of_the_plain_network(image):
    """Batch normalisation inside the convolutions: float32 rounding of some sixty layers, 1e-4."""
    some = detector(input=64)
    found = some.detect(image, EVERYTHING)
    picture = np.full((96, 96, 3), 114, np.uint8)  # 64x48 becomes 96x64: see letterbox
    picture = picture[:64]
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


def test_names_of_m3fd_are_understood():
    some = detector(("dog", "person", "car"))
    assert some.indices(["Car", "People", "person", "DOG"]) == [2, 1, 1, 0]
    with pytest.raises(UnknownName, match="'Lamp'"):
        some.indices(["Lamp"])


def test_only_some_classes(image):
    some = detector()
    every, cars = some.detect(image, EVERYTHING), some.detect(image, EVERYTHING, ["car"])
    assert {some.names[i] for i in every.classes} == {*NAMES}
    np.testing.assert_array_equal(cars.boxes, every.boxes[every.classes == 2])
    assert {box.label for box in cars.named(["car"])} == {"car"}
    with pytest.raises(UnknownName, match="class of this detector 'bus'"):
        some.detect(image, TO_SEE, ["bus"])


def test_gray_is_rgb_with_equal_channels_and_bits_do_not_matter(image):
    some, gray = detector(), image[..., 0]
    colour = np.repeat(np.floor(gray * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(
        some.detect(gray, EVERYTHING).boxes, some.detect(colour, EVERYTHING).boxes
    )


def test_bad_images():
    with pytest.raises(ImageError, match=r"NaN|nan"):
        detector().detect(np.full((8, 8), np.nan), TO_SEE)
    with pytest.raises(ImageError, match="1x8"):
        detector().detect(np.zeros((8, 1)), TO_SEE)


def test_detectors_that_cannot_be():
    for input in (0, -32, 100):
        with pytest.raises(FusionError, match="positive multiple of 32 pixels"):
            detector(input=input)
    with pytest.raises(FusionError, match="80 classes, given are 3 names"):
        Detector(YOLOv5("n"), NAMES)


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
    save_weights(
        tmp_path / "x.safetensors", torch.nn.Conv2d(3, 5, 6), {"names": '["a"]', "input": 640}
    )
    with pytest.raises(WeightsMismatch, match="no YOLOv5 n or s"):
        create_detector(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"names": "[3"},
        {"names": '["a"]', "input": "wide"},
        {"names": "5", "input": 640},
        {"names": '"a"', "input": 640},
    ],
)
def test_weights_without_classes(tmp_path, facts):
    save_weights(tmp_path / "x.safetensors", YOLOv5("n", 1), facts)
    with pytest.raises(WeightsMismatch, match="which classes"):
        create_detector(tmp_path / "x.safetensors")


def test_no_such_weights(tmp_path, monkeypatch):
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)
    with pytest.raises(UnknownName, match="yolov5n, "):
        create_detector("yolov5x")
    for name in ("a.pt", "a.safetensors"):
        with pytest.raises(WeightsNotFound, match="no such weight file"):
            create_detector(tmp_path / name)
    with pytest.raises(FusionError, match="no such folder of weights"):
        create_detector("yolov5n", weights_dir=tmp_path / "none")


def test_published_detectors_are_listed_with_the_weights():
    listed = list_weights(users=weight_users()).set_index("name")
    for name, spec in DETECTORS.items():
        assert listed.loc[name, "method"] == "detector"
        assert listed.loc[name, "parameters"] == spec.weights.parameters
        built = sum(p.numel() for p in spec.build().parameters())
        assert spec.weights.parameters == built
    assert listed.loc["yolov5n", "licence"] == "AGPL-3.0"
