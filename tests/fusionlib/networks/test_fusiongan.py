"""FusionGAN: re-computed with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.fusiongan import FusionGAN
from tests.fusionlib.networks.given import arrays, assert_output, signed_images
from tests.fusionlib.networks.references import convolve, leaky


def network():
    torch.manual_seed(0)
    return FusionGAN()


def test_forward_by_numpy():
    net, pictures = network(), signed_images((5, 7))
    x = np.concatenate([np.pad(a, ((0, 0), (6, 6), (6, 6)), mode="edge") for a in arrays(pictures)])
    for layer in net.layers:
        side = layer.kernel_size[0] // 2
        x = convolve(x, layer, "constant")[:, side:-side, side:-side]
        x -= x.mean(axis=(1, 2), keepdims=True)
        x /= np.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + 1e-5)
        x = leaky(x)
    assert [layer.kernel_size for layer in net.layers] == [(5, 5), (5, 5), (3, 3), (3, 3)]
    assert_output(net, pictures, np.tanh(convolve(x, net.last, "constant")))


def test_smallest_side():
    """The stated minimum works; a single pixel has no variance."""
    net, side = network(), FusionGAN.min_side
    assert net(*signed_images((side, side))).shape == (1, 1, side, side)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        net(*signed_images((1, 1)))
