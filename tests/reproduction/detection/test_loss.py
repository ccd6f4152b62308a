"""The loss: complete IoU by hand, assignment against plain loops, a minimum where it belongs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from reproduction.detection.loss import assign, complete_iou, detection_loss
from reproduction.detection.yolov5 import STRIDES, YOLOv5


def ciou(*values):
    return complete_iou(*(torch.tensor([value], dtype=torch.float64) for value in values)).item()


def test_complete_iou_by_hand():
    assert ciou((3, 4), (2, 6), (3, 4), (2, 6)) == pytest.approx(1, abs=1e-6)
    # Squares of side 2, one shifted by 1: overlap 1/3, diagonal of 3x2 squared 13.
    assert ciou((0, 0), (2, 2), (1, 0), (2, 2)) == pytest.approx(1 / 3 - 1 / 13, abs=1e-6)
    far = ciou((0, 0), (2, 2), (10, 0), (2, 2))
    assert far == pytest.approx(-100 / (12**2 + 2**2), abs=1e-6)
    # Same centre, 4x1 in 4x4: overlap 1/4, angles atan 1 and atan 4.
    shape = 4 / math.pi**2 * (math.atan(1) - math.atan(4)) ** 2
    expected = 1 / 4 - shape**2 / (shape - 1 / 4 + 1)
    assert ciou((0, 0), (4, 1), (0, 0), (4, 4)) == pytest.approx(expected, abs=1e-6)


def plain_assign(objects, anchors, height, width):
    """Object by object, cell by cell."""
    found = Counter()
    for image, label, x, y, w, h in objects:
        for a, (aw, ah) in enumerate(anchors):
            if max(w / aw, aw / w, h / ah, ah / h) >= 4:
                continue
            cells = [(int(y), int(x))]
            if x % 1 < 0.5 and x > 1:
                cells.append((int(y), int(x) - 1))
            if y % 1 < 0.5 and y > 1:
                cells.append((int(y) - 1, int(x)))
            if (width - x) % 1 < 0.5 and width - x > 1:
                cells.append((int(y), int(x) + 1))
            if (height - y) % 1 < 0.5 and height - y > 1:
                cells.append((int(y) + 1, int(x)))
            found.update((int(image), a, row, column, int(label)) for row, column in cells)
    return found


@given(st.integers(0, 8), st.integers(0, 10**6))
def test_assignment_is_the_plain_one(count, seed):
    random = np.random.default_rng(seed)
    objects = np.column_stack(
        [
            random.integers(2, size=count),
            random.integers(3, size=count),
            random.uniform(0.01, 11.99, count),
            random.uniform(0.01, 7.99, count),
            random.uniform(0.3, 9, (count, 2)),
        ]
    )
    anchors = np.array([[1, 1.5], [2, 4], [6, 3.0]])
    targets = assign(torch.tensor(objects), torch.tensor(anchors), 8, 12)
    places = zip(*(part.tolist() for part in (*targets.place, targets.label)), strict=True)
    assert Counter(places) == plain_assign(objects, anchors, 8, 12)
    # The centre, from the corner of a neighbour, is up to half a cell outside it.
    assert ((targets.centres >= -0.5) & (targets.centres <= 1.5)).all()


# ---------------------------------------------------------------- the loss


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv5("n", 3)


def maps(size=96, batch=2, value=0.0):
    return [torch.full((batch, 3, size // s, size // s, 8), value) for s in STRIDES]


OBJECTS = torch.tensor([[0, 2, 40.0, 44, 20, 30], [1, 0, 70, 20, 60, 25]])


def perfect(network, objects, size=96, batch=2):
    """Maps that say just what is there."""
    outputs = maps(size, batch)
    for y, anchors, stride in zip(outputs, network.head.anchors, STRIDES, strict=True):
        y[..., 4] = -20
        scaled = torch.cat([objects[:, :2], objects[:, 2:] / stride], 1)
        t = assign(scaled, anchors, *y.shape[2:4])
        centre = ((t.centres + 0.5) / 2).clamp(1e-6, 1 - 1e-6)
        shape = ((t.sizes / anchors[t.place[1]]).sqrt() / 2).clamp(1e-6, 1 - 1e-6)
        labels = torch.full((len(t.label), 3), -20.0)
        labels[range(len(t.label)), t.label] = 20
        scores = torch.full((len(t.label), 1), 20.0)
        y[t.place] = torch.cat([centre.logit(), shape.logit(), scores, labels], 1)
    return outputs


def test_the_loss_is_0_where_all_is_right(network):
    right = detection_loss(network, perfect(network, OBJECTS), OBJECTS, 96)
    wrong = detection_loss(network, maps(), OBJECTS, 96)
    assert float(right.total) < 1e-4 < 1e-2 < float(wrong.total)
    parts = wrong.box + wrong.objectness + wrong.classes
    assert float(parts) == pytest.approx(float(wrong.total))


def test_without_objects_and_on_smaller_pictures(network):
    loss, smaller = (detection_loss(network, maps(), torch.zeros(0, 6), s) for s in (640, 320))
    assert float(loss.box) == float(loss.classes) == 0
    assert float(smaller.total) == pytest.approx(float(loss.total) / 4)


@pytest.mark.parametrize(("scale", "weight"), [(0, 4.0), (1, 1.0), (2, 0.4)])
def test_objectness_of_each_scale_by_hand(network, scale, weight):
    outputs = maps(value=-100)
    outputs[scale][..., 4] = 0
    loss = detection_loss(network, outputs, torch.zeros(0, 6), 640)
    assert float(loss.objectness) == pytest.approx(2 * weight * math.log(2), rel=1e-6)


def test_boxes_by_hand(network):
    """One object as large as an anchor twice as wide: 1 - complete IoU, over its cells."""
    width, height = 2 * 62, 45
    objects = torch.tensor([[0, 0, 44.0, 36.0, width, height]])
    net = YOLOv5("n", 3)
    net.head.anchors.fill_(1000)  # Only the middle anchor of the middle scale is left to fit.
    net.head.anchors[1, 1] = torch.tensor([62 / 16, 45 / 16])
    loss = detection_loss(net, maps(), objects, 96)
    targets = assign(torch.cat([objects[:, :2], objects[:, 2:] / 16], 1), net.head.anchors[1], 6, 6)
    # Outputs of 0 are an anchor in the middle of a cell; the centre is elsewhere in it or aside.
    size, other = (62 / 16, 45 / 16), (width / 16, height / 16)
    found = [ciou((0.5, 0.5), size, tuple(t.tolist()), other) for t in targets.centres]
    assert len(found) == 3
    assert float(loss.box) == pytest.approx(0.05 * 2 * (1 - sum(found) / 3), rel=1e-5)


def test_classes_by_hand(network):
    """Every score a half: log 2, times 0.5, 3 of 80 classes, the batch, scales with objects."""
    loss = detection_loss(network, maps(), OBJECTS, 96)
    scales = 0
    for anchors, stride in zip(network.head.anchors, STRIDES, strict=True):
        scaled = torch.cat([OBJECTS[:, :2], OBJECTS[:, 2:] / stride], 1)
        scales += bool(len(assign(scaled, anchors, 96 // stride, 96 // stride).label))
    assert float(loss.classes) == pytest.approx(0.5 * 3 / 80 * 2 * scales * math.log(2), rel=1e-5)
    # One class needs no choice.
    alone = OBJECTS * torch.tensor([1, 0, 1, 1, 1, 1])
    assert (
        float(detection_loss(YOLOv5("n", 1), [y[..., :6] for y in maps()], alone, 96).classes) == 0
    )


def test_of_two_objects_in_one_place_the_better_box_decides(network):
    """In either order."""
    double = torch.cat([OBJECTS, OBJECTS + torch.tensor([0, 0, 1.0, 1, 3, 3])])
    outputs = perfect(network, OBJECTS)
    single = detection_loss(network, outputs, OBJECTS, 96).objectness
    same = detection_loss(network, outputs, torch.cat([OBJECTS, OBJECTS]), 96).objectness
    assert float(same) == pytest.approx(float(single), rel=1e-5)
    first = detection_loss(network, outputs, double, 96).total
    second = detection_loss(network, outputs, double.flip(0), 96).total
    assert float(first) == pytest.approx(float(second), rel=1e-5)
