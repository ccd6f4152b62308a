"""Fine-tuning YOLOv5 on pictures with boxes.

Stochastic gradient descent with Nesterov's momentum, a linear fall of the learning rate after a
warm-up, and a moving average of the weights, as published; own code. In single precision, and with
the published anchors: the published training works in 16 bits on a GPU, and looks for other anchors
where these fit badly. A run is a pure function of
its pictures, its schedule and its seed: stopped, it continues from its checkpoint, and ends, on
the same machine with the same number of threads, with the same weights.
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
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.errors import FusionError, unknown
from fusionlib.files import atomic_file, check_writable
from fusionlib.memory import keep_pages, memory_errors
from fusionlib.tiles import check_device
from fusionlib.weights import digest, training_facts

from ..training import check_seed
from .augmentation import Augmentation, Scene, augmented, fitted
from .average_precision import annotated, match, mean_over_classes, search
from .detector import Detector
from .layout import Example
from .loss import detection_loss
from .yolov5 import ANCHORS, YOLOv5

__all__ = ["PUBLISHED", "SHORT", "VERSION", "Schedule", "Tuned", "fine_tune", "fingerprint"]

#: Raise it when a change of the code moves what a detector learns: one that was trained by another
#: version is not taken for this version's.
VERSION = 1

#: Bytes of pictures that stay in memory.
KEPT = 2 << 30

#: How much the two average precisions count when the best epoch is chosen, as published.
FITNESS = (0.1, 0.9)


@dataclass(frozen=True)
class Schedule:
    """How a detector is fine-tuned; the defaults are published, in RefineFuse or for YOLOv5.

    Raises FusionError if a value is not possible.

    Attributes
    ----------
    epochs, batch : int
        Passes over the pictures, and pictures per step.
    rate, final : float
        Learning rate, and the share of it that is left at the end.
    momentum, decay : float
        Of the descent, and of the weights.
    nominal_batch : int
        Gradients are added up until so many pictures were seen.
    warmup_epochs, least_warmup : int
        The warm-up takes so many epochs, and at least so many batches.
    input : int
        Side of a picture in pixels.
    head : {"new", "named"}
        "new": the last layer starts anew, as published where the classes are others. "named": it
        keeps what it knows of classes of the same name, which a short schedule needs.
    augmentation : Augmentation
    """

    epochs: int = 100
    batch: int = 16
    rate: float = 0.01
    final: float = 0.01
    momentum: float = 0.937
    decay: float = 0.0005
    nominal_batch: int = 64
    warmup_epochs: int = 3
    least_warmup: int = 100
    input: int = 640
    head: Literal["new", "named"] = "new"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.head not in ("new", "named"):
            raise unknown("start of the last layer", self.head, ("new", "named"))
        for name in ("epochs", "batch", "nominal_batch"):
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


class Tuned(NamedTuple):
    """A finished run.

    Attributes
    ----------
    detector : Detector
        With the averaged weights of the last epoch, or of the best one if there was a validation.
    history : DataFrame
        Per epoch, from 1, the losses, means per picture; with a validation also AP50 and AP.
    facts : dict
        What a weight file should say of its training.
    """

    detector: Detector
    history: pd.DataFrame
    facts: dict[str, object]


def fine_tune(
    start: Detector | str,
    examples: Sequence[Example],
    names: Sequence[str],
    schedule: Schedule = PUBLISHED,
    *,
    validation: Sequence[Example] = (),
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Tuned:
    """Fine-tune a detector, or train one from the beginning.

    Parameters
    ----------
    start : Detector or str
        Where to start from; a key of `reproduction.detection.yolov5.SIZES` starts from random
        weights.
    examples, validation : sequence of Example
        Pictures to learn from, of any sizes, some of which may show nothing; and pictures by which
        the best epoch is chosen.
    names : sequence of str
        The classes.
    schedule : Schedule
    seed : int
        Decides the order of pictures, how they are changed, and new weights.
    checkpoint : path, optional
        Written after every epoch; where it exists already, the run continues from it.
    device : str
    progress : bool
        Whether to show a progress bar with the losses.

    Raises
    ------
    UnknownName
        If a box is of another class.
    FusionError
        If there is nothing to learn, a box is not inside its picture, the checkpoint is of
        another run or cannot be written, the device cannot be used, or the loss is no longer
        finite.
    """
    check_device(device)
    check_seed(seed)
    for some, task in ((examples, "learn"), (validation, "choose the best epoch by")):
        if not any(example.fractions for example in some) and (some or some is examples):
            raise FusionError(
                f"there is nothing to {task}: none of {len(some)} pictures has a box. Give "
                "pictures with boxes."
            )
    run = _Run(start, examples, names, schedule, seed, device)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        check_writable(path)
        run.settings["pictures"] = fingerprint([*examples, *validation], names)
        if path.exists():
            run.restore(path)
    title = f"fine-tuning on {len(examples)} pictures"
    epochs = range(run.epoch, schedule.epochs)
    with (
        tqdm(epochs, title, schedule.epochs, initial=run.epoch, disable=not progress) as bar,
        ThreadPoolExecutor(max(os.cpu_count() or 1, 2)) as pool,
        keep_pages() if device == "cpu" else nullcontext(),
    ):
        for _ in bar:
            row = run.learn(pool)
            if validation:
                row |= run.validate(validation)
            run.history.append(row)
            if path is not None:
                run.save(path)
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()}, refresh=False)
    facts = training_facts(
        {
            **{k: v for k, v in asdict(schedule).items() if k != "augmentation"},
            **schedule.augmentation._asdict(),
            "seed": seed,
            "pictures": len(examples),
            "start": run.settings["start"],
        },
        device,
    )
    return Tuned(run.detector(), pd.DataFrame(run.history), facts)


def fingerprint(examples: Sequence[Example], names: Sequence[str]) -> str:
    """Hash pictures, boxes and classes."""
    sha = hashlib.sha256(repr(tuple(names)).encode())
    for example in examples:
        sha.update(repr((example.name, example.fractions)).encode())
        sha.update(example.read().tobytes())
    return sha.hexdigest()


# ---------------------------------------------------------------- pictures


class _Scenes:
    """Pictures to learn from, scaled to the input; they stay in memory as far as it goes."""

    def __init__(self, examples: Sequence[Example], names: Sequence[str], size: int) -> None:
        for example in examples:
            for box in example.fractions:
                if box.label not in names:
                    raise unknown(f"class in {example.name}", box.label, names)
        self.examples, self.names, self.size = examples, list(names), size
        self.load = lru_cache(KEPT // (3 * size * size))(self._load)

    def _load(self, index: int) -> Scene:
        picture, boxes = self.examples[index].load()
        corners = np.array([box[1:] for box in boxes], float).reshape(-1, 4)
        classes = np.array([self.names.index(box.label) for box in boxes], dtype=np.int64)
        return fitted(Scene(picture, corners, classes), self.size)

    def batches(
        self, schedule: Schedule, seed: int, epoch: int, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of an epoch: pictures (B, 3, size, size) and objects (N, 6)."""
        count = len(self.examples)
        order = np.random.default_rng([seed, epoch]).permutation(count).tolist()

        def make(place: int) -> Scene:
            random = np.random.default_rng([seed, epoch, place])
            return augmented(
                self.load, order[place], count, self.size, random, schedule.augmentation
            )

        for first in range(0, count, schedule.batch):
            scenes = list(pool.map(make, range(first, min(first + schedule.batch, count))))
            pictures = torch.from_numpy(np.stack([scene.picture for scene in scenes]))
            yield pictures.permute(0, 3, 1, 2), _objects(scenes)


def _objects(scenes: Sequence[Scene]) -> Tensor:
    """List the objects of a batch: image, class, centre x and y, width, height."""
    rows = []
    for image, (_, boxes, classes) in enumerate(scenes):
        low, high = boxes[:, :2], boxes[:, 2:]
        which = np.full(len(boxes), image)
        rows.append(np.column_stack([which, classes, (low + high) / 2, high - low]))
    return torch.from_numpy(np.concatenate(rows).astype(np.float32))


# ---------------------------------------------------------------- the run


class _Run:
    """The state of a training between two epochs."""

    def __init__(
        self,
        start: Detector | str,
        examples: Sequence[Example],
        names: Sequence[str],
        schedule: Schedule,
        seed: int,
        device: str,
    ) -> None:
        self.scenes = _Scenes(examples, names, schedule.input)
        self.names, self.schedule, self.seed, self.device = tuple(names), schedule, seed, device
        self.network = _started(start, names, schedule.head, seed)
        begins = digest(self.network.state_dict())
        self.settings = {"schedule": repr(schedule), "seed": seed, "start": begins}
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = _optimiser(self.network, schedule)
        self.steps = self.batches = 0
        self.pending = 0  # batches whose gradients no step has used
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Tensor]] | None = None

    @property
    def epoch(self) -> int:
        return len(self.history)

    def learn(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        """Go through all pictures once; return the mean losses per picture."""
        schedule, pictures = self.schedule, len(self.scenes.examples)
        per_epoch = math.ceil(pictures / schedule.batch)
        warmup = max(schedule.warmup_epochs * per_epoch, schedule.least_warmup)
        self.network.train()
        sums = np.zeros(4)
        task = f"batches of {schedule.batch} pictures of {schedule.input} pixels"
        for batch, objects in self.scenes.batches(schedule, self.seed, self.epoch, pool):
            accumulate = self._set_rates(warmup)
            with memory_errors(task, "a smaller batch or input"):
                tensor = batch.to(self.device).float() / 255
                tensor = tensor.contiguous(memory_format=torch.channels_last)
                outputs = self.network(tensor)
                loss = detection_loss(
                    self.network, outputs, objects.to(self.device), schedule.input
                )
                loss.total.backward()
            self.batches += 1
            self.pending += 1
            values = np.array([float(part.detach()) for part in loss])
            if not np.isfinite(values).all():
                raise FusionError(
                    f"the loss became {values[0]} in epoch {self.epoch + 1}. Lower the learning "
                    "rate; the checkpoint, if there is one, is that of the epoch before."
                )
            sums += values
            if self.pending >= accumulate:
                self._step()
        if self.pending and self.epoch + 1 == schedule.epochs:
            self._step()
        means = dict(zip(loss._fields, (sums / pictures).tolist(), strict=True))
        return {"epoch": self.epoch + 1, **means}

    def _set_rates(self, warmup: int) -> int:
        """Set rate and momentum for the next batch; return how many batches make a step."""
        schedule = self.schedule
        fall = 1 - (1 - schedule.final) * self.epoch / schedule.epochs
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

    def validate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Compute average precision; keep the weights if they are the best so far."""
        boxes, found = search(self._as_detector(), examples, self.names, progress=False)
        precision = match(annotated(boxes, self.names), found).average_precision()
        ap50, ap = mean_over_classes(precision)[-1].tolist()
        fitness = float(np.dot(FITNESS, (ap50, ap)))
        if self.best is None or fitness > self.best[0]:
            state = self.average.state_dict()
            self.best = fitness, {name: tensor.cpu().clone() for name, tensor in state.items()}
        return {"AP50": ap50, "AP": ap}

    def detector(self) -> Detector:
        """Return the detector that the run has made."""
        if self.best is not None:
            self.average.load_state_dict(self.best[1])
        return self._as_detector()

    def _as_detector(self) -> Detector:
        network = copy.deepcopy(self.average).cpu()
        return Detector(network, self.names, input=self.schedule.input, device=self.device)

    def save(self, path: Path) -> None:
        state = {
            "settings": self.settings,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "gradients": [p.grad for p in self.network.parameters()],
            "counts": [self.steps, self.batches, self.pending],
            "history": self.history,
            "best": self.best,
        }
        stream = io.BytesIO()  # torch.save to a path reports a full disk as a RuntimeError
        torch.save(state, stream)
        with atomic_file(path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def restore(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            settings = state["settings"]
        except Exception as error:
            raise FusionError(
                f"{path} is not a checkpoint of a detector ({type(error).__name__}); delete it or "
                "name another file."
            ) from error
        if settings != self.settings:
            differ = [name for name, value in self.settings.items() if settings.get(name) != value]
            raise FusionError(
                f"the checkpoint {path} belongs to another run: its {', '.join(differ)} differ. "
                "Delete it or name another file."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        for parameter, gradient in zip(self.network.parameters(), state["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        self.steps, self.batches, self.pending = state["counts"]
        self.history, self.best = state["history"], state["best"]


def _started(start: Detector | str, names: Sequence[str], head: str, seed: int) -> YOLOv5:
    """Make the network that training begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = start if isinstance(start, str) else start.network.size
        network = YOLOv5(size, len(names))
    if isinstance(start, str):
        return network
    state = dict(start.network.state_dict())
    if tuple(names) != start.names:
        known = {i: start.names.index(n) for i, n in enumerate(names) if n in start.names}
        # Of one class nothing is learnt but where it is: its score starts as that of new ones.
        known = known if len(names) > 1 else {}
        outputs = {i: i for i in range(5)} | {5 + new: 5 + old for new, old in known.items()}
        for name, new in network.state_dict().items():
            if name.startswith("model.24.m."):
                if head == "named":
                    mine, old = (
                        x.view(len(ANCHORS[0]), -1, *x.shape[1:]) for x in (new, state[name])
                    )
                    mine[:, [*outputs]] = old[:, [*outputs.values()]]
                state[name] = new
    network.load_state_dict(state)
    return network


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.SGD:
    """Descend; weights of convolutions alone decay, in proportion to the pictures of a step."""
    norms, weights, biases = [], [], []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, nn.BatchNorm2d):
                norms.append(parameter)
            else:
                weights.append(parameter)
    decay = schedule.decay * (schedule.accumulate * schedule.batch) / schedule.nominal_batch
    groups: list[dict[str, Any]] = [
        {"params": biases, "name": "biases"},
        {"params": norms, "name": "norms"},
        {"params": weights, "name": "weights", "weight_decay": decay},
    ]
    return torch.optim.SGD(groups, schedule.rate, schedule.momentum, nesterov=True)
