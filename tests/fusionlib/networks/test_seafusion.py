"""SeAFusion: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.images import luminance, merge_luminance
from fusionlib.networks.seafusion import METHOD, SeAFusion
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, levels_off
from tests.fusionlib.networks.given import images
from tests.fusionlib.networks.references import correlate, double

(RELEASED,) = METHOD.configurations.values()
NORMALISATION = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def network(seed=0):
    torch.manual_seed(seed)
    return SeAFusion()


def normalisation():
    """The tensors that the authors' file holds and their code never uses."""
    channels = {1: 1, 2: 16, 3: 32, 4: 64}
    return {
        f"decode{i}.bn.{part}": torch.zeros(1 if part == "num_batches_tracked" else count)
        for i, count in channels.items()
        for part in NORMALISATION
    }


def test_parameters():
    """The stated 166,883 are those of the network and of the unused normalisation."""
    count = sum(p.numel() for p in network().parameters())
    trained = (x for name, x in normalisation().items() if name.endswith(("weight", "bias")))
    assert count == 166_657
    assert count + sum(x.numel() for x in trained) == 166_883
    assert RELEASED.weights[0].parameters == 166_883


def test_forward_by_numpy(convolve):
    """float32 against float64: 13 layers of 2**-24 each, so 1e-5 of the range."""
    net, (ir, vis) = network(), images()
    torch.nn.init.normal_(net.ir.blocks[0].gradient_x.weight)  # no longer Sobel's

    def leaky(y, slope=0.2):
        return np.where(y > 0, y, slope * y)

    features = []
    for branch, image in ((net.vis, vis), (net.ir, ir)):
        x = leaky(convolve(image[0].double().numpy(), branch.first, "constant"))
        for block in branch.blocks:
            one = np.concatenate([x, leaky(convolve(x, block.dense[0], "constant"))])
            two = np.concatenate([one, leaky(convolve(one, block.dense[1], "constant"))])
            gradient = np.abs(correlate(x, double(block.gradient_x.weight)))
            gradient += np.abs(correlate(x, double(block.gradient_y.weight)))
            joined = convolve(two, block.join_dense, "constant")
            x = leaky(joined + convolve(gradient, block.join_gradient, "constant"), 0.1)
        features.append(x)
    y = np.concatenate(features)
    for layer in net.decoder:
        y = leaky(convolve(y, layer, "constant"))
    expected = np.tanh(convolve(y, net.last, "constant")) / 2 + 0.5
    with torch.inference_mode():
        output = net(ir, vis)[0].numpy()
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


def test_gradients_start_as_sobels():
    """On a ramp of 3 a column and 5 a row: eight times the slope, where no border is near."""
    block = network().ir.blocks[0]
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    ramp = (5 * rows + 3 * columns).expand(1, 16, 5, 6)
    with torch.inference_mode():
        for layer, slope in ((block.gradient_x, 3), (block.gradient_y, 5)):
            inner = layer(ramp).abs()[..., 1:-1, 1:-1]
            assert torch.equal(inner, torch.full_like(inner, 8 * slope))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 5)])
def test_any_size(size):
    with torch.inference_mode():
        output = network()(*images(size, batch=2))
    assert output.shape == (2, 1, *size) and torch.isfinite(output).all()
    assert SeAFusion.min_side == 1


def test_authors_names_fill_the_network():
    """Every authors' tensor finds its place, with its values; normalisation has none."""
    layers = {"last": "decode1.conv"}
    layers |= {f"decoder.{i}": f"decode{4 - i}.conv" for i in range(3)}
    for ours, theirs in (("ir", "inf"), ("vis", "vis")):
        layers[f"{ours}.first"] = f"{theirs}_conv.conv"
        for i in range(2):
            block, name = f"{ours}.blocks.{i}", f"{theirs}_rgbd{i + 1}"
            layers |= {
                f"{block}.dense.0": f"{name}.dense.conv1.conv",
                f"{block}.dense.1": f"{name}.dense.conv2.conv",
                f"{block}.join_dense": f"{name}.convdown.conv",
                f"{block}.gradient_x": f"{name}.sobelconv.convx",
                f"{block}.gradient_y": f"{name}.sobelconv.convy",
                f"{block}.join_gradient": f"{name}.convup.conv",
            }
    state = network().state_dict()
    theirs = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        theirs[f"{layers[layer]}.{part}"] = tensor
    assert_adapted(RELEASED.adapt, theirs | normalisation(), state)


@pytest.mark.realdata
def test_authors_output(golden, trained):
    """From RGB to RGB, as the card says.

    The raw output differs by 5e-7 of its range, 3e-5 of the gray levels by one.
    """
    reference = golden("seafusion")
    colour = reference["vis_rgb"][0].transpose(1, 2, 0)
    vis = luminance(colour)
    # Three products and two sums in float32.
    assert np.abs(vis - reference["vis"].squeeze()).max() <= 5 * 2.0**-24
    raw = fuse(trained(RELEASED), reference["ir"], vis)
    assert error(raw, reference["fused"]) <= 1e-4
    assert RELEASED.chroma == "before" and RELEASED.levels == (0, 1)
    assert RELEASED.quantise == "truncate"
    fused = merge_luminance(raw, colour.astype(np.float64))
    largest, share = levels_off(fused, reference["fused_u8"], RELEASED)
    assert largest <= 1 and share <= 1e-3
