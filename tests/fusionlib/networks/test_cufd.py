"""CUFD: re-computed with numpy."""

from __future__ import annotations

import numpy as np
import torch

from fusionlib.networks.cufd import CUFD
from tests.fusionlib.networks.given import arrays, assert_output, images, linearise
from tests.fusionlib.networks.references import convolve, give_statistics, normalise_batch, relu


def network():
    torch.manual_seed(0)
    return give_statistics(CUFD(), *images((24, 24)))


def test_forward_by_numpy():
    """Each unit's two convolutions one after the other, which the network merges."""
    net = network()

    def conv(x, module):
        return convolve(x, module, "reflect")

    def normalise(x, norm):
        return relu(normalise_batch(x, norm, 1e-3))

    def layer(x, module):
        return normalise(conv(x, module.conv), module.norm)

    def unit(x, module):
        return normalise(conv(conv(x, module.expand), module.reduce), module.norm)

    def dense(x, block):
        first, second, third = block.units
        a = unit(x, first)
        b = np.concatenate([unit(a, second), a])
        return np.concatenate([unit(b, third), b])

    def features(x, part):
        x = layer(dense(layer(x, part.first), part.dense1), part.transfer)
        return np.tanh(conv(dense(x, part.dense2), part.last)) / 2 + 0.5

    def larger(a, b):
        return np.where(np.abs(a) > np.abs(b), a, b)

    def encode(image):
        x = [layer(image, net.encoder[0])]
        for first, second in net.encoder[1:]:
            x.append(layer(layer(x[-1], first), second))
        return x

    pictures = images()
    ir, vis = arrays(pictures)
    levels = []
    for v, i in zip(encode(vis), encode(ir), strict=True):
        parts = features(np.concatenate([v, i]), net.decompose)
        c1, c2, u1, u2 = parts[:32], parts[32:64], parts[64:96], parts[96:]
        w = np.abs(c1) / (np.abs(c1) + np.abs(c2) + 1e-9)
        pair = np.concatenate([w * c1 + (1 - w) * c2, larger(u1, u2)])
        levels.append(features(pair, net.compose) + larger(v, i))
    y = np.concatenate(levels)
    for module in net.decoder:
        y = layer(y, module)
    expected = np.tanh(conv(y, net.last)) / 2 + 0.5
    assert np.ptp(expected) > 0.05
    assert_output(net, pictures, expected)
    with torch.inference_mode():  # the images are not exchangeable
        assert (net(*pictures) - net(*pictures[::-1])).abs().max() > 0.01 * np.ptp(expected)


def test_radius_is_exact():
    """By gradients, which do not round away: a corner's share is some 1e-44 of the middle's."""
    net = linearise(CUFD().eval()).requires_grad_(False).float()
    pictures = [x.requires_grad_() for x in images((53, 54))]
    # So large that no share of it is below the smallest number of float32.
    net(*pictures)[0, 0, 26, 27].backward(torch.tensor(1e30))
    expected = torch.zeros(53, 54, dtype=torch.bool)
    r = net.radius
    expected[26 - r : 27 + r, 27 - r : 28 + r] = True
    assert r == 25
    for picture in pictures:
        assert torch.equal(picture.grad[0, 0] != 0, expected)


def test_without_common_features():
    """Where tanh saturates, both common features are 0: their weight must not be 0 / 0."""
    net = network()
    net.decompose.last.bias.data[:] = -1e3
    with torch.inference_mode():
        assert net(*images()).isfinite().all()
