"""Res2NetFuse: the paper's Table I, and the forward pass re-computed with numpy."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.datasets import package_data
from fusionlib.errors import UnknownName
from fusionlib.networks.res2netfuse import Res2NetFuse
from tests.fusionlib.networks.given import gray_images

VARIANTS = ["released", "paper"]


def network(variant, rule="l1_norm", seed=0):
    torch.manual_seed(seed)
    return Res2NetFuse(variant, rule)


@pytest.mark.parametrize("variant, count", [("paper", 101_217), ("released", 89_617)])
def test_parameters(variant, count):
    assert sum(p.numel() for p in network(variant).parameters()) == count


def test_table_1():
    """Every convolution of the paper's text, in order; the 2 x Conv3 of a row are two."""
    table = package_data("paper_tables") / "res2netfuse_table_01_network.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    stated = [
        tuple(int(row[c]) for c in ("size", "stride", "input channels", "output channels"))
        for row in rows
        for _ in range(2 if "x2" in row["layer"] else 1)
    ]
    layers = [m for m in network("paper").modules() if isinstance(m, nn.Conv2d)]
    ours = [(*m.kernel_size[:1], *m.stride[:1], m.in_channels, m.out_channels) for m in layers]
    assert ours == stated
    assert all(m.padding == (m.kernel_size[0] // 2,) * 2 for m in layers)
    assert all(m.padding_mode == "zeros" for m in layers)


def by_numpy(net, pictures, convolve):
    """The forward pass of spec and paper, equations 1 and 5, in float64."""

    def relu(layer, x):
        return np.maximum(convolve(x, layer, "constant"), 0)

    branches = list(net.block.branches)
    if len(branches) == 1:  # released: one convolution serves all six times
        branches = branches * 6
    features = []
    for picture in pictures:
        c = relu(net.encoder[2], relu(net.encoder[0], picture[0].double().numpy()))
        x = relu(net.block.reduce, c)
        x1, x2, x3, x4 = x[:16], x[16:32], x[32:48], x[48:]
        y2 = relu(branches[1], relu(branches[0], x2))
        y3 = relu(branches[3], relu(branches[2], x3 + y2))
        y4 = relu(branches[5], relu(branches[4], x4 + y3))
        r = relu(net.block.expand, np.concatenate([x1, y2, y3, y4]))
        features.append(c + r if net.variant == "released" else r)
    norms = np.stack([np.abs(f).sum(axis=0) for f in features])
    y = sum(f * n for f, n in zip(features, norms / norms.sum(axis=0), strict=True))
    for i in (0, 2, 4):
        y = relu(net.decoder[i], y)
    return convolve(y, net.decoder[6], "constant")[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_forward_by_numpy(variant, count, convolve):
    """float32 against float64: about 15 layers of 2**-24 each, so 1e-5 of the range."""
    net, pictures = network(variant), gray_images(count=count)
    with torch.inference_mode():
        output = net(*pictures)[0, 0].numpy()
    expected = by_numpy(net, pictures, convolve)
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 2])
def test_radius_is_exact(variant, count, linearise, reach):
    net = linearise(network(variant))
    assert reach(net, [x.double() for x in gray_images((31, 33), count)]) == net.radius == 12


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 5), (16, 3)])
def test_any_size(variant, size):
    with torch.inference_mode():
        output = network(variant)(*gray_images(size))
    assert output.shape == (1, 1, *size) and torch.isfinite(output).all()
    assert Res2NetFuse.min_side == 1


def test_a_batch_is_its_images():
    net, batch = network("released", "mean"), [torch.cat(gray_images(seed=s)) for s in (1, 2)]
    with torch.inference_mode():
        alone = torch.cat([net(*(x[i : i + 1] for x in batch)) for i in range(2)])
        assert torch.allclose(net(*batch), alone, rtol=1e-5, atol=1e-6)


def test_unknown_variant():
    with pytest.raises(UnknownName, match=r"variant of Res2NetFuse 'release'.*'released'"):
        Res2NetFuse("release")
