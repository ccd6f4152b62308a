"""MUFusion: re-computed with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.errors import ImageTooSmall
from fusionlib.networks import mufusion
from fusionlib.networks.mufusion import MUFusion
from tests.fusionlib.networks.given import arrays, assert_output, images
from tests.fusionlib.networks.references import convolve, relu


def network():
    """Weights that keep the variance of features, so that the skip connections all matter."""
    torch.manual_seed(0)
    net = MUFusion()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net


def double_size(n):
    """Matrix (2n, n) of cubic interpolation with a = -3/4 at i - 1/4 and i + 1/4."""

    def kernel(t):
        t = abs(t)
        near = 1.25 * t**3 - 2.25 * t**2 + 1
        far = -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
        return near if t <= 1 else far

    matrix = np.zeros((2 * n, n))
    for i in range(2 * n):
        position = (i + 0.5) / 2 - 0.5
        for j in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            matrix[i, min(max(j, 0), n - 1)] += kernel(position - j)
    return matrix


@pytest.mark.parametrize("rows", [3, 26])
def test_patch_by_numpy(rows, monkeypatch):
    monkeypatch.setattr(mufusion, "ROWS", rows)
    net, pictures = network(), images((10, 12))

    def layer(module, *xs):
        return relu(convolve(np.concatenate(xs), module, "reflect"))

    e1 = layer(net.encoder[0], *arrays(pictures))
    e2 = layer(net.encoder[1], e1)
    e3 = layer(net.encoder[2], e1, e2)[:, ::2, ::2]
    e4 = layer(net.encoder[3], e3)
    e5 = layer(net.encoder[4], e3, e4)
    e6 = layer(net.encoder[5], e3, e4, e5)
    d6 = layer(net.decoder[0], e6)
    d5 = layer(net.decoder[1], e5, d6)
    d4 = layer(net.decoder[2], e4, d5)
    d3 = layer(net.decoder[3], e3, d4)
    d2 = layer(net.decoder[4], e2, double_size(5) @ d3 @ double_size(6).T)
    expected = np.tanh(convolve(np.concatenate([e1, d2]), net.decoder[5], "reflect"))
    assert np.ptp(expected) > 0.5
    assert_output(net.fuse_patches, pictures, expected)


@pytest.mark.parametrize("size", [(128, 128), (128, 131), (253, 251), (252, 130), (376, 252)])
def test_patches_are_averaged_as_published(size, monkeypatch):
    """A grid, then the last column, the last row and the last corner, some of them again.

    Instead of the network, weights that depend on the place within the patch.
    """
    ramp = torch.rand(128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(MUFusion, "fuse_patches", lambda self, ir, vis: (ir - 2 * vis) * ramp)
    ir, vis = (x.double() for x in images(size))
    height, width = size
    rows, columns = range(0, height - 127, 124), range(0, width - 127, 124)
    corners = [(y, x) for y in rows for x in columns]
    corners += [(y, width - 128) for y in rows]
    corners += [(height - 128, x) for x in columns]
    corners += [(height - 128, width - 128)]
    total, count = np.zeros(size), np.zeros(size)
    for y, x in corners:
        place = np.s_[y : y + 128, x : x + 128]
        total[place] += ((ir - 2 * vis)[0, 0].numpy()[place]) * ramp.numpy()
        count[place] += 1
    output = MUFusion()(ir, vis)[0, 0].numpy()
    assert np.allclose(output, total / count, rtol=0, atol=1e-12)


def test_one_patch_is_the_network():
    """Training on patches trains what fuses images."""
    net, (ir, vis) = network(), images((128, 128))
    with torch.inference_mode():
        assert torch.equal(net(ir, vis), net.fuse_patches(ir, vis))


def test_smallest_side():
    with pytest.raises(ImageTooSmall, match="at least 128 pixels a side, not 127"):
        MUFusion()(*images((128, 127)))
