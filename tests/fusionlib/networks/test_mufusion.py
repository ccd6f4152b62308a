"""MUFusion: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.errors import ImageTooSmall
from fusionlib.networks import mufusion
from fusionlib.networks.mufusion import METHOD, MUFusion
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, levels_off
from tests.fusionlib.networks.given import images

IMAGEIO, RELEASED = METHOD.configurations.values()


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
def test_patch_by_numpy(convolve, rows, monkeypatch):
    """float32 against float64: twelve layers of 2**-24 each, so 1e-5 of the range."""
    monkeypatch.setattr(mufusion, "ROWS", rows)
    net = network()

    def relu(layer, *xs):
        return np.maximum(convolve(np.concatenate(xs), layer, "reflect"), 0)

    pictures = images((10, 12))
    e1 = relu(net.encoder[0], *(x[0].double().numpy() for x in pictures))
    e2 = relu(net.encoder[1], e1)
    e3 = relu(net.encoder[2], e1, e2)[:, ::2, ::2]
    e4 = relu(net.encoder[3], e3)
    e5 = relu(net.encoder[4], e3, e4)
    e6 = relu(net.encoder[5], e3, e4, e5)
    d6 = relu(net.decoder[0], e6)
    d5 = relu(net.decoder[1], e5, d6)
    d4 = relu(net.decoder[2], e4, d5)
    d3 = relu(net.decoder[3], e3, d4)
    d2 = relu(net.decoder[4], e2, double_size(5) @ d3 @ double_size(6).T)
    expected = np.tanh(convolve(np.concatenate([e1, d2]), net.decoder[5], "reflect"))
    with torch.inference_mode():
        output = net.fuse_patches(*pictures)[0].numpy()
    assert np.ptp(expected) > 0.5
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


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
    """Training on patches trains what fuses images; a batch is fused image by image."""
    net, (ir, vis) = network(), images((128, 128))
    with torch.inference_mode():
        assert torch.equal(net(ir, vis), net.fuse_patches(ir, vis))
        both = net(torch.cat([ir, vis]), torch.cat([vis, ir]))
        assert torch.allclose(both, torch.cat([net(ir, vis), net(vis, ir)]), atol=1e-5)


def test_smallest_side():
    """The stated minimum works, one pixel less is an error that says so."""
    net, side = network(), MUFusion.min_side
    with torch.inference_mode():
        assert net(*images((side, side + 1))).shape == (1, 1, side, side + 1)
    with pytest.raises(ImageTooSmall, match="at least 128 pixels a side, not 127"):
        net(*images((side, side - 1)))


def test_pytorch_names_fill_the_network():
    """Every authors' tensor finds its place, with its values; ours stay."""
    layers = {f"encoder.{i}": f"conv{i + 1}.1" for i in range(6)}
    layers |= {
        "decoder.0": "conv66.1",
        "decoder.1": "conv55.1",
        "decoder.2": "conv44.1",
        "decoder.3": "conv33.1",
        "decoder.4": "conv22.1",
        "decoder.5": "conv11.1",
    }
    state = network().state_dict()
    theirs = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        theirs[f"{layers[layer]}.{part}"] = tensor
    assert len(theirs) == 24
    for given in (theirs, state):
        assert_adapted(RELEASED.adapt, given, state)


@pytest.mark.realdata
@pytest.mark.parametrize("entry", RELEASED.weights, ids=lambda entry: entry.name)
def test_authors_output(entry, golden, trained):
    """Measured: 4.5e-7 of the range (theirs is float64), 6e-5 of the pixels one level off."""
    assert IMAGEIO.weights == RELEASED.weights
    reference = golden(entry.name)
    raw = fuse(trained(RELEASED, entry), reference["ir"], reference["vis"])
    assert error(raw, reference["fused"]) <= 1e-4
    largest, share = levels_off(raw, reference["fused_u8"], RELEASED)
    assert largest <= 1 and share <= 1e-3
