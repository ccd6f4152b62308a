"""Res2NetFuse: the paper's Table I, and the forward pass re-computed with numpy."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.datasets import package_data
from fusionlib.networks.res2netfuse import Res2NetFuse
from tests.fusionlib.networks.given import arrays, assert_output, gray_images, linearise, reach
from tests.fusionlib.networks.references import convolve, relu

VARIANTS = ["released", "paper"]


def network(variant):
    torch.manual_seed(0)
    return Res2NetFuse(variant)


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


def by_numpy(net, pictures):
    """The forward pass of spec and paper, equations 1 and 5, in float64."""

    def layer(module, x):
        return relu(convolve(x, module, "constant"))

    branches = list(net.block.branches)
    if len(branches) == 1:  # released: one convolution serves all six times
        branches = branches * 6
    features = []
    for picture in arrays(pictures):
        c = layer(net.encoder[2], layer(net.encoder[0], picture))
        x = layer(net.block.reduce, c)
        x1, x2, x3, x4 = x[:16], x[16:32], x[32:48], x[48:]
        y2 = layer(branches[1], layer(branches[0], x2))
        y3 = layer(branches[3], layer(branches[2], x3 + y2))
        y4 = layer(branches[5], layer(branches[4], x4 + y3))
        r = layer(net.block.expand, np.concatenate([x1, y2, y3, y4]))
        features.append(c + r if net.variant == "released" else r)
    norms = np.stack([np.abs(f).sum(axis=0) for f in features])
    y = sum(f * n for f, n in zip(features, norms / norms.sum(axis=0), strict=True))
    for i in (0, 2, 4):
        y = layer(net.decoder[i], y)
    return convolve(y, net.decoder[6], "constant")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_forward_by_numpy(variant, count):
    net, pictures = network(variant), gray_images(count=count)
    assert_output(net, pictures, by_numpy(net, pictures))


@pytest.mark.parametrize("variant", VARIANTS)
def test_radius_of_one_image(variant):
    net = linearise(network(variant))
    assert reach(net, [x.double() for x in gray_images((31, 33), 1)]) == net.radius == 12
