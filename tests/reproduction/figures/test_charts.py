"""charts: what is drawn are the numbers that were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reproduction import figures


def test_loss_curves():
    history = pd.DataFrame(
        {"iteration": [1, 2], "total": [3.0, 2.0], "pixel": [2.0, 1.5], "ssim": [1.0, 0.5]}
    )
    figure = figures.loss_curves({"a": history, "b": history * 2}, stable_at=200)
    assert len(figure.axes) == 3
    for axis, part in zip(figure.axes, ("pixel", "ssim", "total"), strict=True):
        first, second, _ = axis.lines
        assert list(first.get_ydata()) == list(history[part])
        assert list(second.get_ydata()) == list(history[part] * 2)
        assert axis.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b"]
    alone = figures.loss_curves({"a": history})
    assert len(alone.axes[0].lines) == 1 and not alone.legends


def test_no_run_is_left_out_of_loss_curves_and_epochs_are_called_so():
    history = pd.DataFrame({"epoch": [1, 2], "box": [3.0, 2.0]})
    many = figures.loss_curves(dict.fromkeys("abcdefgh", history), parts={"box": "b"}, step="epoch")
    assert len(many.axes[0].lines) == 8 and many.axes[0].get_xlabel() == "epoch"


def test_loss_curves_with_held_out_pairs():
    history = pd.DataFrame({"iteration": range(1, 7), "total": [6.0, 5, 4, 3, 2, 1]})
    history["held out total"] = [np.nan, np.nan, 4.5, np.nan, np.nan, 1.5]
    figure = figures.loss_curves({"run": history}, parts={"total": "total loss"}, window=2)
    (axis,) = figure.axes
    curve, judged = axis.lines
    assert curve.get_ydata().tolist() == [6, 5.5, 4.5, 3.5, 2.5, 1.5]
    assert judged.get_xdata().tolist() == [3, 6] and judged.get_ydata().tolist() == [4.5, 1.5]
    assert [text.get_text() for text in figure.legends[0].texts] == ["run", "run, held out"]


def test_costs_of_methods():
    found = pd.DataFrame(
        {
            "label": ["MST", "RefineFuse", "CDDFuse"],
            "ms": [3.0, 500.0, 8000.0],
            "parameters": [0, 2_232_685, 1_188_272],
            "quality": [0.92, 1.05, 1.0],
        }
    )
    figure = figures.costs(found, quality="VIF")
    (axis,) = figure.axes
    dots = axis.collections[0]
    assert dots.get_offsets().tolist() == found[["ms", "quality"]].to_numpy().tolist()
    areas = dots.get_sizes()
    assert areas[1] == max(areas) and areas[0] == 25
    assert [text.get_text() for text in axis.texts] == [
        "MST",
        "RefineFuse, 2.23 M",
        "CDDFuse, 1.19 M",
    ]
    assert {text.get_horizontalalignment() for text in axis.texts} == {"left"}
    found.loc[1, ["ms", "quality"]] = 3000.0, 1.001  # CDDFuse's dot is where its label would be
    (axis,) = figures.costs(found, quality="VIF").axes
    assert [text.get_horizontalalignment() for text in axis.texts] == ["left", "right", "left"]
    assert axis.get_xscale() == "log"


@pytest.mark.parametrize("printed", [True, False])
def test_precision_of_rows(printed):
    rows = [
        {"row": row, "class": name, "metric": metric, "mean": mean, "ci_low": mean - 3.0,
         "ci_high": mean + 2.0, "paper": mean + 1.0 if printed and row == "Visible" else np.nan}
        for row, mean in (("Infrared", 30.0), ("Visible", 40.0))
        for name in ("person", "all")
        for metric in ("AP50", "AP")
    ]  # fmt: skip
    figure = figures.precision(pd.DataFrame(rows), metric="AP50")
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["Visible", "Infrared"]  # from below
    ours = axis.lines[0]
    assert ours.get_xydata().tolist() == [[40, 0], [30, 1]]
    (intervals,) = axis.collections
    assert [s[:, 0].tolist() for s in intervals.get_segments()] == [[37, 42], [27, 32]]
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["here, with 95 % interval"] + ["the paper, on its data"] * printed
    if printed:
        assert axis.lines[1].get_xydata()[0].tolist() == [41, 0]


def test_gains():
    ratios = pd.DataFrame({"ours": [2.0, 1.2], "bf16": [4.0, 0.9]}, index=["quick", "slow"])
    figure = figures.gains(ratios)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["slow", "quick"]
    dots = {line.get_label(): line.get_xdata() for line in axis.lines}
    assert [*dots["ours"]] == [1.2, 2.0] and [*dots["bf16"]] == [0.9, 4.0]


def test_scaling_over_workers():
    rates = pd.DataFrame({"workers": [1, 2, 4], "fused": [2.0, 3.8, 3.9]})
    figure = figures.scaling(rates, {"fused": "fuse a folder"})
    measured, ideal, _ = figure.axes[0].lines
    assert measured.get_ydata().tolist() == [2.0, 3.8, 3.9]
    assert ideal.get_ydata().tolist() == [2.0, 4.0, 8.0]


def test_sweep_marks_the_best_of_each_metric():
    scores = pd.DataFrame({"SSIM": [0.5, 0.8, 0.7], "Nabf": [0.3, 0.2, 0.1]}, index=[0, 0.5, 1])
    figure = figures.sweep(scores.rename_axis("share"), columns=3)
    ssim, nabf, unused = figure.axes
    assert [axis.get_title() for axis in (ssim, nabf)] == ["SSIM ↑", "Nabf ↓"]
    assert ssim.lines[0].get_xydata().tolist() == [[0, 0.5], [0.5, 0.8], [1, 0.7]]
    assert ssim.lines[1].get_xydata().tolist() == [[0.5, 0.8]]
    assert nabf.lines[1].get_xydata().tolist() == [[1, 0.1]]
    assert not unused.axison and figure.get_supxlabel() == "share"
