"""AT-GAN: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.networks.atgan import ATGAN, METHOD, IntensityAttention
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, levels_off
from tests.fusionlib.networks.given import signed_images
from tests.fusionlib.networks.references import double, give_statistics, normalise_batch

(RELEASED,) = METHOD.configurations.values()


def network():
    torch.manual_seed(0)
    net = ATGAN()
    for module in net.attention:
        nn.init.constant_(module.strength, 0.7)
    return give_statistics(net, *signed_images((24, 24)))


def attend(query, key, value):
    """As published, channel by channel: softmax of what is missing to the row's maximum."""
    mixed = np.empty_like(value)
    for i, q in enumerate(query):
        energy = np.array([(q * k).sum() for k in key])
        share = np.exp(energy.max() - energy)
        share /= share.sum()
        mixed[i] = sum(s * v for s, v in zip(share, value, strict=True))
    return mixed


def test_parameters():
    """10,983 stored values, of which 10,893 are trained and 80 + 10 count for the batches."""
    net = ATGAN()
    assert sum(p.numel() for p in net.parameters()) == 10_893
    assert sum(t.numel() for t in net.state_dict().values()) == 10_983
    assert RELEASED.weights[0].parameters == 10_893


def test_forward_by_numpy(convolve):
    """float32 against float64: nine layers of 2**-24 each, so 1e-5 of the range."""
    net = network()

    def conv(x, layer):
        return convolve(x, layer, "constant")

    def layer(x, module):
        return normalise_batch(conv(x, module.conv), module.norm, 1e-5)

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    def cat(*xs):
        return np.concatenate(xs)

    def attention(x, module):
        q, k, v = (conv(x, part) for part in (module.query, module.key, module.value))
        out = double(module.strength) * attend(q, k, v) + conv(x, module.shortcut)
        return cat(out, v)

    pictures = signed_images()
    ir, vis = (double(x[0]) for x in pictures)
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
    with torch.inference_mode():
        output = net(*pictures)[0].numpy()
    assert np.ptp(expected) > 0.5
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


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


def test_attention_sees_all_pixels():
    """Why there is no radius: the far corner of one image changes the opposite corner."""
    net, (ir, vis) = network().double(), [x.double() for x in signed_images((40, 40))]
    changed = ir.clone()
    changed[..., -1, -1] += 1
    with torch.inference_mode():
        difference = (net(ir, vis) - net(changed, vis))[0, 0, 0, 0]
    assert ATGAN.radius is None and difference != 0


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (12, 5)])
def test_any_size(size):
    with torch.inference_mode():
        output = network()(*signed_images(size))
    assert output.shape == (1, 1, *size) and output.isfinite().all()


def test_pytorch_names_fill_the_network():
    """Every authors' tensor finds its place, with its values; ours stay."""
    modules = {
        **{f"ir.{i}.conv": f"ir_conv{i + 1}" for i in range(3)},
        **{f"ir.{i}.norm": f"ir_bn{i + 1}" for i in range(3)},
        **{f"vis.{i}.conv": f"vi_conv{i + 1}" for i in range(3)},
        **{f"vis.{i}.norm": f"vi_bn{i + 1}" for i in range(3)},
        "attention.0": "brightA1",
        "attention.0.shortcut": "brightA1.xconv",
        "attention.0.query": "brightA1.qconv",
        "attention.0.key": "brightA1.kconv",
        "attention.0.value": "brightA1.vconv",
        "attention.1": "brightA2",
        "attention.1.shortcut": "brightA2.xconv",
        "attention.1.query": "brightA2.qconv",
        "attention.1.key": "brightA2.kconv",
        "attention.1.value": "brightA2.vconv",
        "transition.0": "semantic1.sconv",
        "transition.1": "semantic2.sconv",
        "mix.conv": "gfusion.sn_conv1",
        "mix.norm": "gfusion.bn1",
        "last.conv": "gfusion.sn_conv2",
        "last.norm": "gfusion.bn2",
    }
    state, theirs = network().state_dict(), {}
    for name, values in state.items():
        module, part = name.rsplit(".", 1)
        theirs[f"{modules[module]}.{'gamma' if part == 'strength' else part}"] = (
            values.reshape(1) if part == "num_batches_tracked" else values
        )
    assert len(theirs) == 78
    for given in (theirs, state):
        assert_adapted(RELEASED.adapt, given, state)


@pytest.mark.realdata
def test_authors_output(golden, trained):
    """Measured: 7.6e-7 of the range, one pixel of 33,280 falls into the next gray level.

    Of CLAHE, that one pixel changes a whole tile: it is compared on the authors' own levels.
    """
    reference = golden("atgan")
    raw = fuse(trained(RELEASED), reference["ir"], reference["vis"])
    assert error(raw, reference["fused"]) <= 1e-4
    before, after = reference["fused_u8_before_clahe"], reference["fused_u8"]
    largest, share = levels_off(raw, before, replace(RELEASED, post="clip"))
    assert largest <= 1 and share <= 1e-3
    assert (RELEASED.post, RELEASED.quantise) == ("clahe", "truncate")
    # Half a level more, so that rounding in between does not matter.
    authors = RELEASED.levels.scale((before + np.float32(0.5)) / np.float32(255))
    assert levels_off(authors, after, RELEASED) == (0, 0)
