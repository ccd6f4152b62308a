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
import signal
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.errors import FusionError
from fusionlib.files import atomic_file
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.tiles import check_device, has_bfloat16
from fusionlib.weights import digest

from .gradients import FastGradients
from .recipe import Descend, Moment, Recipe, Stage, find_recipe, read_options
from .samples import Batch, Sample, batches, fingerprint, samples

__all__ = ["Config", "Training", "check_seed", "train", "training_facts"]

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

    Numbers below 1 and seeds that are none raise `FusionError`.
    """

    #: Over all stages, which then see as many samples in proportion as published; rates fall so.
    iterations: int | None = None
    #: Samples per iteration, over all processes together.
    batch_size: int | None = None
    #: Side of the squares.
    size: int | None = None
    #: By what published learning rates are multiplied: a short training may need larger ones.
    rate_factor: float = 1.0
    #: Decides the initial weights, the order of samples and whatever else is drawn.
    seed: int = 0
    #: Every so many-th image or pair, from the first on, is not learnt from; the losses on as many
    #: of them as fill batches are computed every `every` iterations and after the last of a stage,
    #: always on the same squares.
    hold_out: int | None = None
    #: Iterations between checkpoints.
    every: int = 200

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "size", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FusionError(f"{name} must be at least 1, not {value}.")
        check_seed(self.seed)


def training_facts(settings: Mapping[str, object], device: str) -> dict[str, object]:
    """Return what a weight file should say of its training: settings, machine, versions."""
    return {
        **settings,
        "trained_by": "python -m reproduction train",
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def check_seed(seed: int) -> None:
    """Make sure that a number can be a seed."""
    if not 0 <= seed < 2**63:
        raise FusionError(f"the seed must be 0 to 2**63 - 1, not {seed}.")


class Training(NamedTuple):
    """A finished run: the trained network on the CPU, and what a weight file should say of it.

    ``history`` has one row per iteration: "stage"; "iteration" (from 1, in each stage); then the
    losses, NaN where a stage has not that one; then, if anything was held out, the losses on that
    as "held out ...", NaN where they were not computed.
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
        As `reproduction.training.samples.samples` takes it.
    config : Config
    options : mapping, optional
        What the recipe's `Recipe.options` names; weights also as a path, numbers as text.
    checkpoint : path, optional
        Written every `Config.every` iterations, at the end of a stage, on Ctrl-C and where the
        next batch cannot be read; an error within an iteration, which may have changed half of the
        state, leaves the last one. Where it exists already, the run continues from it.
    device : str
        "cpu" or "cuda".
    progress : bool
        Whether to show a progress bar with the losses.

    Raises
    ------
    FusionError
        If what is given cannot be learnt from; a setting or an option is not possible; the
        checkpoint belongs to another run; a loss or a weight is no longer finite.
    """
    kind = find_recipe(method) if isinstance(method, str) else method
    given, nth = samples(data, kind.learns_from), config.hold_out
    if not given:
        raise FusionError("training needs at least one image or pair, none was given.")
    if nth is not None and not 2 <= nth <= len(given):
        raise FusionError(
            f"of {len(given)} {kind.learns_from} every {nth}th cannot be held out; give "
            f"2 to {len(given)}, or none."
        )
    if config.size is not None and config.size not in kind.sizes:
        sizes = f"{kind.sizes.start} and more by {kind.sizes.step}" * (len(kind.sizes) > 1)
        raise FusionError(
            f"{kind.method} cannot learn from squares of {config.size}, only of "
            f"{sizes.removesuffix(' by 1') or kind.sizes.start}."
        )
    values = read_options(kind, options or {})
    if device == "cuda":  # under torchrun each process takes a GPU of its own
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    check_device(device)
    torch.manual_seed(config.seed)
    recipe = kind(**values).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learnt = [sample for i, sample in enumerate(given) if nth is None or i % nth]
    run = _Run(recipe, config, learnt, given[::nth] if nth else [], device, values)
    run.follow(None if checkpoint is None else Path(checkpoint), progress)
    history = pd.concat(map(pd.DataFrame, run.rows), ignore_index=True)
    return Training(recipe.trained().cpu(), history, training_facts(run.facts(), device))


def _adapt(published: Sequence[Stage], config: Config, count: int) -> list[Stage]:
    """Adapt published stages to what is asked for; `count` samples are learnt from."""
    sizes = [min(config.batch_size or stage.batch_size, count) for stage in published]
    iterations = [stage.iterations for stage in published]
    if config.iterations is not None:
        # As many iterations of each as see the published number of samples.
        full = [s.iterations * s.batch_size / b for s, b in zip(published, sizes, strict=True)]
        iterations = [max(1, round(config.iterations * (one / sum(full)))) for one in full]
    return [
        replace(stage, iterations=number, batch_size=batch_size, size=config.size or stage.size)
        for stage, number, batch_size in zip(published, iterations, sizes, strict=True)
    ]


def _join_processes(device: str) -> tuple[int, int]:
    """Return rank and number of processes; under torchrun, join its process group."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return int(os.environ.get("RANK", "0")), world


def _about(stage: Stage, published: Stage) -> str:
    return (
        f"{stage.name}: {stage.iterations} iterations (published: {published.iterations}) of "
        f"{stage.batch_size} ({published.batch_size}) at {stage.size}x{stage.size} "
        f"({published.size}x{published.size})"
    )


@contextmanager
def _stop_asked() -> Iterator[list[object]]:
    """Let Ctrl-C wait for the end of an iteration; only between two is the state whole.

    The list that this gives is empty until then. A second Ctrl-C does not wait.
    """
    asked: list[object] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield asked  # it is ignored, or another thread's
        return
    signal.signal(signal.SIGINT, lambda *_: asked.append(signal.signal(signal.SIGINT, before)))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Run:
    """A training and its state."""

    def __init__(
        self,
        recipe: Recipe,
        config: Config,
        learnt: Sequence[Sample],
        held_out: Sequence[Sample],
        device: str,
        options: Mapping[str, Any],
    ) -> None:
        self.recipe, self.config, self.device = recipe, config, device
        self.learnt, self.held_out = learnt, held_out
        self.rank, self.world = _join_processes(device)
        published = recipe.schedule(len(learnt))
        self.stages = _adapt(published, config, len(learnt))
        self._check_shares()
        fastest = max(rate for stage in self.stages for rate in stage.rates.values())
        if not 0 < config.rate_factor * fastest <= 1:
            raise FusionError(
                f"the factor of learning rates must be positive and at most {1 / fastest:g}, which "
                f"makes them 1, not {config.rate_factor}."
            )
        self.optimisers = {
            part: recipe.optimiser(list(recipe.get_submodule(part).parameters()))
            for part in dict.fromkeys(part for stage in self.stages for part in stage.rates)
        }
        #: What makes it this run and no other, besides the samples.
        self.settings: dict[str, object] = {
            "method": recipe.method,
            "stages": "; ".join(map(_about, self.stages, published)),
            "seed": config.seed,
            "rate_factor": config.rate_factor,
            **{k: f"sha256 {digest(v)}" if isinstance(v, dict) else v for k, v in options.items()},
        }
        if held_out:
            self.settings |= {"hold_out": config.hold_out, "every": config.every}
        if recipe.mixed:
            self.settings["arithmetic"] = self._choose_precision()
        #: What goes into the history, of each stage.
        self.rows: list[list[dict[str, Any]]] = [[] for _ in self.stages]
        self.seconds = 0.0
        #: Iterations in a row without a gradient.
        self.idle = 0
        #: The iteration at work, for messages.
        self.place = ""

    def _check_shares(self) -> None:
        for stage in self.stages:
            for some in (self.learnt, self.held_out):
                # Unequal shares would weigh images unequally in the mean of gradients or losses.
                size = min(stage.batch_size, len(some))
                if size % self.world:
                    raise FusionError(
                        f"{self.world} processes cannot share batches of {size} images evenly: "
                        "choose another batch size, more images or fewer processes."
                    )

    def follow(self, checkpoint: Path | None, progress: bool) -> None:
        """Go through the stages, from the checkpoint if it is there."""
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)
        begin = time.monotonic() - self.seconds
        faster = FastGradients() if self.device == "cpu" else nullcontext()  # measured there
        with keep_pages(), faster, _stop_asked() as stop:
            for number, (stage, rows) in enumerate(zip(self.stages, self.rows, strict=True)):
                draw = partial(
                    batches,
                    sampling=self.recipe.sampling,
                    size=stage.size,
                    batch_size=stage.batch_size,
                    seed=self.config.seed,
                    stage=number,
                    rank=self.rank,
                    world=self.world,
                )
                drawn = draw(self.learnt, iterations=range(len(rows), stage.iterations))
                bar = tqdm(
                    self._saved_on_errors(drawn, checkpoint),
                    total=stage.iterations,
                    initial=len(rows),
                    desc=f"{stage.name} on {len(self.learnt)} {self.recipe.learns_from}",
                    disable=not progress or self.rank != 0 or len(rows) == stage.iterations,
                )
                for batch in bar:
                    losses = self._step(stage, len(rows), batch)
                    bar.set_postfix({k: f"{v:.3g}" for k, v in losses.items()}, refresh=False)
                    rows.append({"stage": stage.name, "iteration": len(rows) + 1, **losses})
                    done = sum(map(len, self.rows))
                    due = len(rows) == stage.iterations or done % self.config.every == 0
                    if due and self.held_out:
                        rows[-1] |= self._held_out_losses(stage, len(rows), draw)
                    self.seconds = time.monotonic() - begin
                    if due or stop:
                        self._save(checkpoint)
                    if stop:
                        raise KeyboardInterrupt

    def _saved_on_errors(self, drawn: Iterator[Batch], checkpoint: Path | None) -> Iterator[Batch]:
        """Give batches; where the next cannot be drawn the state is whole, so it is written."""
        try:
            yield from drawn
        except Exception:
            if any(self.rows):
                self._save(checkpoint)
            raise

    def _step(self, stage: Stage, done: int, batch: Batch) -> dict[str, float]:
        """Do one iteration of a stage; return the losses."""
        for part, rate in stage.rates.items():
            now = self.config.rate_factor * stage.fall(rate, done / stage.iterations)
            self.optimisers[part].param_groups[0]["lr"] = now
        task = f"batches of {stage.batch_size} squares of {stage.size} pixels"
        with memory_errors(task, "a smaller batch size or smaller squares"):
            losses = self._losses(self.recipe, stage, done, batch, partial(self._descend, stage))
        if not nn.utils.get_total_norm(self._parameters(self.optimisers)).isfinite():
            raise FusionError(
                f"a weight is no longer finite after iteration {self.place}. {CALMER}"
            )
        return losses

    def _losses(
        self, recipe: Recipe, stage: Stage, done: int, batch: Batch, descend: Descend
    ) -> dict[str, float]:
        self.place = f"{done + 1} of the stage {stage.name}, on {', '.join(batch.names)}"
        images = tuple(
            image.to(self.device, memory_format=torch.channels_last) for image in batch.images
        )
        moment = Moment(batch.random, done, stage.iterations)
        losses = stage.step(recipe, images, moment, descend)
        values = self._mean(torch.stack([loss.detach() for loss in losses.values()]))
        if not values.isfinite().all():
            raise FusionError(
                f"the loss became {float(values[~values.isfinite()][0])} at iteration "
                f"{self.place}. {CALMER}"
            )
        return dict(zip(losses, values.tolist(), strict=True))

    def _parameters(self, parts: Iterable[str]) -> list[nn.Parameter]:
        return [p for part in parts for p in self.optimisers[part].param_groups[0]["params"]]

    def _descend(self, stage: Stage, loss: Tensor, *parts: str) -> None:
        parts = parts or tuple(stage.rates)
        changed = self._parameters(parts)
        for parameter in changed:
            parameter.grad = None
        loss.backward(inputs=changed)
        for parameter in changed:
            if parameter.grad is not None:
                parameter.grad = self._mean(parameter.grad)
        moving = any(p.grad is not None and p.grad.any() for p in changed)
        self.idle = 0 if moving else self.idle + 1
        if self.idle == IDLE:
            raise FusionError(
                f"there was nothing to go by in {IDLE} iterations up to {self.place}: "
                "the gradient is zero. Where the last layer is a ReLU its output is negative for "
                "all images; try another seed."
            )
        for part in parts:
            if stage.clip is not None:
                nn.utils.clip_grad_norm_(self._parameters([part]), stage.clip)
            self.optimisers[part].step()

    def _held_out_losses(
        self, stage: Stage, done: int, draw: Callable[..., Iterator[Batch]]
    ) -> dict[str, float]:
        recipe = copy.deepcopy(self.recipe).eval()  # a step may change it besides descending
        count = len(self.held_out) // min(stage.batch_size, len(self.held_out))
        with torch.no_grad():
            found = [
                self._losses(recipe, stage, done, batch, lambda *_: None)
                for batch in draw(self.held_out, iterations=range(count))
            ]
        means = torch.tensor([[*losses.values()] for losses in found]).mean(0).tolist()
        return {f"held out {name}": mean for name, mean in zip(found[0], means, strict=True)}

    def _mean(self, values: Tensor) -> Tensor:
        """Average over the processes, which have equal shares of the batch."""
        if self.world == 1:
            return values
        values = values.clone()
        torch.distributed.all_reduce(values)
        return values / self.world

    def _choose_precision(self) -> str:
        """Take single precision, and say so, where mixed is asked for and the device has none."""
        self.recipe.mixed = has_bfloat16(self.device)
        if not self.recipe.mixed and self.rank == 0:
            warnings.warn(
                f"the device {self.device!r} has no bfloat16 arithmetic: training in single "
                "precision.",
                stacklevel=4,
            )
        return f"{'mixed' if self.recipe.mixed else 'single'} precision"

    def facts(self) -> dict[str, object]:
        """Tell what was done, for the weight file."""
        recipe, count = self.recipe, len(self.learnt)
        what = f"{count} {recipe.learns_from}" if count > 1 else self.learnt[0].name
        sources = ", ".join(dict.fromkeys(sample.source for sample in self.learnt))
        held_out = f"; {len(self.held_out)} more held out" if self.held_out else ""
        return {
            "learnt_from": f"{what} of {sources} (published: {recipe.published}){held_out}",
            **self.settings,
            "minutes": round(self.seconds / 60, 1),
            "departures": " ".join(recipe.departures),
        }

    def _identity(self) -> dict[str, object]:
        return {**self.settings, "images": fingerprint([*self.learnt, *self.held_out])}

    def _save(self, path: Path | None) -> None:
        if path is None or self.rank != 0:
            return
        state = {
            "settings": self._identity(),
            "networks": self.recipe.state_dict(),
            "optimisers": {name: some.state_dict() for name, some in self.optimisers.items()},
            "record": (self.rows, self.seconds),
        }
        stream = io.BytesIO()  # torch.save to a path reports a full disk as a RuntimeError
        torch.save(state, stream)
        with atomic_file(path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def _restore(self, path: Path) -> None:
        """Continue where a checkpoint left off."""
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
                if archive.testzip():
                    raise zipfile.BadZipFile
            state = torch.load(path, map_location="cpu", weights_only=True)
            before, (rows, seconds) = state["settings"], state["record"]
        except Exception as error:
            raise FusionError(
                f"{path} is not a checkpoint of a training ({type(error).__name__}); delete it "
                "or name another file."
            ) from error
        now = self._identity()
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
        self.rows, self.seconds = rows, seconds
