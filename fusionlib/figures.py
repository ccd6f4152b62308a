"""Figures of the notebooks: image grids, weight maps, loss curves, architecture diagrams."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from .datasets import Box
from .images import luminance
from .metrics import METRICS

__all__ = [
    "Operation",
    "Step",
    "architecture",
    "conventions",
    "costs",
    "difference",
    "encode",
    "feature_map",
    "first_share",
    "gains",
    "image_grid",
    "layer_table",
    "loss_curves",
    "module_diagram",
    "picture_wall",
    "precision",
    "scaling",
    "show",
    "steps",
    "sweep",
    "taps",
    "trace",
]

# Okabe and Ito's colours, told apart by the colour-blind.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"


def show(figure: Figure, *, pictures: bool = False) -> None:
    """Display a figure in a notebook and close it.

    Parameters
    ----------
    figure : Figure
    pictures : bool
        Whether it shows pictures, which are embedded as JPEG to keep the notebook small;
        drawings are embedded as PNG.
    """
    from IPython.display import Image, display

    kind: Literal["jpeg", "png"] = "jpeg" if pictures else "png"
    display(Image(encode(figure, kind), format=kind))


def encode(figure: Figure, kind: Literal["jpeg", "png"]) -> bytes:
    """Return a figure as a file of that kind and close it."""
    stream = io.BytesIO()
    if kind == "jpeg":
        figure.savefig(stream, format=kind, dpi=100, pil_kwargs={"quality": 88})
    else:
        figure.savefig(stream, format=kind, dpi=90)
    plt.close(figure)
    return stream.getvalue()


# ---------------------------------------------------------------- pictures


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    width: float = 11.0,
    ranges: Mapping[int, tuple[float, float, str]] | None = None,
) -> Figure:
    """Show images side by side, all cells of one size, gray images on the scale 0 to 1.

    Parameters
    ----------
    rows : sequence of sequences of ndarray
        Images (H, W) or (H, W, 3).
    titles : sequence of str
        Of the columns.
    row_titles : sequence of str
        Of the rows, set at their left.
    width : float
        Of the figure, in inches.
    ranges : mapping of int to (low, high, colour map), optional
        Column -> how it is shown, where it is no picture but a map of values.
    """
    columns = max(map(len, rows))
    # Row titles and column titles take about a quarter of an inch.
    column = (width - 0.25 * bool(row_titles)) / columns
    heights = [column * row[0].shape[0] / row[0].shape[1] for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(width, sum(heights) + 0.3 * bool(titles)),
        height_ratios=heights,
        squeeze=False,
        layout=ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.02, hspace=0, wspace=0),
    )
    for r, row in enumerate(rows):
        for c in range(columns):
            axis = axes[r, c]
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if c >= len(row):
                continue
            low, high, colours = (ranges or {}).get(c, (0.0, 1.0, "gray"))
            axis.imshow(row[c], cmap=colours, vmin=low, vmax=high, interpolation="lanczos")
            if r == 0 and c < len(titles):
                axis.set_title(titles[c], fontsize=10)
        if r < len(row_titles):
            axes[r, 0].set_ylabel(row_titles[r], fontsize=10)
    return figure


def picture_wall(
    pictures: Mapping[str, np.ndarray],
    *,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    columns: int = 4,
    width: float = 11.0,
) -> Figure:
    """Show images of one size under their titles, row by row, gray images on the scale 0 to 1.

    Parameters
    ----------
    pictures : mapping of str to ndarray
        Title -> image (H, W) or (H, W, 3).
    boxes : mapping of str to sequence of Box, optional
        Title -> boxes to draw, in pixels; a colour per class.
    columns : int
        At most; as few as the number of rows that this makes needs.
    width : float
        Of the figure, in inches.
    """
    titles, images = list(pictures), list(pictures.values())
    rows = -(-len(images) // columns)
    columns = -(-len(images) // rows)  # rows as equal as can be
    height = width / columns * images[0].shape[0] / images[0].shape[1] + 0.25
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * height),
        squeeze=False,
        layout=ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.02, hspace=0, wspace=0),
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title, image in zip(axes.flat, titles, images, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
        axis.set_title(title, fontsize=9, pad=3)
        _draw_boxes(axis, (boxes or {}).get(title, ()))
    return figure


#: Colours of classes; others are white.
CLASS_COLOURS = {"person": "#ff8c1a", "car": "#3fa9f5", "bicycle": "#2ee6a8"}


def _draw_boxes(axis: plt.Axes, boxes: Sequence[Box]) -> None:
    for label, x0, y0, x1, y1 in boxes:
        colour = CLASS_COLOURS.get(label, "white")
        # Pixel centres are whole numbers.
        corner = (x0 - 0.5, y0 - 0.5)
        axis.add_patch(
            Rectangle(corner, x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.3)
        )


def difference(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the signed difference of luminance (H, W) in gray levels of 255."""
    return (luminance(image) - luminance(reference)) * 255


def first_share(weights: np.ndarray) -> np.ndarray:
    """Return the first image's share (H, W) of weight maps (2, groups, H, W)."""
    return weights[0].mean(axis=0)


#: The columns of Res2NetFuse's history and their titles.
RECONSTRUCTION = {"pixel": "pixel loss", "ssim": "structural loss", "total": "total loss"}


def loss_curves(
    histories: Mapping[str, pd.DataFrame],
    *,
    parts: Mapping[str, str] = RECONSTRUCTION,
    stable_at: int | None = None,
    window: int = 1,
    step: str = "iteration",
    width: float = 11.0,
) -> Figure:
    """Draw losses over iterations or epochs, those on held-out pairs dotted and with markers.

    Parameters
    ----------
    histories : mapping of str to DataFrame
        Name of the run -> its `Training.history`.
    parts : mapping of str to str
        Column of the history -> title of its panel.
    stable_at : int, optional
        Iteration at which the paper calls training stable, drawn as a vertical line.
    window : int
        Losses are averaged over so many iterations.
    step : {"iteration", "epoch"}
        Column of the history that the losses are drawn over.
    width : float
        Of the figure, in inches.
    """
    figure, (axes,) = plt.subplots(
        1, len(parts), figsize=(width, 3.2), layout="constrained", squeeze=False
    )
    for axis, (part, title) in zip(axes, parts.items(), strict=True):
        colours = itertools.cycle((BLUE, ORANGE, GREEN, PURPLE, GREY))
        for (name, history), colour in zip(histories.items(), colours, strict=False):
            smooth = history[part].rolling(window, min_periods=1).mean()
            axis.plot(history[step], smooth, label=name, color=colour, lw=1)
            if (held_out := f"held out {part}") in history:
                judged = history.dropna(subset=held_out)
                label = f"{name}, held out"
                axis.plot(judged[step], judged[held_out], "o:", label=label, color=colour, ms=2.5)
        axis.set_yscale("log")
        axis.set_xlabel(step)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        if stable_at is not None:
            axis.axvline(stable_at, color="black", ls=":", lw=1)
            # To the left of a line that stands near the right edge.
            left = stable_at > 0.7 * max(h[step].max() for h in histories.values())
            axis.annotate(
                f"paper: stable\nafter {stable_at}",
                (stable_at, 0.97),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if left else 4, 0),
                textcoords="offset points",
                va="top",
                ha="right" if left else "left",
                fontsize=8,
            )
    if len(axes[0].lines) > 1:
        axes[0].legend(fontsize=8)
    return figure


# ---------------------------------------------------------------- metrics


def conventions(values: pd.DataFrame, *, width: float = 11.0) -> Figure:
    """Draw what each convention gives, one panel per metric.

    Parameters
    ----------
    values : DataFrame
        Columns metric, convention and mean; the order of the rows is kept, and the textbook's
        bar is set off.
    """
    metrics = list(dict.fromkeys(values["metric"]))
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(width, 2.5), layout="constrained", squeeze=False
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        part = values[values["metric"] == metric]
        colours = [BLUE if name == "standard" else GREY for name in part["convention"]]
        bars = axis.barh(part["convention"], part["mean"], color=colours)
        labels = [f"{value:.3g}" for value in part["mean"]]
        axis.bar_label(bars, labels, fontsize=8, padding=2)
        axis.margins(x=0.25)
        axis.set_xlim(left=0)
        axis.invert_yaxis()
        axis.set_title(metric, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def costs(found: pd.DataFrame, *, quality: str, width: float = 9.0) -> Figure:
    """Draw what methods give over what they take; the area of a dot is the number of parameters.

    Parameters
    ----------
    found : DataFrame
        From `fusionlib.latency.trade_off`.
    quality : str
        What its column "quality" is.
    """
    figure, axis = plt.subplots(figsize=(width, 4.6), layout="constrained")
    area = 25 + 400 * found["parameters"] / max(1, found["parameters"].max())
    classical = found["parameters"] == 0
    colours = np.where(classical, GREY, np.where(found["label"] == "RefineFuse", ORANGE, BLUE))
    axis.scatter(found["ms"], found["quality"], s=area, c=colours, alpha=0.75, linewidths=0)
    near = 0.04 * np.ptp(found["quality"])
    columns = (found[name] for name in ("label", "parameters", "ms", "quality"))
    for label, parameters, ms, height, size in zip(*columns, area, strict=True):
        further = np.log10(found["ms"] / ms)
        beside = (further > 0) & (further < 0.7) & ((found["quality"] - height).abs() < near)
        side = -1 if beside.any() else 1  # away from a dot to the right of it
        axis.annotate(
            label + (f", {parameters / 1e6:.2f} M" if parameters else ""),
            (ms, height),
            xytext=(side * (np.sqrt(size) / 2 + 3), 0),
            textcoords="offset points",
            ha="left" if side == 1 else "right",
            va="center",
            fontsize=8,
        )
    axis.set_xscale("log")
    axis.margins(x=0.12, y=0.1)
    axis.set_xlabel("milliseconds for a pair of 640x480 (logarithmic; left is faster)")
    axis.set_ylabel(quality)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def scaling(rates: pd.DataFrame, columns: Mapping[str, str], *, width: float = 6.0) -> Figure:
    """Draw pairs per second over workers, and where twice the workers would do twice as much.

    Parameters
    ----------
    rates : DataFrame
        A row per number of "workers".
    columns : mapping of str to str
        Column of rates -> label.
    """
    figure, axis = plt.subplots(figsize=(width, 3.4), layout="constrained")
    workers = rates["workers"].to_numpy()
    for (column, label), colour in zip(columns.items(), (BLUE, ORANGE, GREEN), strict=False):
        values = rates[column].to_numpy()
        axis.plot(workers, values, "o-", color=colour, label=label)
        ideal = values[0] * workers / workers[0]
        axis.plot(workers, ideal, ":", color=colour, linewidth=1)
    axis.plot([], [], ":", color=GREY, linewidth=1, label="in proportion")
    axis.set_xticks(workers)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("workers of one thread")
    axis.set_ylabel("pairs per second")
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def gains(ratios: pd.DataFrame, *, width: float = 8.0) -> Figure:
    """Draw how many times as fast as one thing several others are: a line per row, a dot for each.

    Parameters
    ----------
    ratios : DataFrame
        Index: what was measured; a column for each way, named as the legend is to say.
    """
    ordered = ratios.sort_values(ratios.columns[0])
    figure, axis = plt.subplots(figsize=(width, 0.8 + 0.23 * len(ordered)), layout="constrained")
    lines = np.arange(len(ordered))
    axis.hlines(lines, 1, ordered.max(axis=1), color=GREY, linewidth=0.8, alpha=0.5)
    for column, colour in zip(ordered, (BLUE, GREEN, ORANGE), strict=False):
        axis.plot(ordered[column], lines, "o", color=colour, markersize=5, label=column)
    axis.axvline(1, color=GREY, linewidth=1)
    axis.set_yticks(lines, list(ordered.index), fontsize=8)
    axis.set_xlabel("times as fast as the plain module")
    axis.grid(axis="x", alpha=0.25)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def precision(summary: pd.DataFrame, *, metric: str = "AP", width: float = 9.0) -> Figure:
    """Draw the mean average precision of each row with its interval; and the paper's, if any.

    Parameters
    ----------
    summary : DataFrame
        Of `fusionlib.detection.experiment.DetectionTable`.
    metric : {"AP50", "AP"}
    """
    part = summary[(summary["class"] == "all") & (summary["metric"] == metric)]
    part = part.iloc[::-1].reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(width, 1.1 + 0.25 * len(part)), layout="constrained")
    lines = part.index.to_numpy()
    axis.hlines(lines, part["ci_low"], part["ci_high"], color=BLUE, linewidth=2, alpha=0.6)
    axis.plot(part["mean"], lines, "o", color=BLUE, markersize=5, label="here, with 95 % interval")
    if part["paper"].notna().any():
        label = "the paper, on its data"
        axis.plot(part["paper"], lines, "D", color=ORANGE, markersize=4, mfc="none", label=label)
    axis.set_yticks(lines, part["row"], fontsize=8)
    axis.set_ylim(-0.7, len(part) - 0.3)
    axis.set_xlabel(f"{metric}, mean over the classes, %")
    axis.grid(axis="x", alpha=0.25)
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside upper right")
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def sweep(scores: pd.DataFrame, *, columns: int = 4, width: float = 11.0) -> Figure:
    """Draw how metrics move with a setting: one small chart each, its best value marked.

    Parameters
    ----------
    scores : DataFrame
        Columns are metrics of `METRICS`; the index holds the setting, its name that of the axis.
    columns : int
        Charts side by side.
    width : float
        Of the figure, in inches.
    """
    rows = -(-scores.shape[1] // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, 1.7 * rows), sharex=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[scores.shape[1] :]:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes.flat, scores.items(), strict=False):
        up = METRICS[str(name)].higher_is_better
        best, at = (values.max(), values.idxmax()) if up else (values.min(), values.idxmin())
        axis.plot(values.index, values, color=BLUE)
        axis.plot(at, best, marker="o", color=ORANGE)
        axis.set_title(f"{name} {'↑' if up else '↓'}", fontsize=9, pad=3)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(str(scores.index.name), fontsize=9)
    return figure


def taps(filters: Mapping[str, np.ndarray], *, width: float = 8.0) -> Figure:
    """Draw the sizes of filters' coefficients, centred on the largest, on a logarithmic scale.

    Parameters
    ----------
    filters : mapping of str to ndarray
        Name -> coefficients. Coefficients of 0 are left out.
    """
    figure, axis = plt.subplots(figsize=(width, 2.8), layout="constrained")
    for (name, coefficients), colour, marker in zip(
        filters.items(), (BLUE, ORANGE, GREEN), "o.x", strict=False
    ):
        sizes = np.abs(coefficients)
        offsets = np.arange(len(sizes)) - int(np.argmax(sizes))
        there = sizes > 0
        axis.plot(offsets[there], sizes[there], marker, color=colour, label=name, markersize=5)
    axis.set_yscale("log")
    axis.set_xlabel("offset from the centre")
    axis.set_title("size of the coefficients", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


# ---------------------------------------------------------------- architecture


@dataclass(eq=False)
class Operation:
    """One step of a network as it ran.

    Attributes
    ----------
    kind : {"input", "conv", "add", "concat", "split"}
    inputs : list of int
        Indices of the operations whose results it takes.
    name : str
        Of the module, for convolutions.
    kernel, stride, channels_in, channels_out : int
        Of a convolution.
    activation : str
        "ReLU" or "" .
    uses : int
        How many times this convolution's weights had been used before, plus one.
    """

    kind: str
    inputs: list[int]
    name: str = ""
    kernel: int = 0
    stride: int = 1
    channels_in: int = 0
    channels_out: int = 0
    activation: str = ""
    uses: int = 1
    shape: tuple[int, ...] = field(default=())


class _Recorder(TorchFunctionMode):
    """Records convolutions, activations, sums, splits and concatenations as they run."""

    def __init__(self, network: nn.Module, images: Sequence[Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        # Results are kept alive, or a new tensor could take an old one's identity.
        self.made_by: dict[int, int] = {}
        self.alive: list[Any] = []
        self.names = {
            id(m.weight): name for name, m in network.named_modules() if isinstance(m, nn.Conv2d)
        }
        self.uses: dict[int, int] = {}
        for image in images:
            self._add(Operation("input", [], channels_out=image.shape[1]), image)

    def _add(self, operation: Operation, result: Tensor) -> None:
        operation.shape = tuple(result.shape)
        self.operations.append(operation)
        self._remember(result, len(self.operations) - 1)

    def _remember(self, result: Tensor, index: int) -> None:
        self.made_by[id(result)] = index
        self.alive.append(result)

    def _sources(self, *tensors: Any) -> list[int]:
        return [self.made_by[id(t)] for t in tensors if id(t) in self.made_by]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = (resolve_name(func) or "").rpartition(".")[2]
        if name == "conv2d":
            x, weight, _, stride, *_ = args
            self.uses[id(weight)] = self.uses.get(id(weight), 0) + 1
            self._add(
                Operation(
                    "conv",
                    self._sources(x),
                    self.names.get(id(weight), ""),
                    kernel=weight.shape[-1],
                    stride=stride[0],
                    channels_in=weight.shape[1],
                    channels_out=weight.shape[0],
                    uses=self.uses[id(weight)],
                ),
                result,
            )
        elif name in ("relu", "relu_"):
            sources = self._sources(args[0])
            for index in sources:
                self.operations[index].activation = "ReLU"
                self._remember(result, index)
        elif name == "pad":
            for index in self._sources(args[0]):
                self._remember(result, index)
        elif name == "chunk":
            sources = self._sources(args[0])
            # One group is no split (networks whose rule sees all features at once).
            if len(result) == 1 and sources:
                self._remember(result[0], sources[0])
            elif sources:
                for part in result:
                    self._add(Operation("split", sources, channels_out=part.shape[1]), part)
        elif name in ("add", "__add__", "cat"):
            tensors = args[0] if name == "cat" else args[:2]
            sources = self._sources(*tensors)
            if sources:
                kind = "concat" if name == "cat" else "add"
                self._add(Operation(kind, sources, channels_out=result.shape[1]), result)
        return result


def trace(network: nn.Module, *, side: int = 32) -> list[Operation]:
    """Run an auto-encoder on one image and list what it did, in order.

    Parameters
    ----------
    network : AutoEncoder
        Taken as it is, with its weights.
    side : int
        Side of the test image.
    """
    image = torch.rand(1, 1, side, side)
    recorder = _Recorder(network, [image])
    with torch.inference_mode(), recorder:
        network(image)
    return recorder.operations


def layer_table(network: nn.Module) -> pd.DataFrame:
    """List the convolutions of an auto-encoder in the order they run, as the papers print them."""
    return pd.DataFrame(
        {
            "layer": operation.name,
            "size": operation.kernel,
            "stride": operation.stride,
            "input channels": operation.channels_in,
            "output channels": operation.channels_out,
            "activation": operation.activation or "-",
            "use of these weights": operation.uses,
        }
        for operation in trace(network)
        if operation.kind == "conv"
    )


def architecture(network: nn.Module, *, title: str = "", width: float = 11.5) -> Figure:
    """Draw an auto-encoder from the operations of a live run.

    Left to right: every box is a convolution (its kernel and channels; hatched where it
    reuses weights), every circle a sum, every bar a concatenation; lines are tensors.
    """
    operations = trace(network)
    depth, lane = _layout(operations)
    figure, axis = plt.subplots(figsize=(width, 1.6 + 0.75 * (max(lane) - min(lane) + 1)))
    for i, operation in enumerate(operations):
        for source in operation.inputs:
            _connect(axis, (depth[source], lane[source]), (depth[i], lane[i]))
    reused = {operation.name for operation in operations if operation.uses > 1}
    for i, operation in enumerate(operations):
        _draw(axis, operation, depth[i], lane[i], operation.name in reused)
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


def _connect(axis: plt.Axes, start: tuple[float, float], stop: tuple[float, float]) -> None:
    # A tensor that skips several columns on its own lane arches over what stands between.
    arch = 0.28 if start[1] == stop[1] and stop[0] - start[0] > 1 else 0.0
    axis.annotate(
        "",
        stop,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": GREY,
            "lw": 0.9,
            "shrinkA": 12,
            "shrinkB": 12,
            "connectionstyle": f"arc3,rad={-arch}",
        },
    )


def _draw(axis: plt.Axes, operation: Operation, x: float, y: float, reused: bool) -> None:
    if operation.kind == "conv":
        colour = "#fbe3d1" if operation.kernel == 1 else "#cfe5f5"
        box = FancyBboxPatch(
            (x - 0.38, y - 0.26),
            0.76,
            0.52,
            boxstyle="round,pad=0,rounding_size=0.06",
            fc=colour,
            ec="black",
            lw=0.7,
            hatch="////" if reused else "",
        )
        axis.add_patch(box)
        size, channels = operation.kernel, f"{operation.channels_in}→{operation.channels_out}"
        text = f"{size}x{size}\n{channels}"
        axis.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=7.5,
            bbox={"fc": colour, "ec": "none", "pad": 0.6} if reused else None,
        )
        if operation.activation:
            axis.text(x, y - 0.37, operation.activation, ha="center", va="top", fontsize=6.5)
        return
    text = {"input": "image", "add": "+", "concat": "concat", "split": "split"}[operation.kind]
    axis.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=12 if operation.kind == "add" else 7.5,
        rotation=90 if operation.kind == "concat" else 0,
        bbox={
            "boxstyle": "circle,pad=0.15" if operation.kind == "add" else "round,pad=0.25",
            "fc": "#d7efe6" if operation.kind == "add" else "#eeeeee",
            "ec": "black",
            "lw": 0.7,
        },
    )


# ---------------------------------------------------------------- modules


@dataclass(eq=False)
class Step:
    """A module of a network as it ran on a pair.

    Attributes
    ----------
    name, kind : str
        Of the module, and of its class; "infrared" or "visible" and "image" for the images.
    inputs : list of int
        Indices of the steps whose results reach it, through operations outside of modules.
    before : list of Tensor
        What it was given.
    after : Tensor
        Its result.
    """

    name: str
    kind: str
    inputs: list[int]
    before: list[Tensor]
    after: Tensor


class _Origins(TorchFunctionMode):
    """Keeps in mind from which steps each tensor comes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.origins: dict[int, set[int]] = {}
        self.alive: list[Any] = []  # or a new tensor could take an old one's identity

    def of(self, values: Any) -> set[int]:
        """Collect the origins of all tensors among arguments."""
        if isinstance(values, Tensor):
            return self.origins.get(id(values), set())
        if isinstance(values, list | tuple):
            return set().union(*map(self.of, values))
        return set()

    def remember(self, tensor: Tensor, origins: set[int]) -> None:
        self.origins[id(tensor)] = origins
        self.alive.append(tensor)

    def add(self, name: str, kind: str, before: Sequence[Tensor], after: Tensor) -> None:
        inputs = sorted(self.of(tuple(before)))
        self.steps.append(Step(name, kind, inputs, list(before), after))
        self.remember(after, {len(self.steps) - 1})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else (result,):
            # In-place operations and views of nothing new keep what they have.
            if isinstance(tensor, Tensor) and id(tensor) not in self.origins:
                self.remember(tensor, self.of(args))
        return result


def _parts(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """List the modules that a network calls itself, those in lists one by one."""
    found = []
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found += _parts(child, f"{prefix}{name}.")
        else:
            found.append((prefix + name, child))
    return found


def steps(network: nn.Module, ir: Tensor, vis: Tensor) -> list[Step]:
    """Run a fusion network and list the modules that it called, in order, with what they did.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(ir, vis)``.
    ir, vis : Tensor, shape (B, 1, H, W)

    Returns
    -------
    list of Step
        First the two images.
    """
    origins = _Origins()
    origins.add("infrared", "image", [], ir)
    origins.add("visible", "image", [], vis)
    handles = [
        part.register_forward_hook(
            lambda module, given, result, name=name: origins.add(
                name, type(module).__name__, [x for x in given if isinstance(x, Tensor)], result
            )
        )
        for name, part in _parts(network)
    ]
    try:
        with torch.inference_mode(), origins:
            network(ir, vis)
    finally:
        for handle in handles:
            handle.remove()
    return origins.steps


def module_diagram(
    network: nn.Module, *, side: int = 256, title: str = "", width: float = 11.5
) -> Figure:
    """Draw a fusion network of several scales from a live run: a box per module, a row per scale.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(ir, vis)``.
    side : int
        Side of the test images.
    title : str
    width : float
        Of the figure, in inches.
    """
    found = steps(network, *torch.rand(2, 1, 1, side, side))
    places = _places(found)
    depth, bottom = max(x for x, _ in places), min(y for _, y in places)
    figure, axis = plt.subplots(figsize=(width, 0.9 - bottom))
    for step, place in zip(found, places, strict=True):
        for source in step.inputs:
            _link(axis, places[source], place)
        _box(axis, step, *place)
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


def _link(axis: plt.Axes, start: tuple[float, float], stop: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 0.8, "shrinkA": 20, "shrinkB": 20}
    far = start[1] == stop[1] and stop[0] - start[0] > 1
    axis.annotate(
        "", stop, start, arrowprops={**style, "connectionstyle": f"arc3,rad={-0.12 * far}"}
    )


#: What is not an ordinary convolution -> its colour.
MODULE_COLOURS = {
    **{"image": "#eeeeee", "Conv2d": "#cfe5f5", "Decoder": "#e3e3f5", "Concatenation": "#ffffff"},
    **{"SFIM": "#d7efe6", "PSIM": "#fbe3d1", "FIM": "#f6dcea"},
}


def _box(axis: plt.Axes, step: Step, x: float, y: float) -> None:
    _, channels, height, width = step.after.shape
    name = {"image": step.name, "Conv2d": "conv"}.get(step.kind, step.kind)
    colour = MODULE_COLOURS.get(step.kind, "white")
    box = FancyBboxPatch(
        (x - 0.42, y - 0.22), 0.84, 0.44, boxstyle="round,pad=0,rounding_size=0.06",
        fc=colour, ec="black", lw=0.7,
    )  # fmt: skip
    axis.add_patch(box)
    text = f"{name}\n{channels}×{height}×{width}"
    axis.text(x, y, text, ha="center", va="center", fontsize=6.5)


def feature_map(features: Tensor) -> np.ndarray:
    """Return the mean size (H, W) of the first image's features (B, C, H, W), stretched to 0..1."""
    mean = features[0].abs().mean(0).cpu().numpy()
    return (mean - mean.min()) / max(np.ptp(mean), np.finfo(np.float32).tiny)
