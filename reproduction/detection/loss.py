"""YOLOv5's loss: where boxes are, whether there is one, and of what class it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .yolov5 import STRIDES, YOLOv5

#: Published weights for 80 classes and 640 pixels; and of objectness per scale, fine to coarse.
BOX, OBJECTNESS, CLASS = 0.05, 1.0, 0.5
BALANCE = (4.0, 1.0, 0.4)

#: An anchor is responsible for an object at most so many times as large, or as small, in a side.
FITS = 4.0


class DetectionLoss(NamedTuple):
    """The loss and its parts, each weighted; ``total`` is their sum."""

    total: Tensor
    box: Tensor
    objectness: Tensor
    classes: Tensor


class Targets(NamedTuple):
    """Cells and anchors of one scale, (N,) each, and the objects that they are responsible for.

    A place is image, anchor, row and column; centres, from the cell's corner, and sizes, (N, 2)
    each, are in cells.
    """

    place: tuple[Tensor, Tensor, Tensor, Tensor]
    label: Tensor
    centres: Tensor
    sizes: Tensor


def assign(objects: Tensor, anchors: Tensor, height: int, width: int) -> Targets:
    """Find the cells and anchors, in a map of height x width cells, that are to find objects.

    Every anchor of a similar shape is, in the object's cell and in its two nearest neighbours,
    one beside and one above or below. Objects (N, 6) are image, class, centre x and y, width and
    height, anchors (A, 2) width and height, all in cells.
    """
    count, kinds = len(objects), len(anchors)
    anchor = torch.arange(kinds, device=objects.device).repeat_interleave(count)
    every = objects.repeat(kinds, 1)
    ratio = every[:, 4:6] / anchors[anchor]
    fits = torch.maximum(ratio, 1 / ratio).amax(1) < FITS
    every, anchor = every[fits], anchor[fits]
    centres, limits = every[:, 2:4], torch.tensor([width, height], device=objects.device)
    before = (centres % 1 < 0.5) & (centres > 1)  # nearer to the cell to the left, or above
    behind = ((limits - centres) % 1 < 0.5) & (limits - centres > 1)
    own = torch.ones_like(before[:, :1])
    near = torch.cat([own, before, behind], 1).T
    steps = torch.tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]], device=objects.device)
    place, which = near.nonzero(as_tuple=True)
    every, anchor, centres = every[which], anchor[which], centres[which]
    cell = (centres + 0.5 * steps[place]).floor().long()
    column, row = cell[:, 0].clamp(0, width - 1), cell[:, 1].clamp(0, height - 1)
    image, label = every[:, :2].long().T
    return Targets((image, anchor, row, column), label, centres - cell, every[:, 4:6])


def complete_iou(centres: Tensor, sizes: Tensor, others: Tensor, other_sizes: Tensor) -> Tensor:
    """Return the complete IoU of boxes, each with its other; from shapes (N, 2) to (N,).

    Z. Zheng et al., Distance-IoU loss, AAAI 2020, DOI 10.1609/aaai.v34i07.6999: intersection over
    union, less the squared distance of the centres to the squared diagonal of the box around both,
    less a term for unlike shapes.
    """
    low, high = centres - sizes / 2, centres + sizes / 2
    other_low, other_high = others - other_sizes / 2, others + other_sizes / 2
    common = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(0).prod(1)
    union = sizes.prod(1) + other_sizes.prod(1) - common + 1e-7
    overlap = common / union
    around = torch.maximum(high, other_high) - torch.minimum(low, other_low)
    distance = (centres - others).square().sum(1) / (around.square().sum(1) + 1e-7)
    turn = torch.atan(other_sizes[:, 0] / other_sizes[:, 1]) - torch.atan(sizes[:, 0] / sizes[:, 1])
    shape = 4 / math.pi**2 * turn.square()
    with torch.no_grad():
        weight = shape / (shape - overlap + 1 + 1e-7)
    return overlap - distance - weight * shape


def detection_loss(
    network: YOLOv5, outputs: Sequence[Tensor], objects: Tensor, size: int
) -> DetectionLoss:
    """Compute the loss of a batch, summed over it as published, of outputs of `YOLOv5.forward`.

    Inputs are of size x size pixels. Objects (N, 6) are image, class, centre x and y, width and
    height in pixels.
    """
    device = outputs[0].device
    box, objectness, classes = (torch.zeros((), device=device) for _ in range(3))
    for y, anchors, stride, balance in zip(
        outputs, network.head.anchors, STRIDES, BALANCE, strict=True
    ):
        y = y.float()
        height, width = y.shape[2:4]
        scaled = torch.cat([objects[:, :2], objects[:, 2:] / stride], 1)
        found = assign(scaled, anchors, height, width)
        wanted = torch.zeros(y.shape[:4], device=device)
        if len(found.label):
            some = y[found.place]
            centres = 2 * some[:, :2].sigmoid() - 0.5
            sizes = (2 * some[:, 2:4].sigmoid()) ** 2 * anchors[found.place[1]]
            overlap = complete_iou(centres, sizes, found.centres, found.sizes)
            box = box + (1 - overlap).mean()
            # Where two objects share a place, the better box decides: the same on every run.
            flat = np.ravel_multi_index([part.cpu().numpy() for part in found.place], wanted.shape)
            wanted.view(-1).scatter_reduce_(
                0, torch.from_numpy(flat).to(device), overlap.detach().clamp(0), "amax"
            )
            if network.classes > 1:
                labels = torch.nn.functional.one_hot(found.label, network.classes).float()
                classes = classes + binary_cross_entropy_with_logits(some[:, 5:], labels)
        objectness = objectness + balance * binary_cross_entropy_with_logits(y[..., 4], wanted)
    batch = len(outputs[0])
    box = BOX * batch * box
    objectness = OBJECTNESS * (size / 640) ** 2 * batch * objectness
    classes = CLASS * network.classes / 80 * batch * classes
    return DetectionLoss(box + objectness + classes, box, objectness, classes)
