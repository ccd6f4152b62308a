"""Res2NetFuse's training: its auto-encoder learns to reconstruct one image, or many.

Equations 2 to 4, with the two published schedules: 2000 iterations on one image, or four epochs
of 80,000 images in batches of four.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fusionlib.errors import FusionError
from fusionlib.losses import ReconstructionLoss
from fusionlib.metrics.structure import psnr
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.tiles import run_network

from .gradients import FastGradients
from .recipe import Descend, Moment, Option, Recipe, Stage, one_of
from .samples import Picture, resized, samples

__all__ = ["RECIPE", "Res2NetFuseRecipe", "stable_after", "training_psnr"]


class Res2NetFuseRecipe(Recipe):
    """Mean squared error and what structural similarity lacks to 1.

    Parameters
    ----------
    variant : {"released", "paper"}
        Which reading of Res2NetFuse: network and loss.
    learning_rate : float, optional
        Adam's, instead of the published 5e-4 for one image and 1e-4 for many.
    precision : {"single", "mixed"}
        mixed: gradients of convolutions in bfloat16; in single precision, with a warning, where
        the hardware has none. Made for CPUs.

    Raises
    ------
    UnknownName
        If there is no such variant.
    FusionError
        If the learning rate is not possible.
    """

    method = "res2netfuse"
    learns_from = "images"
    sampling = "resize"
    published = "one image, or 80,000 images, of COCO"
    options: ClassVar = {
        "variant": Option("released (default) or paper", str),
        "learning_rate": Option("published: 5e-4 (one image), 1e-4", float),
        "precision": Option("single or mixed (gradients in bfloat16)", one_of("single", "mixed")),
    }
    network: Res2NetFuse

    def __init__(
        self,
        variant: str = "released",
        learning_rate: float | None = None,
        precision: str = "single",
    ) -> None:
        super().__init__()
        if learning_rate is not None and not 0 < learning_rate <= 1:
            raise FusionError(
                f"the learning rate must be positive and at most 1, not {learning_rate}."
            )
        self.network = Res2NetFuse(variant)  # type: ignore[arg-type]
        self.loss = ReconstructionLoss(variant)
        self.learning_rate = learning_rate
        self.mixed = precision == "mixed"

    def reconstruct(
        self, images: tuple[Tensor], moment: Moment, descend: Descend
    ) -> dict[str, Tensor]:
        """Reconstruct gray levels 0..255."""
        (image,) = images
        parts = self.loss(self._output(image), image)
        descend(parts.total)
        return parts._asdict()

    def _output(self, image: Tensor) -> Tensor:
        if not self.mixed:
            return self.network(image)
        with FastGradients(half=True):
            return self.network(image)

    #: For one image.
    stages = (Stage("reconstruction", reconstruct, 2000, 1, 256, rates={"network": 5e-4}),)

    def schedule(self, count: int) -> tuple[Stage, ...]:
        """Return the published stage for one image, or for many."""
        (stage,) = self.stages
        if count > 1:
            many = 4 * 80_000 // 4
            stage = replace(stage, iterations=many, batch_size=4, rates={"network": 1e-4})
        if self.learning_rate is not None:
            stage = replace(stage, rates={"network": self.learning_rate})
        return (stage,)


RECIPE = Res2NetFuseRecipe


# ---------------------------------------------------------------- how well it went


def training_psnr(network: nn.Module, image: Picture, size: int = 256) -> float:
    """Return the PSNR of the reconstruction of a training image, as training saw it.

    Parameters
    ----------
    network : nn.Module
        An auto-encoder of gray levels 0..255.
    image : array or path
        Resized to size x size with nearest neighbour.
    size : int

    Returns
    -------
    float
        Decibel, peak 255, of the reconstruction clipped to 0..255 and truncated to 8 bits.
    """
    (levels,) = samples([image], "images")[0].read()
    target = resized(levels, size)
    output = run_network(network, [torch.from_numpy(target.astype(np.float32))[None, None]])
    return psnr(output.clamp(0, 255).floor()[0, 0].numpy().astype(np.uint8), target)


def stable_after(history: pd.DataFrame, fraction: float = 0.01) -> int:
    """Return the first iteration from which the total loss stays below a share of its start.

    Parameters
    ----------
    history : DataFrame
        `Training.history`.
    fraction : float
        The share of the first iteration's loss.

    Returns
    -------
    int
        Iteration, counted from 1; one more than the last if the loss never settles.
    """
    loss = history["total"].to_numpy()
    above = np.flatnonzero(loss >= fraction * loss[0])
    return int(above[-1]) + 2 if len(above) else 1
