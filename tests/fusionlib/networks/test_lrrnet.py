"""LRRNet: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.lrrnet import METHOD, LRRNet, soft_threshold
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, levels_off
from tests.fusionlib.networks.given import images

(RELEASED,) = METHOD.configurations.values()


def network(seed=0):
    """Fresh weights, but thresholds of both signs that are small enough for codes to live."""
    torch.manual_seed(seed)
    net = LRRNet()
    for branch in (net.ir, net.vis):
        torch.nn.init.uniform_(branch.threshold, -0.05, 0.05)
    return net


def test_soft_threshold():
    """Towards zero and not beyond; a negative threshold moves away from zero, but not zero."""
    x = torch.tensor([-3.0, -1, 0, 0.5, 2]).expand(1, 2, 1, 5)
    result = soft_threshold(x, torch.tensor([[1.0, -0.25]]))
    assert result[0, :, 0].tolist() == [[-2, 0, 0, 0, 1], [-3.25, -1.25, 0, 0.75, 2.25]]


def test_soft_threshold_has_gradients():
    """It works partly in place, which must not harm training."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    threshold = torch.tensor([[0.5, 0.1, -0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_threshold, (x, threshold))


def by_numpy(net, ir, vis, convolve):
    """The forward pass of one pair (1, H, W) in float64."""

    def soft(x, branch):
        threshold = branch.threshold.detach().double().numpy().reshape(256, 1, 1)
        return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)

    low_rank, sparse = [], []
    for branch, image in ((net.ir, ir), (net.vis, vis)):
        z = soft(convolve(image, branch.first, "reflect"), branch)
        for synthesis, analysis in zip(branch.synthesis, branch.analysis, strict=True):
            rest = image - convolve(z, synthesis, "reflect")
            z = soft(branch.inertia.item() * z + convolve(rest, analysis, "reflect"), branch)
        low_rank.append(convolve(z[:128], branch.low_rank, "reflect"))
        sparse.append(convolve(z[128:], branch.sparse, "reflect"))
    fused = convolve(np.concatenate(low_rank), net.low_rank, "reflect")
    return fused + convolve(np.concatenate(sparse), net.sparse, "reflect")


def test_forward_by_numpy(convolve):
    """float32 against float64: eleven layers of 2**-24 each, so 1e-5 of the range."""
    net, (ir, vis) = network(), images(batch=2)
    with torch.inference_mode():
        output = net(ir, vis).numpy()
    for i in range(2):
        expected = by_numpy(net, ir[i].double().numpy(), vis[i].double().numpy(), convolve)
        assert np.abs(output[i] - expected).max() <= 1e-5 * np.ptp(expected)


def test_authors_names_fill_the_network():
    """Every authors' tensor finds its place, with its values."""
    layers = {"low_rank": "decoder.conv_ReL", "sparse": "decoder.conv_ReH"}
    names = {}
    for ours, theirs, letter in (("ir", "get_ls1", "x"), ("vis", "get_ls2", "y")):
        names |= {f"{ours}.inertia": f"{theirs}.lamz", f"{ours}.threshold": f"{theirs}.lamj"}
        layers |= {
            f"{ours}.first": f"{theirs}.conv_W00",
            f"{ours}.low_rank": f"decoder.conv_ReZ{letter}",
            f"{ours}.sparse": f"decoder.conv_ReU{letter}",
            **{f"{ours}.synthesis.{i}": f"{theirs}.lrrblock{i}.conv_Wdz" for i in range(4)},
            **{f"{ours}.analysis.{i}": f"{theirs}.lrrblock{i}.conv_Wdtz" for i in range(4)},
        }
    for ours, theirs in layers.items():
        names |= {f"{ours}.{part}": f"{theirs}.conv2d.{part}" for part in ("weight", "bias")}
    state = network().state_dict()
    theirs = {names[name]: tensor for name, tensor in state.items()}
    assert_adapted(RELEASED.adapt, theirs, state)


@pytest.mark.realdata
def test_authors_output(golden, trained):
    """From gray levels to gray levels, as the card says.

    The raw output differs by 7e-7 of its range, no gray level differs.
    """
    reference, sources = golden("lrrnet"), []
    for key in ("ir", "vis"):
        image = RELEASED.prepare(reference[f"{key}_u8"] / np.float32(255))
        # The authors add 1e-5 to the range, here 98 and 170 gray levels: 1e-7, as float32.
        assert np.abs(image - reference[key].squeeze()).max() <= 1e-6
        sources.append(image)
    raw = fuse(trained(RELEASED), *sources)
    assert error(raw, reference["fused"]) <= 1e-4
    assert RELEASED.quantise == "truncate"
    largest, share = levels_off(raw, reference["fused_u8"], RELEASED)
    assert largest <= 1 and share <= 1e-3
