"""U2Fusion: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.errors import UnknownName
from fusionlib.networks.u2fusion import METHOD, U2Fusion
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, in_tensorflow, levels_off
from tests.fusionlib.networks.given import assert_other_first_is_swapped, images

CONFIGURATIONS = METHOD.configurations
RELEASED = CONFIGURATIONS["released"]
FIRST = ["ir", "vis"]


def network(first="ir", seed=0):
    torch.manual_seed(seed)
    return U2Fusion(first)


@pytest.mark.parametrize("first", FIRST)
def test_forward_by_numpy(first, convolve):
    """float32 against float64: ten layers of 2**-24 each, so 1e-5 of the range."""
    net, (ir, vis) = network(first), images((5, 6))

    def leaky(layer, x):
        y = convolve(x, layer, "reflect")
        return np.where(y > 0, y, 0.2 * y)

    pair = (ir, vis) if first == "ir" else (vis, ir)
    x = leaky(net.encoder[0], torch.cat(pair, dim=1)[0].double().numpy())
    for i in range(1, 6):
        x = np.concatenate([leaky(net.encoder[i], x), x])
    assert x.shape[0] == 264
    for layer in net.decoder:
        x = leaky(layer, x)
    expected = np.tanh(convolve(x, net.last, "reflect")) / 2 + 0.5
    with torch.inference_mode():
        output = net(ir, vis)[0].numpy()
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


def test_the_other_image_first_is_the_images_swapped():
    assert_other_first_is_swapped(network, *images())
    built = {name: c.build().first for name, c in CONFIGURATIONS.items()}
    assert built == {"tang": "ir", "released": "vis"}


def test_unknown_first():
    with pytest.raises(UnknownName, match=r"first image of U2Fusion 'visible'.*'vis'"):
        U2Fusion("visible")


def test_tensorflow_names_fill_the_network():
    """Every authors' tensor (H, W, in, out) finds its place, with its values."""
    scopes = {
        "encoder.0": "Generator/encoder/conv1_1",
        **{f"encoder.{i}": f"Generator/encoder/dense_block_conv{i}" for i in range(1, 6)},
        **{f"decoder.{i}": f"Generator_1/decoder/conv2_{i + 1}" for i in range(3)},
        "last": "Generator_1/decoder/conv2_4",
    }
    state = network().state_dict()
    assert_adapted(RELEASED.adapt, in_tensorflow(state, scopes), state)


@pytest.mark.realdata
def test_authors_output(golden, trained):
    """The raw output differs by 4e-7 of its range, no gray level differs."""
    reference = golden("u2fusion")
    raw = fuse(trained(RELEASED), reference["ir"], reference["vis"])
    assert error(raw, reference["fused"]) <= 1e-4
    assert RELEASED.quantise == "round" and RELEASED.levels == (0, 1)
    largest, share = levels_off(raw, reference["fused_u8"], RELEASED)
    assert largest <= 1 and share <= 1e-3
