"""Networks as diagrams, drawn from a live run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import nn

from .tracing import Step, steps, trace

__all__ = ["architecture", "module_diagram"]

GREY = "#999999"
#: Kind of step -> colour; another is white.
COLOURS = {
    **dict.fromkeys(("image", "concat", "split"), "#eeeeee"),
    **{"add": "#d7efe6", "Conv2d": "#cfe5f5", "1x1": "#fbe3d1"},
    **{"Decoder": "#e3e3f5", "SFIM": "#d7efe6", "PSIM": "#fbe3d1", "FIM": "#f6dcea"},
}
EDGE: dict[str, Any] = {"ec": "black", "lw": 0.7}
#: The edge of what reuses weights.
AGAIN: dict[str, Any] = {"ec": "black", "lw": 1.4, "ls": "--"}


def architecture(network: nn.Module, *, title: str = "") -> Figure:
    """Draw an auto-encoder from the operations of a live run.

    Left to right: every box is a convolution (its kernel and channels; dashed where it
    reuses weights), every circle a sum, every bar a concatenation; lines are tensors.
    """
    found = trace(network)
    places = _lanes(found)
    lanes = [y for _, y in places]
    figure, axis = plt.subplots(figsize=(11.5, 1.6 + 0.75 * (max(lanes) - min(lanes) + 1)))
    reused = {step.name for step in found if step.uses > 1}
    boxes = [
        _layer(axis, step, place, step.name in reused)
        for step, place in zip(found, places, strict=True)
    ]
    _finish(figure, found, places, boxes, title=title, margin=0.8, arch=0.28)
    handles = [
        Patch(fc=COLOURS["Conv2d"], label="3x3 convolution", **EDGE),
        Patch(fc=COLOURS["1x1"], label="1x1 convolution", **EDGE),
        *[Patch(fc=COLOURS["Conv2d"], label="weights used again", **AGAIN)] * bool(reused),
    ]
    axis.legend(handles=handles, loc="lower right", fontsize=8, ncols=3, frameon=False)
    return figure


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
    places = _scales(found)
    figure, axis = plt.subplots(figsize=(11.5, 1.4 - min(y for _, y in places)))
    boxes = []
    for step, place in zip(found, places, strict=True):
        _, channels, height, width = step.after.shape
        name = {"image": step.name, "Conv2d": "conv"}.get(step.kind, step.kind)
        text = f"{name}\n{channels}×{height}×{width}"
        boxes.append(_box(axis, place, text, step.kind, fontsize=6.5))
    _finish(figure, found, places, boxes, title=title, margin=0.5, arch=0.12)
    return figure


# ---------------------------------------------------------------- places


def _columns(found: Sequence[Step]) -> list[float]:
    """Return the longest path from the images to each step."""
    columns: list[float] = []
    for step in found:
        columns.append(1.0 + max((columns[i] for i in step.inputs), default=-1.0))
    return columns


def _lanes(found: Sequence[Step]) -> list[tuple[float, float]]:
    """Place what works side by side on one tensor on lanes side by side."""
    lanes: list[float] = []
    for step in found:
        given = [lanes[i] for i in step.inputs] or [0.0]
        if step.kind in ("split", "Conv2d"):
            siblings = [s for s in found if (s.kind, s.inputs) == (step.kind, step.inputs)]
            lanes.append(given[0] + (len(siblings) - 1) / 2 - siblings.index(step))
        elif step.kind == "concat":
            lanes.append((min(given) + max(given)) / 2)
        else:
            lanes.append(given[0])
    return list(zip(_columns(found), lanes, strict=True))


def _scales(found: Sequence[Step]) -> list[tuple[float, float]]:
    """Place steps the lower, the smaller their images; what shares a place is spread."""
    side = found[0].after.shape[-1]
    levels = [round(float(np.log2(side / step.after.shape[-1]))) for step in found]
    cells = list(zip(_columns(found), levels, strict=True))
    places = []
    for i, (column, level) in enumerate(cells):
        shared = [k for k, cell in enumerate(cells) if cell == (column, level)]
        spread = (len(shared) - 1) / 2 - shared.index(i)
        places.append((column, -1.2 * level + 0.56 * spread))
    return places


# ---------------------------------------------------------------- drawing


def _layer(axis: plt.Axes, step: Step, place: tuple[float, float], reused: bool) -> Patch:
    if step.kind == "add":
        return _box(axis, place, "+", "add", {"boxstyle": "circle,pad=0.15"}, fontsize=12)
    if not isinstance(step.module, nn.Conv2d):
        return _box(axis, place, step.kind, step.kind, rotation=90 * (step.kind == "concat"))
    conv, (x, y) = step.module, place
    if step.activation:
        axis.text(x, y - 0.27, step.activation, ha="center", va="top", fontsize=6.5)
    size = f"{conv.kernel_size[0]}x{conv.kernel_size[1]}"
    text = f"{size}\n{conv.in_channels}→{conv.out_channels}"
    kind = size if size in COLOURS else "Conv2d"
    return _box(axis, place, text, kind, AGAIN if reused else EDGE)


def _box(
    axis: plt.Axes,
    place: tuple[float, float],
    text: str,
    kind: str,
    box: dict[str, Any] = EDGE,
    **how: Any,
) -> Patch:
    """Write a text in a box about a place."""
    style = {"boxstyle": "round,pad=0.35", "fc": COLOURS.get(kind, "white"), **EDGE, **box}
    shown = axis.text(*place, text, **{"ha": "center", "va": "center", "fontsize": 7.5, **how})
    shown.set_bbox(style)
    patch = shown.get_bbox_patch()
    assert patch is not None
    return patch


def _finish(
    figure: Figure,
    found: Sequence[Step],
    places: Sequence[tuple[float, float]],
    boxes: Sequence[Patch],
    *,
    title: str,
    margin: float,
    arch: float,
) -> None:
    """Draw the tensors between boxes; one that skips several columns arches over what is there."""
    (axis,) = figure.axes
    for i, step in enumerate(found):
        for source in step.inputs:
            start, stop = places[source], places[i]
            bend = arch if start[1] == stop[1] and stop[0] - start[0] > 1 else 0.0
            style = {"arrowstyle": "-|>", "color": GREY, "lw": 0.9, "shrinkA": 0, "shrinkB": 1}
            path = {"connectionstyle": f"arc3,rad={-bend}"}
            ends = {"patchA": boxes[source], "patchB": boxes[i]}
            # Behind the boxes that it passes.
            axis.annotate("", stop, start, zorder=0.5, arrowprops={**style, **path, **ends})
    columns, lanes = zip(*places, strict=True)
    axis.set_xlim(-0.7, max(columns) + 0.7)
    axis.set_ylim(min(lanes) - margin, max(lanes) + margin)
    axis.axis("off")
    axis.set_title(title, fontsize=11, loc="left")
    figure.tight_layout()
