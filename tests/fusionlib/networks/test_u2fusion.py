"""U2Fusion: re-computed with numpy."""

from __future__ import annotations

import numpy as np
import torch

from fusionlib.networks.u2fusion import U2Fusion
from tests.fusionlib.networks.given import arrays, assert_output, images
from tests.fusionlib.networks.references import convolve, leaky


def test_forward_by_numpy():
    torch.manual_seed(0)
    net, pictures = U2Fusion(), images((5, 6))

    def layer(module, x):
        return leaky(convolve(x, module, "reflect"))

    x = layer(net.encoder[0], np.concatenate(arrays(pictures)))
    for i in range(1, 6):
        x = np.concatenate([layer(net.encoder[i], x), x])
    assert len(x) == 264
    for module in net.decoder:
        x = layer(module, x)
    assert_output(net, pictures, np.tanh(convolve(x, net.last, "reflect")) / 2 + 0.5)
