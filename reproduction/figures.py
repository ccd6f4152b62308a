"""Figures of the notebooks: pictures side by side, and charts of losses and of precision."""

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

from fusionlib.images import luminance
from fusionlib.pairs import Box

__all__ = [
    *("BLUE", "GREEN", "GREY", "ORANGE", "PURPLE"),
    *("difference", "encode", "image_grid", "loss_curves", "picture_wall", "precision", "show"),
]

#: Okabe and Ito's colours, told apart by the colour-blind.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"
SMALL: dict[str, Any] = {"frameon": False, "fontsize": 8}


def show(figure: Figure, *, pictures: bool = False) -> None:
    """Display a figure in a notebook and close it.

    One that shows pictures is embedded as JPEG to keep the notebook small, a drawing as PNG.
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
    """Show images (H, W) or (H, W, 3) side by side, gray ones on the scale 0 to 1.

    All cells are of one size. Titles stand above the columns, those of the rows at their left; the
    width of the figure is in inches. A column in `ranges`, column -> (low, high, colour map), is no
    picture but a map of values.
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


#: Colours of classes; others are white.
CLASS_COLOURS = {"person": "#ff8c1a", "car": "#3fa9f5", "bicycle": "#2ee6a8"}


def picture_wall(
    pictures: Mapping[str, np.ndarray],
    *,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    columns: int = 4,
    width: float = 11.0,
) -> Figure:
    """Show images (H, W) or (H, W, 3) of one size under their titles, gray ones from 0 to 1.

    So many columns are the most; there are as few as the number of rows that this makes needs. The
    width is in inches. `boxes`, title -> boxes in pixels, are drawn in a colour per class.
    """
    rows = -(-len(pictures) // columns)
    columns = -(-len(pictures) // rows)  # rows as equal as can be
    first = next(iter(pictures.values()))
    height = width / columns * first.shape[0] / first.shape[1] + 0.25
    figure, axes = _panels(columns, (width, rows * height), [1.0] * rows)
    for axis, (title, image) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
        axis.set_title(title, fontsize=9, pad=3)
        for label, x0, y0, x1, y1 in (boxes or {}).get(title, ()):
            # Pixel centres are whole numbers.
            box = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, linewidth=1.3)
            box.set_edgecolor(CLASS_COLOURS.get(label, "white"))
            axis.add_patch(box)
    return figure


def difference(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the signed difference of luminance (H, W) in gray levels of 255."""
    return (luminance(image) - luminance(reference)) * 255


# ---------------------------------------------------------------- charts

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
        Where the paper calls training stable, drawn as a vertical line.
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


def precision(summary: pd.DataFrame, *, metric: str = "AP") -> Figure:
    """Draw "AP50" or "AP" of each row of a `DetectionTable.summary` with its interval.

    And the paper's, if any.
    """
    part = summary[(summary["class"] == "all") & (summary["metric"] == metric)].iloc[::-1]
    figure, axis = plt.subplots(figsize=(9, 1.1 + 0.25 * len(part)), layout="constrained")
    axis.grid(axis="x", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.hlines(part["row"], part["ci_low"], part["ci_high"], color=BLUE, linewidth=2, alpha=0.6)
    ours = "here, with 95 % interval"
    axis.plot(part["mean"], part["row"], "o", color=BLUE, markersize=5, label=ours)
    if part["paper"].notna().any():
        label = "the paper, on its data"
        axis.plot(part["paper"], part["row"], "D", color=ORANGE, ms=4, mfc="none", label=label)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_ylim(-0.7, len(part) - 0.3)
    axis.set_xlabel(f"{metric}, mean over the classes, %")
    figure.legend(ncols=2, loc="outside upper right", **SMALL)
    return figure
