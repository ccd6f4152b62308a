"""pictures: every image in its place, as it is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from reproduction import figures


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("rows", [1, 2])
def test_grid(rows, columns):
    random = np.random.default_rng(0)
    images = [[random.random((8, 10)) for _ in range(columns)] for _ in range(rows)]
    titles = [f"column {c}" for c in range(columns)]
    figure = figures.image_grid(images, titles=titles, row_titles=["a", "b"][:rows])
    axes = np.reshape(figure.axes, (rows, columns))
    for r in range(rows):
        assert axes[r, 0].get_ylabel() == "ab"[r]
        for c in range(columns):
            (shown,) = axes[r, c].images
            assert np.array_equal(shown.get_array(), images[r][c])
            assert shown.get_clim() == (0, 1)
            assert axes[r, c].get_title() == (titles[c] if r == 0 else "")


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
    assert not any(axis.images or axis.axison for axis in figure.axes[count:])


def test_difference_is_in_gray_levels():
    image, reference = np.full((2, 2), 0.5), np.full((2, 2), 0.25)
    assert np.allclose(figures.difference(image, reference), 63.75)
    assert np.allclose(figures.difference(reference, image), -63.75)


def test_first_share_is_the_first_image_over_all_groups():
    weights = np.stack([np.full((2, 3, 4), 0.25), np.full((2, 3, 4), 0.75)])
    weights[0, 1] = 0.75
    assert np.allclose(figures.first_share(weights), 0.5)
    assert figures.first_share(weights).shape == (3, 4)


def test_feature_map_is_the_mean_size_stretched():
    features = torch.tensor([[[[1.0, -3.0]], [[3.0, 5.0]]], [[[9.0, 9.0]], [[9.0, 9.0]]]])
    assert figures.feature_map(features).tolist() == [[0, 1]]
    assert figures.feature_map(torch.ones(1, 2, 3, 3)).tolist() == [[0.0] * 3] * 3


@pytest.mark.parametrize(("pictures", "start"), [(True, b"\xff\xd8"), (False, b"\x89PNG")])
def test_show_embeds_and_closes(monkeypatch, pictures, start):
    IPython = pytest.importorskip("IPython")
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figures.show(figures.image_grid([[np.zeros((4, 4))]]), pictures=pictures)
    (image,) = shown
    assert image.data.startswith(start)
    assert plt.get_fignums() == []


def test_change_of_chroma():
    gray, red = np.full((2, 2, 3), 0.5), np.full((2, 2, 3), 0.5)
    red[0, 0] = 1, 0.5, 0.5
    change = figures.chroma_change(red, gray)
    # Cr is (R - Y) / 1.402, Cb is (B - Y) / 1.772 with Y = 0.299 R + ...
    cr, cb = 0.5 * (1 - 0.299) / 1.402 * 255, 0.5 * 0.299 / 1.772 * 255
    assert change["largest"] == pytest.approx(cr, rel=1e-4)
    assert change["mean"] == pytest.approx((cr + cb) / 8, rel=1e-4)
    assert change["at the edge, %"] == 25
    assert figures.chroma_change(gray, gray) == {"mean": 0, "largest": 0, "at the edge, %": 0}
