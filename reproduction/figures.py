"""Figures of the notebooks: pictures side by side, and charts of losses, scores, costs, speed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor

from fusionlib.images import luminance, rgb_to_ycbcr
from fusionlib.metrics import METRICS
from fusionlib.pairs import Box

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "chroma_change",
    "costs",
    "difference",
    "encode",
    "feature_map",
    "first_share",
    "image_grid",
    "loss_curves",
    "picture_wall",
    "precision",
    "show",
    "sweep",
]

#: Okabe and Ito's colours, told apart by the colour-blind.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"
SMALL: dict[str, Any] = {"frameon": False, "fontsize": 8}


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


def _panels(columns: int, size: tuple[float, float], heights: Sequence[float]) -> Any:
    """Make a figure of rows of pictures, nothing around them; return it and its axes."""
    figure, axes = plt.subplots(
        len(heights),
        columns,
        figsize=size,
        height_ratios=heights,
        squeeze=False,
        layout=ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.02, hspace=0, wspace=0),
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes


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
    figure, axes = _panels(columns, (width, sum(heights) + 0.3 * bool(titles)), heights)
    for line, row in zip(axes, rows, strict=True):
        for c, image in enumerate(row):
            low, high, colours = (ranges or {}).get(c, (0.0, 1.0, "gray"))
            line[c].imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="lanczos")
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=10)
    for axis, title in zip(axes[:, 0], row_titles, strict=False):
        axis.set_ylabel(title, fontsize=10)
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
    rows = -(-len(pictures) // columns)
    columns = -(-len(pictures) // rows)  # rows as equal as can be
    first = next(iter(pictures.values()))
    height = width / columns * first.shape[0] / first.shape[1] + 0.25
    figure, axes = _panels(columns, (width, rows * height), [1.0] * rows)
    for axis, (title, image) in zip(axes.flat, pictures.items(), strict=False):
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


def chroma_change(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return how far the chroma of two RGB images (H, W, 3) in 0..1 is apart.

    Returns
    -------
    dict
        "mean" and "largest", the difference of Cb and Cr in gray levels of 255; "at the edge, %",
        the share of the first image's pixels at a side of the RGB cube, where colours are clipped.
    """
    apart = np.abs(rgb_to_ycbcr(image)[..., 1:] - rgb_to_ycbcr(reference)[..., 1:]) * 255
    edge = ((image == 0) | (image == 1)).any(axis=-1)
    return {
        "mean": float(apart.mean()),
        "largest": float(apart.max()),
        "at the edge, %": 100 * float(edge.mean()),
    }


def first_share(weights: np.ndarray) -> np.ndarray:
    """Return the first image's share (H, W) of weight maps (2, groups, H, W)."""
    return weights[0].mean(axis=0)


def feature_map(features: Tensor) -> np.ndarray:
    """Return the mean size (H, W) of the first image's features (B, C, H, W), stretched to 0..1."""
    mean = features[0].abs().mean(0).cpu().numpy()
    return (mean - mean.min()) / max(np.ptp(mean), np.finfo(np.float32).tiny)


# ---------------------------------------------------------------- charts


def _chart(width: float, height: float, *, grid: Literal["both", "x"] = "both") -> Any:
    """Make a figure of one chart; return it and its axes."""
    figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
    axis.grid(axis=grid, alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


#: The columns of Res2NetFuse's history and their titles.
RECONSTRUCTION = {"pixel": "pixel loss", "ssim": "structural loss", "total": "total loss"}


def loss_curves(
    histories: Mapping[str, pd.DataFrame],
    *,
    parts: Mapping[str, str] = RECONSTRUCTION,
    stable_at: int | None = None,
    window: int = 1,
    step: str = "iteration",
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
    """
    figure, (axes,) = plt.subplots(
        1, len(parts), figsize=(11, 3.2), layout="constrained", squeeze=False
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
            text = f" paper: stable \n after {stable_at} "
            # To the left of a line that stands near the right edge.
            last = max(history[step].max() for history in histories.values())
            side = "right" if stable_at > 0.7 * last else "left"
            where = axis.get_xaxis_transform()
            axis.text(stable_at, 0.97, text, transform=where, va="top", ha=side, fontsize=8)
    if len(axes[0].lines) > 1:
        # Below the panels, where it hides no curve.
        handles, labels = axes[0].get_legend_handles_labels()
        columns = len(labels) if len(labels) < 7 else 4  # of two lines, one for held-out pairs
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, **SMALL)
    return figure


def costs(found: pd.DataFrame, *, quality: str) -> Figure:
    """Draw what methods give over what they take; the area of a dot is the number of parameters.

    Parameters
    ----------
    found : DataFrame
        From `reproduction.latency.trade_off`.
    quality : str
        What its column "quality" is.
    """
    figure, axis = _chart(9, 4.6)
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
    return figure


def precision(summary: pd.DataFrame, *, metric: str = "AP") -> Figure:
    """Draw the mean average precision of each row with its interval; and the paper's, if any.

    Parameters
    ----------
    summary : DataFrame
        Of `reproduction.detection.experiment.DetectionTable`.
    metric : {"AP50", "AP"}
    """
    part = summary[(summary["class"] == "all") & (summary["metric"] == metric)]
    part = part.iloc[::-1].reset_index(drop=True)
    figure, axis = _chart(9, 1.1 + 0.25 * len(part), grid="x")
    lines = part.index.to_numpy()
    axis.hlines(lines, part["ci_low"], part["ci_high"], color=BLUE, linewidth=2, alpha=0.6)
    axis.plot(part["mean"], lines, "o", color=BLUE, markersize=5, label="here, with 95 % interval")
    if part["paper"].notna().any():
        label = "the paper, on its data"
        axis.plot(part["paper"], lines, "D", color=ORANGE, markersize=4, mfc="none", label=label)
    axis.set_yticks(lines, part["row"], fontsize=8)
    axis.set_ylim(-0.7, len(part) - 0.3)
    axis.set_xlabel(f"{metric}, mean over the classes, %")
    figure.legend(ncols=2, loc="outside upper right", **SMALL)
    return figure


def sweep(scores: pd.DataFrame, *, columns: int = 4) -> Figure:
    """Draw how metrics move with a setting: one small chart each, its best value marked.

    Parameters
    ----------
    scores : DataFrame
        Columns are metrics of `METRICS`; the index holds the setting, its name that of the axis.
    columns : int
        Charts side by side.
    """
    rows = -(-scores.shape[1] // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(11, 1.7 * rows), sharex=True, squeeze=False, layout="constrained"
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
