"""RFN-Nest's recipe: its loss, and the auto-encoder that stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionlib.losses import ms_ssim_released
from reproduction.training.rfn_nest import RFNNestRecipe
from tests.reproduction.training.conftest import SMALL, batch, run_step


def test_loss_written_out():
    recipe = SMALL["rfn_nest"].build()
    ir, vis = batch(0, 1), batch(2, 3)
    losses = run_step(recipe, "fusion", (ir, vis))
    network = recipe.network
    with torch.no_grad():
        features = [network.autoencoder.encode(image) for image in (ir, vis)]
        fused_features = network.fuse_features(*features)
        fused = network.autoencoder.decode(fused_features).double().numpy()
    distance = sum(
        weight * np.mean((f.double().numpy() - (6 * a + 3 * b).double().numpy()) ** 2)
        for weight, f, a, b in zip((1, 10, 100, 1000), fused_features, *features, strict=True)
    )
    # Stretched over the whole batch at once, as the authors do it.
    stretched = torch.from_numpy((fused - fused.min()) / (np.ptp(fused) + 1e-5) * 255)
    ssim = 1 - float(ms_ssim_released(stretched, vis.double(), small=True))
    assert losses["features"].item() == pytest.approx(distance, rel=1e-5)
    assert losses["total"].item() == pytest.approx(700 * ssim + distance, rel=1e-4)


def test_autoencoder_under_the_authors_names():
    path = Path(__file__).parents[2] / "golden" / "keys" / "rfn_nest.json"
    shapes = json.loads(path.read_text())
    names = [name for name in shapes if name.startswith("nestfuse.")]
    theirs = {name.removeprefix("nestfuse."): torch.rand(shapes[name]) for name in names}
    recipe = RFNNestRecipe(theirs)
    state = recipe.network.autoencoder.state_dict()
    assert sorted(t.sum().item() for t in theirs.values()) == sorted(
        t.sum().item() for t in state.values()
    )
