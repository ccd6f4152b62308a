"""Training an auto-encoder to reconstruct gray images: one image, many, or many processes.

A run is a pure function of its images and its `TrainingConfig`. Stopped and started
again with the same checkpoint file it continues, and on the same machine with the same
number of threads it ends with the same weights, bit for bit, as an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from .errors import FusionError, ImageError
from .execution import check_device, run_network
from .files import atomic_file
from .images import check_image, luminance, quantise, read_image
from .losses import LossParts, ReconstructionLoss
from .metrics.structure import psnr
from .networks.res2netfuse import Res2NetFuse

__all__ = [
    "MANY_IMAGES",
    "ONE_IMAGE",
    "Training",
    "TrainingConfig",
    "stable_after",
    "train",
    "training_psnr",
]


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of a training run, besides the images.

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
    """

    variant: Literal["released", "paper"] = "released"
    iterations: int = 2000
    learning_rate: float = 5e-4
    batch_size: int = 1
    size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "size"):
            if getattr(self, name) < 1:
                raise FusionError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.seed < 2**63:
            raise FusionError(f"the seed must be 0 to 2**63 - 1, not {self.seed}.")
        if not self.learning_rate > 0:
            raise FusionError(f"the learning rate must be positive, not {self.learning_rate}.")


#: The published schedule for one image.
ONE_IMAGE = TrainingConfig()
#: The published schedule for 80,000 images: 4 epochs in batches of 4.
MANY_IMAGES = TrainingConfig(iterations=80_000, learning_rate=1e-4, batch_size=4)


class Training(NamedTuple):
    """A finished run: the trained network and its losses.

    ``history`` has one row per iteration: iteration (from 1), total, pixel, ssim.
    """

    network: Res2NetFuse
    history: pd.DataFrame


Images = Sequence[np.ndarray | str | os.PathLike[str]]


def _gray_levels(image: np.ndarray | str | os.PathLike[str], size: int) -> Tensor:
    """Return an image as (1, size, size) whole gray levels 0..255; a file is read."""
    if not isinstance(image, np.ndarray):
        image = read_image(image)
    levels = Image.fromarray(quantise(luminance(check_image(image, "training image"))))
    resized = levels.resize((size, size), Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(resized, dtype=np.float32))[None]


def _batches(
    images: Images, config: TrainingConfig, start: int, rank: int, world: int
) -> Iterator[Tensor]:
    """Give the batches (B, 1, size, size) from iteration `start` on.

    Every epoch has a new permutation, which depends on seed and epoch alone, so a resumed
    run meets the same images. Of every batch, process `rank` of `world` takes its share.
    """
    size = min(config.batch_size, len(images))
    per_epoch = len(images) // size

    def read(iteration: int) -> Tensor:
        epoch, batch = divmod(iteration, per_epoch)
        order = np.random.default_rng((config.seed, epoch)).permutation(len(images))
        chosen = order[batch * size : (batch + 1) * size][rank::world]
        return torch.stack([_gray_levels(images[i], config.size) for i in chosen])

    # The next batch is read while the network works on this one. A thread, since an error
    # in a worker process of a DataLoader arrives with the process's traceback as its message.
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, start) if start < config.iterations else None
        for iteration in range(start, config.iterations):
            assert coming is not None
            batch = coming.result()
            if iteration + 1 < config.iterations:
                coming = reader.submit(read, iteration + 1)
            yield batch


def train(
    images: Images,
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
    images : sequence of arrays or paths
        Gray (H, W) or RGB (H, W, 3) images in [0, 1] or uint8, or files of them; one
        image for the published one-image training.
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
        The trained network (on the CPU) and the losses of every iteration.

    Raises
    ------
    FusionError
        If there is no image, the batch cannot be shared evenly among the processes, the
        checkpoint belongs to another run, the device cannot be used or the loss is no longer
        finite.
    ImageError
        If an image cannot be read or used.
    """
    if not len(images):
        raise FusionError("training needs at least one image, none was given.")
    if every < 1:
        raise FusionError(f"every must be at least 1 iteration, not {every}.")
    device = _own_device(device)
    check_device(device)
    rank, world = _join_processes(device)
    size = min(config.batch_size, len(images))
    # Unequal shares would weigh images unequally in the mean of the gradients.
    if size % world:
        raise FusionError(
            f"{world} processes cannot share batches of {size} images evenly: choose another "
            "batch size, more images or fewer processes."
        )
    run = _Run(images, config, device)
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        if checkpoint.exists():
            run.restore(checkpoint)
    model: nn.Module = run.network
    if world > 1:
        model = nn.parallel.DistributedDataParallel(model)
    start = run.iteration
    bar = tqdm(
        total=config.iterations,
        initial=start,
        desc=f"training on {len(images)} image{'s' * (len(images) > 1)}",
        disable=not progress or rank > 0,
    )
    try:
        for batch in _batches(images, config, start, rank, world):
            bar.set_postfix(run.step(model, batch), refresh=False)
            bar.update()
            if checkpoint is not None and rank == 0 and run.iteration % every == 0:
                run.save(checkpoint)
    finally:
        bar.close()
        if checkpoint is not None and rank == 0 and run.whole and run.iteration > start:
            run.save(checkpoint)
    return Training(run.network.cpu(), run.history())


def training_psnr(
    network: Res2NetFuse, image: np.ndarray | str | os.PathLike[str], size: int = 256
) -> float:
    """Return the PSNR of the reconstruction of a training image, as training saw it.

    Parameters
    ----------
    network : Res2NetFuse
    image : array or path
        As for `train`; resized to size x size with nearest neighbour.
    size : int

    Returns
    -------
    float
        Decibel, peak 255, of the reconstruction clipped to 0..255 and truncated to 8 bits.
    """
    target = _gray_levels(image, size)[None]
    output = run_network(network, [target]).clamp(0, 255).floor()
    return psnr(output[0, 0].numpy().astype(np.uint8), target[0, 0].numpy().astype(np.uint8))


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


class _Run:
    """The state of a training run.

    It is ``whole`` between two iterations: not while the optimiser changes the weights, nor
    when the loss is no longer finite. Only a whole state may be written.
    """

    def __init__(
        self,
        images: Images,
        config: TrainingConfig,
        device: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.images = _fingerprint(images)
        self.device = device
        self.network = Res2NetFuse(config.variant).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = ReconstructionLoss(config.variant)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.losses: list[tuple[float, float, float]] = []
        self.whole = True

    @property
    def iteration(self) -> int:
        return len(self.losses)

    def step(self, model: nn.Module, batch: Tensor) -> dict[str, str]:
        """Take one optimiser step; return the losses for the progress bar."""
        batch = batch.to(self.device, memory_format=torch.channels_last)
        parts = self.loss(model(batch), batch)
        self.optimiser.zero_grad(set_to_none=True)
        parts.total.backward()
        values = _mean_over_processes(parts)
        self.whole = False
        if not np.isfinite(values[0]):
            raise FusionError(
                f"the loss became {values[0]} at iteration {self.iteration + 1}; "
                "lower the learning rate or try another seed."
            )
        self.optimiser.step()
        self.losses.append(values)
        self.whole = True
        return {n: f"{v:.3g}" for n, v in zip(parts._fields, values, strict=True)}

    def history(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.losses, columns=["total", "pixel", "ssim"])
        frame.insert(0, "iteration", range(1, len(frame) + 1))
        return frame

    def save(self, path: Path) -> None:
        state = {
            "config": asdict(self.config),
            "images": self.images,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
        }
        stream = io.BytesIO()  # torch.save to a path reports a full disk as a RuntimeError
        torch.save(state, stream)
        with atomic_file(path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def restore(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
                if archive.testzip():
                    raise zipfile.BadZipFile
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            found = state["config"], state["images"]
            losses, network, optimiser = state["losses"], state["network"], state["optimiser"]
        except Exception as error:
            raise FusionError(
                f"{path} is not a checkpoint of fusionlib ({type(error).__name__}); delete it "
                "or name another file."
            ) from error
        config = dict(found[0], iterations=self.config.iterations)
        if config != asdict(self.config) or found[1] != self.images:
            raise FusionError(
                f"the checkpoint {path} belongs to another run (its settings: {found[0]}; "
                f"this run's: {asdict(self.config)}; images "
                f"{'equal' if found[1] == self.images else 'differ'}). Delete it or name "
                "another file."
            )
        if len(losses) > self.config.iterations:
            raise FusionError(
                f"the checkpoint {path} is already at iteration {len(losses)}, this "
                f"run asks for {self.config.iterations}. Name another file."
            )
        self.network.load_state_dict(network)
        self.optimiser.load_state_dict(optimiser)
        self.losses = [tuple(row) for row in losses.tolist()]


def _mean_over_processes(parts: LossParts) -> tuple[float, float, float]:
    """Return the losses of the whole batch: each process computed those of an equal share."""
    values = torch.stack(parts).detach()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
        values /= torch.distributed.get_world_size()
    total, pixel, ssim = values.tolist()
    return total, pixel, ssim


def _fingerprint(images: Images) -> str:
    """Identify the images: pixels of arrays, name and size of files."""
    digest = hashlib.sha256()
    for image in images:
        if isinstance(image, np.ndarray):
            digest.update(f"{image.shape}{image.dtype}".encode())
            digest.update(np.ascontiguousarray(image).tobytes())
        else:
            path = Path(image)
            if not path.is_file():
                raise ImageError(f"no such training image: {path}")
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()
