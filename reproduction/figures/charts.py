"""Charts: losses, scores, costs, speed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fusionlib.metrics import METRICS

from .colours import BLUE, GREEN, GREY, ORANGE, PURPLE

__all__ = [
    "conventions",
    "costs",
    "gains",
    "loss_curves",
    "precision",
    "scaling",
    "sweep",
    "taps",
]

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
        # Below the panels, where it hides no curve.
        handles, labels = axes[0].get_legend_handles_labels()
        columns = len(labels) if len(labels) < 7 else 4  # of two lines, one for held-out pairs
        where = {"fontsize": 8, "frameon": False, "ncols": columns}
        figure.legend(handles, labels, loc="outside lower left", **where)
    return figure


def conventions(values: pd.DataFrame) -> Figure:
    """Draw what each convention gives, one panel per metric.

    Parameters
    ----------
    values : DataFrame
        Columns metric, convention and mean; the order of the rows is kept, and the textbook's
        bar is set off.
    """
    metrics = list(dict.fromkeys(values["metric"]))
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(11, 2.5), layout="constrained", squeeze=False
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


def costs(found: pd.DataFrame, *, quality: str) -> Figure:
    """Draw what methods give over what they take; the area of a dot is the number of parameters.

    Parameters
    ----------
    found : DataFrame
        From `reproduction.latency.trade_off`.
    quality : str
        What its column "quality" is.
    """
    figure, axis = plt.subplots(figsize=(9, 4.6), layout="constrained")
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


def scaling(rates: pd.DataFrame, columns: Mapping[str, str]) -> Figure:
    """Draw pairs per second over workers, and where twice the workers would do twice as much.

    Parameters
    ----------
    rates : DataFrame
        A row per number of "workers".
    columns : mapping of str to str
        Column of rates -> label.
    """
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
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


def gains(ratios: pd.DataFrame) -> Figure:
    """Draw how many times as fast as one thing several others are: a line per row, a dot for each.

    Parameters
    ----------
    ratios : DataFrame
        Index: what was measured; a column for each way, named as the legend is to say.
    """
    ordered = ratios.sort_values(ratios.columns[0])
    figure, axis = plt.subplots(figsize=(8, 0.8 + 0.23 * len(ordered)), layout="constrained")
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
    figure, axis = plt.subplots(figsize=(9, 1.1 + 0.25 * len(part)), layout="constrained")
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


def taps(filters: Mapping[str, np.ndarray]) -> Figure:
    """Draw the sizes of filters' coefficients, centred on the largest, on a logarithmic scale.

    Parameters
    ----------
    filters : mapping of str to ndarray
        Name -> coefficients. Coefficients of 0 are left out.
    """
    figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
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
