"""SDNet: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.errors import UnknownName
from fusionlib.networks.sdnet import METHOD, SDNet
from fusionlib.pipelines import prepare_luminance
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, levels_off
from tests.fusionlib.networks.given import assert_other_first_is_swapped, signed_images

CONFIGURATIONS = METHOD.configurations
RELEASED = CONFIGURATIONS["released"]
FIRST = ["ir", "vis"]


def network(first="ir", seed=0):
    torch.manual_seed(seed)
    return SDNet(first)


def test_parameters():
    """As the files; 28,705 of them fuse."""
    net = network()
    assert sum(p.numel() for p in net.parameters()) == 67_091
    apart = [*net.expand.parameters(), *net.outputs.parameters()]
    assert sum(p.numel() for p in apart) == 67_091 - 28_705
    assert {c.weights[0].parameters for c in CONFIGURATIONS.values()} == {67_091}


@pytest.mark.parametrize("first", FIRST)
def test_forward_by_numpy(first, convolve):
    """float32 against float64: five layers of 2**-24 each, so 1e-5 of the range."""
    net, (ir, vis) = network(first), signed_images()

    def leaky(layer, x):
        y = convolve(x, layer, "constant")
        return np.where(y > 0, y, 0.2 * y)

    maps = []
    for branch, image in zip(net.branches, (ir, vis) if first == "ir" else (vis, ir), strict=True):
        one = leaky(branch.layers[0], image[0].double().numpy())
        two = leaky(branch.layers[1], one)
        three = leaky(branch.layers[2], np.concatenate([one, two]))
        four = leaky(branch.layers[3], np.concatenate([one, two, three]))
        maps.append([one, two, three, four])
    (a1, a2, a3, a4), (b1, b2, b3, b4) = maps
    features = np.concatenate([a1, b1, a2, b2, a3, b3, a4, b4])
    expected = np.tanh(convolve(features, net.squeeze, "constant"))
    with torch.inference_mode():
        output = net(ir, vis)[0].numpy()
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize("first", FIRST)
def test_decomposition_by_numpy(first, convolve):
    """float32 against float64: four layers of 2**-24 each, so 1e-5 of the range."""
    net, (fused, _) = network(first), signed_images()

    def leaky(layer, x):
        y = convolve(x, layer, "constant")
        return np.where(y > 0, y, 0.2 * y)

    features = leaky(net.expand, fused[0].double().numpy())
    expected = [
        np.tanh(convolve(leaky(output[2], leaky(output[0], features)), output[4], "constant"))
        for output in net.outputs
    ]
    with torch.inference_mode():
        ir, vis = (image[0].numpy() for image in net.decompose(fused))
    for ours, theirs in zip((ir, vis) if first == "ir" else (vis, ir), expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5 * np.ptp(theirs)


def test_the_other_image_first_is_the_images_swapped():
    assert_other_first_is_swapped(network, *signed_images())
    built = {name: c.build().first for name, c in CONFIGURATIONS.items()}
    assert built == {"tang": "ir", "released": "ir", "medical": "vis"}


def test_unknown_first():
    with pytest.raises(UnknownName, match=r"first image of SDNet 'vi'.*'vis'"):
        SDNet("vi")


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 5)])
def test_any_size(size):
    with torch.inference_mode():
        output = network()(*signed_images(size, batch=2))
    assert output.shape == (2, 1, *size) and torch.isfinite(output).all()
    assert SDNet.min_side == 1


def authors_tensors(state):
    """Our state dict under the authors' names and in their order (H, W, in, out)."""
    layers = {"squeeze": "5_fuse", "expand": "6_sept"}
    for branch, source in enumerate(("ir", "vi")):
        layers |= {f"branches.{branch}.layers.{i}": f"{i + 1}_{source}" for i in range(4)}
        layers |= {f"outputs.{branch}.{2 * i}": f"{i + 7}_{source}" for i in range(3)}
    theirs = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        i = layers[layer]
        if part == "weight":
            kernel = torch.from_numpy(tensor.numpy().transpose(2, 3, 1, 0))
            theirs[f"fusion_model/layer{i}/w{i}"] = kernel
        else:
            theirs[f"fusion_model/layer{i}/b{i}"] = tensor
    return theirs


def test_authors_names_fill_the_network():
    """Every authors' tensor finds its place, with its values."""
    state = network().state_dict()
    assert_adapted(RELEASED.adapt, authors_tensors(state), state)


@pytest.mark.realdata
def test_authors_output(golden, trained):
    """From gray levels to gray levels, as the card says.

    The raw output differs by 2e-7 of its range, no gray level differs.
    """
    reference, sources = golden("sdnet_irvis"), []
    for key in ("ir", "vis"):
        entered = reference[key].squeeze()
        gray = np.rint(entered * 127.5 + 127.5).astype(np.float32)
        image = RELEASED.levels.scale(gray / np.float32(255))
        # Two roundings of float32, to 6e-8 each, doubled by the scaling.
        assert np.abs(image - entered).max() <= 5e-7
        sources.append(image)
    raw = fuse(trained(RELEASED), *sources)
    assert error(raw, reference["fused"]) <= 1e-4
    assert RELEASED.quantise == "round" and RELEASED.prepare is prepare_luminance
    largest, share = levels_off(raw, reference["fused_u8"], RELEASED)
    assert largest <= 1 and share <= 1e-3


@pytest.mark.realdata
def test_authors_medical_weights_fit(trained):
    with torch.inference_mode():
        assert torch.isfinite(trained(CONFIGURATIONS["medical"])(*signed_images())).all()
