"""SwinFusion's recipe: its loss written out, and the moving average."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.losses import tensor_ssim_map
from tests.reproduction.training.conftest import SMALL, batch, run_step, slopes


def test_loss_written_out():
    recipe = SMALL["swinfusion"].build()
    ir, vis = batch(0, 1), batch(2, 3)
    losses = run_step(recipe, "fusion", (ir, vis))
    with torch.no_grad():
        output = recipe.network.core(ir / 255, vis / 255)
    fused, a, b = (x.numpy() for x in (output, ir / 255, vis / 255))
    left = fused - np.maximum(a, b)
    # The authors repeat the last row and column, where the difference is 0 then.
    steps = [np.diff(left, axis=axis, append=left.take([-1], axis)) for axis in (2, 3)]
    variation = sum(np.mean(step**2) for step in steps)
    gradients = [np.abs(slopes(x, "constant")).sum(0) for x in (fused, a, b)]
    gradient = np.abs(gradients[0] - np.maximum(*gradients[1:])).mean()
    weights = np.array([g.mean() for g in gradients[1:]])
    similarities = [tensor_ssim_map(x / 255, output, 1.0).mean().item() for x in (ir, vis)]
    ssim = 1 - weights @ similarities / weights.sum()
    expected = 20 * (np.abs(left).mean() + variation + gradient) + 10 * ssim
    assert losses["total"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["variation"].item() == pytest.approx(20 * variation, rel=1e-4)


@pytest.mark.parametrize(("iterations", "share"), [(10_000, 1e-3), (50, 0.2), (10, 1), (2, 1)])
def test_moving_average(iterations, share):
    """A thousandth of the way as published; it reaches over a tenth of any run."""
    recipe = SMALL["swinfusion"].build()
    name = "merge.bias"
    start = recipe.average.get_parameter(name).clone()
    assert torch.equal(recipe.network.get_parameter(name), start)

    def descend(loss, *parts):
        with torch.no_grad():
            recipe.network.get_parameter(name).add_(1)

    for _ in range(2):
        run_step(recipe, "fusion", (batch(0), batch(1)), iterations=iterations, descend=descend)
    expected = start + share * (1 - share) + 2 * share
    # Rounding of sums of about 1.
    assert torch.allclose(recipe.average.get_parameter(name), expected, atol=1e-6)
    assert recipe.trained() is recipe.average
