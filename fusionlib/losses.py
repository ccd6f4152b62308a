"""Training losses. Images are (B, 1, H, W) tensors of gray levels.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment:
   from error visibility to structural similarity", IEEE Trans. Image Process. 13(4),
   2004, doi 10.1109/TIP.2003.819861.
.. [2] Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multiscale structural similarity for
   image quality assessment", Asilomar Conf. 2003, doi 10.1109/ACSSC.2003.1292216.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ImageError, unknown

__all__ = ["LossParts", "ReconstructionLoss", "ms_ssim_released", "ssim"]

WINDOW, SIGMA = 11, 1.5
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _blur(x: Tensor) -> Tensor:
    """Separable 11-tap Gaussian, sigma 1.5, valid region only."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    taps = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    taps = taps / taps.sum()
    return F.conv2d(F.conv2d(x, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))


def _ssim_and_contrast(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term per image, both (B,)."""
    if min(x.shape[-2:]) < WINDOW:
        raise ImageError(
            f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels at every level, "
            f"not {x.shape[-1]}x{x.shape[-2]}."
        )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    batch = len(x)
    # One pass over five images is faster than five passes.
    moments = _blur(torch.cat([x, y, x * x, y * y, x * y]))
    mx, my, xx, yy, xy = moments.split(batch)
    contrast = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    similarity = (2 * mx * my + c1) / (mx * mx + my * my + c1) * contrast
    return similarity.mean(dim=(1, 2, 3)), contrast.mean(dim=(1, 2, 3))


def ssim(x: Tensor, y: Tensor, data_range: float = 255.0) -> Tensor:
    """Mean structural similarity [1]_ over the valid region, Gaussian window 11 / 1.5.

    Parameters
    ----------
    x, y : Tensor, shape (B, 1, H, W)
        Images on a scale of width `data_range`; H and W at least 11.
    data_range : float
        L of the stabilising constants (0.01 L)^2 and (0.03 L)^2.

    Returns
    -------
    Tensor, scalar
        Mean over the batch, in [-1, 1].

    Raises
    ------
    ImageError
        If a side is shorter than the window.
    """
    return _ssim_and_contrast(x, y, data_range)[0].mean()


def ms_ssim_released(x: Tensor, y: Tensor, data_range: float = 255.0) -> Tensor:
    """Multi-scale SSIM as the released Res2NetFuse (and DenseFuse) training computes it.

    Five levels, each half the size of the one before. It departs from [2]_ in two
    ways: every level's mean m is mapped to (m + 1) / 2, and the last level's
    similarity stands inside the product over the first four levels, so its exponent
    is 4 x 0.1333.

    Parameters
    ----------
    x, y : Tensor, shape (B, 1, H, W)
        Images on a scale of width `data_range`; H and W at least 176, so that the
        fifth level still holds the 11x11 window.

    Returns
    -------
    Tensor, scalar, in [0, 1].

    Raises
    ------
    ImageError
        If a side is too short.
    """
    levels = len(MS_SSIM_WEIGHTS)
    smallest = WINDOW * 2 ** (levels - 1)
    if min(x.shape[-2:]) < smallest:
        raise ImageError(
            f"MS-SSIM with {levels} levels needs images of at least {smallest}x{smallest} "
            f"pixels, not {x.shape[-1]}x{x.shape[-2]}."
        )
    product = x.new_ones(())
    for level, weight in enumerate(MS_SSIM_WEIGHTS):
        similarity, contrast = _ssim_and_contrast(x, y, data_range)
        if level == levels - 1:
            return product * ((similarity.mean() + 1) / 2) ** (weight * (levels - 1))
        product = product * ((contrast.mean() + 1) / 2) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    raise AssertionError("unreachable")


class LossParts(NamedTuple):
    """The two terms of equation 2 and their sum, scalars."""

    total: Tensor
    pixel: Tensor
    ssim: Tensor


class ReconstructionLoss(nn.Module):
    """The training loss of Res2NetFuse, equations 2 to 4.

    Parameters
    ----------
    variant : {"released", "paper"}
        ``paper``: mean squared error + 1 - SSIM. ``released``: the mean squared error
        is divided once more by C H W, so that next to nothing of it is left, and
        the similarity is `ms_ssim_released`. Gray levels 0..255, L = 255 in both.

    Raises
    ------
    UnknownName
        If the variant does not exist.
    """

    def __init__(self, variant: Literal["released", "paper"] = "released") -> None:
        super().__init__()
        if variant not in ("released", "paper"):
            raise unknown("loss variant", variant, ("released", "paper"))
        self.variant = variant

    def forward(self, output: Tensor, target: Tensor) -> LossParts:
        """Compare images (B, 1, H, W) of gray levels 0..255."""
        pixel = F.mse_loss(output, target)
        if self.variant == "released":
            pixel = pixel / target[0].numel()
            dissimilarity = 1 - ms_ssim_released(output, target)
        else:
            dissimilarity = 1 - ssim(output, target)
        return LossParts(pixel + dissimilarity, pixel, dissimilarity)
