"""What a recipe says of a method's training; `reproduction.training.loop` follows it."""

from __future__ import annotations

import importlib
import operator
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fusionlib.errors import FusionError, unknown
from fusionlib.weights import digest, read_weights

from .samples import LearnsFrom

__all__ = [
    *("LARGE", "RECIPES", "Descend", "Moment", "Option", "Rate", "Recipe", "Stage"),
    *("find_recipe", "halved", "one_of", "rate_at", "read_options", "two_epochs_of_80_000"),
    "whole",
]

#: Above any side of an image.
LARGE = 1 << 20

#: A learning rate: constant, or a function of how much of the stage is done, 0 to 1.
Rate = float | Callable[[float], float]


class Moment(NamedTuple):
    """What a step may know of the iteration that it is.

    ``random`` draws for this iteration alone; ``iteration`` counts from 0, of ``iterations``
    of the stage.
    """

    random: np.random.Generator
    iteration: int
    iterations: int


class Descend(Protocol):
    """Changes parts of a recipe by one step down a loss."""

    def __call__(self, loss: Tensor, *parts: str) -> None:
        """Go down the gradient of `loss` by the optimisers of `parts`; none: of the stage's all."""


@dataclass(frozen=True)
class Stage:
    """A part of a training, with its published settings.

    Attributes
    ----------
    name : str
        What is learnt.
    step : callable
        ``step(recipe, images, moment, descend) -> losses``: one iteration. `images` are tensors
        (B, 1, H, W) of whole gray levels 0..255: one, or an infrared and a visible one, and of
        labelled pairs the object mask (0 or 255); `moment` is a `Moment`; `descend` is called for
        every update; the losses, "total" among them, go into the record under their names.
    iterations, batch_size, size : int
        As published; `size` is the side of the squares that are cut or resized from images.
    rates : mapping of str to Rate
        Parts of the recipe (dotted names of submodules) that are changed, each by an
        optimiser of its own, which it keeps from stage to stage.
    clip : float, optional
        Largest 2-norm of the gradient of a part.
    """

    name: str
    step: Callable[..., dict[str, Tensor]]
    iterations: int
    batch_size: int
    size: int
    rates: Mapping[str, Rate]
    clip: float | None = None


class Option(NamedTuple):
    """What else a recipe takes: what it is ``about``, and how to ``read`` it from text or a path.

    ``read`` raises ValueError, TypeError or FusionError.
    """

    about: str
    read: Callable[[Any], Any] = read_weights


class Recipe(nn.Module):
    """How a method is trained: all networks that take part, and the stages.

    Everything that training changes besides optimisers is in its parameters and buffers.

    Attributes
    ----------
    method : str
        Name of the method.
    learns_from : {"images", "pairs", "labelled pairs"}
        Single images, or an infrared and a visible one, with a mask of the objects or without.
    sampling : {"resize", "crop", "crop and turn"}
        Whether images are resized to squares with nearest neighbour, or squares are cut at
        random places, and also mirrored and turned by multiples of 90 degrees.
    sizes : range
        Sides of squares that it can learn from.
    published : str
        What the authors learnt from.
    stages : tuple of Stage
        In order.
    options : mapping of str to Option
        What the constructor takes, as `Option.read` gives it: of weights the tensors by name.
    required : tuple of str
        The options that must be given.
    departures : tuple of str
        Where the training is not as published, whatever the settings.
    network : nn.Module
        The network that is wanted.
    mixed : bool
        Whether it computes in bfloat16 somewhere; set to False where the device has none.
    """

    method: ClassVar[str]
    learns_from: ClassVar[LearnsFrom]
    sampling: ClassVar[Literal["resize", "crop", "crop and turn"]]
    sizes: ClassVar[range] = range(1, LARGE)
    published: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Option]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    stages: ClassVar[tuple[Stage, ...]]
    departures: tuple[str, ...] = ()
    network: nn.Module
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
SHARED = {"dictionary", "gradients", "loop", "masks", "recipe", "samples"}

#: The methods that have a recipe.
RECIPES = tuple(
    module.name
    for module in pkgutil.iter_modules([str(Path(__file__).parent)])
    if module.name not in SHARED
)


def find_recipe(method: str) -> type[Recipe]:
    """Return the recipe of a method.

    Raises
    ------
    UnknownName
        If there is none.
    """
    if method not in RECIPES:
        raise unknown("recipe", method, RECIPES)
    return importlib.import_module(f"{__package__}.{method}").RECIPE


# ---------------------------------------------------------------- options


def whole(value: Any) -> int:
    """Read a whole number; ValueError or TypeError if it is none."""
    return int(value) if isinstance(value, str) else operator.index(value)


def one_of(*names: str) -> Callable[[Any], str]:
    """Make a reader of one of some names; ValueError for any other."""

    def read(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return read


def read_options(
    kind: type[Recipe], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, object]]:
    """Read what a recipe is given; return what its constructor takes, and what identifies that.

    Raises
    ------
    FusionError
        If the recipe does not take an option or its value, or needs one that is not given.
    """
    for name in options:
        if name not in kind.options:
            known = ", ".join(kind.options) or "none"
            raise FusionError(f"{kind.method} does not take {name!r}; its options: {known}.")
    for name in kind.required:
        if name not in options:
            raise FusionError(f"{kind.method} needs {name!r}: {kind.options[name].about}.")
    values = {name: _read_option(kind, name, value) for name, value in options.items()}
    identities = {
        name: f"sha256 {digest(value)}" if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return values, identities


def _read_option(kind: type[Recipe], name: str, value: Any) -> Any:
    if isinstance(value, Mapping):  # weights that were read already
        return dict(value)
    option = kind.options[name]
    try:
        return option.read(value)
    except FusionError:  # some are ValueErrors, too
        raise
    except (ValueError, TypeError) as error:
        raise FusionError(
            f"{kind.method} cannot take {name!r} = {value}; it is: {option.about}."
        ) from error


# ---------------------------------------------------------------- schedules


def two_epochs_of_80_000(name: str, step: Callable[..., dict[str, Tensor]], part: str) -> Stage:
    """Return the schedule that NestFuse, RFN-Nest and AEFusion share, in batches of four.

    Parameters
    ----------
    name, step
        As of `Stage`.
    part : str
        What is changed, at a constant rate.
    """
    return Stage(name, step, iterations=2 * 80_000 // 4, batch_size=4, size=256, rates={part: 1e-4})


def halved(rate: float, times: int) -> Callable[[float], float]:
    """Make a learning rate that is constant in `times` equal parts, each half the one before."""
    return lambda progress: rate * 0.5 ** int(progress * times)


def rate_at(rate: Rate, progress: float) -> float:
    """Return a learning rate after the fraction `progress` of a stage."""
    return rate(progress) if callable(rate) else rate
