"""AEFusion's training: its auto-encoder learns to reconstruct gray images of 256x256.

As the authors' ``train_network.py`` with SSIM weight 100. Their third term, the distance of
VGG features, is there if VGG's weights are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from fusionlib.losses import VGGFeatures, ms_ssim_released
from fusionlib.networks.aefusion import SIDE, AEFusion

from .recipe import Descend, Images, Losses, Moment, Option, Recipe, two_epochs_of_80_000

SSIM_WEIGHT = 100
VGG_WEIGHT = 1000


class AEFusionRecipe(Recipe):
    """Mean absolute error, what multi-scale SSIM lacks to 1, and the distance of VGG features."""

    method = "aefusion"
    learns_from = "images"
    sampling = "resize"
    sizes = range(SIDE, SIDE + 1)
    published = "80,000 images of COCO"
    options: ClassVar = {"vgg": Option("weights of VGG-16 under torchvision's names")}

    def __init__(self, vgg: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.network = AEFusion()
        self.vgg = None if vgg is None else VGGFeatures(vgg)
        if vgg is None:
            self.departures = ("Without the distance of VGG features, whose weights are not here.",)
        else:
            # The authors' file that says so is not in their repository.
            self.departures = ("Which VGG, layers and scale the authors used is not known.",)

    def reconstruct(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Reconstruct gray levels 0..255."""
        (image,) = images
        output = self.network.autoencoder(image)
        losses = {
            "pixel": F.l1_loss(output, image),
            "ssim": 1 - ms_ssim_released(output, image, small=True),
        }
        total = losses["pixel"] + SSIM_WEIGHT * losses["ssim"]
        if self.vgg is not None:
            pairs = zip(self.vgg(output), self.vgg(image), strict=True)
            losses["vgg"] = sum((F.mse_loss(a, b) for a, b in pairs), image.new_zeros(()))
            total = total + VGG_WEIGHT * losses["vgg"]
        descend(total)
        return {"total": total, **losses}

    stages = (two_epochs_of_80_000("auto-encoder", reconstruct, "network.autoencoder"),)


RECIPE = AEFusionRecipe
