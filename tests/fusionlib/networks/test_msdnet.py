"""MSDNet: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.methods import create
from fusionlib.networks.msdnet import METHOD, MSDNet
from tests.fusionlib.networks.authors import assert_adapted, error, in_tensorflow
from tests.fusionlib.networks.given import gray_images

(RELEASED,) = METHOD.configurations.values()


def network(rule="l1_norm", seed=0):
    torch.manual_seed(seed)
    return MSDNet(rule)


def test_forward_by_numpy(convolve):
    """float32 against float64: nine layers of 2**-24 each, so 1e-5 of the range.

    The l1_norm rule weighs each of the three scales by itself.
    """
    net, pictures = network(), gray_images()

    def relu(layer, x):
        return np.maximum(convolve(x, layer, "reflect"), 0)

    scales = []
    for picture in pictures:
        x = relu(net.first, picture[0].double().numpy())
        for layer in net.dense.layers:
            x = np.concatenate([relu(layer, x), x])
        scales.append([relu(layer, x) for layer in net.scales])
    fused = []
    for a, b in zip(*scales, strict=True):
        share = a.sum(axis=0) / (a.sum(axis=0) + b.sum(axis=0))
        fused.append(share * a + (1 - share) * b)
    y = np.concatenate(fused)
    for layer in net.decoder:
        y = relu(layer, y)
    expected = convolve(y, net.last, "reflect")
    with torch.inference_mode():
        output = net(*pictures)[0].numpy()
    assert [layer.kernel_size for layer in net.scales] == [(1, 1), (3, 3), (5, 5)]
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


def test_tensorflow_names_fill_the_network():
    """Every authors' tensor (H, W, in, out) finds its place, with its values."""
    scopes = {
        "first": "encoder/conv1",
        "last": "decoder/conv9",
        **{f"dense.layers.{i}": f"encoder/dense_block_conv{i + 2}" for i in range(3)},
        **{f"scales.{i}": f"encoder/conv5_{i + 1}" for i in range(3)},
        **{f"decoder.{i}": f"decoder/conv{i + 6}" for i in range(3)},
    }
    state = network().state_dict()
    assert_adapted(RELEASED.adapt, in_tensorflow(state, scopes), state)


@pytest.mark.realdata
def test_authors_output(golden, weights_root):
    reference = golden("msdnet")
    ir, vis = (reference[key].squeeze() / np.float32(255) for key in ("ir", "vis"))
    for key, rule in {"fused": "l1_norm", "fused_add": "addition"}.items():
        assert error(create("msdnet", rule=rule).raw(ir, vis), reference[key]) <= 1e-4
    method = create("msdnet")
    assert error(method.raw_reconstruction(ir), reference["recon_ir"]) <= 1e-4
    difference = np.abs(np.rint(method.fuse(ir, vis) * 255).astype(int) - reference["fused_u8"])
    assert difference.max() <= 1 and np.mean(difference > 0) <= 1e-3
