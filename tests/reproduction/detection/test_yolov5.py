"""YOLOv5: published sizes and names, decoding by hand, what it finds in photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from fusionlib.datasets import load_images
from reproduction.detection.detector import TO_SEE, create_detector
from reproduction.detection.yolov5 import ANCHORS, STRIDES, YOLOv5
from tests.reproduction.detection.given import iou

GOLDEN = Path(__file__).parents[2] / "golden"


def test_names_and_shapes_are_those_of_the_published_file():
    """Numbers without a dimension have one there."""
    published = json.loads((GOLDEN / "keys" / "yolov5n.json").read_text())
    ours = {name: list(tensor.shape) or [1] for name, tensor in YOLOv5("n").state_dict().items()}
    assert ours == published


def test_decoding_by_hand():
    """Outputs of 0 are an anchor in the middle of its cell; sigmoid(1.0986) is 0.75."""
    net = YOLOv5("n", 1)
    maps = [torch.zeros(1, 3, 64 // s, 96 // s, 6) for s in STRIDES]
    maps[1][0, 2, 3, 4] = torch.tensor([3.0, 1 / 3, 3.0, 1 / 3, 3.0, 1 / 3]).log()
    found = net.decode(maps)[0]
    fine = found[: 3 * 8 * 12].view(3, 8, 12, 6)
    assert fine[0, 5, 7].tolist() == pytest.approx([7.5 * 8, 5.5 * 8, *ANCHORS[0][0], 0.5, 0.5])
    medium = found[3 * 8 * 12 :][: 3 * 4 * 6].view(3, 4, 6, 6)
    x, y = (4 + 2 * 0.75 - 0.5) * 16, (3 + 2 * 0.25 - 0.5) * 16
    width, height = ANCHORS[1][2]
    expected = [x, y, width * 1.5**2, height * 0.5**2, 0.75, 0.25]
    assert medium[2, 3, 4].tolist() == pytest.approx(expected)


def test_scores_begin_rare():
    """8 objects among the cells of 640x640 pixels, as the published priors say."""
    net = YOLOv5("n", 80)
    for layer, stride in zip(net.head.m, STRIDES, strict=True):
        rare = layer.bias.detach().view(3, 85)[:, 4].mean().exp()
        assert float(rare) == pytest.approx(8 / (640 / stride) ** 2, rel=0.5)


@pytest.mark.realdata
def test_detections_are_the_recorded_ones(data_root, weights_root):
    """All boxes above 0.3 in 40 photographs, as `detect run --confidence 0.3` wrote them.

    Those of twelve photographs were compared by eye with what can be seen in them. On the machine
    that wrote them they are equal to the digits; 0.02 of a score and 0.95 of the overlap leave room
    for other processors, libraries and JPEG decoders.
    """
    detector, images = create_detector("yolov5n"), dict(load_images("coco_val2017"))
    recorded = pd.read_csv(GOLDEN / "yolov5n_coco.csv")
    assert len(recorded) == 159
    for file, rows in recorded.groupby("image"):
        some = detector.detect(images[file.removesuffix(".jpg")], TO_SEE)
        boxes = some.named(detector.names)
        for row in rows.to_dict("records"):
            same = [i for i, box in enumerate(boxes) if box.label == row["class"]]
            assert same, row
            corners = [[row["x0"], row["y0"], row["x1"], row["y1"]]]
            overlaps = iou(corners, some.boxes[same])[0]
            assert overlaps.max() > 0.95, row
            best = same[int(overlaps.argmax())]
            assert some.scores[best] == pytest.approx(row["score"], abs=0.02)
