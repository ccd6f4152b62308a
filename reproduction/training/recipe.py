"""What a recipe says of a method's training; `reproduction.training.loop` follows it."""

from __future__ import annotations

import importlib
import operator
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fusionlib.errors import FusionError, unknown
from fusionlib.weights import read_weights

from .samples import LearnsFrom

__all__ = [
    *("LARGE", "RECIPES", "Descend", "Moment", "Option", "Recipe", "Stage"),
    *("find_recipe", "halved", "one_of", "read_options", "two_epochs_of_80_000", "whole"),
]

#: Above any side of an image.
LARGE = 1 << 20

#: (B, 1, H, W), whole gray levels 0..255: one, or infrared and visible, and of labelled pairs the
#: object mask (0 or 255).
Images = tuple[Tensor, ...]
#: By name; "total" is among them.
Losses = dict[str, Tensor]
#: ``descend(loss, *parts)`` goes one step down a loss by the optimisers of parts of the recipe, or
#: of all parts of the stage.
Descend = Callable[..., None]


class Moment(NamedTuple):
    """Which iteration of a stage a step is, counted from 0, of how many, and its random draws."""

    random: np.random.Generator
    iteration: int
    iterations: int


def halved(times: int) -> Callable[[float, float], float]:
    """Keep a learning rate in `times` equal parts of a stage, each half the one before."""
    return lambda rate, progress: rate * 0.5 ** int(progress * times)


@dataclass(frozen=True)
class Stage:
    """A part of a training, with its published settings.

    ``step(recipe, images, moment, descend) -> losses`` is one iteration: `Images`, `Moment`,
    `Descend` and `Losses`, which go into the record.
    """

    name: str
    step: Callable[..., Losses]
    iterations: int
    batch_size: int
    #: Side of the squares that are cut or resized from images.
    size: int
    #: Dotted names of the submodules that are changed, each by an optimiser of its own, which it
    #: keeps from stage to stage -> the largest learning rate.
    rates: Mapping[str, float]
    #: ``fall(rate, progress)``: the rate after a share of the stage, 0 to below 1.
    fall: Callable[[float, float], float] = lambda rate, _: rate
    #: Largest 2-norm of the gradient of such a part.
    clip: float | None = None


def two_epochs_of_80_000(name: str, step: Callable[..., Losses], part: str) -> Stage:
    """Return the schedule that NestFuse, RFN-Nest and AEFusion share, in batches of four."""
    return Stage(name, step, 2 * 80_000 // 4, 4, 256, {part: 1e-4})


class Option(NamedTuple):
    """An argument of a recipe: what it is ``about``, how to ``read`` it from text or a path.

    ``read`` raises KeyError, ValueError, TypeError or FusionError.
    """

    about: str
    read: Callable[[Any], Any] = read_weights
    required: bool = False


class Recipe(nn.Module):
    """How a method is trained: all networks that take part, and the stages.

    Everything that training changes besides optimisers is in its parameters and buffers.
    """

    method: ClassVar[str]
    #: Single images, or an infrared and a visible one, with a mask of the objects or without.
    learns_from: ClassVar[LearnsFrom]
    #: Whether images are resized to squares with nearest neighbour, or squares are cut at random
    #: places, and also mirrored and turned by multiples of 90 degrees.
    sampling: ClassVar[Literal["resize", "crop", "crop and turn"]]
    #: Sides of squares that it can learn from.
    sizes: ClassVar[range] = range(1, LARGE)
    #: What the authors learnt from.
    published: ClassVar[str] = ""
    #: What the constructor takes, as `Option.read` gives it: of weights the tensors by name.
    options: ClassVar[Mapping[str, Option]] = {}
    stages: ClassVar[tuple[Stage, ...]]
    #: Where the training is not as published, whatever the settings.
    departures: tuple[str, ...] = ()
    #: The network that is wanted.
    network: Any
    #: Whether it computes in bfloat16 somewhere; set to False where the device has none.
    mixed: bool = False

    def schedule(self, count: int) -> tuple[Stage, ...]:
        """Return the stages that are published for so many images or pairs."""
        return self.stages

    def optimiser(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of a part; Adam, unless a recipe says otherwise."""
        return torch.optim.Adam(parameters)

    def trained(self) -> nn.Module:
        """Return the network whose weights are kept, as it is used."""
        return self.network


# ---------------------------------------------------------------- all of them

#: Modules here that are no method's recipe.
SHARED = {"gradients", "loop", "masks", "recipe", "samples"}

#: The methods that have a recipe.
RECIPES = tuple(
    module.name
    for module in pkgutil.iter_modules([str(Path(__file__).parent)])
    if module.name not in SHARED
)


def find_recipe(method: str) -> type[Recipe]:
    """Return the recipe of a method; UnknownName if there is none."""
    if method not in RECIPES:
        raise unknown("recipe", method, RECIPES)
    return importlib.import_module(f"{__package__}.{method}").RECIPE


# ---------------------------------------------------------------- options


def whole(value: Any) -> int:
    """Read a whole number."""
    return int(value) if isinstance(value, str) else operator.index(value)


def one_of(*names: str) -> Callable[[Any], str]:
    """Make a reader of one of some names."""
    return dict(zip(names, names, strict=True)).__getitem__


def read_options(kind: type[Recipe], options: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a recipe is given.

    FusionError if it does not take an option or its value, or needs one that is not given.
    """
    for name in options:
        if name not in kind.options:
            known = ", ".join(kind.options) or "none"
            raise FusionError(f"{kind.method} does not take {name!r}; its options: {known}.")
    for name, option in kind.options.items():
        if option.required and name not in options:
            raise FusionError(f"{kind.method} needs {name!r}: {option.about}.")
    return {name: _read_option(kind, name, value) for name, value in options.items()}


def _read_option(kind: type[Recipe], name: str, value: Any) -> Any:
    if isinstance(value, Mapping):  # weights that were read already
        return dict(value)
    about, read, _ = kind.options[name]
    try:
        return read(value)
    except FusionError:  # some are ValueErrors, too
        raise
    except (KeyError, ValueError, TypeError) as error:
        raise FusionError(
            f"{kind.method} cannot take {name!r} = {value}; it is: {about}."
        ) from error
