"""figures: every image in its place, as it is; what is drawn are the numbers that were given."""

from __future__ import annotations

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from reproduction import figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_grid():
    random = np.random.default_rng(0)
    images = [[random.random((8, 10)) for _ in range(3)] for _ in range(2)]
    titles, row_titles = ["one", "two", "three"], ["a", "b"]
    figure = figures.image_grid(images, titles=titles, row_titles=row_titles)
    axes = np.reshape(figure.axes, (2, 3))
    assert [axis.get_ylabel() for axis in axes[:, 0]] == row_titles
    assert [axis.get_title() for axis in axes.flat] == [*titles, "", "", ""]
    for axis, image in zip(axes.flat, itertools.chain(*images), strict=True):
        assert np.array_equal(axis.images[0].get_array(), image)
        assert axis.images[0].get_clim() == (0, 1)


def test_grid_with_colour_maps_and_gaps():
    gray, rgb, values = np.zeros((4, 6)), np.zeros((4, 6, 3)), np.full((4, 6), -9.0)
    figure = figures.image_grid([[gray, rgb, values], [gray]], ranges={2: (-10, 10, "RdBu")})
    shown = [axis.images[0] if axis.images else None for axis in figure.axes]
    assert shown[2].get_clim() == (-10, 10) and shown[2].get_cmap().name == "RdBu"
    assert shown[1].get_array().shape == (4, 6, 3)
    assert shown[4] is None and shown[5] is None
    figure.canvas.draw()


@pytest.mark.parametrize(
    "count, columns, shape",
    [(1, 4, (1, 1)), (4, 4, (1, 4)), (5, 4, (2, 3)), (9, 4, (3, 3)), (11, 4, (3, 4))],
)
def test_picture_wall(count, columns, shape):
    """Every picture under its title, in order; what is left of the last row is empty."""
    pictures = {f"picture {i}": np.full((6, 8), i / 10) for i in range(count)}
    figure = figures.picture_wall(pictures, columns=columns)
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == shape
    for axis, (title, image) in zip(figure.axes, pictures.items(), strict=False):
        assert axis.get_title() == title
        assert np.array_equal(axis.images[0].get_array(), image)
        assert axis.images[0].get_clim() == (0, 1)
    for axis in figure.axes[count:]:
        assert not axis.images and not any(s.get_visible() for s in axis.spines.values())


def test_difference_is_in_gray_levels():
    image, reference = np.full((2, 2), 0.5), np.full((2, 2), 0.25)
    assert np.allclose(figures.difference(image, reference), 63.75)
    assert np.allclose(figures.difference(reference, image), -63.75)


@pytest.mark.parametrize(("pictures", "start"), [(True, b"\xff\xd8"), (False, b"\x89PNG")])
def test_show_embeds_and_closes(monkeypatch, pictures, start):
    IPython = pytest.importorskip("IPython")
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figures.show(figures.image_grid([[np.zeros((4, 4))]]), pictures=pictures)
    (image,) = shown
    assert image.data.startswith(start)
    assert plt.get_fignums() == []


# ---------------------------------------------------------------- charts


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
    epochs = history.rename(columns={"iteration": "epoch"})
    many = figures.loss_curves(dict.fromkeys("abcdefgh", epochs), step="epoch")
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
    assert ours.get_xdata().tolist() == [40, 30]
    (intervals,) = axis.collections
    assert [s[:, 0].tolist() for s in intervals.get_segments()] == [[37, 42], [27, 32]]
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["here, with 95 % interval"] + ["the paper, on its data"] * printed
    if printed:
        assert axis.lines[1].get_xdata()[0] == 41
