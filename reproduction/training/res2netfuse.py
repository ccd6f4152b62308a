"""Res2NetFuse's training: its auto-encoder learns to reconstruct one image, or many.

Equations 2 to 4, with the two published schedules: 2000 iterations on one image, or four epochs
of 80,000 images in batches of four.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from fusionlib.errors import FusionError
from fusionlib.losses import ReconstructionLoss
from fusionlib.metrics.structure import psnr
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.tiles import run_network

from .gradients import FastGradients
from .recipe import Descend, Images, Losses, Moment, Option, Recipe, Stage, one_of
from .samples import Picture, resized, samples


class Res2NetFuseRecipe(Recipe):
    """Mean squared error and what structural similarity lacks to 1."""

    method = "res2netfuse"
    learns_from = "images"
    sampling = "resize"
    published = "one image, or 80,000 images, of COCO"
    options: ClassVar = {
        "variant": Option("released (default) or paper", str),
        "learning_rate": Option("published: 5e-4 (one image), 1e-4", float),
        "precision": Option("single or mixed (gradients in bfloat16)", one_of("single", "mixed")),
    }

    def __init__(
        self,
        variant: Literal["released", "paper"] = "released",
        learning_rate: float | None = None,
        precision: str = "single",
    ) -> None:
        super().__init__()
        if learning_rate is not None and not 0 < learning_rate <= 1:
            raise FusionError(
                f"the learning rate must be positive and at most 1, not {learning_rate}."
            )
        self.network = Res2NetFuse(variant)
        self.loss = ReconstructionLoss(variant)
        self.learning_rate = learning_rate
        self.mixed = precision == "mixed"

    def reconstruct(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Reconstruct gray levels 0..255."""
        (image,) = images
        with FastGradients(half=True) if self.mixed else nullcontext():
            output = self.network(image)
        parts = self.loss(output, image)
        descend(parts.total)
        return parts._asdict()

    #: For one image.
    stages = (Stage("reconstruction", reconstruct, 2000, 1, 256, {"network": 5e-4}),)

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
    """Return the PSNR (decibel) of an auto-encoder's reconstruction of the image it learnt from.

    The image, an array or a path, is resized to size x size with nearest neighbour, as in training;
    the output is clipped to 0..255 and truncated to 8 bits.
    """
    (levels,) = samples([image], "images")[0].read()
    target = resized(levels, size)
    output = run_network(network, [torch.from_numpy(target.astype(np.float32))[None, None]])
    return psnr(output.clamp(0, 255).floor()[0, 0].numpy().astype(np.uint8), target)


def stable_after(history: pd.DataFrame, fraction: float = 0.01) -> int:
    """Return the first iteration from which the total loss stays below a share of its start.

    Of `Training.history`, counted from 1; one more than the last if the loss never settles.
    """
    loss = history["total"].to_numpy()
    above = np.flatnonzero(loss >= fraction * loss[0])
    return int(above[-1]) + 2 if len(above) else 1
