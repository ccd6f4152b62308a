"""diagrams: a box for everything that ran, none upon another."""

from __future__ import annotations

import pytest
import torch
from matplotlib.patches import FancyBboxPatch

from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.msdnet import MSDNet
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.networks.res2netfuse import Res2NetFuse
from reproduction.figures import architecture, diagrams, module_diagram
from reproduction.tracing import layer_table, steps, trace


@pytest.fixture(
    params=[lambda: Res2NetFuse("released"), lambda: Res2NetFuse("paper"), DenseFuse, MSDNet]
)
def network(request):
    return request.param()


def test_a_box_for_every_convolution(network):
    figure = architecture(network, title="A network")
    (axis,) = figure.axes
    boxes = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len(layer_table(network))
    reused = layer_table(network).query("`use of these weights` > 1")["layer"]
    hatched = layer_table(network)["layer"].isin(reused).sum()
    assert sum(bool(box.get_hatch()) for box in boxes) == hatched
    assert axis.get_title(loc="left") == "A network"
    figure.canvas.draw()


def test_boxes_do_not_overlap(network):
    depth, lane = diagrams._layout(trace(network))
    assert len(set(zip(depth, lane, strict=True))) == len(depth)


def test_boxes_of_the_module_diagram_do_not_overlap():
    for departs in ({}, {"scales": 5}, {"scales": 1, "sfim": False}, {"fim": False}):
        figure = module_diagram(RefineFuse(**departs), side=64, title="a title")
        (axis,) = figure.axes
        boxes = [patch.get_bbox() for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
        count = len(steps(RefineFuse(**departs), *torch.rand(2, 1, 1, 64, 64)))
        assert len(boxes) == count
        for i, a in enumerate(boxes):
            assert not any(a.overlaps(b) for b in boxes[i + 1 :])
        assert axis.get_title(loc="left") == "a title"
