"""RFN-Nest's training: fusion blocks between an encoder and a decoder that stay as they are.

As the authors' ``train_fusionnet.py`` with their released settings (alpha 700, infrared 6.0,
visible 3.0). The auto-encoder is NestFuse's: train that first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionlib.losses import ms_ssim_released
from fusionlib.networks.nestfuse import METHOD as NESTFUSE
from fusionlib.networks.rfn_nest import RFNNest
from fusionlib.weights import load_state

from .recipe import LARGE, Descend, Images, Losses, Moment, Option, Recipe, two_epochs_of_80_000

ALPHA = 700
FEATURES_IR, FEATURES_VIS = 6.0, 3.0
SCALE_WEIGHTS = (1, 10, 100, 1000)
EPS = 1e-5


class RFNNestRecipe(Recipe):
    """What MS-SSIM with the visible image lacks to 1, and the distance of fused features."""

    method = "rfn_nest"
    learns_from = "pairs"
    sampling = "resize"
    sizes = range(16, LARGE)
    published = "80,000 pairs of KAIST"
    options: ClassVar = {
        "autoencoder": Option("weights of nestfuse, whose auto-encoder it is", required=True)
    }

    def __init__(self, autoencoder: Mapping[str, Tensor]) -> None:
        """Take trained NestFuse under its names here or the authors'; else WeightsMismatch."""
        super().__init__()
        self.network = RFNNest()
        adapt = NESTFUSE.configurations["average"].adapt
        assert adapt is not None
        state = {
            name.removeprefix("autoencoder."): tensor
            for name, tensor in adapt(dict(autoencoder)).items()
        }
        load_state(self.network.autoencoder, state, "the auto-encoder given")

    def fuse(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Fuse gray levels 0..255; the result is stretched to 0..255 over the batch."""
        ir, vis = images
        autoencoder = self.network.autoencoder
        with torch.no_grad():
            ir_features, vis_features = autoencoder.encode(ir), autoencoder.encode(vis)
        fused_features = self.network.fuse_features(ir_features, vis_features)
        fused = autoencoder.decode(fused_features)
        low, high = fused.min(), fused.max()
        fused = (fused - low) / (high - low + EPS) * 255
        ssim = 1 - ms_ssim_released(fused, vis, small=True)
        levels = zip(SCALE_WEIGHTS, fused_features, ir_features, vis_features, strict=True)
        distances = [
            weight * F.mse_loss(f, FEATURES_IR * a + FEATURES_VIS * b) for weight, f, a, b in levels
        ]
        features = torch.stack(distances).sum()
        total = ALPHA * ssim + features
        descend(total)
        return {"total": total, "ssim": ssim, "features": features}

    stages = (two_epochs_of_80_000("fusion", fuse, "network.fusion"),)


RECIPE = RFNNestRecipe
