"""SwinFusion's training: towards the brighter and the sharper of two images.

As the run that the authors published with its record (``train.log``, 20 February 2022), which
made the weights that they test: the moving average after 10,000 iterations. Its loss has a
term that the paper has not, on the variation of the difference to the brighter image.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionlib.losses import sobel, tensor_ssim_map
from fusionlib.networks.swinfusion import SwinFusion

from .recipe import LARGE, Descend, Images, Losses, Moment, Recipe, Stage

#: The moving average reaches over this share of the iterations: 1000 of 10,000.
MEMORY = 0.1


class SwinFusionRecipe(Recipe):
    """Intensity, variation, gradient and structural similarity."""

    method = "swinfusion"
    learns_from = "pairs"
    sampling = "crop and turn"
    sizes = range(8, LARGE, 8)
    published = "1083 pairs of MSRS"
    departures = (
        "The moving average reaches over a tenth of the iterations, as published, however "
        "many there are.",
    )

    def __init__(self) -> None:
        super().__init__()
        self.network = SwinFusion()
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def trained(self) -> nn.Module:
        """Return the moving average."""
        return self.average

    def fuse(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Fuse images in 0..1 whose sides are multiples of 8."""
        ir, vis = (image / 255 for image in images)
        fused = self.network.core(ir, vis)
        brighter = torch.maximum(ir, vis)
        ir_sobel, vis_sobel = sobel(ir), sobel(vis)
        share = ir_sobel.mean() / (ir_sobel.mean() + vis_sobel.mean())
        similarity = (
            share * tensor_ssim_map(ir, fused, 1.0).mean()
            + (1 - share) * tensor_ssim_map(vis, fused, 1.0).mean()
        )
        losses = {
            "intensity": 20 * F.l1_loss(fused, brighter),
            "variation": 20 * _variation(fused - brighter),
            "gradient": 20 * F.l1_loss(sobel(fused), torch.maximum(ir_sobel, vis_sobel)),
            "ssim": 10 * (1 - similarity),
        }
        total = torch.stack(list(losses.values())).sum()
        descend(total)
        # By 1/1000 of the way, or more in a short run.
        step = min(1.0, 1 / (MEMORY * moment.iterations))
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(new, step)
        return {"total": total, **losses}

    stages = (Stage("fusion", fuse, 10_000, 12, 128, {"network": 2e-5}),)


def _variation(x: Tensor) -> Tensor:
    """Mean square of the differences to the pixel below and to the right; 0 at the border."""
    down, right = x.diff(dim=-2), x.diff(dim=-1)
    return (down.square().sum() + right.square().sum()) / x.numel()


RECIPE = SwinFusionRecipe
