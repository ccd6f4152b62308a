"""Training networks: one engine for all recipes, on one process or many.

A run is a pure function of its images and its settings. Stopped and started again with the
same checkpoint file it continues, and on the same machine with the same number of threads it
ends with the same weights, bit for bit, as an uninterrupted run. What a method learns and how
is its recipe, in `reproduction.recipes`; Res2NetFuse's, which one image is enough for, is here.
"""

from __future__ import annotations

import copy
import io
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.errors import FusionError, unknown
from fusionlib.files import atomic_file
from fusionlib.losses import ReconstructionLoss
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.metrics.structure import psnr
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.pairs import Dataset
from fusionlib.tiles import check_device, has_bfloat16, run_network
from fusionlib.weights import digest, training_facts

from .gradients import FastGradients
from .recipes import find_recipe
from .recipes.recipe import Descend, Moment, Recipe, Stage, rate_at
from .recipes.samples import Batch, Picture, Sample, batches, fingerprint, resized, samples

__all__ = [
    "MANY_IMAGES",
    "ONE_IMAGE",
    "Training",
    "TrainingConfig",
    "check_seed",
    "stable_after",
    "train_res2netfuse",
    "train_by_recipe",
    "training_psnr",
]


class Training(NamedTuple):
    """A finished run.

    Attributes
    ----------
    network : nn.Module
        The trained network, on the CPU.
    history : DataFrame
        One row per iteration: of a recipe first "stage"; "iteration" (from 1, in each stage);
        then the losses, NaN where a stage has not that one; then, if anything was held out, the
        losses on that as "held out ...", NaN where they were not computed.
    facts : dict
        What a weight file should say of its training.
    """

    network: nn.Module
    history: pd.DataFrame
    facts: dict[str, object]


# ---------------------------------------------------------------- Res2NetFuse


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of training Res2NetFuse, besides the images.

    Attributes
    ----------
    variant : {"released", "paper"}
        Which reading of Res2NetFuse: network and loss.
    iterations : int
        Optimiser steps.
    learning_rate : float
        Adam's learning rate.
    batch_size : int
        Images per step, over all processes together.
    size : int
        Images are resized to size x size with nearest neighbour, as published.
    seed : int
        Decides the initial weights and the order of images.
    precision : {"single", "mixed"}
        mixed: gradients of convolutions in bfloat16; in single precision, with a warning, where
        the hardware has none. Made for CPUs.
    """

    variant: Literal["released", "paper"] = "released"
    iterations: int = 2000
    learning_rate: float = 5e-4
    batch_size: int = 1
    size: int = 256
    seed: int = 0
    precision: Literal["single", "mixed"] = "single"

    def __post_init__(self) -> None:
        if self.precision not in ("single", "mixed"):
            raise unknown("precision of training", self.precision, ("single", "mixed"))
        for name in ("iterations", "batch_size", "size"):
            _check_count(name, getattr(self, name))
        check_seed(self.seed)
        if not 0 < self.learning_rate <= 1:
            raise FusionError(
                f"the learning rate must be positive and at most 1, not {self.learning_rate}."
            )


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise FusionError(f"{name} must be at least 1, not {value}.")


def check_seed(seed: int) -> None:
    """Make sure that a number can be a seed.

    Raises
    ------
    FusionError
        If it is negative or 2**63 or more.
    """
    if not 0 <= seed < 2**63:
        raise FusionError(f"the seed must be 0 to 2**63 - 1, not {seed}.")


#: The published schedule for one image.
ONE_IMAGE = TrainingConfig()
#: The published schedule for 80,000 images: 4 epochs in batches of 4.
MANY_IMAGES = TrainingConfig(iterations=80_000, learning_rate=1e-4, batch_size=4)


class _Reconstruction(Recipe):
    """Res2NetFuse's recipe: equations 2 to 4."""

    method = "res2netfuse"
    learns_from = "images"
    sampling = "resize"
    network: Res2NetFuse

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.network = Res2NetFuse(config.variant)
        self.loss = ReconstructionLoss(config.variant)
        self.mixed = config.precision == "mixed"

    def reconstruct(
        self, images: tuple[Tensor], moment: Moment, descend: Descend
    ) -> dict[str, Tensor]:
        (image,) = images
        parts = self.loss(self._output(image), image)
        descend(parts.total)
        return parts._asdict()

    def _output(self, image: Tensor) -> Tensor:
        if not self.mixed:
            return self.network(image)
        with FastGradients(half=True):
            return self.network(image)


def train_res2netfuse(
    images: Sequence[Picture | Dataset],
    config: TrainingConfig = ONE_IMAGE,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 200,
    device: str = "cpu",
    progress: bool = True,
) -> Training:
    """Train Res2NetFuse to reconstruct images.

    Under ``torchrun`` every process takes its share of each batch and gradients are
    averaged; process 0 writes checkpoints and shows progress.

    Parameters
    ----------
    images : sequence of arrays, paths or data sets
        Gray (H, W) or RGB (H, W, 3) images in [0, 1] or uint8, files of them, or data sets of
        single images; one image for the published one-image training.
    config : TrainingConfig
        `ONE_IMAGE` and `MANY_IMAGES` are the published schedules.
    checkpoint : path, optional
        Written every `every` iterations, when interrupted and at the end; where it
        exists already, the run continues from it.
    every : int
        Iterations between checkpoints.
    device : str
        "cpu" or "cuda".
    progress : bool
        Whether to show a progress bar with the losses.

    Returns
    -------
    Training
        Its history has the columns iteration, total, pixel, ssim.

    Raises
    ------
    FusionError
        If there is no image, the batch cannot be shared evenly among the processes, the
        checkpoint belongs to another run, the device cannot be used, or the loss is no longer
        finite.
    ImageError
        If an image cannot be read or used.
    """
    given = samples(images, "images")
    settings: dict[str, object] = {
        "method": "res2netfuse",
        "variant": config.variant,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
    }
    if config.precision == "mixed":
        settings["precision"] = "gradients in bfloat16"
    setup = _Setup(lambda: _Reconstruction(config), settings, given, config.seed, device)
    sizes = (config.iterations, config.batch_size, config.size)
    rates = {"network": config.learning_rate}
    stage = Stage(
        "reconstruction", _Reconstruction.reconstruct, *sizes, rates=rates, extensible=True
    )
    plan = _Plan(stage, *sizes)
    _check_plans(setup, [plan], every)
    run = _follow(setup, [plan], _path(checkpoint), every=every, progress=progress)
    names = ", ".join(sample.name for sample in given)
    facts = training_facts({**asdict(config), "images": names, **run.arithmetic_facts()}, device)
    history = run.history().drop(columns="stage")
    return Training(run.recipe.trained().cpu(), history, facts)


def training_psnr(network: nn.Module, image: Picture, size: int = 256) -> float:
    """Return the PSNR of the reconstruction of a training image, as training saw it.

    Parameters
    ----------
    network : nn.Module
        An auto-encoder of gray levels 0..255.
    image : array or path
        As for `train_res2netfuse`; resized to size x size with nearest neighbour.
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


# ---------------------------------------------------------------- any recipe


def train_by_recipe(
    method: str,
    data: Sequence[Any],
    *,
    budget: float | None = None,
    iterations: int | None = None,
    batch_size: int | None = None,
    size: int | None = None,
    rate_factor: float = 1.0,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    hold_out: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 200,
    device: str = "cpu",
    progress: bool = True,
) -> Training:
    """Train a method by its recipe; without further settings as published.

    Parameters
    ----------
    method : str
        One of `reproduction.recipes.RECIPES`.
    data : sequence
        Images or pairs, whichever the method learns from; see
        `reproduction.recipes.samples.samples`.
    budget : float, optional
        Minutes that the training may take. The time of an iteration is measured first, then
        the number of iterations is fixed and kept in the checkpoint.
    iterations : int, optional
        Over all stages. With either the stages see as many samples in proportion as published,
        and learning rates fall in proportion.
    batch_size, size : int, optional
        Instead of every stage's published ones.
    rate_factor : float
        By what published learning rates are multiplied: a short training may need larger ones.
    seed : int
        Decides the initial weights, the order of samples and whatever else is drawn.
    options : mapping, optional
        What the recipe's `Recipe.options` names; weights also as a path, numbers as text.
    hold_out : int, optional
        Every so many-th image or pair, from the first on, is not learnt from; the losses on as many
        of them as fill batches are computed every `every` iterations and after the last of a stage,
        always on the same squares.
    checkpoint : path, optional
        Written every `every` iterations, when interrupted and at the end; where it exists
        already, the run continues from it, with its numbers of iterations unless
        `iterations` is given, whatever the budget.
    every : int
        Iterations between checkpoints.
    device : str
        "cpu" or "cuda".
    progress : bool
        Whether to show a progress bar with the losses, and what a checkpoint decides.

    Returns
    -------
    Training

    Raises
    ------
    UnknownName
        If there is no recipe of that name.
    FusionError
        If there is nothing to learn from, or the other kind; a setting or an option is not
        possible; the budget does not suffice, or comes after the end; the checkpoint belongs to
        another run; the device cannot be used; a loss is no longer finite.
    ImageError
        If an image cannot be read or used.
    """
    kind = find_recipe(method)
    given, held_out = _apart(kind, samples(data, kind.learns_from), hold_out)
    counts = {"iterations": iterations, "batch_size": batch_size, "size": size}
    _check_settings(kind, counts, rate_factor, budget)
    check_seed(seed)
    tensors, identities = _read_options(kind, options or {})
    settings = {"method": method, "seed": seed, "rate_factor": rate_factor, **identities}
    if held_out:
        settings |= {"hold_out": hold_out, "every": every}
    setup = _Setup(lambda: kind(**tensors), settings, given, seed, device, rate_factor, held_out)
    plans = [
        _Plan(
            stage,
            stage.iterations,
            min(batch_size or stage.batch_size, len(given)),
            size or stage.size,
        )
        for stage in kind.stages
    ]
    _check_plans(setup, plans, every)
    path = _path(checkpoint)
    found = _read_checkpoint(path) if path is not None and path.exists() else None
    if iterations is not None:
        plans = _shared_out(plans, [iterations * share for share in _shares(plans)])
    elif found is not None:
        plans = _as_begun(plans, found)
        _check_budget(budget, found, path)
        if progress and setup.rank == 0:
            kept = "" if budget is None else "; the budget does not change them"
            total = sum(plan.iterations for plan in plans)
            tqdm.write(f"continuing {path}: {total} iterations as begun{kept}", file=sys.stderr)
    elif budget is not None:
        plans = _fit(plans, setup, budget, every)
    run = _follow(setup, plans, path, every=every, progress=progress)
    return Training(run.recipe.trained().cpu(), run.history(), training_facts(_about(run), device))


def _apart(
    kind: type[Recipe], given: list[Sample], hold_out: int | None
) -> tuple[list[Sample], list[Sample]]:
    """Return what is learnt from and what is held out."""
    if hold_out is None:
        return given, []
    if not 2 <= hold_out <= len(given):
        raise FusionError(
            f"of {len(given)} {kind.learns_from} every {hold_out}th cannot be held out; give "
            f"2 to {len(given)}, or none."
        )
    learnt = [sample for number, sample in enumerate(given) if number % hold_out]
    return learnt, given[::hold_out]


def _check_settings(
    kind: type[Recipe], counts: Mapping[str, int | None], rate_factor: float, budget: float | None
) -> None:
    """Make sure that a recipe can be followed with these settings."""
    for name, value in counts.items():
        if value is not None:
            _check_count(name, value)
    size = counts["size"]
    if size is not None and size not in kind.sizes:
        raise FusionError(
            f"{kind.method} cannot learn from squares of {size}, {_text(kind.sizes)}."
        )
    fastest = max(
        rate_at(rate, progress)
        for stage in kind.stages
        for rate in stage.rates.values()
        for progress in np.linspace(0, 1, 101)
    )
    if not 0 < rate_factor * fastest <= 1:
        raise FusionError(
            f"the factor of learning rates must be positive and at most {1 / fastest:g}, which "
            f"makes them 1, not {rate_factor}."
        )
    if budget is not None and not 0 < budget < np.inf:
        raise FusionError(f"the budget must be positive minutes, not {budget}.")


def _check_budget(budget: float | None, found: dict[str, Any], path: Path | None) -> None:
    if budget is not None and _finished(found):
        raise FusionError(
            f"the training of the checkpoint {path} is finished, there is nothing left to "
            "fit into a budget. Leave it out to get the weights again, or name another file."
        )


def _about(run: _Run) -> dict[str, object]:
    """Tell what was done, for the weight file."""
    setup, recipe = run.setup, run.recipe
    sources = ", ".join(dict.fromkeys(sample.source for sample in setup.given))
    learnt_from = (
        f"{len(setup.given)} {recipe.learns_from} of {sources} (published: {recipe.published})"
    )
    if setup.held_out:
        learnt_from += f"; {len(setup.held_out)} more held out"
    return {
        "learnt_from": learnt_from,
        "stages": "; ".join(map(str, run.plans)),
        **setup.settings,
        **run.arithmetic_facts(),
        "minutes": round(run.seconds / 60, 1),
        "departures": " ".join(recipe.departures),
    }


def _text(sizes: range) -> str:
    if len(sizes) == 1:
        return f"only of {sizes.start}"
    return f"only of {sizes.start} and more" + f" by {sizes.step}" * (sizes.step > 1)


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _read_options(
    kind: type[Recipe], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, object]]:
    """Read files among a recipe's options; return what it takes, and what identifies that."""
    for name in options:
        if name not in kind.options:
            known = ", ".join(kind.options) or "none"
            raise FusionError(f"{kind.method} does not take {name!r}; its options: {known}.")
    for name in kind.required:
        if name not in options:
            raise FusionError(f"{kind.method} needs {name!r}: {kind.options[name].about}.")
    values = {
        name: value if isinstance(value, Mapping) else _read_option(kind, name, value)
        for name, value in options.items()
    }
    identities = {
        name: f"sha256 {digest(value)}" if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return values, identities


def _read_option(kind: type[Recipe], name: str, value: Any) -> Any:
    option = kind.options[name]
    try:
        return option.read(value)
    except FusionError:
        raise
    except (ValueError, TypeError) as error:
        raise FusionError(
            f"{kind.method} cannot take {name!r} = {value}; it is: {option.about}."
        ) from error


# ---------------------------------------------------------------- how many iterations


class _Plan(NamedTuple):
    """What a stage is going to be."""

    stage: Stage
    iterations: int
    batch_size: int
    size: int

    def __str__(self) -> str:
        stage = self.stage
        return (
            f"{stage.name}: {self.iterations} iterations (published: {stage.iterations}) of "
            f"{self.batch_size} ({stage.batch_size}) at {self.size}x{self.size} "
            f"({stage.size}x{stage.size})"
        )

    def settings(self) -> dict[str, Any]:
        return {**self._asdict(), "stage": self.stage.name}


def _published(plan: _Plan) -> float:
    """As many iterations as see the published number of samples."""
    return plan.stage.iterations * plan.stage.batch_size / plan.batch_size


def _shares(plans: Sequence[_Plan]) -> list[float]:
    total = sum(map(_published, plans))
    return [_published(plan) / total for plan in plans]


def _shared_out(plans: Sequence[_Plan], iterations: Sequence[float]) -> list[_Plan]:
    return [
        plan._replace(iterations=max(1, round(count)))
        for plan, count in zip(plans, iterations, strict=True)
    ]


def _as_begun(plans: Sequence[_Plan], found: dict[str, Any]) -> list[_Plan]:
    """Take over the numbers of iterations of a checkpoint; whether it fits is seen later."""
    begun = [stage["iterations"] for stage in found["stages"]]
    return _shared_out(plans, begun) if len(begun) == len(plans) else list(plans)


def _finished(found: dict[str, Any]) -> bool:
    stages = zip(found["stages"], found["losses"], strict=True)
    return all(len(losses) == stage["iterations"] for stage, losses in stages)


# A stage is measured for this many seconds, by at least and at most so many iterations, after
# one that does not count.
MEASURED_SECONDS, FEWEST, MOST = 5.0, 2, 50


def _fit(plans: Sequence[_Plan], setup: _Setup, budget: float, every: int) -> list[_Plan]:
    """Choose the numbers of iterations so that all stages take `budget` minutes together."""
    if setup.world > 1:
        raise FusionError("a budget is for one process; give iterations instead.")
    begin = time.perf_counter()
    seconds = _seconds_per_iteration(plans, setup, every, begin + 60 * budget)
    left = 60 * budget - (time.perf_counter() - begin)
    if left < sum(seconds):
        why = f"one iteration of each stage takes {sum(seconds):.3g} s"
        if len(seconds) < len(plans):
            why = "it was spent before the time of an iteration of each stage was measured"
        raise FusionError(
            f"a budget of {budget:g} minutes is too short: {why}. Take a smaller batch or crop, "
            "or more time."
        )
    whole = [_published(plan) for plan in plans]
    needed = sum(count * time for count, time in zip(whole, seconds, strict=True))
    fraction = min(1.0, left / needed)
    return _shared_out(plans, [np.floor(fraction * count) for count in whole])


def _seconds_per_iteration(
    plans: Sequence[_Plan], setup: _Setup, every: int, deadline: float
) -> list[float]:
    """Measure stage after stage, as many as can be before the deadline."""
    run = _Run(setup, plans)  # only to be measured
    seconds: list[float] = []
    for number in range(len(plans)):
        coming = run.batches(number, range(1 + MOST))
        with _fast_steps(setup.device), closing(coming):
            run.step(number, next(coming))
            begin = time.perf_counter()
            if begin > deadline:
                return seconds
            for count, batch in enumerate(coming, 1):
                run.step(number, batch)
                passed = time.perf_counter() - begin
                if begin + passed > deadline:
                    return seconds
                if count >= FEWEST and passed >= MEASURED_SECONDS:
                    break
        seconds.append(passed / count)
        if setup.held_out:
            begin = time.perf_counter()
            run.held_out_losses(number)
            seconds[-1] += (time.perf_counter() - begin) / every
    return seconds


# ---------------------------------------------------------------- the engine


class _Setup:
    """What is trained on what, where; checked before any work."""

    def __init__(
        self,
        build: Callable[[], Recipe],
        settings: Mapping[str, Any],
        given: Sequence[Sample],
        seed: int,
        device: str,
        rate_factor: float = 1.0,
        held_out: Sequence[Sample] = (),
    ) -> None:
        if not given:
            raise FusionError("training needs at least one image or pair, none was given.")
        self.build = build
        self.settings = dict(settings)
        self.given = given
        self.held_out = held_out
        self.fingerprint = fingerprint([*given, *held_out])
        self.seed = seed
        self.rate_factor = rate_factor
        self.device = _own_device(device)
        check_device(self.device)
        self.rank, self.world = _join_processes(self.device)

    def recipe(self) -> Recipe:
        """Build the recipe with its initial weights."""
        torch.manual_seed(self.seed)
        recipe = self.build().to(self.device)
        return recipe.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _own_device(device: str) -> str:
    """Return the device of this process: under torchrun each takes a GPU of its own."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if device == "cuda" and rank is not None else device


def _join_processes(device: str) -> tuple[int, int]:
    """Return rank and number of processes; under torchrun, join its process group."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return int(os.environ.get("RANK", "0")), world


def _check_plans(setup: _Setup, plans: Sequence[_Plan], every: int) -> None:
    if every < 1:
        raise FusionError(f"every must be at least 1 iteration, not {every}.")
    for plan in plans:
        for some in (setup.given, setup.held_out):
            # Unequal shares would weigh images unequally in the mean of gradients or losses.
            size = min(plan.batch_size, len(some))
            if size % setup.world:
                raise FusionError(
                    f"{setup.world} processes cannot share batches of {size} images evenly: choose "
                    "another batch size, more images or fewer processes."
                )


def _follow(
    setup: _Setup, plans: Sequence[_Plan], checkpoint: Path | None, *, every: int, progress: bool
) -> _Run:
    """Go through the stages, from a checkpoint if there is one; return the finished run."""
    run = _Run(setup, plans)
    if checkpoint is not None and checkpoint.exists():
        run.restore(_read_checkpoint(checkpoint), checkpoint)
    first = setup.rank == 0
    start, begin, before = run.iteration, time.monotonic(), run.seconds

    def save() -> None:
        run.seconds = before + time.monotonic() - begin
        if checkpoint is not None and first and run.whole and run.iteration > start:
            run.save(checkpoint)

    if run.iteration < sum(plan.iterations for plan in plans):
        run.choose_arithmetic()
    kept = ExitStack()
    kept.enter_context(_fast_steps(setup.device))
    try:
        for number, plan in enumerate(plans):
            done = len(run.losses[number])
            run.validate(number, every)
            if done == plan.iterations:
                continue
            with tqdm(
                total=plan.iterations,
                initial=done,
                desc=f"{plan.stage.name} on {len(setup.given)} {run.recipe.learns_from}",
                disable=not progress or not first,
            ) as bar:
                for batch in run.batches(number, range(done, plan.iterations)):
                    bar.set_postfix(run.step(number, batch), refresh=False)
                    bar.update()
                    run.validate(number, every)
                    if run.iteration % every == 0:
                        save()
    finally:
        kept.close()
        save()
    return run


@contextmanager
def _fast_steps(device: str) -> Iterator[None]:
    """Keep pages from step to step, and compute gradients faster where that was measured."""
    with keep_pages(), FastGradients() if device == "cpu" else nullcontext():
        yield


#: What to do where numbers grow beyond all bounds.
CALMER = (
    "Checkpoints stay as they are; lower the learning rate where it can be chosen, or try another "
    "seed."
)
#: Iterations in a row without any gradient after which a training is given up.
IDLE = 20


class _Run:
    """The state of a training.

    It is ``whole`` between two iterations: not from the first change of a weight on, nor when
    a loss is no longer finite. Only a whole state may be written.
    """

    def __init__(self, setup: _Setup, plans: Sequence[_Plan]) -> None:
        self.setup = setup
        self.plans = plans
        self.recipe = setup.recipe()
        self.asks_mixed = self.recipe.mixed
        self.recipe.mixed = self.asks_mixed and has_bfloat16(setup.device)
        parts = {name: self.recipe.get_submodule(name) for p in plans for name in p.stage.rates}
        self.parameters = {name: list(part.parameters()) for name, part in parts.items()}
        optimiser = self.recipe.optimiser
        self.optimisers = {name: optimiser(some) for name, some in self.parameters.items()}
        self.losses: list[list[tuple[float, ...]]] = [[] for _ in plans]
        self.names: list[tuple[str, ...]] = [() for _ in plans]
        #: Iteration -> losses on what is held out, of each stage.
        self.validations: list[dict[int, tuple[float, ...]]] = [{} for _ in plans]
        self.seconds = 0.0
        #: Where mixed precision is asked for, which precision the iterations so far had.
        self.arithmetic: list[str] = []
        self.idle = 0
        self.whole = True

    @property
    def iteration(self) -> int:
        return sum(map(len, self.losses))

    def batches(self, number: int, iterations: range, given: Sequence[Sample] | None = None) -> Any:
        """Give batches of a stage, of what is learnt from unless others are `given`."""
        plan, setup = self.plans[number], self.setup
        return batches(
            setup.given if given is None else given,
            sampling=self.recipe.sampling,
            size=plan.size,
            batch_size=plan.batch_size,
            iterations=iterations,
            seed=setup.seed,
            stage=number,
            rank=setup.rank,
            world=setup.world,
        )

    def step(self, number: int, batch: Batch) -> dict[str, str]:
        """Do one iteration of a stage; return the losses for the progress bar."""
        stage, iterations = self.plans[number].stage, self.plans[number].iterations
        done = len(self.losses[number])
        for part, rate in stage.rates.items():
            rate = self.setup.rate_factor * rate_at(rate, done / iterations)
            self.optimisers[part].param_groups[0]["lr"] = rate
        descend = partial(self._descend, number, batch)
        plan = self.plans[number]
        task = f"batches of {plan.batch_size} squares of {plan.size} pixels"
        with memory_errors(task, "a smaller batch size or smaller squares"):
            losses = self._run_step(self.recipe, number, batch, descend)
        values = self._mean(torch.stack([loss.detach() for loss in losses.values()]))
        self._check(values, number, batch)
        self.names[number] = tuple(losses)
        self.losses[number].append(tuple(values.tolist()))
        self.whole = True
        return {name: f"{value:.3g}" for name, value in zip(losses, values.tolist(), strict=True)}

    def _run_step(
        self, recipe: Recipe, number: int, batch: Batch, descend: Descend
    ) -> dict[str, Tensor]:
        images = tuple(
            image.to(self.setup.device, memory_format=torch.channels_last) for image in batch.images
        )
        plan = self.plans[number]
        moment = Moment(batch.random, len(self.losses[number]), plan.iterations)
        return plan.stage.step(recipe, images, moment, descend)

    def validate(self, number: int, every: int) -> None:
        """Record the losses of a stage on what is held out, where it is due and not done yet.

        Not done is what was stopped meanwhile.
        """
        done = len(self.losses[number])
        due = done == self.plans[number].iterations or (done and self.iteration % every == 0)
        if not (self.setup.held_out and due) or done in self.validations[number]:
            return
        values = self.held_out_losses(number)
        self.validations[number][done] = tuple(values.tolist())

    def held_out_losses(self, number: int) -> Tensor:
        """Return the losses of a stage on what is held out."""
        recipe = copy.deepcopy(self.recipe).eval()  # a step may change it besides descending
        held_out = self.setup.held_out
        count = len(held_out) // min(self.plans[number].batch_size, len(held_out))
        losses = []
        with torch.no_grad():
            for batch in self.batches(number, range(count), held_out):
                parts = self._run_step(recipe, number, batch, lambda *_: None)
                losses.append(torch.stack([*parts.values()]))
                self._check(losses[-1], number, batch)
        return self._mean(torch.stack(losses).mean(0))

    def _descend(self, number: int, batch: Batch, loss: Tensor, *parts: str) -> None:
        stage = self.plans[number].stage
        names = parts or tuple(stage.rates)
        changed = [p for name in names for p in self.parameters[name]]
        for parameter in changed:
            parameter.grad = None
        loss.backward(inputs=changed)
        self._check(self._mean(loss.detach()), number, batch)
        for parameter in changed:
            if parameter.grad is not None:
                parameter.grad = self._mean(parameter.grad)
        moving = any(p.grad is not None and p.grad.any() for p in changed)
        self.idle = 0 if moving else self.idle + 1
        if self.idle == IDLE:
            raise FusionError(
                f"there was nothing to go by in {IDLE} iterations up to {self._place(number)}: "
                "the gradient is zero. Where the last layer is a ReLU its output is negative for "
                "all images; try another seed."
            )
        self.whole = False
        for name in names:
            if stage.clip is not None:
                nn.utils.clip_grad_norm_(self.parameters[name], stage.clip)
            self.optimisers[name].step()
        if not nn.utils.get_total_norm(changed).isfinite():
            raise FusionError(
                f"a weight is no longer finite after iteration {self._place(number)}, on "
                f"{', '.join(batch.names)}. {CALMER}"
            )

    def _check(self, values: Tensor, number: int, batch: Batch) -> None:
        """Make sure that losses are finite."""
        if not values.isfinite().all():
            self.whole = False
            raise FusionError(
                f"the loss became {float(values[~values.isfinite()][0])} at iteration "
                f"{self._place(number)}, on {', '.join(batch.names)}. {CALMER}"
            )

    def _place(self, number: int) -> str:
        return f"{len(self.losses[number]) + 1} of the stage {self.plans[number].stage.name}"

    def _mean(self, values: Tensor) -> Tensor:
        """Average over the processes, which have equal shares of the batch."""
        if self.setup.world == 1:
            return values
        values = values.clone()
        torch.distributed.all_reduce(values)
        return values / self.setup.world

    def history(self) -> pd.DataFrame:
        frames = []
        for plan, names, losses, validations in zip(
            self.plans, self.names, self.losses, self.validations, strict=True
        ):
            frame = pd.DataFrame(losses, columns=list(names))
            frame.insert(0, "stage", plan.stage.name)
            frame.insert(1, "iteration", range(1, len(frame) + 1))
            if self.setup.held_out:
                columns = [f"held out {name}" for name in names]
                held_out = pd.DataFrame.from_dict(validations, orient="index", columns=columns)
                frame = frame.join(held_out, on="iteration")
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def save(self, path: Path) -> None:
        state = {
            "settings": self.setup.settings,
            "images": self.setup.fingerprint,
            "stages": [plan.settings() for plan in self.plans],
            "networks": self.recipe.state_dict(),
            "optimisers": {name: some.state_dict() for name, some in self.optimisers.items()},
            "losses": [torch.tensor(rows, dtype=torch.float64) for rows in self.losses],
            "names": [list(names) for names in self.names],
            "validations": self.validations,
            "seconds": self.seconds,
            "arithmetic": self.arithmetic,
        }
        stream = io.BytesIO()  # torch.save to a path reports a full disk as a RuntimeError
        torch.save(state, stream)
        with atomic_file(path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Continue where a checkpoint left off."""
        stages, before = [plan.settings() for plan in self.plans], state["stages"]
        equal = state["images"] == self.setup.fingerprint
        if state["settings"] != self.setup.settings or not equal or not _alike(before, stages):
            raise FusionError(
                f"the checkpoint {path} belongs to another run (its settings: "
                f"{state['settings']}, {state['stages']}; this run's: {self.setup.settings}, "
                f"{stages}; images {'equal' if equal else 'differ'}). Delete it or name "
                "another file."
            )
        numbers, wanted = ([stage["iterations"] for stage in some] for some in (before, stages))
        earlier = numbers[:-1] == wanted[:-1]
        if numbers != wanted and not (earlier and self.plans[-1].stage.extensible):
            begun, asked = (" + ".join(map(str, some)) for some in (numbers, wanted))
            raise FusionError(
                f"the checkpoint {path} is of a run of {begun} iterations, this run asks "
                f"for {asked}; what an iteration does depends on how many there are, so "
                "it cannot become that run. Give no number to continue it, or name another file."
            )
        done = len(state["losses"][-1])
        if done > self.plans[-1].iterations:
            raise FusionError(
                f"the checkpoint {path} is already at iteration {done}, this "
                f"run asks for {self.plans[-1].iterations}. Name another file."
            )
        self.recipe.load_state_dict(state["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.losses = [[tuple(row) for row in rows.tolist()] for rows in state["losses"]]
        self.names = [tuple(names) for names in state["names"]]
        self.validations = state["validations"]
        self.seconds = state["seconds"]
        self.arithmetic = state["arithmetic"]

    def choose_arithmetic(self) -> None:
        """Note the precision of what follows, and say so where it is not the one asked for."""
        if not self.asks_mixed:
            return
        if not self.recipe.mixed and self.setup.rank == 0:
            warnings.warn(
                f"the device {self.setup.device!r} has no bfloat16 arithmetic: training in single "
                "precision.",
                stacklevel=3,
            )
        chosen = f"{'mixed' if self.recipe.mixed else 'single'} precision"
        if chosen not in self.arithmetic:
            self.arithmetic.append(chosen)

    def arithmetic_facts(self) -> dict[str, object]:
        return {"arithmetic": ", then ".join(self.arithmetic)} if self.arithmetic else {}


def _alike(before: Sequence[dict[str, Any]], stages: Sequence[dict[str, Any]]) -> bool:
    """Whether stages differ in their numbers of iterations at most."""
    return [s | {"iterations": 0} for s in before] == [s | {"iterations": 0} for s in stages]


#: What a checkpoint holds.
CHECKPOINT = {
    *("settings", "images", "stages", "networks", "optimisers", "losses", "names"),
    *("validations", "seconds", "arithmetic"),
}


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
            if archive.testzip():
                raise zipfile.BadZipFile
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if missing := CHECKPOINT - state.keys():
            raise KeyError(*missing)
        return state
    except Exception as error:
        raise FusionError(
            f"{path} is not a checkpoint of fusionlib ({type(error).__name__}); delete it "
            "or name another file."
        ) from error
