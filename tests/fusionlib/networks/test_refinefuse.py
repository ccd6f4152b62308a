"""RefineFuse: re-computed with numpy, its printed size and cost, any size of image."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.special import expit, softmax
from torch.nn.functional import conv2d, scaled_dot_product_attention

import fusionlib as fl
from fusionlib.networks.refinefuse import (
    FIM,
    METHOD,
    PSIM,
    SFIM,
    VARIANTS,
    Concatenation,
    Decoder,
    RefineFuse,
)
from reproduction.cost import count_macs
from tests.fusionlib.networks.given import arrays, assert_output, images
from tests.fusionlib.networks.references import convolve, correlate, double, relu

PRINTED = {"parameters": 2.21e6, 256: 12.73e9, 512: 48.11e9}


def built(module, *arguments, seed=0, **options):
    torch.manual_seed(seed)
    return module(*arguments, **options).eval()


def features(channels, size=(7, 9), seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, *size, generator=generator) for _ in range(2)]


def conv(x, layer):
    return convolve(x, layer, "constant")


# ---------------------------------------------------------------- modules


def test_sfim_by_numpy():
    """Equations 1 and 2 as the text has them: interleaved channels, one grouped convolution."""
    channels = 6
    module, (ir, vis) = built(SFIM, channels), features(channels)
    a, b = arrays((ir, vis))
    both = np.concatenate([a, b])
    maps = expit(conv(np.stack([both.max(0), both.mean(0)]), module.attention))
    a, b = a + a * maps[0], b + b * maps[1]
    interleaved = torch.from_numpy(np.stack([a, b], axis=1).reshape(2 * channels, *a.shape[1:]))
    weight = torch.cat([module.fuse_ir.weight, module.fuse_vis.weight], dim=1).double()
    bias = module.fuse_ir.bias.double()
    expected = conv2d(interleaved[None], weight, bias, padding=1, groups=channels)[0]
    assert weight.shape == (channels, 2, 3, 3)
    assert_output(module, (ir, vis), relu(expected.detach().numpy()))


def test_sfim_channels_see_their_own_pair_alone():
    module, (ir, vis) = built(SFIM, 4), features(4)
    torch.nn.init.zeros_(module.attention.weight)  # through it all channels act on all
    changed = vis.clone()
    changed[:, 2] += 1
    with torch.inference_mode():
        differs = (module(ir, vis) != module(ir, changed)).any(dim=(0, 2, 3))
    assert differs.tolist() == [False, False, True, False]


def test_psim_by_numpy():
    """Equations 3 and 4, where the grid is as large as the features."""
    channels, size = 4, (3, 5)
    module, (ir, vis) = built(PSIM, channels, 5), features(channels, size)
    a, b = arrays((ir, vis))
    query = conv(np.concatenate([a, b]), module.query).reshape(channels, -1)

    def context(x, key, value):
        k, v = (conv(x, layer).reshape(channels, -1) for layer in (key, value))
        attention = softmax(query.T @ k / np.sqrt(channels), axis=1)
        return (attention @ v.T).T.reshape(channels, *size)

    a = a + context(a, module.key_ir, module.value_ir)
    b = b + context(b, module.key_vis, module.value_vis)
    assert_output(module, (ir, vis), relu(conv(np.concatenate([a, b]), module.fuse)))


def test_psim_attends_on_the_means_of_a_grid(monkeypatch):
    """Of 8x12 features on a grid of 4: each cell is the mean of 2x3."""
    module, (ir, vis) = built(PSIM, 2, 4), features(2, (8, 12))
    seen = {}
    module.key_ir.register_forward_hook(lambda _, given, __: seen.update(cells=given[0]))

    def attention(query, key, value):
        seen["tokens"] = query.shape[1], key.shape[1]
        return scaled_dot_product_attention(query, key, value)

    monkeypatch.setattr("fusionlib.networks.refinefuse.F.scaled_dot_product_attention", attention)
    with torch.inference_mode():
        assert module(ir, vis).shape == (1, 2, 8, 12)
    expected = ir.reshape(1, 2, 4, 2, 4, 3).mean((3, 5))
    assert torch.allclose(seen["cells"], expected, atol=1e-6)
    assert seen["tokens"] == (16, 16)


def test_fim_by_numpy():
    """Equation 5: both maps' means decide how much of the shallow map is added to the deep one."""
    deep, shallow = features(3)
    d, s = arrays((deep, shallow))
    channels = sum(expit(x.mean((1, 2), keepdims=True)) for x in (d, s))
    places = sum(expit(x.mean(0, keepdims=True)) for x in (d, s))
    assert_output(FIM(), (deep, shallow), d + s * channels * places)
    assert not list(FIM().parameters())


def test_decoder_by_numpy():
    """1x1, 3x3, twice the size bilinearly (here by hand along each axis), cut to the other map."""
    module, x = built(Decoder, 3, 2), features(3, (4, 5))[0]
    large = relu(conv(conv(*arrays([x]), module.mix), module.refine))
    for axis in (1, 2):
        size = large.shape[axis]
        places = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, size - 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        share = (places - low).reshape(shape)
        large = large.take(low, axis) * (1 - share) + large.take(high, axis) * share
    assert_output(lambda x: module(x, (7, 10)), [x], large[:, :7, :10])


def test_forward_by_its_parts():
    """The whole network from its modules, written down from the text scale by scale."""
    net, (ir, vis) = built(RefineFuse), images((26, 21))
    with torch.inference_mode():
        a, b, joined = ir, vis, []
        for level in range(4):
            a, b = net.encode_ir[level](a).relu(), net.encode_vis[level](b).relu()
            joined.append(net.joins[level](a, b))
        d = net.decoders[2](joined[3], (7, 6))
        d = net.decoders[1](torch.cat([d, joined[2]], 1), (13, 11))
        d = net.decoders[0](net.fim(d, joined[1]), (26, 21))
        x = torch.cat([d, joined[0]], 1)
        for layer in net.last[:3]:
            x = layer(x).relu()
        expected = torch.tanh(net.last[3](x))
        assert [j.shape[1:] for j in joined] == [
            (64, 26, 21),
            (96, 13, 11),
            (96, 7, 6),
            (96, 4, 3),
        ]
        assert torch.equal(net(ir, vis), expected)
        assert torch.equal(net.finish(ir, vis, net.join(*net.descend(ir, vis))), expected)
    kinds = [type(join) for join in net.joins]
    assert kinds == [SFIM, SFIM, PSIM, PSIM]
    assert [join.grid for join in net.joins[2:]] == [32, 16]


def test_encoders_by_numpy():
    net, (ir, _) = built(RefineFuse), images()
    (x,) = arrays([ir])
    for level, layer in enumerate(net.encode_ir):
        x = correlate(x, double(layer.weight)) + double(layer.bias)[:, None, None]
        x = relu(x if level == 0 else x[:, ::2, ::2])

    def encode(output):
        for layer in net.encode_ir:
            output = layer(output).relu()
        return output

    assert_output(encode, [ir], x)


# ---------------------------------------------------------------- the printed size and cost


def test_size_and_cost_of_table_11():
    """Within 3 % of all three figures, which is what the widths were chosen for."""
    net = built(RefineFuse)
    count = sum(p.numel() for p in net.parameters())
    assert count == METHOD.configurations["paper"].weights[0].parameters
    assert count == pytest.approx(PRINTED["parameters"], rel=0.03)
    for side in (256, 512):
        macs = count_macs(net, side, side, convention="thop")
        assert macs == pytest.approx(PRINTED[side], rel=0.03)


def test_attention_does_not_grow_with_the_square():
    """Four times the pixels cost four times the products, and less: the grid is fixed."""
    net = built(RefineFuse)
    small, large = (count_macs(net, side, side) for side in (512, 1024))
    assert 3.8 * small < large < 4 * small


# ---------------------------------------------------------------- ablations


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant):
    departs, _ = VARIANTS[variant]
    net = built(RefineFuse, **departs)
    scales = departs.get("scales", 4)
    kinds = [type(join) for join in net.joins]
    shallow = 1 if scales == 2 else 2
    sfim = SFIM if departs.get("sfim", True) else Concatenation
    psim = PSIM if departs.get("psim", True) else Concatenation
    assert kinds == [sfim] * min(shallow, scales) + [psim] * max(0, scales - shallow)
    assert (net.fim is not None) == (departs.get("fim", True) and scales > 2)
    assert len(net.decoders) == scales - 1
    with torch.inference_mode():
        assert net(*images((33, 18))).shape == (1, 1, 33, 18)


@pytest.mark.parametrize("scales", [0, 6])
def test_number_of_scales(scales):
    with pytest.raises(fl.FusionError, match=f"1 to 5 scales, not {scales}"):
        RefineFuse(scales)


def test_missing_weights_say_how_they_are_made(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(tmp_path))
    with pytest.raises(
        fl.WeightsNotFound, match=r"Train them, `python -m reproduction train refinefuse .*"
    ):
        fl.create("refinefuse", variant="scales_2")


# ---------------------------------------------------------------- any image


@cache
def whole():
    return built(RefineFuse)


@settings(max_examples=10, deadline=None)
@given(height=st.integers(16, 50), width=st.integers(16, 50))
def test_any_size(height, width):
    net = whole()
    with torch.inference_mode():
        output = net(*images((height, width)))
    assert output.shape == (1, 1, height, width)
    assert (output.abs() <= 1).all()


def test_black_stays_black():
    """Exactly, which SSIM of Tables 6 and 7 asks for, but for a rim that sees the padding."""
    black = np.zeros((128, 128), np.uint8)
    fused = fl.create("refinefuse").fuse(black, black)
    assert not fused[8:-8, 8:-8].any()
    assert fused.max() <= 2 / 255


def test_large_weights_give_numbers():
    """Attention's exponentials do not overflow."""
    net = built(RefineFuse)
    for parameter in net.parameters():
        parameter.data *= 20
    with torch.inference_mode():
        assert net(*images((40, 50))).isfinite().all()


def test_the_image_stays_in_single_precision():
    net, (ir, vis) = built(RefineFuse), images((24, 32))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = net(ir, vis)
    with torch.no_grad():
        single = net(ir, vis)
    assert mixed.dtype == torch.float32
    # bfloat16 has 8 bits: some layers of 2**-8 of a range of about 0.1.
    assert 0 < (mixed - single).abs().max() < 0.01
