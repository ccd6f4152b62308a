"""SeAFusion: re-computed with numpy."""

from __future__ import annotations

import numpy as np
import torch

from fusionlib.networks.seafusion import SeAFusion
from tests.fusionlib.networks.given import arrays, assert_output, images
from tests.fusionlib.networks.references import convolve, correlate, double, leaky


def network():
    torch.manual_seed(0)
    return SeAFusion()


def test_forward_by_numpy():
    net, pictures = network(), images()
    torch.nn.init.normal_(net.ir.blocks[0].gradient_x.weight)  # no longer Sobel's

    def conv(x, module):
        return convolve(x, module, "constant")

    ir, vis = arrays(pictures)
    features = []
    for branch, image in ((net.vis, vis), (net.ir, ir)):
        x = leaky(conv(image, branch.first))
        for block in branch.blocks:
            one = np.concatenate([x, leaky(conv(x, block.dense[0]))])
            two = np.concatenate([one, leaky(conv(one, block.dense[1]))])
            gradient = np.abs(correlate(x, double(block.gradient_x.weight)))
            gradient += np.abs(correlate(x, double(block.gradient_y.weight)))
            joined = conv(two, block.join_dense) + conv(gradient, block.join_gradient)
            x = leaky(joined, 0.1)
        features.append(x)
    y = np.concatenate(features)
    for layer in net.decoder:
        y = leaky(conv(y, layer))
    assert_output(net, pictures, np.tanh(conv(y, net.last)) / 2 + 0.5)


def test_gradients_start_as_sobels():
    """On a ramp of 3 a column and 5 a row: eight times the slope, where no border is near."""
    block = network().ir.blocks[0]
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    ramp = (5 * rows + 3 * columns).expand(1, 16, 5, 6)
    with torch.inference_mode():
        for layer, slope in ((block.gradient_x, 3), (block.gradient_y, 5)):
            inner = layer(ramp).abs()[..., 1:-1, 1:-1]
            assert torch.equal(inner, torch.full_like(inner, 8 * slope))
