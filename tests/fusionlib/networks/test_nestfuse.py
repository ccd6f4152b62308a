"""NestFuse: auto-encoder and attention re-computed with numpy, parts cut by hand.

The auto-encoder meets the authors' output in test_rfn_nest.py, which shares it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.networks.nestfuse import METHOD, NestFuse
from tests.fusionlib.networks.given import arrays, assert_output, gray_images
from tests.fusionlib.networks.references import convolve, relu


def network(pooling="average"):
    """He's initial weights, and a last convolution that its ReLU leaves alive."""
    torch.manual_seed(0)
    net = NestFuse(pooling).eval()
    for parameter in net.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        else:
            nn.init.uniform_(parameter, 0, 0.1)
    net.autoencoder.last.weight.data.abs_()
    return net


def test_autoencoder_by_numpy():
    """Sides of 23 and 18 are odd at the first and second or at the second scale."""
    net = network().autoencoder
    (image, _) = gray_images((23, 18))

    def relu_conv(layer, x):
        return relu(convolve(x, layer, "reflect"))

    def block(module, *maps):
        return relu_conv(module.point, relu_conv(module.wide, np.concatenate(maps)))

    def pool(x):
        height, width = (n // 2 * 2 for n in x.shape[1:])
        return x[:, :height, :width].reshape(len(x), height // 2, 2, width // 2, 2).max((2, 4))

    def up(x, like):
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        missing = [(0, n - m) for n, m in zip(like.shape[1:], x.shape[1:], strict=True)]
        return np.pad(x, [(0, 0), *missing], mode="reflect")

    x10 = block(net.encoder[0], relu_conv(net.first, *arrays([image])))
    x20 = block(net.encoder[1], pool(x10))
    x30 = block(net.encoder[2], pool(x20))
    x40 = block(net.encoder[3], pool(x30))
    assert [x.shape for x in (x10, x20, x30, x40)] == [
        *((64, 23, 18), (112, 11, 9), (160, 5, 4), (208, 2, 2))
    ]
    x11 = block(net.decoder["0_1"], x10, up(x20, x10))
    x21 = block(net.decoder["1_1"], x20, up(x30, x20))
    x31 = block(net.decoder["2_1"], x30, up(x40, x30))
    x12 = block(net.decoder["0_2"], x10, x11, up(x21, x10))
    x22 = block(net.decoder["1_2"], x20, x21, up(x31, x20))
    x13 = block(net.decoder["0_3"], x10, x11, x12, up(x22, x10))
    bright = relu_conv(net.last, x13)
    # A bias under which the last ReLU, too, has something to do.
    net.last.bias.data -= bright.mean().item()
    assert bright.min() > 0
    assert_output(net, [image], relu_conv(net.last, x13))


@pytest.mark.parametrize("brightness", [1, 1e-5])
@pytest.mark.parametrize("pooling", ["average", "maximum", "nuclear"])
def test_fusion_by_numpy(pooling, brightness):
    """float32 against float64, a dozen operations: 1e-6 of the range.

    In dark features the epsilons of 1e-5 act.
    """
    rng = np.random.default_rng(0)
    ir, vis = rng.random((2, 3, 6, 7)) * [[[0.5]], [[2]], [[1]]] * brightness
    pool = {
        "average": np.mean,
        "maximum": np.max,
        "nuclear": lambda x: np.linalg.norm(x + 1e-5, "nuc"),
    }[pooling]
    p, q = (np.array([pool(x) for x in maps])[:, None, None] for maps in (ir, vis))
    by_channel = (p * ir + q * vis) / (p + q + 1e-5)
    a, b = np.exp(ir.mean(axis=0)), np.exp(vis.mean(axis=0))
    by_place = (a * ir + b * vis) / (a + b + 1e-5)
    tensors = [[torch.from_numpy(x).float()[None]] for x in (ir, vis)]
    (fused,) = NestFuse(pooling).fuse_features(*tensors)
    expected = (by_channel + by_place) / 2
    assert np.abs(fused[0].numpy() - expected).max() <= 1e-6 * np.ptp(expected)


def test_large_features():
    """Where exp overflows, the stronger image takes all of the spatial attention."""
    strong, weak = torch.full((1, 2, 3, 3), 500.0), torch.full((1, 2, 3, 3), 100.0)
    (fused,) = NestFuse().fuse_features([strong], [weak])
    by_channel = (500 * 500 + 100 * 100) / 600
    torch.testing.assert_close(fused, torch.full_like(fused, (by_channel + 500) / 2))


def test_whole_is_encode_fuse_decode():
    net, (ir, vis) = network(), gray_images((16, 512))
    with torch.inference_mode():
        features = net.fuse_features(net.autoencoder.encode(ir), net.autoencoder.encode(vis))
        assert torch.equal(net(ir, vis), net.autoencoder.decode(features))
        assert torch.equal(net(ir, vis), net(vis, ir))


def test_parts(monkeypatch):
    """Above 512 pixels: cut 2 before and 3 after the middle, averaged where parts overlap."""
    net, (ir, vis) = network(), gray_images((27, 513))
    # Each part has a value of its own, and shows whether both images were cut alike.
    monkeypatch.setattr(net, "fuse_whole", lambda a, b: a.amax() + (a + b) * 2)
    expected, count = torch.zeros(27, 513), torch.zeros(27, 513)
    for rows in (slice(0, 16), slice(11, 27)):
        for columns in (slice(0, 259), slice(254, 513)):
            a, b = ir[0, 0, rows, columns], vis[0, 0, rows, columns]
            expected[rows, columns] += a.amax() + (a + b) * 2
            count[rows, columns] += 1
    torch.testing.assert_close(net(ir, vis)[0, 0], expected / count)


def test_parts_of_a_narrow_image():
    """A side whose halves would be too small is not cut: the two parts differ in width only."""
    net, (ir, vis) = network(), gray_images((26, 514))
    with torch.inference_mode():
        output = net(ir, vis)
        left = net.fuse_whole(ir[..., :260], vis[..., :260])
        right = net.fuse_whole(ir[..., 255:], vis[..., 255:])
    expected = torch.cat(
        [left[..., :255], (left[..., 255:] + right[..., :5]) / 2, right[..., 5:]], dim=-1
    )
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("pooling", METHOD.configurations)
def test_constant_images(pooling):
    black, white = torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), 255.0)
    net = METHOD.configurations[pooling].build()
    assert net.pooling == pooling
    assert net(black, white).isfinite().all() and net(black, black).isfinite().all()
