"""Networks as diagrams, drawn from a live run."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from ..tracing import Operation, Step, steps, trace
from .colours import GREY

__all__ = [
    "architecture",
    "module_diagram",
]

# ---------------------------------------------------------------- operations


def architecture(network: nn.Module, *, title: str = "") -> Figure:
    """Draw an auto-encoder from the operations of a live run.

    Left to right: every box is a convolution (its kernel and channels; hatched where it
    reuses weights), every circle a sum, every bar a concatenation; lines are tensors.
    """
    operations = trace(network)
    depth, lane = _layout(operations)
    figure, axis = plt.subplots(figsize=(11.5, 1.6 + 0.75 * (max(lane) - min(lane) + 1)))
    reused = {operation.name for operation in operations if operation.uses > 1}
    boxes = [
        _draw(axis, operation, depth[i], lane[i], operation.name in reused)
        for i, operation in enumerate(operations)
    ]
    for i, operation in enumerate(operations):
        for source in operation.inputs:
            # A tensor that skips several columns on its own lane arches over what is between.
            arch = 0.28 if lane[source] == lane[i] and depth[i] - depth[source] > 1 else 0.0
            start, stop = (depth[source], lane[source]), (depth[i], lane[i])
            _connect(axis, start, stop, (boxes[source], boxes[i]), arch)
    axis.set_xlim(-0.7, max(depth) + 0.7)
    axis.set_ylim(min(lane) - 0.8, max(lane) + 0.8)
    axis.axis("off")
    axis.set_title(title, fontsize=11, loc="left")
    handles = [
        plt.Rectangle((0, 0), 1, 1, fc=c, ec="black", lw=0.6, hatch=h, label=text)
        for c, h, text in (
            ("#cfe5f5", "", "3x3 convolution"),
            ("#fbe3d1", "", "1x1 convolution"),
            ("#cfe5f5", "////", "weights used again"),
        )
        if h == "" or reused
    ]
    axis.legend(handles=handles, loc="lower right", fontsize=8, ncols=3, frameon=False)
    figure.tight_layout()
    return figure


def _layout(operations: Sequence[Operation]) -> tuple[list[int], list[float]]:
    """Column of each operation (longest path from the input) and its lane."""
    depth: list[int] = []
    lane: list[float] = []
    for operation in operations:
        depth.append(1 + max((depth[i] for i in operation.inputs), default=-1))
        lanes = [lane[i] for i in operation.inputs]
        if operation.kind in ("split", "conv"):
            # What works side by side on one tensor stands on lanes side by side.
            key = operation.kind, operation.inputs
            siblings = [o for o in operations if (o.kind, o.inputs) == key]
            place = siblings.index(operation)
            lane.append(lanes[0] + (len(siblings) - 1) / 2 - place)
        elif operation.kind == "concat":
            lane.append(float(np.mean([min(lanes), max(lanes)])))
        else:
            lane.append(lanes[0] if lanes else 0.0)
    return depth, lane


def _connect(
    axis: plt.Axes,
    start: tuple[float, float],
    stop: tuple[float, float],
    boxes: tuple[FancyBboxPatch, FancyBboxPatch],
    arch: float,
) -> None:
    """Draw an arrow between two boxes' middles, of which what lies inside of them is cut off."""
    axis.annotate(
        "",
        stop,
        start,
        zorder=0.5,  # behind the boxes that it passes
        arrowprops={
            "arrowstyle": "-|>",
            "color": GREY,
            "lw": 0.9,
            "shrinkA": 0,
            "shrinkB": 1,
            "patchA": boxes[0],
            "patchB": boxes[1],
            "connectionstyle": f"arc3,rad={-arch}",
        },
    )


def _draw(axis: plt.Axes, operation: Operation, x: float, y: float, reused: bool) -> FancyBboxPatch:
    if operation.kind == "conv":
        return _draw_convolution(axis, operation, x, y, reused)
    is_sum = operation.kind == "add"
    text = {"input": "image", "add": "+", "concat": "concat", "split": "split"}[operation.kind]
    symbol = axis.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=12 if is_sum else 7.5,
        rotation=90 if operation.kind == "concat" else 0,
    )
    symbol.set_bbox(
        {
            "boxstyle": "circle,pad=0.15" if is_sum else "round,pad=0.25",
            "fc": "#d7efe6" if is_sum else "#eeeeee",
            "ec": "black",
            "lw": 0.7,
        }
    )
    box = symbol.get_bbox_patch()
    assert box is not None
    return box


def _draw_convolution(
    axis: plt.Axes, operation: Operation, x: float, y: float, reused: bool
) -> FancyBboxPatch:
    colour = "#fbe3d1" if operation.kernel == 1 else "#cfe5f5"
    box = _add_box(axis, x, y, 0.76, 0.52, colour)
    size, channels = operation.kernel, f"{operation.channels_in}→{operation.channels_out}"
    text = axis.text(x, y, f"{size}x{size}\n{channels}", ha="center", va="center", fontsize=7.5)
    if reused:
        box.set_hatch("////")
        text.set_bbox({"fc": colour, "ec": "none", "pad": 0.6})
    if operation.activation:
        axis.text(x, y - 0.37, operation.activation, ha="center", va="top", fontsize=6.5)
    return box


# ---------------------------------------------------------------- modules


def module_diagram(network: nn.Module, *, side: int = 256, title: str = "") -> Figure:
    """Draw a fusion network of several scales from a live run: a box per module, a row per scale.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(ir, vis)``.
    side : int
        Side of the test images.
    title : str
    """
    found = steps(network, *torch.rand(2, 1, 1, side, side))
    places = _places(found)
    depth, bottom = max(x for x, _ in places), min(y for _, y in places)
    figure, axis = plt.subplots(figsize=(11.5, 0.9 - bottom))
    boxes = [_box(axis, step, *place) for step, place in zip(found, places, strict=True)]
    for i, step in enumerate(found):
        for source in step.inputs:
            start, stop = places[source], places[i]
            arch = 0.12 if start[1] == stop[1] and stop[0] - start[0] > 1 else 0.0
            _connect(axis, start, stop, (boxes[source], boxes[i]), arch)
    axis.set_xlim(-0.6, depth + 0.6)
    axis.set_ylim(bottom - 0.5, 0.6)
    axis.axis("off")
    axis.set_title(title, fontsize=11, loc="left")
    figure.tight_layout()
    return figure


def _places(found: Sequence[Step]) -> list[tuple[float, float]]:
    """Right by the longest path from the images, down by scale; what shares a place is spread."""
    columns: list[int] = []
    for step in found:
        columns.append(1 + max((columns[i] for i in step.inputs), default=-1))
    side = found[0].after.shape[-1]
    levels = [round(float(np.log2(side / step.after.shape[-1]))) for step in found]
    cells = list(zip(columns, levels, strict=True))
    places = []
    for i, (column, level) in enumerate(cells):
        shared = [k for k, cell in enumerate(cells) if cell == (column, level)]
        spread = (len(shared) - 1) / 2 - shared.index(i)
        places.append((float(column), -1.2 * level + 0.56 * spread))
    return places


#: What is not an ordinary convolution -> its colour.
MODULE_COLOURS = {
    **{"image": "#eeeeee", "Conv2d": "#cfe5f5", "Decoder": "#e3e3f5", "Concatenation": "#ffffff"},
    **{"SFIM": "#d7efe6", "PSIM": "#fbe3d1", "FIM": "#f6dcea"},
}


def _box(axis: plt.Axes, step: Step, x: float, y: float) -> FancyBboxPatch:
    _, channels, height, width = step.after.shape
    name = {"image": step.name, "Conv2d": "conv"}.get(step.kind, step.kind)
    colour = MODULE_COLOURS.get(step.kind, "white")
    text = f"{name}\n{channels}×{height}×{width}"
    axis.text(x, y, text, ha="center", va="center", fontsize=6.5)
    return _add_box(axis, x, y, 0.84, 0.44, colour)


def _add_box(
    axis: plt.Axes, x: float, y: float, width: float, height: float, colour: str
) -> FancyBboxPatch:
    """Add a box with round corners about (x, y)."""
    box = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.06",
        fc=colour,
        ec="black",
        lw=0.7,
    )
    axis.add_patch(box)
    return box
