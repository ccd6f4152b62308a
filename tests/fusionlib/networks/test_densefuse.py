"""DenseFuse: both releases re-computed with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.densefuse import DenseFuse
from tests.fusionlib.networks.given import arrays, assert_output, gray_images
from tests.fusionlib.networks.references import convolve, relu


@pytest.mark.parametrize("release", ["tensorflow", "pytorch"])
def test_forward_by_numpy(release):
    torch.manual_seed(0)
    net, pictures = DenseFuse(release, "average"), gray_images()

    def layer(module, x):
        return relu(convolve(x, module, "reflect"))

    features = []
    for picture in arrays(pictures):
        x = layer(net.first, picture)
        for module in net.dense.layers:
            new = layer(module, x)
            x = np.concatenate([new, x] if release == "tensorflow" else [x, new])
        features.append(x)
    y = (features[0] + features[1]) / 2
    for module in net.decoder:
        y = layer(module, y)
    last = convolve(y, net.last, "reflect")
    # A bias under which the last ReLU, if there is one, has something to leave and to cut.
    net.last.bias.data -= np.median(last)
    last -= np.median(last)
    assert_output(net, pictures, relu(last) if release == "pytorch" else last)
