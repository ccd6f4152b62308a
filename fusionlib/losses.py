"""Training losses, and the measures that several are made of.

Images, and what is computed at each of their pixels, are tensors of shape (B, 1, H, W); means over
the batch are scalars.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
   visibility to structural similarity", 2004, doi 10.1109/TIP.2003.819861.
.. [2] Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multiscale structural similarity for image quality
   assessment", 2003, doi 10.1109/ACSSC.2003.1292216.
.. [3] K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image
   recognition", ICLR 2015, doi 10.48550/arXiv.1409.1556.
.. [4] C. Song et al., "RefineFuse", Visual Intelligence 3, 2025, doi 10.1007/s44267-025-00087-w.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ImageError, PairMismatch, WeightsMismatch, unknown

__all__ = [
    *("FusionLoss", "FusionLossParts", "LossParts", "ReconstructionLoss", "VGGFeatures"),
    *("contrast_mask", "correlation", "laplacian", "local_contrast", "ms_ssim_released", "sobel"),
    *("sobel_gradients", "source_masks", "tensor_ssim", "tensor_ssim_map", "texture_loss"),
]

WINDOW, SIGMA = 11, 1.5
#: Width of the scale of gray levels.
GRAY_LEVELS = 255.0
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _blur(x: Tensor, window: int = WINDOW, padding: int = 0) -> Tensor:
    """Separable Gaussian of `window` taps, sigma 1.5; the valid region of the zero-padded image.

    As two products with banded matrices: on a CPU ten times as fast as convolutions of one channel.
    """
    # A band of 1024 takes 4 MiB in float32; larger ones are not kept.
    band = _band if max(x.shape[-2:]) <= 1024 else _band.__wrapped__
    down, along = (band(side, window, padding, x.dtype, x.device) for side in x.shape[-2:])
    return down @ (x @ along.T)


@lru_cache(maxsize=16)  # two sides of five levels, the same in each iteration of a training
@torch.inference_mode(False)  # what is kept may be used with gradients later
def _band(side: int, window: int, padding: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrix (side + 2 padding - window + 1, side) that blurs along an axis."""
    offsets = torch.arange(window, dtype=dtype, device=device) - window // 2
    taps = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    padded = F.pad(taps / taps.sum(), (0, side + 2 * padding - window))
    columns = torch.arange(len(padded), device=device)
    places = columns - columns[: side + 2 * padding - window + 1, None]
    # Row i is `padded`, moved on by i.
    return (padded[places.clamp(min=0)] * (places >= 0))[:, padding : padding + side]


def _similarity_maps(
    x: Tensor, y: Tensor, data_range: float, window: int = WINDOW, padding: int = 0
) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure term at each place of the window."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # Few passes are faster than five; what y gives alone mostly needs no gradient.
    mx, xx, xy = _blur(torch.cat([x, x * x, x * y]), window, padding).split(len(x))
    my, yy = _blur(torch.cat([y, y * y]), window, padding).split(len(x))
    contrast = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    similarity = (2 * mx * my + c1) / (mx * mx + my * my + c1) * contrast
    return similarity, contrast


def _check_sides(x: Tensor, least: int, what: str) -> None:
    height, width = x.shape[-2:]
    if min(height, width) < least:
        raise ImageError(
            f"{what} needs images of at least {least}x{least} pixels, not {width}x{height}."
        )


def tensor_ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Mean structural similarity [1], in [-1, 1], over the valid region, Gaussian window 11 / 1.5.

    Parameters
    ----------
    x, y : Tensor
        H and W at least 11, else `ImageError`.
    data_range : float
        Width of the images' scale, L of the stabilising constants (0.01 L)^2 and (0.03 L)^2: 255
        for gray levels, 1 for 0..1.
    """
    _check_sides(x, WINDOW, "SSIM")
    return _similarity_maps(x, y, data_range)[0].mean()


def tensor_ssim_map(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Structural similarity at every pixel, the images continued by zeros; see `tensor_ssim`.

    As kornia 0.2 (CDDFuse) and pytorch-ssim (SwinFusion) compute it.
    """
    return _similarity_maps(x, y, data_range, padding=WINDOW // 2)[0]


def ms_ssim_released(x: Tensor, y: Tensor, *, small: bool = False) -> Tensor:
    """Multi-scale SSIM, in [0, 1], as the released Res2NetFuse, DenseFuse and NestFuse train.

    Five levels, each half the size of the one before. It departs from [2] in two ways: every
    level's mean m is mapped to (m + 1) / 2, and the last level's similarity stands inside the
    product over the first four levels, so its exponent is 4 x 0.1333.

    Parameters
    ----------
    x, y : Tensor
        Gray levels 0..255; H and W at least 176, so that the fifth level still holds the window,
        else `ImageError`.
    small : bool
        Whether smaller images, from 16x16 on, are taken too: the window is then cut to the
        size of a level that cannot hold it, as the released code does.
    """
    levels = len(MS_SSIM_WEIGHTS)
    least = (1 if small else WINDOW) * 2 ** (levels - 1)
    _check_sides(x, least, f"MS-SSIM with {levels} levels")
    product = x.new_ones(())
    for level, weight in enumerate(MS_SSIM_WEIGHTS):
        window = min(WINDOW, *x.shape[-2:])
        similarity, contrast = _similarity_maps(x, y, GRAY_LEVELS, window)
        last = level == levels - 1
        mean = (similarity if last else contrast).mean()
        product = product * ((mean + 1) / 2) ** (weight * level if last else weight)
        if not last:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


def _filter(x: Tensor, *kernels: list[list[float]], mode: str = "constant") -> Tensor:
    """Correlate with 3x3 kernels, a channel each; `mode` says how the image is continued."""
    weights = torch.tensor(kernels, dtype=x.dtype, device=x.device)[:, None]
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), weights)


_ACROSS = [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
_DOWN = [[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]]
_LAPLACE = [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]


def sobel(x: Tensor) -> Tensor:
    """Sum of the magnitudes of both Sobel derivatives, the image continued by zeros.

    Kernels of 1, 2, 1, not scaled.
    """
    return _filter(x, _ACROSS, _DOWN).abs().sum(dim=1, keepdim=True)


def sobel_gradients(x: Tensor) -> Tensor:
    """Both Sobel derivatives, scaled by 1/8, the image continued by its border; (B, 2, H, W).

    Across and down, as kornia's ``SpatialGradient`` gives them.
    """
    return _filter(x, _ACROSS, _DOWN, mode="replicate") / 8


def laplacian(x: Tensor) -> Tensor:
    """Sum of the four neighbours minus four times the pixel, the image continued by zeros."""
    return _filter(x, _LAPLACE)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Mean correlation coefficient, in [-1, 1], of the channels of feature maps (B, C, H, W).

    That with a constant map counts as 0.
    """
    x, y = (z.flatten(2) - z.flatten(2).mean(dim=-1, keepdim=True) for z in (x, y))
    eps = torch.finfo(torch.float32).eps  # as the authors of CDDFuse keep it finite
    coefficients = (x * y).sum(-1) / (eps + x.norm(dim=-1) * y.norm(dim=-1))
    return coefficients.clamp(-1, 1).mean()


class VGGFeatures(nn.Module):
    """The features of VGG-16 [3] before each of its first four poolings.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Trained weights under torchvision's names, ``features.0.weight`` and so on, without later
        layers'; `WeightsMismatch` if one is missing or has another shape.
    """

    # Channels around the convolutions of each block.
    BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512))
    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in self.BLOCKS:
            for channels_in, channels in pairwise(block):
                layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        wanted = self.state_dict()
        faults = [n for n, t in wanted.items() if n not in tensors or tensors[n].shape != t.shape]
        if faults:
            raise WeightsMismatch(
                f"these are not torchvision's weights of VGG-16: {', '.join(faults)} missing or "
                "of another shape. Convert its state dict to safetensors, names kept."
            )
        self.load_state_dict({name: tensors[name].float() for name in wanted})
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn gray levels (B, 1, H, W) in 0..255 into features of 64, 128, 256, 512 channels.

        The image is put into all three colours and normalised as VGG's training images were.
        """
        mean, std = (image.new_tensor(v).view(1, 3, 1, 1) for v in (self.MEAN, self.STD))
        x = (image / 255 - mean) / std
        features = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                features.append(x)
            x = layer(x)
        return [*features, x]


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
    """

    def __init__(self, variant: str = "released") -> None:
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
            dissimilarity = 1 - tensor_ssim(output, target, GRAY_LEVELS)
        return LossParts(pixel + dissimilarity, pixel, dissimilarity)


def texture_loss(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Mean distance of the fused gradients to the larger of the images', equation 8 of [4].

    A gradient is the sum of the magnitudes of both Sobel derivatives, with kernels of 1, 2, 1 that
    are not scaled: eight times the change of brightness from pixel to pixel. The image is continued
    by its border: zeros would make its edge a gradient.
    """
    of_fused, of_ir, of_vis = (8 * sobel_gradients(x).abs().sum(1) for x in (fused, ir, vis))
    return F.l1_loss(of_fused, torch.maximum(of_ir, of_vis))


def local_contrast(image: Tensor, window: int = 11) -> Tensor:
    """Squared difference of each pixel from the mean in an odd `window`, border continued."""
    padded = F.pad(image, (window // 2,) * 4, mode="replicate")
    return (image - F.avg_pool2d(padded, window, stride=1)).square()


def contrast_mask(ir: Tensor, vis: Tensor) -> Tensor:
    """Tell, as bool, where the infrared image has the higher contrast; both are on one scale."""
    return local_contrast(ir) > local_contrast(vis)


def source_masks(ir: Tensor, vis: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Return M_ir and M_vis of equation 6, for images on one scale; `objects` are bool.

    M_ir is 1 at objects and where the infrared contrast is higher, M_vis at the other pixels.
    So exactly one of them is 1 everywhere: also where the contrasts are equal, which the paper
    leaves open, and where "non-salient regions and high-contrast regions in the visible image"
    may be read as either of the two, which would make both 1 at most pixels.
    """
    if not ir.shape == vis.shape == objects.shape:
        raise PairMismatch(
            f"images of {tuple(ir.shape)} and {tuple(vis.shape)} and objects of "
            f"{tuple(objects.shape)} do not belong together; all need one shape (B, 1, H, W)."
        )
    follow_ir = (objects | contrast_mask(ir, vis)).to(ir.dtype)
    return follow_ir, 1 - follow_ir


class FusionLossParts(NamedTuple):
    """The two terms of RefineFuse's equation 9 and their weighted sum, scalars."""

    total: Tensor
    intensity: Tensor
    texture: Tensor


class FusionLoss(nn.Module):
    """The training loss of RefineFuse, equations 6 to 11 of [4].

    Parameters
    ----------
    intensity : {"masked", "plain", "maximum"}
        What the brightness is compared with: with the image that `source_masks` chooses at
        each pixel (equation 7), with both (10), or with the brighter (11).
    texture_weight : float
        Lambda of equation 9; 5 as published.
    """

    INTENSITIES = ("masked", "plain", "maximum")

    def __init__(self, intensity: str = "masked", texture_weight: float = 5.0) -> None:
        super().__init__()
        if intensity not in self.INTENSITIES:
            raise unknown("intensity loss", intensity, self.INTENSITIES)
        self.intensity = intensity
        self.texture_weight = texture_weight

    def forward(
        self, fused: Tensor, ir: Tensor, vis: Tensor, objects: Tensor, share: float = 1.0
    ) -> FusionLossParts:
        """Compare images in 0..1; `objects` are bool, `share` multiplies the texture's weight."""
        if self.intensity == "maximum":
            intensity = F.l1_loss(fused, torch.maximum(ir, vis))
        else:
            ir_distance, vis_distance = (fused - ir).abs(), (fused - vis).abs()
            if self.intensity == "masked":
                ir_mask, vis_mask = source_masks(ir, vis, objects)
                ir_distance, vis_distance = ir_mask * ir_distance, vis_mask * vis_distance
            intensity = ir_distance.mean() + vis_distance.mean()
        texture = texture_loss(fused, ir, vis)
        total = intensity + share * self.texture_weight * texture
        return FusionLossParts(total, intensity, texture)
