"""CDDFuse's training: first each image is reconstructed, then the pair is fused.

As the authors' ``train.py``: encoder, decoder and the two fusion layers each have an optimiser
of their own, whose rate is halved every 20 of 120 epochs, and a gradient no longer than 0.01.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionlib.losses import correlation, sobel, sobel_gradients, tensor_ssim_map
from fusionlib.networks.cddfuse import CDDFuse

from .recipe import LARGE, Descend, Moment, Recipe, Stage, halved

__all__ = ["RECIPE", "CDDFuseRecipe"]

# 1083 pairs of MSRS, six 128x128 patches of each at most, in batches of 8.
PER_EPOCH = 6 * 1083 // 8
CLIP = 0.01


class CDDFuseRecipe(Recipe):
    """Reconstruction, fusion towards the brighter and the sharper, and decomposition.

    Base features of the two images are to correlate, detail features are not.
    """

    method = "cddfuse"
    learns_from = "pairs"
    sampling = "crop"
    sizes = range(2, LARGE)
    published = "128x128 patches of 1083 pairs of MSRS"
    departures = (
        "Patches from random places instead of a grid, and none left out for low contrast.",
    )
    network: CDDFuse

    def __init__(self) -> None:
        super().__init__()
        self.network = CDDFuse()

    def reconstruct(
        self, images: tuple[Tensor, Tensor], moment: Moment, descend: Descend
    ) -> dict[str, Tensor]:
        """Phase 1: encode and decode each image by itself."""
        ir, vis = (image / 255 for image in images)
        ir_features, vis_features = self.network.encoder(ir), self.network.encoder(vis)
        ir_output = self.network.decoder(*ir_features, ir)
        vis_output = self.network.decoder(*vis_features, vis)
        losses = {
            "infrared": _reconstruction(ir, ir_output),
            "visible": _reconstruction(vis, vis_output),
            "decomposition": _decomposition(ir_features, vis_features),
            "gradient": F.l1_loss(sobel_gradients(vis_output), sobel_gradients(vis)),
        }
        total = (
            losses["infrared"]
            + losses["visible"]
            + 2 * losses["decomposition"]
            + 5 * losses["gradient"]
        )
        descend(total)
        return {"total": total, **losses}

    def fuse(
        self, images: tuple[Tensor, Tensor], moment: Moment, descend: Descend
    ) -> dict[str, Tensor]:
        """Phase 2: decode the fused features."""
        ir, vis = (image / 255 for image in images)
        network = self.network
        ir_features, vis_features = network.encoder(ir), network.encoder(vis)
        base = network.fuse_base(ir_features[0] + vis_features[0])
        detail = network.fuse_detail(ir_features[1] + vis_features[1])
        fused = network.decoder(base, detail, vis)
        losses = {
            "intensity": F.l1_loss(fused, torch.maximum(ir, vis)),
            "gradient": F.l1_loss(sobel(fused), torch.maximum(sobel(ir), sobel(vis))),
            "decomposition": _decomposition(ir_features, vis_features),
        }
        total = losses["intensity"] + 10 * losses["gradient"] + 2 * losses["decomposition"]
        descend(total)
        return {"total": total, **losses}

    # Encoder and decoder begin the second phase with a rate that was halved twice.
    stages = (
        Stage(
            "reconstruction",
            reconstruct,
            iterations=40 * PER_EPOCH,
            batch_size=8,
            size=128,
            rates={"network.encoder": halved(1e-4, 2), "network.decoder": halved(1e-4, 2)},
            clip=CLIP,
        ),
        Stage(
            "fusion",
            fuse,
            iterations=80 * PER_EPOCH,
            batch_size=8,
            size=128,
            rates={
                "network.encoder": halved(1e-4 / 4, 4),
                "network.decoder": halved(1e-4 / 4, 4),
                "network.fuse_base": halved(1e-4, 4),
                "network.fuse_detail": halved(1e-4, 4),
            },
            clip=CLIP,
        ),
    )


def _reconstruction(image: Tensor, output: Tensor) -> Tensor:
    dissimilarity = ((1 - tensor_ssim_map(image, output, 1.0)).clamp(0, 1) / 2).mean()
    return 5 * dissimilarity + F.mse_loss(output, image)


def _decomposition(ir: tuple[Tensor, Tensor], vis: tuple[Tensor, Tensor]) -> Tensor:
    """Compare base and detail features of the two images."""
    return correlation(ir[1], vis[1]) ** 2 / (1.01 + correlation(ir[0], vis[0]))


RECIPE = CDDFuseRecipe
