"""The auto-encoders' recipes: NestFuse's, and AEFusion's with and without VGG."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.losses import VGGFeatures, ms_ssim_released
from reproduction.training.aefusion import AEFusionRecipe
from tests.fusionlib.test_losses import vgg_tensors  # noqa: F401, a fixture
from tests.reproduction.training.conftest import SMALL, batch, run_step


def outputs(recipe, image):
    """The reconstruction in training mode, whose statistics are the batch's."""
    with torch.no_grad():
        return recipe.network.autoencoder(image).double().numpy()


def test_nestfuse_is_squared_error_and_100_times_ssim():
    recipe = SMALL["nestfuse"].build(seed=2)
    image = batch(0, 1, size=32)
    losses = run_step(recipe, "auto-encoder", (image,))
    output = outputs(recipe, image)
    pixel = np.mean((output - image.numpy()) ** 2)
    ssim = 1 - float(ms_ssim_released(torch.from_numpy(output), image.double(), small=True))
    assert losses["pixel"].item() == pytest.approx(pixel, rel=1e-5)
    assert losses["total"].item() == pytest.approx(pixel + 100 * ssim, rel=1e-5)


def test_aefusion_is_absolute_error_and_100_times_ssim():
    recipe = SMALL["aefusion"].build()
    image = batch(0, 1)
    losses = run_step(recipe, "auto-encoder", (image,))
    output = outputs(recipe, image)
    pixel = np.abs(output - image.numpy()).mean()
    ssim = 1 - float(ms_ssim_released(torch.from_numpy(output), image.double(), small=True))
    assert losses["total"].item() == pytest.approx(pixel + 100 * ssim, rel=1e-4)
    assert list(losses) == ["total", "pixel", "ssim"]
    assert "Without the distance of VGG" in recipe.departures[0]


def test_aefusion_with_vgg(vgg_tensors):  # noqa: F811
    torch.manual_seed(0)
    recipe, image = AEFusionRecipe(vgg=vgg_tensors), batch(0, 1)
    losses = run_step(recipe, "auto-encoder", (image,))
    vgg = VGGFeatures(vgg_tensors)
    output = torch.from_numpy(outputs(recipe, image)).float()
    pairs = zip(vgg(output), vgg(image), strict=True)
    distance = sum(((a - b) ** 2).mean().item() for a, b in pairs)
    assert losses["vgg"].item() == pytest.approx(distance, rel=1e-4)
    parts = losses["pixel"] + 100 * losses["ssim"] + 1000 * losses["vgg"]
    assert losses["total"].item() == pytest.approx(parts.item(), rel=1e-6)
    assert not any("Without" in text for text in recipe.departures)


def test_vgg_is_named_in_the_facts_and_stays(vgg_tensors):  # noqa: F811
    result = SMALL["aefusion"].train(iterations=1, options={"vgg": vgg_tensors})
    assert result.facts["vgg"].startswith("sha256 ")
    assert not any(name.startswith("vgg") for name in result.network.state_dict())
