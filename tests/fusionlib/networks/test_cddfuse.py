"""CDDFuse: re-computed with numpy from the authors' tensors, and against the authors' code."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit

from fusionlib.networks.cddfuse import METHOD
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, loaded
from tests.fusionlib.networks.given import images
from tests.fusionlib.networks.references import PLAIN, RESTORMER, block_by_numpy, correlate
from tests.recipe import recipe_state

(RELEASED,) = METHOD.configurations.values()


@pytest.fixture(scope="module")
def recipe():
    """The network under the weights of the reference output."""
    return loaded(RELEASED, recipe_state("cddfuse"))


def test_parameters(recipe):
    parts = {name: sum(p.numel() for p in m.parameters()) for name, m in recipe.named_children()}
    assert parts == {
        "encoder": 599_144,
        "fuse_base": 363_016,
        "fuse_detail": 18_176,
        "decoder": 207_936,
    }
    assert RELEASED.weights[0].parameters == sum(parts.values()) == 1_188_272


def coupling_by_numpy(x, tensors, prefix):
    def bottleneck(x, part):
        first, middle, last = (
            tensors[f"{prefix}.theta_{part}.bottleneckBlock.{i}.weight"] for i in (0, 3, 5)
        )
        x = np.clip(correlate(x, first), 0, 6)
        return correlate(np.clip(correlate(x, middle, "reflect"), 0, 6), last)

    x = correlate(x, tensors[f"{prefix}.shffleconv.weight"])
    z1, z2 = np.split(x + tensors[f"{prefix}.shffleconv.bias"][:, None, None], 2)
    z2 = z2 + bottleneck(z1, "phi")
    z1 = z1 * np.exp(bottleneck(z2, "rho")) + bottleneck(z2, "eta")
    return np.concatenate([z1, z2])


def fuse_by_numpy(tensors, ir, vis):
    def encode(image):
        x = correlate(image, tensors["DIDF_Encoder.patch_embed.proj.weight"])
        for i in range(4):
            x = block_by_numpy(x, tensors, f"DIDF_Encoder.encoder_level1.{i}", RESTORMER)
        base = block_by_numpy(x, tensors, "DIDF_Encoder.baseFeature", PLAIN)
        for i in range(3):
            x = coupling_by_numpy(x, tensors, f"DIDF_Encoder.detailFeature.net.{i}")
        return base, x

    base, detail = (a + b for a, b in zip(encode(ir), encode(vis), strict=True))
    base = block_by_numpy(base, tensors, "BaseFuseLayer", PLAIN)
    detail = coupling_by_numpy(detail, tensors, "DetailFuseLayer.net.0")
    x = correlate(np.concatenate([base, detail]), tensors["DIDF_Decoder.reduce_channel.weight"])
    for i in range(4):
        x = block_by_numpy(x, tensors, f"DIDF_Decoder.encoder_level2.{i}", RESTORMER)
    x = correlate(x, tensors["DIDF_Decoder.output.0.weight"])
    x = correlate(np.where(x > 0, x, 0.01 * x), tensors["DIDF_Decoder.output.2.weight"])
    return expit(x + vis)


def test_forward_by_numpy():
    """Both in float64, from the authors' names: about a hundred layers of 2**-53 each."""
    tensors = recipe_state("cddfuse")
    ir, vis = (x.double() for x in images((5, 6)))
    expected = fuse_by_numpy(
        {name: tensor.double().numpy() for name, tensor in tensors.items()},
        ir[0].numpy(),
        vis[0].numpy(),
    )
    with torch.inference_mode():
        output = loaded(RELEASED, tensors).double()(ir, vis)[0].numpy()
    assert np.abs(output - expected).max() <= 1e-11 * np.ptp(expected)


def test_coupling_saturates(recipe):
    """Features so large that ReLU6 cuts; in float64."""
    block = copy.deepcopy(recipe.fuse_detail).double()
    tensors = {name: t.double().numpy() for name, t in recipe_state("cddfuse").items()}
    x = 20 * np.random.default_rng(0).normal(size=(64, 4, 5))
    expected = coupling_by_numpy(x, tensors, "DetailFuseLayer.net.0")
    with torch.inference_mode():
        shuffled = block.shuffle(torch.from_numpy(x)[None])
        assert block.phi[:1](shuffled[:, :32]).max() > 6
        output = block(torch.from_numpy(x)[None])[0].numpy()
    assert np.abs(output - expected).max() <= 1e-12 * np.ptp(expected)


def test_authors_names_fill_the_network(recipe):
    """Their names were adapted above; ours stay, and so does what nobody knows."""
    for given in (recipe_state("cddfuse"), recipe.state_dict()):
        assert_adapted(RELEASED.adapt, given, recipe.state_dict())


@pytest.mark.realdata
def test_authors_output(recipe, golden):
    """1.1e-6 of the range: rounding in float32."""
    reference = golden("cddfuse_recipe")
    raw = fuse(recipe, reference["ir"], reference["vis"])
    assert error(raw, reference["fused"]) <= 1e-5
