"""CDDFuse's recipe: both phases' losses, written out with numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from fusionlib.losses import tensor_ssim_map
from tests.reproduction.training.conftest import SMALL, batch, run_step, slopes


@pytest.fixture
def setup():
    return SMALL["cddfuse"].build(), batch(0, 1), batch(2, 3)


def features(network, image):
    with torch.no_grad():
        return network.encoder(image / 255)


def decomposition(ir, vis):
    def mean_correlation(a, b):
        pairs = zip(a.flatten(0, 1).numpy(), b.flatten(0, 1).numpy(), strict=True)
        return np.mean([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in pairs])

    return mean_correlation(ir[1], vis[1]) ** 2 / (1.01 + mean_correlation(ir[0], vis[0]))


def test_first_phase(setup):
    recipe, ir, vis = setup
    losses = run_step(recipe, "reconstruction", (ir, vis))
    network = recipe.network
    encoded = [features(network, image) for image in (ir, vis)]
    total = 2 * decomposition(*encoded)
    for image, (base, detail) in zip((ir, vis), encoded, strict=True):
        with torch.no_grad():
            # The image itself is added before the sigmoid, in this phase too.
            output = network.decoder(base, detail, image / 255)
        dissimilarity = np.clip(1 - tensor_ssim_map(image / 255, output, 1.0).numpy(), 0, 1) / 2
        total += 5 * dissimilarity.mean() + np.mean((output.numpy() - image.numpy() / 255) ** 2)
    pairs = zip(
        slopes(output.numpy(), "nearest"), slopes(vis.numpy() / 255, "nearest"), strict=True
    )
    total += 5 * np.mean([np.abs(a - b).mean() / 8 for a, b in pairs])
    assert losses["total"].item() == pytest.approx(total, rel=1e-4)


def test_second_phase(setup):
    recipe, ir, vis = setup
    losses = run_step(recipe, "fusion", (ir, vis))
    with torch.no_grad():
        fused = recipe.network(ir / 255, vis / 255).numpy()
    ir_gray, vis_gray = (image.numpy() / 255 for image in (ir, vis))
    gradients = [sum(np.abs(g) for g in slopes(x, "constant")) for x in (fused, ir_gray, vis_gray)]
    intensity = np.abs(fused - np.maximum(ir_gray, vis_gray)).mean()
    gradient = np.abs(gradients[0] - np.maximum(*gradients[1:])).mean()
    encoded = [features(recipe.network, image) for image in (ir, vis)]
    total = intensity + 10 * gradient + 2 * decomposition(*encoded)
    assert losses["total"].item() == pytest.approx(total, rel=1e-4)


def test_gradients_are_clipped_part_by_part(monkeypatch):
    """Each of the parts by itself, to 0.01."""
    seen = []

    def clip(parameters, norm):
        seen.append((sum(p.numel() for p in parameters), norm))
        return clip_grad_norm_(parameters, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    small = SMALL["cddfuse"]
    network = small.train(iterations=2).network
    encoder, decoder, base, detail = (
        sum(p.numel() for p in getattr(network, part).parameters())
        for part in ("encoder", "decoder", "fuse_base", "fuse_detail")
    )
    sizes = [encoder, decoder, encoder, decoder, base, detail]
    assert seen == [(size, 0.01) for size in sizes]
