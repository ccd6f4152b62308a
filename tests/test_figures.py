"""figures: diagrams and tables come from a live run of the network; grids hold every image."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from torch import nn

from fusionlib import figures
from fusionlib.datasets import package_data
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.msdnet import MSDNet
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.networks.res2netfuse import Res2NetFuse

NETWORKS = {
    "released": lambda: Res2NetFuse("released"),
    "paper": lambda: Res2NetFuse("paper"),
    "densefuse": DenseFuse,
    "msdnet": MSDNet,
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def convolution_calls(network):
    """Counted by PyTorch's hooks: (module, output shape) in the order they run."""
    calls = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, output: calls.append((m, output.shape)))
    with torch.inference_mode():
        network(torch.rand(1, 1, 32, 32))
    return calls


# ---------------------------------------------------------------- architecture


def test_layer_table_is_what_ran(network):
    table = figures.layer_table(network)
    names = {module: name for name, module in network.named_modules()}
    calls = convolution_calls(network)
    assert list(table["layer"]) == [names[module] for module, _ in calls]
    assert list(table["size"]) == [module.kernel_size[0] for module, _ in calls]
    assert list(table["stride"]) == [module.stride[0] for module, _ in calls]
    assert list(table["input channels"]) == [module.in_channels for module, _ in calls]
    assert list(table["output channels"]) == [module.out_channels for module, _ in calls]


def test_table_1_as_printed():
    """Our live table of variant "paper" against the printed one."""
    printed = pd.read_csv(package_data("paper_tables/res2netfuse_table_01_network.csv"))
    twice = printed["layer"].str.contains("x2").map({True: 2, False: 1})
    printed = printed.loc[printed.index.repeat(twice)].reset_index(drop=True)
    columns = ["size", "stride", "input channels", "output channels"]
    table = figures.layer_table(Res2NetFuse("paper"))
    assert table[columns].values.tolist() == printed[columns].values.tolist()
    assert list(table["activation"][-1:]) == list(printed["activation"][-1:]) == ["-"]
    assert set(table["activation"][:-1]) == set(printed["activation"][:-1]) == {"ReLU"}


def test_reuse_of_weights():
    shared = figures.layer_table(Res2NetFuse("released"))
    branch = shared[shared["layer"].str.contains("branches")]
    assert list(branch["use of these weights"]) == [1, 2, 3, 4, 5, 6]
    own = figures.layer_table(Res2NetFuse("paper"))
    assert set(own["use of these weights"]) == {1}


def test_stride_is_read():
    class Halving(nn.Sequential):
        pass

    table = figures.layer_table(Halving(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU()))
    assert table[["stride", "activation"]].values.tolist() == [[2, "ReLU"]]


def test_trace_is_connected(network):
    operations = figures.trace(network)
    assert operations[0].kind == "input" and not operations[0].inputs
    for index, operation in enumerate(operations[1:], start=1):
        assert operation.inputs and max(operation.inputs) < index
    used = {source for operation in operations for source in operation.inputs}
    assert used == set(range(len(operations) - 1))  # all but the output lead somewhere
    assert operations[-1].shape == (1, 1, 32, 32)
    sums = [o for o in operations if o.kind == "concat"]
    for operation in sums:
        parts = [operations[i].channels_out for i in operation.inputs]
        assert operation.channels_out == sum(parts)


def test_residual_of_the_released_network():
    """Released: two sums within the block and one around it; paper: only those within."""
    kinds = {v: [o.kind for o in figures.trace(Res2NetFuse(v))] for v in ("released", "paper")}
    assert kinds["released"].count("add") == 3
    assert kinds["paper"].count("add") == 2
    assert kinds["paper"].count("split") == 4


def test_a_box_for_every_convolution(network):
    figure = figures.architecture(network, title="A network")
    (axis,) = figure.axes
    boxes = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len(convolution_calls(network))
    reused = figures.layer_table(network).query("`use of these weights` > 1")["layer"]
    hatched = figures.layer_table(network)["layer"].isin(reused).sum()
    assert sum(bool(box.get_hatch()) for box in boxes) == hatched
    assert axis.get_title(loc="left") == "A network"
    figure.canvas.draw()


def test_boxes_do_not_overlap(network):
    depth, lane = figures._layout(figures.trace(network))
    assert len(set(zip(depth, lane, strict=True))) == len(depth)


# ---------------------------------------------------------------- pictures


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
    assert figure.axes[0].get_legend() is not None
    alone = figures.loss_curves({"a": history})
    assert len(alone.axes[0].lines) == 1 and alone.axes[0].get_legend() is None


def test_no_run_is_left_out_of_loss_curves_and_epochs_are_called_so():
    history = pd.DataFrame({"epoch": [1, 2], "box": [3.0, 2.0]})
    many = figures.loss_curves(dict.fromkeys("abcdefgh", history), parts={"box": "b"}, step="epoch")
    assert len(many.axes[0].lines) == 8 and many.axes[0].get_xlabel() == "epoch"


@pytest.mark.parametrize(("pictures", "start"), [(True, b"\xff\xd8"), (False, b"\x89PNG")])
def test_show_embeds_and_closes(monkeypatch, pictures, start):
    IPython = pytest.importorskip("IPython")
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figures.show(figures.image_grid([[np.zeros((4, 4))]]), pictures=pictures)
    (image,) = shown
    assert image.data.startswith(start)
    assert plt.get_fignums() == []


# ---------------------------------------------------------------- modules


def refinefuse(**departs):
    torch.manual_seed(0)
    return RefineFuse(**departs).eval()


def test_steps_of_refinefuse():
    """Every module once, with what it was given and gave, and where that came from."""
    net, (ir, vis) = refinefuse(), torch.rand(2, 1, 1, 32, 40)
    found = figures.steps(net, ir, vis)
    names = [step.name for step in found]
    assert names[:2] == ["infrared", "visible"]
    assert sorted(names[2:]) == sorted(
        [f"encode_{m}.{i}" for m in ("ir", "vis") for i in range(4)]
        + [f"joins.{i}" for i in range(4)]
        + [f"decoders.{i}" for i in range(3)]
        + [f"last.{i}" for i in range(4)]
        + ["fim"]
    )
    sources = {step.name: {names[i] for i in step.inputs} for step in found}
    assert sources["encode_ir.0"] == {"infrared"}
    assert sources["joins.2"] == {"encode_ir.2", "encode_vis.2"}
    assert sources["decoders.2"] == {"joins.3"}
    assert sources["decoders.1"] == {"decoders.2", "joins.2"}
    assert sources["fim"] == {"decoders.1", "joins.1"}
    assert sources["last.0"] == {"decoders.0", "joins.0"}
    fim = found[names.index("fim")]
    with torch.inference_mode():
        assert torch.equal(net.fim(*fim.before), fim.after)
        assert torch.equal(torch.tanh(found[-1].after), net(ir, vis))
    assert not net.fim._forward_hooks


def test_boxes_of_the_module_diagram_do_not_overlap():
    for departs in ({}, {"scales": 5}, {"scales": 1, "sfim": False}, {"fim": False}):
        figure = figures.module_diagram(refinefuse(**departs), side=64, title="a title")
        (axis,) = figure.axes
        boxes = [patch.get_bbox() for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
        steps = len(figures.steps(refinefuse(**departs), *torch.rand(2, 1, 1, 64, 64)))
        assert len(boxes) == steps
        for i, a in enumerate(boxes):
            assert not any(a.overlaps(b) for b in boxes[i + 1 :])
        assert axis.get_title(loc="left") == "a title"
        plt.close(figure)


def test_feature_map_is_the_mean_size_stretched():
    features = torch.tensor([[[[1.0, -3.0]], [[3.0, 5.0]]], [[[9.0, 9.0]], [[9.0, 9.0]]]])
    assert figures.feature_map(features).tolist() == [[0, 1]]
    assert figures.feature_map(torch.ones(1, 2, 3, 3)).tolist() == [[0.0] * 3] * 3


def test_loss_curves_with_held_out_pairs():
    history = pd.DataFrame({"iteration": range(1, 7), "total": [6.0, 5, 4, 3, 2, 1]})
    history["held out total"] = [np.nan, np.nan, 4.5, np.nan, np.nan, 1.5]
    figure = figures.loss_curves({"run": history}, parts={"total": "total loss"}, window=2)
    (axis,) = figure.axes
    curve, judged = axis.lines
    assert curve.get_ydata().tolist() == [6, 5.5, 4.5, 3.5, 2.5, 1.5]
    assert judged.get_xdata().tolist() == [3, 6] and judged.get_ydata().tolist() == [4.5, 1.5]
    assert [text.get_text() for text in axis.get_legend().texts] == ["run", "run, held out"]
    plt.close(figure)


# ---------------------------------------------------------------- what methods cost


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
    plt.close(figure)


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
    plt.close(figure)


def test_gains():
    ratios = pd.DataFrame({"ours": [2.0, 1.2], "bf16": [4.0, 0.9]}, index=["quick", "slow"])
    figure = figures.gains(ratios)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["slow", "quick"]
    dots = {line.get_label(): line.get_xdata() for line in axis.lines}
    assert [*dots["ours"]] == [1.2, 2.0] and [*dots["bf16"]] == [0.9, 4.0]
    plt.close(figure)


def test_scaling_over_workers():
    rates = pd.DataFrame({"workers": [1, 2, 4], "fused": [2.0, 3.8, 3.9]})
    figure = figures.scaling(rates, {"fused": "fuse a folder"})
    measured, ideal, _ = figure.axes[0].lines
    assert measured.get_ydata().tolist() == [2.0, 3.8, 3.9]
    assert ideal.get_ydata().tolist() == [2.0, 4.0, 8.0]
    plt.close(figure)


def test_sweep_marks_the_best_of_each_metric():
    scores = pd.DataFrame({"SSIM": [0.5, 0.8, 0.7], "Nabf": [0.3, 0.2, 0.1]}, index=[0, 0.5, 1])
    figure = figures.sweep(scores.rename_axis("share"), columns=3)
    ssim, nabf, unused = figure.axes
    assert [axis.get_title() for axis in (ssim, nabf)] == ["SSIM ↑", "Nabf ↓"]
    assert ssim.lines[0].get_xydata().tolist() == [[0, 0.5], [0.5, 0.8], [1, 0.7]]
    assert ssim.lines[1].get_xydata().tolist() == [[0.5, 0.8]]
    assert nabf.lines[1].get_xydata().tolist() == [[1, 0.1]]
    assert not unused.axison and figure.get_supxlabel() == "share"
    plt.close(figure)
