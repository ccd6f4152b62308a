"""U2Fusion: re-computed with numpy and scipy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.errors import UnknownName
from fusionlib.networks.u2fusion import METHOD, U2Fusion
from fusionlib.pipelines import POSTS
from fusionlib.weights import load_state, read_weights

CONFIGURATIONS = METHOD.configurations
RELEASED = CONFIGURATIONS["released"]
FIRST = ["ir", "vis"]


def network(first="ir", seed=0):
    torch.manual_seed(seed)
    return U2Fusion(first)


def images(size=(9, 11), batch=1):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 1, *size, generator=generator) for _ in range(2)]


def test_parameters():
    assert sum(p.numel() for p in network().parameters()) == 659_217
    assert {c.weights[0].parameters for c in CONFIGURATIONS.values()} == {659_217}


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
    ir, vis = images()
    with torch.inference_mode():
        one_way, other_way = network("ir")(ir, vis), network("vis")(ir, vis)
        assert torch.equal(one_way, network("vis")(vis, ir))
    assert (one_way - other_way).abs().max() > 0.1 * (one_way.max() - one_way.min())
    built = {name: c.build().first for name, c in CONFIGURATIONS.items()}
    assert built == {"tang": "ir", "released": "vis"}


def test_unknown_first():
    with pytest.raises(UnknownName, match=r"first image of U2Fusion 'visible'.*'vis'"):
        U2Fusion("visible")


@pytest.mark.parametrize("first", FIRST)
def test_radius_is_exact(first, linearise, reach):
    net = linearise(network(first))
    changed = reach(net, [x.double() for x in images((25, 27))])
    expected = torch.zeros_like(changed)
    r = net.radius
    expected[12 - r : 13 + r, 13 - r : 14 + r] = True
    assert r == 10 and torch.equal(changed, expected)


def test_smallest_side():
    """The stated minimum works, one pixel less does not."""
    net, side = network(), U2Fusion.min_side
    assert net(*images((side, side), batch=2)).shape == (2, 1, side, side)
    with pytest.raises(RuntimeError, match="Padding size"):
        net(*images((side - 1, side)))


def test_tensorflow_names_fill_the_network():
    """Every authors' tensor (H, W, in, out) finds its place, with its values."""
    scopes = {
        "encoder.0": "Generator/encoder/conv1_1",
        **{f"encoder.{i}": f"Generator/encoder/dense_block_conv{i}" for i in range(1, 6)},
        **{f"decoder.{i}": f"Generator_1/decoder/conv2_{i + 1}" for i in range(3)},
        "last": "Generator_1/decoder/conv2_4",
    }
    state = network().state_dict()
    theirs = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        if part == "weight":
            theirs[f"{scopes[layer]}/kernel"] = torch.from_numpy(
                tensor.numpy().transpose(2, 3, 1, 0)
            )
        else:
            theirs[f"{scopes[layer]}/bias"] = tensor
    adapted = RELEASED.adapt(theirs)
    assert adapted.keys() == state.keys()
    assert all(torch.equal(adapted[name], tensor) for name, tensor in state.items())


def test_our_names_are_kept():
    state = network().state_dict()
    assert RELEASED.adapt(state) == state


@pytest.mark.realdata
def test_authors_output(golden_root, weights_root):
    """The raw output differs by 4e-7 of its range, no gray level differs."""
    golden = np.load(golden_root / "networks" / "u2fusion.npz")
    net = RELEASED.build()
    path = weights_root / "u2fusion.safetensors"
    load_state(net, RELEASED.adapt(read_weights(path)), path)
    sources = [torch.from_numpy(golden[key].squeeze()[None, None]) for key in ("ir", "vis")]
    with torch.inference_mode():
        raw = net(*sources)[0, 0].double().numpy()
    expected = golden["fused"].squeeze()
    assert np.abs(raw - expected).max() <= 1e-4 * np.ptp(expected)
    levels = POSTS[RELEASED.post].apply(raw, RELEASED.levels)
    difference = np.abs(np.rint(levels) - golden["fused_u8"])
    assert RELEASED.quantise == "round" and RELEASED.levels == (0, 1)
    assert difference.max() <= 1 and np.mean(difference > 0) <= 1e-3
