"""EMMA's recipe: the moved copies, the sensing networks, the losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from reproduction.training.emma import EMMARecipe, SensingNetwork, moved
from tests.reproduction.training.conftest import SMALL, batch, run_step, slopes


def test_moved_copies():
    images = batch(0, 1, size=24)
    groups = moved(images, np.random.default_rng(0)).split(2)
    assert len(groups) == 10
    assert torch.equal(groups[0], images)
    for shifted in groups[1:4]:
        offsets = [
            (r, c)
            for r in range(24)
            for c in range(24)
            if torch.equal(images.roll((r, c), (-2, -1)), shifted)
        ]
        assert len(offsets) == 1 and 0 not in offsets[0]
    other = moved(images, np.random.default_rng(1)).split(2)
    assert [*map(torch.equal, groups, other)] == [True] + 3 * [False] + 6 * [True]
    for mirrored, axes in zip(groups[7:], ((3,), (2,), (2, 3)), strict=True):
        assert torch.equal(mirrored, images.flip(axes))


@pytest.mark.parametrize(("group", "degrees"), [(4, 10), (5, 130), (6, 250)])
def test_turned_copies_by_scipy(group, degrees):
    """Counterclockwise about the centre, bilinear, zeros outside."""
    image = batch(0, size=25)
    found = moved(image, np.random.default_rng(0))[group, 0].numpy()
    expected = ndimage.rotate(
        image[0, 0].numpy().astype(float), degrees, reshape=False, order=1, mode="constant"
    )
    # At the border scipy continues by zeros from outside the image on, PyTorch from the last
    # pixel's centre on; away from it they differ by float32 rounding of coordinates up to 25,
    # times differences of levels up to 255.
    inside = ndimage.rotate(np.ones((25, 25)), degrees, reshape=False, order=1) > 0.999
    inside = ndimage.binary_erosion(inside)
    assert np.abs(found - expected)[inside].max() < 0.01
    assert inside.sum() > 300


def test_size_of_the_published_sensing_network():
    assert sum(p.numel() for p in SensingNetwork().parameters()) == 39_397_761


def test_sensing_networks_learn_from_mean_or_maximum(monkeypatch):
    recipe = SMALL["emma"].build()
    ir, vis = batch(*range(16), size=32), batch(*range(20, 36), size=32)
    seen = []
    recipe.infrared.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    losses = run_step(recipe, "sensing", (ir, vis))
    choices = torch.stack([(ir + vis) / 2, torch.maximum(ir, vis)]) / 255
    # float32 of values up to 1.
    close = [(one - seen[0]).abs().amax((1, 2, 3)) < 1e-6 for one in choices]
    assert (close[0] ^ close[1]).all() and close[0].any() and close[1].any()
    recipe = SMALL["emma"].build()  # normalisation statistics as before
    errors = [
        np.mean((network(seen[0]).detach().numpy() - target.numpy() / 255) ** 2)
        for network, target in ((recipe.infrared, ir), (recipe.visible, vis))
    ]
    assert losses["total"].item() == pytest.approx(sum(errors), rel=1e-5)


def distance(x, target):
    """Absolute errors of levels and of Sobel derivatives, the latter scaled and averaged."""
    error = (x.detach() - target.detach()).double().numpy()
    return np.abs(error).mean() + np.abs(slopes(error, "nearest")).mean() / 8


def test_fusion_loss_written_out():
    recipe = SMALL["emma"].build()
    ir, vis = batch(0, 1, size=32), batch(2, 3, size=32)
    losses = run_step(recipe, "fusion", (ir, vis), seed=4)
    network = recipe.network
    assert not recipe.infrared.training and not recipe.visible.training
    fused = network.core(ir / 255, vis / 255)
    # The iteration's first draws.
    again = moved(fused, np.random.default_rng(4))
    cycle = network.core(recipe.infrared(again), recipe.visible(again))
    expected = 0.1 * distance(cycle, again)
    expected += distance(recipe.infrared(fused), ir / 255)
    expected += distance(recipe.visible(fused), vis / 255)
    assert losses["total"].item() == pytest.approx(expected, rel=1e-4)


def test_width_is_a_departure():
    assert [len(EMMARecipe(width).departures) for width in (4, 64)] == [3, 2]
