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

from .figures import GREY
from .tracing import Step, steps, trace

__all__ = ["architecture", "module_diagram"]

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
    reused = {step.name for step in found if step.uses > 1}
    figure, axis = _panel(places, 1.6, 0.75, margin=0.8, title=title)
    boxes = [
        _layer(axis, step, place, AGAIN if step.name in reused else EDGE)
        for step, place in zip(found, places, strict=True)
    ]
    _join(axis, found, places, boxes, arch=0.28)
    handles = [
        Patch(fc=COLOURS["Conv2d"], label="3x3 convolution", **EDGE),
        Patch(fc=COLOURS["1x1"], label="1x1 convolution", **EDGE),
        *[Patch(fc=COLOURS["Conv2d"], label="weights used again", **AGAIN)] * bool(reused),
    ]
    axis.legend(handles=handles, loc="lower right", fontsize=8, ncols=3, frameon=False)
    return figure


def module_diagram(network: nn.Module, *, side: int = 256, title: str = "") -> Figure:
    """Draw a fusion network of several scales, run on images of side x side.

    A box per module, a row per scale.
    """
    found = steps(network, *torch.rand(2, 1, 1, side, side))
    places = _scales(found)
    figure, axis = _panel(places, 0.4, 1, margin=0.5, title=title)
    boxes = []
    for step, place in zip(found, places, strict=True):
        _, channels, height, width = step.after.shape
        name = {"image": step.name, "Conv2d": "conv"}.get(step.kind, step.kind)
        text = f"{name}\n{channels}×{height}×{width}"
        boxes.append(_box(axis, place, text, step.kind, fontsize=6.5))
    _join(axis, found, places, boxes, arch=0.12)
    return figure


Places = list[tuple[float, float]]


def _panel(places: Places, above: float, lane: float, *, margin: float, title: str) -> Any:
    """Make a figure about these places, of so many inches and so many per lane."""
    columns, lanes = zip(*places, strict=True)
    inches = above + lane * (max(lanes) - min(lanes) + 1)
    figure, axis = plt.subplots(figsize=(11.5, inches), layout="tight")
    axis.set_xlim(-0.7, max(columns) + 0.7)
    axis.set_ylim(min(lanes) - margin, max(lanes) + margin)
    axis.axis("off")
    axis.set_title(title, fontsize=11, loc="left")
    return figure, axis


def _columns(found: Sequence[Step]) -> list[float]:
    """Return the longest path from the images to each step."""
    columns: list[float] = []
    for step in found:
        columns.append(1.0 + max((columns[i] for i in step.inputs), default=-1.0))
    return columns


def _lanes(found: Sequence[Step]) -> Places:
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


def _scales(found: Sequence[Step]) -> Places:
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


def _layer(axis: Any, step: Step, place: tuple[float, float], edge: dict[str, Any]) -> Patch:
    if step.kind == "add":
        return _box(axis, place, "+", "add", {"boxstyle": "circle,pad=0.15"}, fontsize=12)
    if not isinstance(step.module, nn.Conv2d):
        return _box(axis, place, step.kind, step.kind, rotation=90 * (step.kind == "concat"))
    conv, (x, y) = step.module, place
    if step.activation:
        axis.text(x, y - 0.27, step.activation, ha="center", va="top", fontsize=6.5)
    size = f"{conv.kernel_size[0]}x{conv.kernel_size[1]}"
    kind = size if size in COLOURS else "Conv2d"
    return _box(axis, place, f"{size}\n{conv.in_channels}→{conv.out_channels}", kind, edge)


def _box(
    axis: Any,
    place: tuple[float, float],
    text: str,
    kind: str,
    box: dict[str, Any] = EDGE,
    **how: Any,
) -> Patch:
    """Write a text in a box about a place."""
    style = {"boxstyle": "round,pad=0.35", "fc": COLOURS.get(kind, "white"), **EDGE, **box}
    how = {"ha": "center", "va": "center", "fontsize": 7.5, **how}
    patch: Any = axis.text(*place, text, bbox=style, **how).get_bbox_patch()
    return patch


def _join(
    axis: Any, found: Sequence[Step], places: Places, boxes: Sequence[Patch], *, arch: float
) -> None:
    """Draw the tensors between boxes; one that skips several columns arches over what is there."""
    for i, step in enumerate(found):
        for source in step.inputs:
            start, stop = places[source], places[i]
            bend = arch if start[1] == stop[1] and stop[0] - start[0] > 1 else 0.0
            style = {"arrowstyle": "-|>", "color": GREY, "lw": 0.9, "shrinkA": 0, "shrinkB": 1}
            path = {"connectionstyle": f"arc3,rad={-bend}"}
            ends = {"patchA": boxes[source], "patchB": boxes[i]}
            # Behind the boxes that it passes.
            axis.annotate("", stop, start, zorder=0.5, arrowprops={**style, **path, **ends})
