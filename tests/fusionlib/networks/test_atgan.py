"""AT-GAN: re-computed with numpy, and its CLAHE against the authors' images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.networks.atgan import ATGAN, METHOD, IntensityAttention
from fusionlib.pipelines import find_post
from tests.fusionlib.networks.given import arrays, assert_output, signed_images
from tests.fusionlib.networks.references import (
    convolve,
    double,
    give_statistics,
    leaky,
    normalise_batch,
)


def attend(query, key, value):
    """As published, channel by channel: softmax of what is missing to the row's maximum."""
    mixed = np.empty_like(value)
    for i, q in enumerate(query):
        energy = np.array([(q * k).sum() for k in key])
        share = np.exp(energy.max() - energy)
        share /= share.sum()
        mixed[i] = sum(s * v for s, v in zip(share, value, strict=True))
    return mixed


def test_forward_by_numpy():
    torch.manual_seed(0)
    net = ATGAN()
    for module in net.attention:
        nn.init.constant_(module.strength, 0.7)
    give_statistics(net, *signed_images((24, 24)))

    def conv(x, module):
        return convolve(x, module, "constant")

    def layer(x, module):
        return normalise_batch(conv(x, module.conv), module.norm, 1e-5)

    def cat(*xs):
        return np.concatenate(xs)

    def attention(x, module):
        q, k, v = (conv(x, part) for part in (module.query, module.key, module.value))
        out = double(module.strength) * attend(q, k, v) + conv(x, module.shortcut)
        return cat(out, v)

    pictures = signed_images()
    ir, vis = arrays(pictures)
    c1 = leaky(layer(ir, net.ir[0]))
    c2 = leaky(layer(cat(ir, c1), net.ir[1]))
    c3 = leaky(layer(cat(c2, ir, c1), net.ir[2]))
    v1 = leaky(layer(vis, net.vis[0]))
    v2 = leaky(layer(cat(vis, v1), net.vis[1]))
    v3 = leaky(layer(cat(vis, v1, v2), net.vis[2]))
    s2 = conv(cat(v3, v2), net.transition[0])
    s1 = conv(cat(s2, v1), net.transition[1])
    x = cat(ir, c1, cat(ir, c1), c2, cat(c2, ir, c1), c3)
    x = cat(x, attention(c3, net.attention[0]), attention(c2, net.attention[1]))
    x = cat(x, vis, v1, cat(vis, v1), v2, cat(vis, v1, v2), v3, s2, s1)
    assert len(x) == 92
    expected = np.tanh(layer(cat(x, leaky(layer(x, net.mix))), net.last))
    assert np.ptp(expected) > 0.5
    assert_output(net, pictures, expected)


def test_attention_prefers_the_unlike():
    """Of two channels each takes the other, where they are orthogonal and long."""
    module = IntensityAttention(2, 2)
    for part in (module.shortcut, module.query, module.key, module.value):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
        if part is not module.shortcut:
            part.weight.data[:, :, 1, 1] = torch.eye(2)
    nn.init.ones_(module.strength)
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, :2], x[0, 1, 2:] = 9, 7
    mixed, value = module(x)
    assert torch.equal(value, x)
    # exp(-7 * 7 * 8) and less of the like.
    assert torch.allclose(mixed, x.flip(1))


@pytest.mark.realdata
def test_clahe(golden):
    """Exactly, on the authors' own levels: one pixel that differs would change a whole tile."""
    reference, levels = golden("atgan"), METHOD.default.levels
    # Half a level more, so that rounding in between does not matter.
    before = (reference["fused_u8_before_clahe"] + np.float32(0.5)) / np.float32(255)
    after = find_post(METHOD.default.post).apply(levels.scale(before), levels)
    assert np.array_equal(np.trunc(after), reference["fused_u8"])
