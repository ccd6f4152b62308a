"""NestFuse's training: its auto-encoder learns to reconstruct gray images.

As the authors' ``train_autoencoder.py`` with SSIM weight 100 (their model ``nestfuse_1e2``).
"""

from __future__ import annotations

import torch.nn.functional as F

from fusionlib.losses import ms_ssim_released
from fusionlib.networks.nestfuse import NestFuse

from .recipe import LARGE, Descend, Images, Losses, Moment, Recipe, two_epochs_of_80_000

SSIM_WEIGHT = 100


class NestFuseRecipe(Recipe):
    """Mean squared error and 100 times what multi-scale SSIM lacks to 1."""

    method = "nestfuse"
    learns_from = "images"
    sampling = "resize"
    sizes = range(16, LARGE)
    published = "80,000 images of COCO"

    def __init__(self) -> None:
        super().__init__()
        self.network = NestFuse()

    def reconstruct(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Reconstruct gray levels 0..255."""
        (image,) = images
        output = self.network.autoencoder(image)
        pixel = F.mse_loss(output, image)
        ssim = 1 - ms_ssim_released(output, image, small=True)
        total = pixel + SSIM_WEIGHT * ssim
        descend(total)
        return {"total": total, "pixel": pixel, "ssim": ssim}

    stages = (two_epochs_of_80_000("auto-encoder", reconstruct, "network.autoencoder"),)


RECIPE = NestFuseRecipe
