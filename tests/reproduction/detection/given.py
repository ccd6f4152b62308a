"""Small pictures with objects, and detectors without training, for the tests of detection."""

from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask

from fusionlib.pairs import Box, Dataset, DatasetCard, Pair
from reproduction.detection.detector import Detector
from reproduction.detection.yolov5 import YOLOv5

NAMES = ("person", "bicycle", "car")


def iou(boxes, others):
    """Intersection over union of each box with each other, by pycocotools."""
    sides = [np.asarray(b, float).reshape(-1, 4) for b in (boxes, others)]
    as_coco = [np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]) for b in sides]
    return mask.iou(*as_coco, [0] * len(as_coco[1]))


def detector(classes=NAMES, *, seed=0, input=64) -> Detector:
    """Random weights; batch normalisation has seen something, so that it is not the identity."""
    torch.manual_seed(seed)
    network = YOLOv5("n", len(classes))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    for layer in network.head.m:  # so that something is found
        layer.bias.data.view(3, -1)[:, 4:] = 0
    return Detector(network, classes, input=input)


def pair(name="a", *, width=64, height=48, boxes=True, seed=0) -> Pair:
    """A dark picture with a bright rectangle for each box, warm in both spectra."""
    random = np.random.default_rng(seed)
    ir = random.uniform(0, 0.2, (height, width)).astype(np.float32)
    found = []
    for i in range(2 if boxes else 0):
        x, y = int(random.integers(2, width // 2)), int(random.integers(2, height // 2))
        w, h = width // 4 + 2 * i, height // 3 - 2 * i
        ir[y : y + h, x : x + w] = 0.9
        found.append(Box(NAMES[i % 2], x, y, x + w, y + h))
    vis = np.repeat(ir[..., None], 3, axis=2)
    return Pair(name, ir, vis, boxes=tuple(found))


def dataset(*pairs, classes=NAMES) -> Dataset:
    card = DatasetCard("some", "Some", "infrared-visible", "", classes=classes)
    return Dataset("some", card, [pair.name for pair in pairs], lambda i: pairs[i])
