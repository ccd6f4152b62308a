"""RFN-Nest: fusion blocks re-computed with numpy.

test_nestfuse.py holds the auto-encoder and the four parts, which RFN-Nest shares.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.rfn_nest import METHOD, ResidualFusion
from tests.fusionlib.networks.given import assert_output, gray_images, loaded
from tests.fusionlib.networks.references import convolve, relu
from tests.recipe import recipe_state


@pytest.fixture(scope="module")
def recipe():
    """The network under the weights of the reference output."""
    return loaded(METHOD.default, recipe_state("rfn_nest"))


def test_fusion_block_by_numpy():
    torch.manual_seed(0)
    block = ResidualFusion(4)
    ir, vis = np.random.default_rng(0).random((2, 4, 5, 6))

    def layer(module, *maps):
        return relu(convolve(np.concatenate(maps), module, "reflect"))

    x = layer(block.bottleneck[0], layer(block.ir, ir), layer(block.vis, vis))
    for module in (block.bottleneck[1], block.bottleneck[2]):
        x = layer(module, x)
    assert [module.kernel_size for module in block.bottleneck] == [(1, 1), (3, 3), (3, 3)]
    assert np.ptp(x) > 0
    given = [torch.from_numpy(x).float()[None] for x in (ir, vis)]
    assert_output(block, given, layer(block.direct, ir, vis) + x, 2e-6)


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
