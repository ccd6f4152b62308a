"""EMMA: re-computed with numpy from the authors' tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from fusionlib.networks.emma import METHOD
from tests.fusionlib.networks.given import arrays, assert_output, images, loaded
from tests.fusionlib.networks.references import PLAIN, block_by_numpy, correlate
from tests.recipe import recipe_state


def fuse_by_numpy(tensors, ir, vis):
    def reflect(x, name, stride=1):
        y = correlate(x, tensors[f"{name}.weight"], "reflect", stride)
        bias = tensors.get(f"{name}.bias")
        return y if bias is None else y + bias[:, None, None]

    def block(x, name):
        x = reflect(x, f"{name}.embed")
        y = block_by_numpy(x, tensors, f"{name}.GlobalFeature", PLAIN, "reflect")
        for i in range(2):
            residual = f"{name}.LocalFeature.Extraction.{i}.conv"
            x = x + reflect(np.maximum(reflect(x, f"{residual}.0"), 0), f"{residual}.2")
        return reflect(np.concatenate([y, x]), f"{name}.FFN")

    def encode(x, letter):
        levels = [block(x, f"{letter}_en_1")]
        for i in (1, 2, 3):
            levels.append(
                block(reflect(levels[-1], f"{letter}_down{i}", 2), f"{letter}_en_{i + 1}")
            )
        return levels

    def up(x, name):
        """Every pixel paints 4x4, two pixels apart; the outermost ring is cut off."""
        weight = tensors[f"{name}.0.weight"]
        _, height, width = x.shape
        y = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
        for i in range(height):
            for j in range(width):
                y[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.tensordot(x[:, i, j], weight, 1)
        return np.maximum(y[:, 1:-1, 1:-1], 0)

    pairs = zip(encode(ir, "I"), encode(vis, "V"), strict=True)
    fused = [block(np.concatenate(pair), f"f_{i + 1}") for i, pair in enumerate(pairs)]
    x = block(fused[3], "de_4")
    for i in (3, 2, 1):
        x = block(np.concatenate([up(x, f"up{i + 1}"), fused[i - 1]]), f"de_{i}")
    return expit(reflect(x, "last.0"))


def test_core_by_numpy():
    """Both in float64, from the authors' names: about two hundred layers of 2**-53 each."""
    tensors = recipe_state("emma")
    pictures = [x.double() for x in images((16, 24))]
    theirs = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    net = loaded(METHOD.default, tensors).double()
    assert_output(net.core, pictures, fuse_by_numpy(theirs, *arrays(pictures)), 1e-11)


@pytest.mark.parametrize("size", [(32, 64), (37, 64), (64, 63), (45, 70)])
def test_crops(size):
    """Four crops whose sides are multiples of 32; only the first is pasted as a whole."""
    net, (ir, vis) = loaded(METHOD.default, recipe_state("emma")), images(size)
    (height, width), (rows, columns) = size, (side % 32 for side in size)
    h, w = height - rows, width - columns
    expected = torch.full((height, width), torch.nan)
    with torch.inference_mode():

        def crop(y, x):
            return net.core(ir[..., y, x], vis[..., y, x])[0, 0]

        expected[:h, :w] = crop(slice(0, h), slice(0, w))
        if columns:
            expected[:h, -columns:] = crop(slice(0, h), slice(-w, None))[:, -columns:]
        if rows:
            expected[-rows:, :w] = crop(slice(-h, None), slice(0, w))[-rows:]
        if rows and columns:
            expected[-rows:, -columns:] = crop(slice(-h, None), slice(-w, None))[-rows:, -columns:]
        assert torch.equal(net(ir, vis)[0, 0], expected)
