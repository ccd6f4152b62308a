"""RefineFuse's training: the chosen image's brightness and the larger gradient.

As the paper tells it: 256x256 squares of MSRS's training pairs, turned and mirrored, in batches of
8, stochastic gradient descent from a learning rate of 1e-3, 300 epochs, lambda = 5. It leaves open

- the optimiser's momentum: none here, unless the option "momentum" gives it;
- what "initial" learning rate means: it falls to zero along half a cosine here, after a rise
  over a twentieth of the iterations, without which Adam leaves the last layer dead where the
  loss is that of setting A;
- how pixels are compared with their surroundings, and the masks where neither image or both are
  wanted: `reproduction.training.masks`;
- gradients: `fusionlib.losses.texture_loss`.

Adam at the published rate may learn to turn dark into bright before it learns brightness, and stay
with it: the size of a gradient does not tell its sign, and texture weighs five times as much. The
option "rise" lets texture's weight grow from an eighth over a share of the iterations first.

The objects of MSRS are those of its boxes, since its segmentation labels are not to be had here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusionlib.errors import FusionError
from fusionlib.losses import FusionLoss
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.weights import load_state

from .recipe import LARGE, Descend, Images, Losses, Moment, Option, Recipe, Stage, one_of, whole

#: Loss settings of Table 8 -> how each is built.
SETTINGS: Mapping[str, Callable[[], FusionLoss]] = {
    "ours": FusionLoss,
    "A": lambda: FusionLoss("plain"),
    "B": lambda: FusionLoss("maximum"),
    "C": lambda: FusionLoss("masked", texture_weight=0),
}
PAIRS, BATCH, EPOCHS = 1083, 8, 300
#: Of its value, the texture's weight where it rises.
FIRST_SHARE = 1 / 8
#: Share of the iterations in which the learning rate rises.
WARM_UP = 1 / 20

#: Reads whether a module is there.
switch = {"on": True, "off": False, True: True, False: False}.__getitem__


def warm_cosine(rate: float, progress: float) -> float:
    """Rise to a learning rate, then fall to zero along half a cosine."""
    return min(1, progress / WARM_UP) * rate * (1 + math.cos(math.pi * progress)) / 2


class RefineFuseRecipe(Recipe):
    """Brightness of the image that the masks choose, the larger of both gradients.

    The loss, RefineFuse's parts, how it learns and from which weights are the `options`.
    """

    method = "refinefuse"
    learns_from = "labelled pairs"
    sampling = "crop and turn"
    sizes = range(16, LARGE)
    published = "256x256 squares of 1083 pairs of MSRS with segmentation labels"
    departures = (
        "Objects are from boxes (their bright infrared pixels) or from given masks, not from "
        "MSRS's segmentation labels.",
    )
    options: ClassVar = {
        "setting": Option("loss of Table 8: ours, A, B or C", one_of(*SETTINGS)),
        "scales": Option("1 to 5, published: 4", whole),
        "sfim": Option("shallow modules: on or off", switch),
        "psim": Option("deep modules: on or off", switch),
        "fim": Option("module between deep and shallow: on or off", switch),
        "optimiser": Option("sgd, as published, or adam", one_of("sgd", "adam")),
        "momentum": Option("of sgd, 0 to below 1; not published, default 0", float),
        "rise": Option("share of the iterations in which the texture's weight rises", float),
        "precision": Option("single or mixed (bfloat16)", one_of("single", "mixed")),
        "start": Option("weights to begin with"),
    }

    def __init__(
        self,
        setting: str = "ours",
        scales: int = 4,
        sfim: bool = True,
        psim: bool = True,
        fim: bool = True,
        optimiser: str = "sgd",
        momentum: float = 0.0,
        rise: float = 0.0,
        precision: str = "single",
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise FusionError(f"the momentum must be 0 to below 1, not {momentum}.")
        if not 0 <= rise <= 1:
            raise FusionError(
                f"the texture's weight can rise in a share of 0 to 1 of the iterations, not {rise}."
            )
        self.network = RefineFuse(scales, sfim=sfim, psim=psim, fim=fim)
        if start is not None:
            load_state(self.network, dict(start), "the weights to begin with")
        self.loss = SETTINGS[setting]()
        self.adam, self.momentum, self.rise = optimiser == "adam", momentum, rise
        self.mixed = precision == "mixed"

    def optimiser(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return stochastic gradient descent or Adam."""
        if self.adam:
            return torch.optim.Adam(parameters)
        return torch.optim.SGD(parameters, momentum=self.momentum)

    def fuse(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Fuse images of gray levels 0..255."""
        ir, vis, objects = (image / 255 for image in images)
        with torch.autocast(ir.device.type, torch.bfloat16, enabled=self.mixed):
            fused = self.network(ir, vis)
        parts = self.loss(fused, ir, vis, objects > 0, self._share(moment))
        descend(parts.total)
        return parts._asdict()

    def _share(self, moment: Moment) -> float:
        """Return the part of its weight that texture has by now."""
        rising = self.rise * moment.iterations
        if moment.iteration >= rising:
            return 1.0
        return float(FIRST_SHARE ** (1 - moment.iteration / rising))

    stages = (
        Stage(
            *("fusion", fuse, EPOCHS * (PAIRS // BATCH), BATCH, 256),
            {"network": 1e-3},
            warm_cosine,
        ),
    )


RECIPE = RefineFuseRecipe
