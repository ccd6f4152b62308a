"""MSDNet: re-computed with numpy."""

from __future__ import annotations

import numpy as np
import torch

from fusionlib.networks.msdnet import MSDNet
from tests.fusionlib.networks.given import arrays, assert_output, gray_images
from tests.fusionlib.networks.references import convolve, relu


def test_forward_by_numpy():
    """The l1_norm rule weighs each of the three scales by itself."""
    torch.manual_seed(0)
    net, pictures = MSDNet("l1_norm"), gray_images()

    def layer(module, x):
        return relu(convolve(x, module, "reflect"))

    scales = []
    for picture in arrays(pictures):
        x = layer(net.first, picture)
        for module in net.dense.layers:
            x = np.concatenate([layer(module, x), x])
        scales.append([layer(module, x) for module in net.scales])
    fused = []
    for a, b in zip(*scales, strict=True):
        share = a.sum(axis=0) / (a.sum(axis=0) + b.sum(axis=0))
        fused.append(share * a + (1 - share) * b)
    y = np.concatenate(fused)
    for module in net.decoder:
        y = layer(module, y)
    assert [module.kernel_size for module in net.scales] == [(1, 1), (3, 3), (5, 5)]
    assert_output(net, pictures, convolve(y, net.last, "reflect"))
