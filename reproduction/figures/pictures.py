"""Pictures side by side, and what turns values into pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from fusionlib.pairs import Box
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor

from fusionlib.images import luminance, rgb_to_ycbcr

__all__ = [
    "chroma_change",
    "difference",
    "encode",
    "feature_map",
    "first_share",
    "image_grid",
    "picture_wall",
    "show",
]


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
