"""CUFD: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.cufd import CUFD, METHOD
from fusionlib.pipelines import prepare_minmax
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, levels_off
from tests.fusionlib.networks.given import assert_order_matters, images
from tests.fusionlib.networks.references import double, give_statistics, normalise_batch

(RELEASED,) = METHOD.configurations.values()


def network():
    torch.manual_seed(0)
    return give_statistics(CUFD(), *images((24, 24)))


def test_parameters():
    """957,569 stored values: 955,297 trained ones, and means and variances of 1136 channels."""
    net = CUFD()
    stored = sum(t.numel() for name, t in net.state_dict().items() if "num_batches" not in name)
    assert sum(p.numel() for p in net.parameters()) == 955_297
    assert stored == 957_569
    assert RELEASED.weights[0].parameters == 955_297


def test_forward_by_numpy(convolve):
    """float32 against float64: some thirty layers of 2**-24 each, so 1e-5 of the range.

    Each unit's two convolutions are computed one after the other here, the network merges them.
    """
    net = network()

    def conv(x, module):
        return convolve(x, module, "reflect")

    def normalise(x, norm):
        return np.maximum(normalise_batch(x, norm, 1e-3), 0)

    def layer(x, module):
        return normalise(conv(x, module.conv), module.norm)

    def unit(x, module):
        return normalise(conv(conv(x, module.expand), module.reduce), module.norm)

    def dense(x, block):
        first, second, third = block.units
        a = unit(x, first)
        b = np.concatenate([unit(a, second), a])
        return np.concatenate([unit(b, third), b])

    def features(x, part):
        x = layer(dense(layer(x, part.first), part.dense1), part.transfer)
        return np.tanh(conv(dense(x, part.dense2), part.last)) / 2 + 0.5

    def larger(a, b):
        return np.where(np.abs(a) > np.abs(b), a, b)

    def encode(image):
        x = [layer(double(image[0]), net.encoder[0])]
        for first, second in net.encoder[1:]:
            x.append(layer(layer(x[-1], first), second))
        return x

    ir, vis = images()
    levels = []
    for v, i in zip(encode(vis), encode(ir), strict=True):
        parts = features(np.concatenate([v, i]), net.decompose)
        c1, c2, u1, u2 = parts[:32], parts[32:64], parts[64:96], parts[96:]
        w = np.abs(c1) / (np.abs(c1) + np.abs(c2) + 1e-9)
        pair = np.concatenate([w * c1 + (1 - w) * c2, larger(u1, u2)])
        levels.append(features(pair, net.compose) + larger(v, i))
    y = np.concatenate(levels)
    for module in net.decoder:
        y = layer(y, module)
    expected = np.tanh(conv(y, net.last)) / 2 + 0.5
    with torch.inference_mode():
        output = net(ir, vis)[0].numpy()
    assert np.ptp(expected) > 0.05
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


def test_radius_is_exact(linearise):
    """By gradients, which do not round away: a corner's share is some 1e-44 of the middle's."""
    net = linearise(CUFD().eval()).requires_grad_(False).float()
    pictures = [x.requires_grad_() for x in images((53, 54))]
    # So large that no share of it is below the smallest number of float32.
    net(*pictures)[0, 0, 26, 27].backward(torch.tensor(1e30))
    expected = torch.zeros(53, 54, dtype=torch.bool)
    r = net.radius
    expected[26 - r : 27 + r, 27 - r : 28 + r] = True
    assert r == 25
    for picture in pictures:
        assert torch.equal(picture.grad[0, 0] != 0, expected)


def test_images_are_not_exchangeable():
    assert_order_matters(network(), *images())


def test_without_common_features():
    """Where tanh saturates, both common features are 0: their weight must not be 0 / 0."""
    net = network()
    net.decompose.last.bias.data[:] = -1e3
    with torch.inference_mode():
        assert net(*images()).isfinite().all()


def test_tensorflow_names_fill_the_network():
    """Every authors' tensor (H, W, in, out) finds its place, with its values; ours stay."""
    scopes = {
        "encoder.0": ("m_encoder/conv1_1", "m_encoder/b0"),
        "encoder.1.0": ("m_encoder/conv2_1", "m_encoder/b1"),
        "encoder.1.1": ("m_encoder/conv2_2", "m_encoder/b2"),
        "encoder.2.0": ("m_encoder/conv3_1", "m_encoder/b3"),
        "encoder.2.1": ("m_encoder/conv3_2", "m_encoder/b4"),
        "encoder.3.0": ("m_encoder/conv4_1", "m_encoder/b5"),
        "encoder.3.1": ("m_encoder/conv4_2", "m_encoder/b6"),
        "decoder.0": ("m_decoder/conv2_1", "m_decoder/b0"),
        "decoder.1": ("m_decoder/conv2_2", "m_decoder/b1"),
        "decoder.2": ("m_decoder/conv2_3", "m_decoder/b2"),
    }
    theirs_of = {"last": "m_decoder/conv2_4"}
    for ours, theirs in {"decompose": "s_encoder", "compose": "s_decoder"}.items():
        scopes[f"{ours}.first"] = (f"{theirs}/conv1_1", f"{theirs}/b0")
        scopes[f"{ours}.transfer"] = (f"{theirs}/transfer_layer1", f"{theirs}/b7")
        theirs_of[f"{ours}.last"] = f"{theirs}/output_layer"
        for unit, (scope, norm) in {
            "dense1.units.0": ("dense_block1_conv1", "b2"),
            "dense1.units.1": ("dense_block1_conv2", "b4"),
            "dense1.units.2": ("dense_block1_conv3", "b6"),
            "dense2.units.0": ("dense_block2_conv1", "b9"),
            "dense2.units.1": ("dense_block2_conv2", "b11"),
            "dense2.units.2": ("dense_block2_conv3", "b13"),
        }.items():
            theirs_of[f"{ours}.{unit}.expand"] = f"{theirs}/{scope}_1"
            theirs_of[f"{ours}.{unit}.reduce"] = f"{theirs}/{scope}_2"
            theirs_of[f"{ours}.{unit}.norm"] = f"DenseFuseNet/{theirs}/{norm}/batch_normalization"
    for ours, (layer, norm) in scopes.items():
        theirs_of[f"{ours}.conv"] = layer
        theirs_of[f"{ours}.norm"] = f"DenseFuseNet/{norm}/batch_normalization"
    parts = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }

    state, theirs = network().state_dict(), {}
    assert_adapted(RELEASED.adapt, state, state)
    for name, values in state.items():
        module, part = name.rsplit(".", 1)
        if part == "num_batches_tracked":
            values.zero_()  # TensorFlow does not count
        elif values.ndim == 4:
            kernel = torch.from_numpy(values.numpy().transpose(2, 3, 1, 0))
            theirs[f"{theirs_of[module]}/kernel"] = kernel
        else:
            part = parts[part] if module.endswith("norm") else part
            theirs[f"{theirs_of[module]}/{part}"] = values
    assert len(theirs) == 186
    assert_adapted(RELEASED.adapt, theirs, state)


@pytest.mark.realdata
def test_authors_output(golden, trained):
    """Measured: 3.3e-6 of the range, 2.4e-4 of the pixels one level off."""
    reference = golden("cufd")
    raw = fuse(
        trained(RELEASED), *(prepare_minmax(reference[key][0, ..., 0]) for key in ("ir", "vis"))
    )
    assert error(raw, reference["fused"]) <= 1e-4
    largest, share = levels_off(raw, reference["fused_u8"], RELEASED)
    assert largest <= 1 and share <= 1e-3
