"""SDNet: re-computed with numpy, forwards and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.sdnet import SDNet
from tests.fusionlib.networks.given import arrays, assert_output, signed_images
from tests.fusionlib.networks.references import convolve, leaky


def network(first="ir"):
    torch.manual_seed(0)
    return SDNet(first)


def layer(module, *xs):
    return leaky(convolve(np.concatenate(xs), module, "constant"))


def test_forward_by_numpy():
    net, pictures = network(), signed_images()
    maps = []
    for branch, image in zip(net.branches, arrays(pictures), strict=True):
        one = layer(branch.layers[0], image)
        two = layer(branch.layers[1], one)
        three = layer(branch.layers[2], one, two)
        maps.append([one, two, three, layer(branch.layers[3], one, two, three)])
    (a1, a2, a3, a4), (b1, b2, b3, b4) = maps
    features = np.concatenate([a1, b1, a2, b2, a3, b3, a4, b4])
    assert_output(net, pictures, np.tanh(convolve(features, net.squeeze, "constant")))


@pytest.mark.parametrize("first", ["ir", "vis"])
def test_decomposition_by_numpy(first):
    net, (fused, _) = network(first), signed_images()
    features = layer(net.expand, *arrays([fused]))
    for i, output in enumerate(net.outputs):
        x = layer(output[2], layer(output[0], features))
        which = i if first == "ir" else 1 - i
        expected = np.tanh(convolve(x, output[4], "constant"))
        assert_output(lambda x, which=which: net.decompose(x)[which], [fused], expected)
