"""LRRNet: re-computed with numpy, and what the authors' code does before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.lrrnet import METHOD, LRRNet, soft_threshold
from tests.fusionlib.networks.given import arrays, assert_output, images
from tests.fusionlib.networks.references import convolve, double


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


def test_forward_by_numpy():
    """Thresholds of both signs that are small enough for codes to live."""
    torch.manual_seed(0)
    net, pictures = LRRNet(), images()
    for branch in (net.ir, net.vis):
        torch.nn.init.uniform_(branch.threshold, -0.05, 0.05)

    def conv(x, module):
        return convolve(x, module, "reflect")

    def soft(x, branch):
        threshold = double(branch.threshold).reshape(256, 1, 1)
        return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)

    low_rank, sparse = [], []
    for branch, image in zip((net.ir, net.vis), arrays(pictures), strict=True):
        z = soft(conv(image, branch.first), branch)
        for synthesis, analysis in zip(branch.synthesis, branch.analysis, strict=True):
            rest = image - conv(z, synthesis)
            z = soft(branch.inertia.item() * z + conv(rest, analysis), branch)
        low_rank.append(conv(z[:128], branch.low_rank))
        sparse.append(conv(z[128:], branch.sparse))
    fused = conv(np.concatenate(low_rank), net.low_rank)
    assert_output(net, pictures, fused + conv(np.concatenate(sparse), net.sparse))


@pytest.mark.realdata
def test_images_enter_as_the_authors_do(golden):
    """They add 1e-5 to the range, here 98 and 170 gray levels: 1e-7, as float32."""
    reference = golden("lrrnet")
    for key in ("ir", "vis"):
        image = METHOD.default.prepare(reference[f"{key}_u8"] / np.float32(255))
        assert np.abs(image - reference[key].squeeze()).max() <= 1e-6
