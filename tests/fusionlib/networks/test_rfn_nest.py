"""RFN-Nest: fusion blocks re-computed with numpy, and the authors' code.

test_nestfuse.py holds the auto-encoder and the four parts, which RFN-Nest shares.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.rfn_nest import METHOD, ResidualFusion
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, loaded
from tests.fusionlib.networks.given import gray_images
from tests.recipe import recipe_state

(RELEASED,) = METHOD.configurations.values()


@pytest.fixture(scope="module")
def recipe():
    """The network under the weights of the reference output."""
    return loaded(RELEASED, recipe_state("rfn_nest"))


def test_parameters(recipe):
    assert sum(p.numel() for p in recipe.parameters()) == 7_524_249
    assert sum(p.numel() for p in recipe.fusion.parameters()) == 4_791_488
    assert RELEASED.weights[0].parameters == 7_524_249


def test_fusion_block_by_numpy(convolve):
    """float32 against float64: five layers of 2**-24 each, so 2e-6 of the range."""
    torch.manual_seed(0)
    block = ResidualFusion(4)
    ir, vis = np.random.default_rng(0).random((2, 4, 5, 6))

    def relu(layer, *maps):
        return np.maximum(convolve(np.concatenate(maps), layer, "reflect"), 0)

    x = relu(block.bottleneck[0], relu(block.ir, ir), relu(block.vis, vis))
    for layer in (block.bottleneck[1], block.bottleneck[2]):
        x = relu(layer, x)
    expected = relu(block.direct, ir, vis) + x
    with torch.inference_mode():
        output = block(*(torch.from_numpy(x).float()[None] for x in (ir, vis)))[0].numpy()
    assert [layer.kernel_size for layer in block.bottleneck] == [(1, 1), (3, 3), (3, 3)]
    assert np.ptp(x) > 0
    assert np.abs(output - expected).max() <= 2e-6 * np.ptp(expected)


def test_forward_is_encode_fuse_decode(recipe):
    """Each scale goes through its own block, infrared first, at sizes that are odd."""
    ir, vis = gray_images((17, 23))
    with torch.inference_mode():
        pairs = zip(recipe.autoencoder.encode(ir), recipe.autoencoder.encode(vis), strict=True)
        fused = [block(*pair) for block, pair in zip(recipe.fusion, pairs, strict=True)]
        output = recipe(ir, vis)
        assert output.shape == (1, 1, 17, 23) and torch.equal(
            output, recipe.autoencoder.decode(fused)
        )
        assert not torch.allclose(output, recipe(vis, ir))


def test_large_images_go_in_parts(recipe):
    """Far from the cut a part's output is the image's: here, the left and right ends."""
    ir, vis = gray_images((16, 514))
    with torch.inference_mode():
        output = recipe(ir, vis)
        left = recipe.fuse_whole(ir[..., :260], vis[..., :260])
        right = recipe.fuse_whole(ir[..., 255:], vis[..., 255:])
    assert torch.equal(output[..., :255], left[..., :255])
    assert torch.equal(output[..., 260:], right[..., 5:])


def test_constant_images(recipe):
    black, white = torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), 255.0)
    assert recipe(black, white).isfinite().all() and recipe(black, black).isfinite().all()


def test_authors_names_fill_the_network(recipe):
    """Every tensor of the authors finds its place, also by value; names of ours stay."""
    theirs, state = recipe_state("rfn_nest"), recipe.state_dict()
    adapted = RELEASED.adapt(theirs)
    assert adapted.keys() == state.keys() and len(theirs) == len(state)
    inner = {
        "direct": "conv_fusion",
        "ir": "conv_ir",
        "vis": "conv_vi",
        **{f"bottleneck.{i}": f"bottelblock.{i}" for i in range(3)},
    }
    for scale in range(4):
        for ours, name in inner.items():
            found = adapted[f"fusion.{scale}.{ours}.weight"]
            assert torch.equal(found, theirs[f"rfn.fusion_block{scale + 1}.{name}.conv2d.weight"])
    found = adapted["autoencoder.decoder.1_2.point.bias"]
    assert torch.equal(found, theirs["nestfuse.DB2_2.denseblock.1.conv2d.bias"])
    assert_adapted(RELEASED.adapt, state, state)


@pytest.mark.realdata
def test_authors_output(recipe, golden):
    """1.0e-5 of the range, where float64 differs by 0.9e-5 from both: the output is 8 times
    the input's range, so float32 rounding shows.
    """
    reference = golden("rfn_nest_recipe")
    raw = fuse(recipe, reference["ir"], reference["vis"])
    assert error(raw, reference["fused"]) <= 1e-4
