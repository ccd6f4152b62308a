"""FusionGAN's recipe: labels, order of steps, losses, spectral normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from reproduction.training.fusiongan import FAKE, REAL, Discriminator
from reproduction.training.recipe import Moment
from tests.reproduction.training.conftest import SMALL, batch

SIZE = 59


class Labels:
    """Stands for an iteration's generator: gives labels in known ranges and keeps them."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.drawn = []

    def uniform(self, low, high, shape):
        self.drawn.append(((low, high), self.random.uniform(low, high, shape)))
        return self.drawn[-1][1]


def test_losses_written_out():
    """Labels are drawn twice for visible and fused images, then for what the generator wants."""
    recipe, labels, order = SMALL["fusiongan"].build(), Labels(), []
    recipe.eval()  # else normalisation statistics and norms would move on
    ir, vis = batch(0, 1, size=SIZE), batch(2, 3, size=SIZE)
    losses = recipe.compete(
        (ir, vis), Moment(labels, 0, 10), lambda loss, *parts: order.append((parts, loss))
    )
    assert [span for span, _ in labels.drawn] == [REAL, FAKE, REAL, FAKE, REAL]
    assert (REAL, FAKE) == ((0.7, 1.2), (0.0, 0.3))
    assert all(values.shape == (2, 1) for _, values in labels.drawn)
    assert [parts for parts, _ in order] == [("discriminator",)] * 2 + [("network",)]
    assert order[1][1] is losses["discriminator"] and order[2][1] is losses["total"]
    with torch.no_grad():
        fused = recipe.network.fuse_padded(ir / 127.5 - 1, vis / 127.5 - 1)
        inner = vis[..., 6:-6, 6:-6] / 127.5 - 1
        real, fake = (recipe.discriminator(x).double().numpy() for x in (inner, fused))
    drawn = [values for _, values in labels.drawn]
    discriminator = np.mean((real - drawn[2]) ** 2) + np.mean((fake - drawn[3]) ** 2)
    assert losses["discriminator"].item() == pytest.approx(discriminator, rel=1e-5)
    adversarial = np.mean((fake - drawn[4]) ** 2)
    assert losses["adversarial"].item() == pytest.approx(adversarial, rel=1e-5)
    levels = fused[:, 0].double().numpy()
    target = ir[:, 0, 6:-6, 6:-6].double().numpy() / 127.5 - 1
    edges = [
        np.stack([ndimage.laplace(z, mode="constant") for z in x])
        for x in (levels, inner[:, 0].double().numpy())
    ]
    content = np.mean((levels - target) ** 2) + 5 * np.mean((edges[0] - edges[1]) ** 2)
    assert losses["content"].item() == pytest.approx(content, rel=1e-5)
    assert losses["total"].item() == pytest.approx(adversarial + 100 * content, rel=1e-5)


def test_weights_that_are_kept_have_norm_one_and_are_the_trained_ones():
    small = SMALL["fusiongan"]
    torch.manual_seed(0)
    recipe = small.build()
    network = recipe.trained()
    assert recipe.training
    for layer in (*network.layers, network.last):
        norm = np.linalg.norm(layer.weight.detach().flatten(1).double().numpy(), 2)
        # By power iteration, 15 rounds of which leave a part in a thousand of random matrices.
        assert norm == pytest.approx(1, rel=0.05)
    assert not any("parametrizations" in name for name in network.state_dict())
    ir, vis = batch(0, size=SIZE) / 127.5 - 1, batch(1, size=SIZE) / 127.5 - 1
    recipe.eval()
    with torch.no_grad():
        assert torch.equal(network.fuse_padded(ir, vis), recipe.network.fuse_padded(ir, vis))


def test_initial_weights_are_small():
    """Truncated at two standard deviations of 0.001; the norms hide it, Adam's steps do not."""
    weights = [p for n, p in SMALL["fusiongan"].build().named_parameters() if "original" in n]
    assert len(weights) == 10
    for weight in weights:
        assert weight.abs().max() <= 2e-3
    values = torch.cat([w.detach().flatten() for w in weights])
    # A normal distribution cut at two standard deviations keeps 0.88 of one.
    assert values.std().item() == pytest.approx(0.88e-3, rel=0.01)


def test_discriminator_at_the_published_size():
    """120x120 leaves 6x6: pooling does nothing. Of 59, 29, 14 and 6 pixels by the strides."""
    network = Discriminator()
    assert torch.nn.Sequential(*network.layers)(torch.rand(2, 1, 120, 120)).shape[1:] == (256, 6, 6)
    assert network.last.in_features == 6 * 6 * 256
