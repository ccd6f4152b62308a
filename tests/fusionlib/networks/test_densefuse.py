"""DenseFuse: both releases re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.errors import UnknownName
from fusionlib.methods import create
from fusionlib.networks.densefuse import METHOD, DenseFuse
from tests.fusionlib.networks.authors import assert_adapted, error, in_tensorflow
from tests.fusionlib.networks.given import gray_images

RELEASES = ["tensorflow", "pytorch"]


def network(release, rule="average", seed=0):
    torch.manual_seed(seed)
    return DenseFuse(release, rule)


@pytest.mark.parametrize("release", RELEASES)
def test_forward_by_numpy(release, convolve):
    """float32 against float64: eight layers of 2**-24 each, so 1e-5 of the range."""
    net, pictures = network(release), gray_images()

    def relu(layer, x):
        return np.maximum(convolve(x, layer, "reflect"), 0)

    features = []
    for picture in pictures:
        x = relu(net.first, picture[0].double().numpy())
        for layer in net.dense.layers:
            new = relu(layer, x)
            x = np.concatenate([new, x] if release == "tensorflow" else [x, new])
        features.append(x)
    y = (features[0] + features[1]) / 2
    for layer in net.decoder:
        y = relu(layer, y)
    expected = relu(net.last, y) if release == "pytorch" else convolve(y, net.last, "reflect")
    with torch.inference_mode():
        output = net(*pictures)[0].numpy()
    span = np.ptp(convolve(y, net.last, "reflect"))  # the ReLU may leave nothing
    assert np.abs(output - expected).max() <= 1e-5 * span


@pytest.mark.parametrize("release", RELEASES)
def test_only_the_pytorch_release_ends_in_relu(release):
    net = network(release)
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(-3)
        (value,) = net(*gray_images()).unique().tolist()
    assert value == (-3 if release == "tensorflow" else 0)


def test_unknown_release():
    with pytest.raises(UnknownName, match=r"release of DenseFuse 'torch'.*'pytorch'"):
        DenseFuse("torch")


def test_tensorflow_names_fill_the_network():
    """Every authors' tensor (H, W, in, out) finds its place, with its values."""
    scopes = {
        "first": "encoder/conv1_1",
        "last": "decoder/conv2_4",
        **{f"dense.layers.{i}": f"encoder/dense_block_conv{i + 1}" for i in range(3)},
        **{f"decoder.{i}": f"decoder/conv2_{i + 1}" for i in range(3)},
    }
    state = network("tensorflow").state_dict()
    adapt = METHOD.configurations["tensorflow"].adapt
    assert_adapted(adapt, in_tensorflow(state, scopes), state)


def test_pytorch_names_fill_the_network():
    layers = {"conv1": "first", "conv2": "decoder.0", "conv3": "decoder.1", "conv4": "decoder.2"}
    layers |= {"conv5": "last"}
    layers |= {f"DB1.denseblock.{i}.dense_conv": f"dense.layers.{i}" for i in range(3)}
    state = network("pytorch").state_dict()
    theirs = {
        f"{layer}.conv2d.{part}": state[f"{ours}.{part}"]
        for layer, ours in layers.items()
        for part in ("weight", "bias")
    }
    assert_adapted(METHOD.configurations["pytorch"].adapt, theirs, state)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "file, pipeline, rules",
    [
        ("densefuse", "pytorch", {"fused": "average"}),
        ("densefuse_tf_1e2", "tensorflow", {"fused": "l1_norm", "fused_add": "addition"}),
    ],
)
def test_authors_output(golden, weights_root, file, pipeline, rules):
    reference = golden(file)
    ir, vis = (reference[key].squeeze() / np.float32(255) for key in ("ir", "vis"))
    for key, rule in rules.items():
        method = create("densefuse", pipeline=pipeline, rule=rule)
        assert error(method.raw(ir, vis), reference[key]) <= 1e-4
        if key == "fused":
            ours = np.rint(method.fuse(ir, vis) * 255).astype(int)
            difference = np.abs(ours - reference["fused_u8"])
            assert difference.max() <= 1 and np.mean(difference > 0) <= 1e-3
    if "recon_ir" in reference:
        assert error(method.raw_reconstruction(ir), reference["recon_ir"]) <= 1e-4
