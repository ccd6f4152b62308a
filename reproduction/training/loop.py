"""Training a network by its recipe, on one process or many.

A run is a pure function of its images and its settings. Stopped and started again with the
same checkpoint file it continues, and on the same machine with the same number of threads it
ends with the same weights, bit for bit, as an uninterrupted run. What a method learns and how
is its recipe; see `reproduction.training.recipe`.
"""

from __future__ import annotations

import copy
import io
import os
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.errors import FusionError
from fusionlib.files import atomic_file
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.tiles import check_device, has_bfloat16
from fusionlib.weights import training_facts

from .gradients import FastGradients
from .recipe import Descend, Moment, Recipe, Stage, find_recipe, rate_at, read_options
from .samples import Batch, Sample, batches, fingerprint, samples

__all__ = ["Config", "Training", "check_seed", "train"]

#: What a checkpoint holds is another thing than in earlier versions.
LAYOUT = 2
#: Iterations in a row without any gradient after which a training is given up.
IDLE = 20
#: What to do where numbers grow beyond all bounds.
CALMER = (
    "Checkpoints stay as they are; lower the learning rate where it can be chosen, or try another "
    "seed."
)


@dataclass(frozen=True)
class Config:
    """How long, on what and from which start a method is trained; without settings as published.

    Attributes
    ----------
    iterations : int, optional
        Over all stages, which then see as many samples in proportion as published; learning
        rates fall in proportion.
    batch_size, size : int, optional
        Samples per iteration, over all processes together, and side of the squares, instead of
        every stage's published ones.
    rate_factor : float
        By what published learning rates are multiplied: a short training may need larger ones.
    seed : int
        Decides the initial weights, the order of samples and whatever else is drawn.
    hold_out : int, optional
        Every so many-th image or pair, from the first on, is not learnt from; the losses on as many
        of them as fill batches are computed every `every` iterations and after the last of a stage,
        always on the same squares.
    every : int
        Iterations between checkpoints.

    Raises
    ------
    FusionError
        If a number is below 1, or the seed is none.
    """

    iterations: int | None = None
    batch_size: int | None = None
    size: int | None = None
    rate_factor: float = 1.0
    seed: int = 0
    hold_out: int | None = None
    every: int = 200

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "size", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FusionError(f"{name} must be at least 1, not {value}.")
        check_seed(self.seed)


def check_seed(seed: int) -> None:
    """Make sure that a number can be a seed.

    Raises
    ------
    FusionError
        If it is negative or 2**63 or more.
    """
    if not 0 <= seed < 2**63:
        raise FusionError(f"the seed must be 0 to 2**63 - 1, not {seed}.")


class Training(NamedTuple):
    """A finished run.

    Attributes
    ----------
    network : nn.Module
        The trained network, on the CPU.
    history : DataFrame
        One row per iteration: "stage"; "iteration" (from 1, in each stage); then the losses, NaN
        where a stage has not that one; then, if anything was held out, the losses on that as
        "held out ...", NaN where they were not computed.
    facts : dict
        What a weight file should say of its training.
    """

    network: nn.Module
    history: pd.DataFrame
    facts: dict[str, object]


def train(
    method: str | type[Recipe],
    data: Sequence[Any],
    config: Config = Config(),
    *,
    options: Mapping[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Training:
    """Train a method by its recipe.

    Under ``torchrun`` every process takes its share of each batch and gradients are
    averaged; process 0 writes checkpoints and shows progress.

    Parameters
    ----------
    method : str or Recipe class
        One of `RECIPES`, or a recipe of your own.
    data : sequence
        Images or pairs, whichever the method learns from; see
        `reproduction.training.samples.samples`.
    config : Config
    options : mapping, optional
        What the recipe's `Recipe.options` names; weights also as a path, numbers as text.
    checkpoint : path, optional
        Written every `Config.every` iterations, when interrupted and at the end; where it exists
        already, the run continues from it.
    device : str
        "cpu" or "cuda".
    progress : bool
        Whether to show a progress bar with the losses.

    Returns
    -------
    Training

    Raises
    ------
    UnknownName
        If there is no recipe of that name.
    FusionError
        If there is nothing to learn from, or the other kind; a setting or an option is not
        possible; processes cannot share batches evenly; the checkpoint belongs to another run; the
        device cannot be used; a loss is no longer finite.
    ImageError
        If an image cannot be read or used.
    """
    kind = find_recipe(method) if isinstance(method, str) else method
    learnt, held_out = _apart(kind, samples(data, kind.learns_from), config.hold_out)
    if config.size is not None and config.size not in kind.sizes:
        raise FusionError(
            f"{kind.method} cannot learn from squares of {config.size}, {_text(kind.sizes)}."
        )
    values, identities = read_options(kind, options or {})
    device = _own_device(device)
    check_device(device)
    torch.manual_seed(config.seed)
    recipe = kind(**values).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plans = _plans(recipe, config, len(learnt))
    _check_rates(plans, config.rate_factor)
    run = _Run(recipe, plans, learnt, held_out, config, device, identities)
    run.follow(None if checkpoint is None else Path(checkpoint), progress)
    facts = training_facts(run.facts(), device)
    return Training(recipe.trained().cpu(), run.history(), facts)


# ---------------------------------------------------------------- what is going to be done


def _apart(
    kind: type[Recipe], given: list[Sample], hold_out: int | None
) -> tuple[list[Sample], list[Sample]]:
    """Return what is learnt from and what is held out."""
    if not given:
        raise FusionError("training needs at least one image or pair, none was given.")
    if hold_out is None:
        return given, []
    if not 2 <= hold_out <= len(given):
        raise FusionError(
            f"of {len(given)} {kind.learns_from} every {hold_out}th cannot be held out; give "
            f"2 to {len(given)}, or none."
        )
    learnt = [sample for number, sample in enumerate(given) if number % hold_out]
    return learnt, given[::hold_out]


def _text(sizes: range) -> str:
    if len(sizes) == 1:
        return f"only of {sizes.start}"
    return f"only of {sizes.start} and more" + f" by {sizes.step}" * (sizes.step > 1)


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


def _plans(recipe: Recipe, config: Config, count: int) -> list[_Plan]:
    """Adapt the published stages to what is asked for; `count` samples are learnt from."""
    stages = recipe.schedule(count)
    batch_sizes = [min(config.batch_size or stage.batch_size, count) for stage in stages]
    iterations = [stage.iterations for stage in stages]
    if config.iterations is not None:
        # As many iterations of each as see the published number of samples.
        whole = [s.iterations * s.batch_size / b for s, b in zip(stages, batch_sizes, strict=True)]
        shares = [one / sum(whole) for one in whole]
        iterations = [max(1, round(config.iterations * share)) for share in shares]
    return [
        _Plan(stage, number, batch_size, config.size or stage.size)
        for stage, number, batch_size in zip(stages, iterations, batch_sizes, strict=True)
    ]


def _check_rates(plans: Sequence[_Plan], factor: float) -> None:
    fastest = max(
        rate_at(rate, progress)
        for plan in plans
        for rate in plan.stage.rates.values()
        for progress in np.linspace(0, 1, 101)
    )
    if not 0 < factor * fastest <= 1:
        raise FusionError(
            f"the factor of learning rates must be positive and at most {1 / fastest:g}, which "
            f"makes them 1, not {factor}."
        )


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


# ---------------------------------------------------------------- doing it


class _Run:
    """A training and its state.

    It is ``whole`` between two iterations: not from the first change of a weight on, nor when
    a loss is no longer finite. Only a whole state may be written.
    """

    def __init__(
        self,
        recipe: Recipe,
        plans: Sequence[_Plan],
        learnt: Sequence[Sample],
        held_out: Sequence[Sample],
        config: Config,
        device: str,
        options: Mapping[str, object],
    ) -> None:
        self.recipe, self.plans, self.config, self.device = recipe, plans, config, device
        self.learnt, self.held_out = learnt, held_out
        self.rank, self.world = _join_processes(device)
        self._check_shares()
        #: What makes it this run and no other, besides the samples.
        self.settings: dict[str, object] = {
            "method": recipe.method,
            "stages": "; ".join(map(str, plans)),
            "seed": config.seed,
            "rate_factor": config.rate_factor,
            **options,
        }
        if held_out:
            self.settings |= {"hold_out": config.hold_out, "every": config.every}
        self.asks_mixed = recipe.mixed
        recipe.mixed = recipe.mixed and has_bfloat16(device)
        names = dict.fromkeys(name for plan in plans for name in plan.stage.rates)
        self.parameters = {name: list(recipe.get_submodule(name).parameters()) for name in names}
        self.optimisers = {name: recipe.optimiser(some) for name, some in self.parameters.items()}
        #: What goes into the history, of each stage.
        self.rows: list[list[dict[str, Any]]] = [[] for _ in plans]
        self.seconds = 0.0
        #: Where mixed precision is asked for, which precision the iterations so far had.
        self.arithmetic: list[str] = []
        self.idle = 0
        self.whole = True

    def _check_shares(self) -> None:
        for plan in self.plans:
            for some in (self.learnt, self.held_out):
                # Unequal shares would weigh images unequally in the mean of gradients or losses.
                size = min(plan.batch_size, len(some))
                if size % self.world:
                    raise FusionError(
                        f"{self.world} processes cannot share batches of {size} images evenly: "
                        "choose another batch size, more images or fewer processes."
                    )

    @property
    def iteration(self) -> int:
        return sum(map(len, self.rows))

    def follow(self, checkpoint: Path | None, progress: bool) -> None:
        """Go through the stages, from the checkpoint if it is there."""
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)
        start, begin, before = self.iteration, time.monotonic(), self.seconds

        def save() -> None:
            self.seconds = before + time.monotonic() - begin
            if checkpoint is not None and self.rank == 0 and self.whole and self.iteration > start:
                self._save(checkpoint)

        if start < sum(plan.iterations for plan in self.plans):
            self._note_precision()
        faster = FastGradients() if self.device == "cpu" else nullcontext()  # measured there
        try:
            with keep_pages(), faster:
                for number, plan in enumerate(self.plans):
                    done = len(self.rows[number])
                    self._judge(number)
                    bar = tqdm(
                        self._batches(number, range(done, plan.iterations)),
                        total=plan.iterations,
                        initial=done,
                        desc=f"{plan.stage.name} on {len(self.learnt)} {self.recipe.learns_from}",
                        disable=not progress or self.rank != 0 or done == plan.iterations,
                    )
                    for batch in bar:
                        bar.set_postfix(self._step(number, batch), refresh=False)
                        self._judge(number)
                        if self.iteration % self.config.every == 0:
                            save()
        finally:
            save()

    def _batches(
        self, number: int, iterations: range, given: Sequence[Sample] | None = None
    ) -> Iterator[Batch]:
        """Give batches of a stage, of what is learnt from unless others are `given`."""
        plan = self.plans[number]
        return batches(
            self.learnt if given is None else given,
            sampling=self.recipe.sampling,
            size=plan.size,
            batch_size=plan.batch_size,
            iterations=iterations,
            seed=self.config.seed,
            stage=number,
            rank=self.rank,
            world=self.world,
        )

    def _step(self, number: int, batch: Batch) -> dict[str, str]:
        """Do one iteration of a stage; return the losses for the progress bar."""
        plan, rows = self.plans[number], self.rows[number]
        for part, rate in plan.stage.rates.items():
            now = self.config.rate_factor * rate_at(rate, len(rows) / plan.iterations)
            self.optimisers[part].param_groups[0]["lr"] = now
        task = f"batches of {plan.batch_size} squares of {plan.size} pixels"
        with memory_errors(task, "a smaller batch size or smaller squares"):
            losses = self._losses(self.recipe, number, batch, partial(self._descend, number, batch))
        values = self._mean(torch.stack([loss.detach() for loss in losses.values()]))
        self._check(values, number, batch)
        record = dict(zip(losses, values.tolist(), strict=True))
        rows.append({"stage": plan.stage.name, "iteration": len(rows) + 1, **record})
        self.whole = True
        return {name: f"{value:.3g}" for name, value in record.items()}

    def _losses(
        self, recipe: Recipe, number: int, batch: Batch, descend: Descend
    ) -> dict[str, Tensor]:
        images = tuple(
            image.to(self.device, memory_format=torch.channels_last) for image in batch.images
        )
        plan = self.plans[number]
        moment = Moment(batch.random, len(self.rows[number]), plan.iterations)
        return plan.stage.step(recipe, images, moment, descend)

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

    def _judge(self, number: int) -> None:
        """Record the losses on what is held out, where that is due and not done yet.

        It is not done where a run was stopped meanwhile.
        """
        rows = self.rows[number]
        at_end = len(rows) == self.plans[number].iterations
        due = rows and (at_end or self.iteration % self.config.every == 0)
        if not (self.held_out and due) or "held out total" in rows[-1]:
            return
        values = self._held_out_losses(number)
        rows[-1] |= {f"held out {name}": value for name, value in values.items()}

    def _held_out_losses(self, number: int) -> dict[str, float]:
        recipe = copy.deepcopy(self.recipe).eval()  # a step may change it besides descending
        count = len(self.held_out) // min(self.plans[number].batch_size, len(self.held_out))
        found = []
        with torch.no_grad():
            for batch in self._batches(number, range(count), self.held_out):
                losses = self._losses(recipe, number, batch, lambda *_: None)
                found.append(torch.stack([*losses.values()]))
                self._check(found[-1], number, batch)
        return dict(zip(losses, self._mean(torch.stack(found).mean(0)).tolist(), strict=True))

    def _check(self, values: Tensor, number: int, batch: Batch) -> None:
        """Make sure that losses are finite."""
        if not values.isfinite().all():
            self.whole = False
            raise FusionError(
                f"the loss became {float(values[~values.isfinite()][0])} at iteration "
                f"{self._place(number)}, on {', '.join(batch.names)}. {CALMER}"
            )

    def _place(self, number: int) -> str:
        return f"{len(self.rows[number]) + 1} of the stage {self.plans[number].stage.name}"

    def _mean(self, values: Tensor) -> Tensor:
        """Average over the processes, which have equal shares of the batch."""
        if self.world == 1:
            return values
        values = values.clone()
        torch.distributed.all_reduce(values)
        return values / self.world

    def _note_precision(self) -> None:
        """Note the precision of what follows, and say so where it is not the one asked for."""
        if not self.asks_mixed:
            return
        if not self.recipe.mixed and self.rank == 0:
            warnings.warn(
                f"the device {self.device!r} has no bfloat16 arithmetic: training in single "
                "precision.",
                stacklevel=4,
            )
        chosen = f"{'mixed' if self.recipe.mixed else 'single'} precision"
        if chosen not in self.arithmetic:
            self.arithmetic.append(chosen)

    # ------------------------------------------------------------ what is left of it

    def history(self) -> pd.DataFrame:
        return pd.concat([pd.DataFrame(rows) for rows in self.rows], ignore_index=True)

    def facts(self) -> dict[str, object]:
        """Tell what was done, for the weight file."""
        recipe, sources = self.recipe, dict.fromkeys(sample.source for sample in self.learnt)
        what = f"{len(self.learnt)} {recipe.learns_from}"
        if len(self.learnt) == 1:
            what = self.learnt[0].name
        learnt_from = f"{what} of {', '.join(sources)} (published: {recipe.published})"
        if self.held_out:
            learnt_from += f"; {len(self.held_out)} more held out"
        return {
            "learnt_from": learnt_from,
            **self.settings,
            **({"arithmetic": ", then ".join(self.arithmetic)} if self.arithmetic else {}),
            "minutes": round(self.seconds / 60, 1),
            "departures": " ".join(recipe.departures),
        }

    def _identity(self) -> dict[str, object]:
        return {**self.settings, "images": fingerprint([*self.learnt, *self.held_out])}

    def _save(self, path: Path) -> None:
        state = {
            "layout": LAYOUT,
            "settings": self._identity(),
            "networks": self.recipe.state_dict(),
            "optimisers": {name: some.state_dict() for name, some in self.optimisers.items()},
            "rows": self.rows,
            "seconds": self.seconds,
            "arithmetic": self.arithmetic,
        }
        stream = io.BytesIO()  # torch.save to a path reports a full disk as a RuntimeError
        torch.save(state, stream)
        with atomic_file(path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def _restore(self, path: Path) -> None:
        """Continue where a checkpoint left off."""
        state = _read_checkpoint(path)
        before, now = state["settings"], self._identity()
        differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if differ:
            some = "; ".join(f"{n}: {before.get(n)}, here {now.get(n)}" for n in differ)
            raise FusionError(
                f"the checkpoint {path} belongs to another run ({some}). Give what that run was "
                "given to continue it, delete it, or name another file."
            )
        self.recipe.load_state_dict(state["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.rows, self.seconds = state["rows"], state["seconds"]
        self.arithmetic = state["arithmetic"]


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
            if archive.testzip():
                raise zipfile.BadZipFile
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        layout = state.get("layout", 1 if "settings" in state else None)
    except Exception as error:
        raise FusionError(
            f"{path} is not a checkpoint of a training ({type(error).__name__}); delete it "
            "or name another file."
        ) from error
    if layout != LAYOUT:
        raise FusionError(
            f"{path} is not a checkpoint that this version of fusionlib can continue: its layout "
            f"is {layout}, {LAYOUT} is expected. Finish it with the version that began it, delete "
            "it, or name another file."
        )
    return state
