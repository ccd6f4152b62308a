"""diagrams: a box for everything that ran, none upon another."""

from __future__ import annotations

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.networks.res2netfuse import Res2NetFuse
from reproduction.diagrams import architecture, module_diagram
from reproduction.tracing import trace


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def boxes_of(figure):
    """The boxes of a diagram, none of which overlaps another."""
    figure.canvas.draw()
    (axis,) = figure.axes
    boxes = [box for text in axis.texts if (box := text.get_bbox_patch())]
    places = [box.get_window_extent() for box in boxes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(places, 2))
    assert axis.get_title(loc="left") == "a title"
    return boxes


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_a_box_for_everything_that_ran(variant):
    network = Res2NetFuse(variant)
    found = trace(network)
    figure = architecture(network, title="a title")
    boxes = boxes_of(figure)
    assert len(boxes) == len(found)
    dashed = sum(box.get_linestyle() in ("--", "dashed") for box in boxes)
    assert dashed == 6 * (variant == "released")
    arrows = [text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == sum(len(step.inputs) for step in found)


@pytest.mark.parametrize(("departs", "count"), [({}, 22), ({"scales": 1, "sfim": False}, 9)])
def test_a_box_for_every_module(departs, count):
    figure = module_diagram(RefineFuse(**departs), side=64, title="a title")
    assert len(boxes_of(figure)) == count
