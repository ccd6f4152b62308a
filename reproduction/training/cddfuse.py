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

from .recipe import LARGE, Descend, Images, Losses, Moment, Recipe, Stage, halved

# 1083 pairs of MSRS, six 128x128 patches of each at most, in batches of 8.
PER_EPOCH = 6 * 1083 // 8
CLIP = 0.01
CODER = ("network.encoder", "network.decoder")
LAYERS = ("network.fuse_base", "network.fuse_detail")


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

    def __init__(self) -> None:
        super().__init__()
        self.network = CDDFuse()

    def reconstruct(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Phase 1: encode and decode each image by itself."""
        ir, vis = (image / 255 for image in images)
        ir_features, vis_features = self.network.encoder(ir), self.network.encoder(vis)
        ir_output = self.network.decoder(*ir_features, ir)
        vis_output = self.network.decoder(*vis_features, vis)
        infrared, visible = _reconstruction(ir, ir_output), _reconstruction(vis, vis_output)
        decomposition = _decomposition(ir_features, vis_features)
        gradient = F.l1_loss(sobel_gradients(vis_output), sobel_gradients(vis))
        total = infrared + visible + 2 * decomposition + 5 * gradient
        descend(total)
        return {
            "total": total,
            "infrared": infrared,
            "visible": visible,
            "decomposition": decomposition,
            "gradient": gradient,
        }

    def fuse(self, images: Images, moment: Moment, descend: Descend) -> Losses:
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
            *("reconstruction", reconstruct, 40 * PER_EPOCH, 8, 128),
            dict.fromkeys(CODER, 1e-4),
            halved(2),
            CLIP,
        ),
        Stage(
            *("fusion", fuse, 80 * PER_EPOCH, 8, 128),
            dict.fromkeys(CODER, 1e-4 / 4) | dict.fromkeys(LAYERS, 1e-4),
            halved(4),
            CLIP,
        ),
    )


def _reconstruction(image: Tensor, output: Tensor) -> Tensor:
    dissimilarity = ((1 - tensor_ssim_map(image, output, 1.0)).clamp(0, 1) / 2).mean()
    return 5 * dissimilarity + F.mse_loss(output, image)


def _decomposition(ir: tuple[Tensor, Tensor], vis: tuple[Tensor, Tensor]) -> Tensor:
    """Compare base and detail features of the two images."""
    return correlation(ir[1], vis[1]) ** 2 / (1.01 + correlation(ir[0], vis[0]))


RECIPE = CDDFuseRecipe
