"""CDDFuse: re-computed with numpy from the authors' tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from fusionlib.networks.cddfuse import METHOD
from tests.fusionlib.networks.given import arrays, assert_output, images, loaded
from tests.fusionlib.networks.references import PLAIN, RESTORMER, block_by_numpy, correlate
from tests.recipe import recipe_state


@pytest.fixture(scope="module")
def tensors():
    """Under the authors' names."""
    return {name: tensor.double() for name, tensor in recipe_state("cddfuse").items()}


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


def test_forward_by_numpy(tensors):
    """Both in float64, from the authors' names: about a hundred layers of 2**-53 each."""
    pictures = [x.double() for x in images((5, 6))]
    theirs = {name: tensor.numpy() for name, tensor in tensors.items()}
    net = loaded(METHOD.default, tensors).double()
    assert_output(net, pictures, fuse_by_numpy(theirs, *arrays(pictures)), 1e-11)


def test_coupling_saturates(tensors):
    """Features so large that ReLU6 cuts; in float64."""
    block = loaded(METHOD.default, tensors).double().fuse_detail
    theirs = {name: tensor.numpy() for name, tensor in tensors.items()}
    x = 20 * np.random.default_rng(0).normal(size=(64, 4, 5))
    given = torch.from_numpy(x)[None]
    with torch.inference_mode():
        assert block.phi[:1](block.shuffle(given)[:, :32]).max() > 6
    assert_output(block, [given], coupling_by_numpy(x, theirs, "DetailFuseLayer.net.0"), 1e-12)
