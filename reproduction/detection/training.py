"""Fine-tuning YOLOv5 on pictures with boxes.

Stochastic gradient descent with Nesterov's momentum, a linear fall of the learning rate after a
warm-up, and a moving average of the weights, as published; own code. In single precision, and with
the published anchors: the published training works in 16 bits on a GPU, and looks for other anchors
where these fit badly. A run is a pure function of its pictures, its schedule and its seed: stopped,
it continues from its checkpoint, and ends, on the same machine with the same number of threads,
with the same weights.
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.errors import FusionError
from fusionlib.files import atomic_file, check_writable, write_text
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.weights import digest

from ..training import check_seed, training_facts
from .augmentation import Augmentation, Scene, augmented
from .average_precision import annotated, match, mean_over_classes, search
from .detector import Detector, save_detector, scaled
from .layout import Example
from .loss import detection_loss
from .yolov5 import ANCHORS, YOLOv5

#: Raise it when a change of the code moves what a detector learns: one that was trained by another
#: version is not taken for this version's.
VERSION = 1

#: Bytes of pictures that stay in memory.
KEPT = 2 << 30

#: How much AP at IoU 0.5 and over 0.5:0.95 count when the best epoch is chosen, as published.
FITNESS = (0.1, 0.9)


@dataclass(frozen=True)
class Schedule:
    """How a detector is fine-tuned; the defaults are published, in RefineFuse or for YOLOv5.

    With the head "new" the last layer starts anew, as published where the classes are others; with
    "named" it keeps what it knows of classes of the same name, which a short schedule needs. Raises
    FusionError if a value is not possible.
    """

    epochs: int = 100
    batch: int = 16
    rate: float = 0.01
    final: float = 0.01  # share of the rate that is left at the end
    momentum: float = 0.937
    decay: float = 0.0005
    nominal_batch: int = 64  # gradients are added up until so many pictures were seen
    warmup_epochs: int = 3  # the warm-up takes so many epochs
    least_warmup: int = 100  # and at least so many batches
    input: int = 640  # side of a picture in pixels
    head: Literal["new", "named"] = "new"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise FusionError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.input < 64 or self.input % 32:
            raise FusionError(
                f"the input must be a multiple of 32 pixels, at least 64, not {self.input}."
            )
        if not 0 < self.rate <= 1:
            raise FusionError(f"the learning rate must be positive and at most 1, not {self.rate}.")

    @property
    def accumulate(self) -> int:
        """Batches per step, after the warm-up."""
        return max(round(self.nominal_batch / self.batch), 1)


#: What RefineFuse's text says of retraining on M3FD.
PUBLISHED = Schedule()

#: For some hundred pictures and minutes on two cores: every batch is a step.
SHORT = Schedule(epochs=30, nominal_batch=16, least_warmup=0, head="named")


@dataclass(frozen=True)
class Task:
    """What a detector is to learn: the classes `names`, from pictures of any sizes.

    Some may show nothing. A validation chooses the best epoch. The seed decides the order of
    pictures, how they are changed, and new weights. Raises FusionError if there is nothing to
    learn, or the seed is none.
    """

    start: Detector
    examples: Sequence[Example]
    names: tuple[str, ...]
    schedule: Schedule = PUBLISHED
    validation: Sequence[Example] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        some, task = self.examples, "learn"
        if self.validation and any(example.fractions for example in some):
            some, task = self.validation, "choose the best epoch by"
        if not any(example.fractions for example in some):
            raise FusionError(
                f"there is nothing to {task}: none of {len(some)} pictures has a box. Give "
                "pictures with boxes."
            )

    def identity(self) -> dict[str, object]:
        """Return what decides the weights that are learnt."""
        sha = hashlib.sha256(repr(self.names).encode())
        for place, some in enumerate((self.examples, self.validation)):
            for name, path, fractions in some:
                sha.update(repr((place, name, fractions)).encode() + path.read_bytes())
        start = digest(self.start.network.state_dict())
        settings = {"schedule": repr(self.schedule), "seed": self.seed, "start": start}
        return {**settings, "pictures": sha.hexdigest(), "version": VERSION}


def fine_tune(task: Task, output: Path) -> Path:
    """Fine-tune a detector; return the file of its losses, which is beside that of its weights.

    These are averaged weights: of the last epoch, or of the best one. A checkpoint beside them is
    written after every epoch, and deleted at the end; where it exists already, the run continues
    from it. Raises FusionError if a box is not inside its picture, the checkpoint is of another
    run, or the loss is no longer finite.
    """
    if output.suffix != ".safetensors":
        raise FusionError(f"the weights are a .safetensors file, not {output.name}.")
    check_writable(output)
    run = _Run(task)
    checkpoint, losses = (output.with_suffix(end) for end in (".checkpoint", ".losses.csv"))
    if checkpoint.exists():
        run.restore(checkpoint)
    epochs, done = task.schedule.epochs, len(run.history)
    with (
        tqdm(range(done, epochs), output.stem, epochs, initial=done) as bar,
        ThreadPoolExecutor(max(os.cpu_count() or 1, 2)) as pool,
        keep_pages() if run.device == "cpu" else nullcontext(),
    ):
        for _ in bar:
            row = run.learn(pool)
            if task.validation:
                row |= run.validate()
            run.history.append(row)
            run.save(checkpoint)
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()}, refresh=False)
    if run.best is not None:
        run.average.load_state_dict(run.best[1])
    write_text(losses, pd.DataFrame(run.history).to_csv(index=False, float_format="%.7g"))
    save_detector(output, run.detector(), training_facts(run.settings, run.device))
    checkpoint.unlink()
    return losses


class _Run:
    """The state of a training between two epochs, of which there are as many as `history` has."""

    def __init__(self, task: Task) -> None:
        self.task, self.schedule, self.device = task, task.schedule, task.start.device
        self.settings = task.identity()
        self.load = lru_cache(KEPT // (3 * self.schedule.input**2))(self._load)
        self.network = _started(task)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = _optimiser(self.network, self.schedule)
        self.steps = self.batches = 0
        self.pending = 0  # batches whose gradients no step has used
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Tensor]] | None = None

    def _load(self, index: int) -> Scene:
        """Return a scene whose longer side is the input's; as far as it goes they are kept."""
        picture, boxes = self.task.examples[index].load()
        picture, factors = scaled(picture, self.schedule.input)
        corners = np.array([box[1:] for box in boxes], float).reshape(-1, 4)
        classes = np.array([self.task.names.index(box.label) for box in boxes], dtype=np.int64)
        return Scene(picture, corners * factors, classes)

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of an epoch: pictures (B, 3, size, size), objects as for the loss."""
        schedule, count = self.schedule, len(self.task.examples)
        seed = [self.task.seed, len(self.history)]
        order = np.random.default_rng(seed).permutation(count).tolist()

        def make(place: int) -> Scene:
            random = np.random.default_rng([*seed, place])
            how = schedule.augmentation
            return augmented(self.load, order[place], count, schedule.input, random, how)

        for first in range(0, count, schedule.batch):
            scenes = list(pool.map(make, range(first, min(first + schedule.batch, count))))
            pictures = torch.from_numpy(np.stack([scene.picture for scene in scenes]))
            rows = []
            for image, (_, boxes, classes) in enumerate(scenes):
                low, high = boxes[:, :2], boxes[:, 2:]
                which = np.full(len(boxes), image)
                rows.append(np.column_stack([which, classes, (low + high) / 2, high - low]))
            objects = torch.from_numpy(np.concatenate(rows).astype(np.float32))
            yield pictures.permute(0, 3, 1, 2), objects

    def learn(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        """Go through all pictures once; return the mean losses per picture."""
        schedule, pictures, epoch = self.schedule, len(self.task.examples), len(self.history) + 1
        per_epoch = math.ceil(pictures / schedule.batch)
        warmup = max(schedule.warmup_epochs * per_epoch, schedule.least_warmup)
        self.network.train()
        sums = np.zeros(4)
        task = f"batches of {schedule.batch} pictures of {schedule.input} pixels"
        for batch, objects in self._batches(pool):
            accumulate = self._set_rates(warmup)
            with memory_errors(task, "a smaller batch or input"):
                tensor = batch.to(self.device).float() / 255
                outputs = self.network(tensor.contiguous(memory_format=torch.channels_last))
                loss = detection_loss(
                    self.network, outputs, objects.to(self.device), schedule.input
                )
                loss.total.backward()
            self.batches += 1
            self.pending += 1
            sums += [float(part.detach()) for part in loss]
            if not np.isfinite(sums).all():
                raise FusionError(
                    f"the loss is no longer finite in epoch {epoch}. Lower the learning rate; the "
                    "checkpoint, if there is one, is that of the epoch before."
                )
            if self.pending >= accumulate:
                self._step()
        if self.pending and epoch == schedule.epochs:
            self._step()
        means = dict(zip(loss._fields, (sums / pictures).tolist(), strict=True))
        return {"epoch": epoch, **means}

    def _set_rates(self, warmup: int) -> int:
        """Set rate and momentum for the next batch; return how many batches make a step."""
        schedule = self.schedule
        fall = 1 - (1 - schedule.final) * len(self.history) / schedule.epochs
        progress = min(self.batches / warmup, 1) if warmup else 1
        for group in self.optimiser.param_groups:
            # Biases begin fast, since the priors of the scores are far off.
            begin = 0.1 if group["name"] == "biases" else 0.0
            group["lr"] = begin + (schedule.rate * fall - begin) * progress
            group["momentum"] = 0.8 + (schedule.momentum - 0.8) * progress
        return max(round(1 + (schedule.accumulate - 1) * progress), 1)

    def _step(self) -> None:
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.steps += 1
        self.pending = 0
        # The average follows closely at first, and slowly in the end. (PyTorch's AveragedModel
        # takes the first weights whole.)
        keep = 0.9999 * (1 - math.exp(-self.steps / 2000))
        with torch.no_grad():
            new = self.network.state_dict()
            for name, tensor in self.average.state_dict().items():
                if tensor.is_floating_point():
                    tensor.lerp_(new[name], 1 - keep)
                else:
                    tensor.copy_(new[name])

    def validate(self) -> dict[str, float]:
        """Compute average precision; keep the weights if they are the best so far."""
        names = self.task.names
        boxes, found = search(self.detector(), self.task.validation, names)
        precision = match(annotated(boxes, names), found).average_precision()
        ap50, ap = mean_over_classes(precision)[-1].tolist()
        fitness = float(np.dot(FITNESS, (ap50, ap)))
        if self.best is None or fitness > self.best[0]:
            state = self.average.state_dict()
            self.best = fitness, {name: tensor.cpu().clone() for name, tensor in state.items()}
        return {"AP50": ap50, "AP": ap}

    def detector(self) -> Detector:
        network = copy.deepcopy(self.average).cpu()
        return Detector(network, self.task.names, input=self.schedule.input, device=self.device)

    # What is the run's besides its settings and gradients, by the name in a checkpoint.
    MODULES = ("network", "average", "optimiser")
    VALUES = ("steps", "batches", "pending", "history", "best")

    def save(self, path: Path) -> None:
        state = {name: getattr(self, name).state_dict() for name in self.MODULES}
        state |= {name: getattr(self, name) for name in ("settings", *self.VALUES)}
        state["gradients"] = [parameter.grad for parameter in self.network.parameters()]
        stream = io.BytesIO()  # torch.save to a path reports a full disk as a RuntimeError
        torch.save(state, stream)
        with atomic_file(path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def restore(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            differ = [
                name for name, value in self.settings.items() if state["settings"][name] != value
            ]
        except Exception as error:
            raise FusionError(
                f"{path} is not a checkpoint of a detector ({type(error).__name__}). Delete it."
            ) from error
        if differ:
            raise FusionError(
                f"the checkpoint {path} belongs to another run: its {', '.join(differ)} differ. "
                "Delete it, or name another file for the weights."
            )
        for name in self.MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in self.VALUES:
            setattr(self, name, state[name])
        for parameter, gradient in zip(self.network.parameters(), state["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)


def _started(task: Task) -> YOLOv5:
    """Make the network that training begins with."""
    start, names = task.start, task.names
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        network = YOLOv5(start.network.size, len(names))
    state = dict(start.network.state_dict())
    if names != start.names:
        known = {i: start.names.index(n) for i, n in enumerate(names) if n in start.names}
        # Of one class nothing is learnt but where it is: its score starts as that of new ones.
        known = known if len(names) > 1 else {}
        outputs = {i: i for i in range(5)} | {5 + new: 5 + old for new, old in known.items()}
        for name, new in network.head.m.state_dict(prefix="model.24.m.").items():
            if task.schedule.head == "named":
                mine, old = (x.view(len(ANCHORS[0]), -1, *x.shape[1:]) for x in (new, state[name]))
                mine[:, [*outputs]] = old[:, [*outputs.values()]]
            state[name] = new
    network.load_state_dict(state)
    return network


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.SGD:
    """Descend; weights of convolutions alone decay, in proportion to the pictures of a step."""
    kinds: dict[str, list[nn.Parameter]] = {"biases": [], "norms": [], "weights": []}
    for module in network.modules():
        other = "norms" if isinstance(module, nn.BatchNorm2d) else "weights"
        for name, parameter in module.named_parameters(recurse=False):
            kinds["biases" if name == "bias" else other].append(parameter)
    decay = schedule.decay * (schedule.accumulate * schedule.batch) / schedule.nominal_batch
    groups: list[dict[str, Any]] = [
        {"params": some, "name": name, "weight_decay": decay * (name == "weights")}
        for name, some in kinds.items()
    ]
    return torch.optim.SGD(groups, schedule.rate, schedule.momentum, nesterov=True)
