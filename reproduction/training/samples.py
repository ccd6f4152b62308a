"""What is learnt from: reading images and pairs, cutting squares from them, drawing batches.

A batch is a function of the seed, the stage and the iteration alone, so a resumed training
meets the same ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fusionlib.errors import FusionError, ImageError
from fusionlib.images import check_image, luminance, quantise, read_image
from fusionlib.pairs import Dataset, Pair

from .masks import object_mask

__all__ = [
    *("Batch", "LearnsFrom", "Picture", "Sample"),
    *("batches", "fingerprint", "resized", "samples", "wrong_kind"),
]

Picture = np.ndarray | str | os.PathLike[str]
LearnsFrom = Literal["images", "pairs", "labelled pairs"]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image or a pair to learn from.

    Attributes
    ----------
    name : str
        How errors call it.
    source : str
        Data set, or folder.
    identity : str
        Differs where the pixels differ, as far as that can be told without reading files.
    read : callable
        Returns uint8 arrays (H, W) of one size: the image, or infrared and visible, and of a
        labelled pair the object mask, 0 or 255.
    """

    name: str
    source: str
    identity: str
    read: Callable[[], tuple[np.ndarray, ...]]


# ---------------------------------------------------------------- what is given


def samples(data: Sequence[Any], learns_from: LearnsFrom) -> list[Sample]:
    """Make samples of what a method learns from.

    Parameters
    ----------
    data : sequence
        For "images": arrays or paths. For "pairs": `Pair`; "labelled pairs" have a mask or boxes.
        Also a `Dataset` of that kind, or several among the others.
    learns_from : {"images", "pairs", "labelled pairs"}

    Raises
    ------
    FusionError
        If `data` holds the other kind, or some of the pairs have no labels, or impossible ones,
        where they are needed: all are read to see that.
    ImageError
        If a file is not there.
    """
    images, labelled = learns_from == "images", learns_from == "labelled pairs"
    found: list[Sample] = []
    for item in [data] if isinstance(data, Dataset) else data:
        number = len(found) + 1
        if isinstance(item, Dataset):
            found += _from_dataset(item, learns_from)
        elif isinstance(item, Pair) == images:
            raise wrong_kind(learns_from)
        elif images:
            found.append(_image_sample(item, number))
        else:
            found.append(_pair_sample(item, number, labelled))
    if labelled:
        _check_labels(found)
    return found


def _check_labels(found: Sequence[Sample]) -> None:
    """Read all, lest a training stop in the middle for a file that was wrong from the start."""
    faults = []
    for sample in found:
        try:
            sample.read()
        except FusionError as error:
            faults.append(error)
    if faults:
        raise type(faults[0])(
            f"{len(faults)} of {len(found)} labelled pairs cannot be learnt from. The first: "
            f"{faults[0]}"
        ) from faults[0]


def wrong_kind(learns_from: str, dataset: str = "") -> FusionError:
    """Build the error for pairs where images are learnt from, or the other way round."""
    pairs = learns_from != "images"
    other = "single images" if pairs else "pairs"
    given = f"the data set {dataset} holds {other}" if dataset else f"{other} were given"
    if pairs:
        labelled = learns_from == "labelled pairs"
        masks, folders = (" with object masks", "three") if labelled else ("", "two")
        return FusionError(
            f"this method learns from pairs of an infrared and a visible image{masks}; {given}. "
            f"Give {folders} folders, a data set of pairs, or in Python `Pair`s."
        )
    return FusionError(
        f"this method learns from single images; {given}. Give image files or a folder of them, "
        "or a data set of single images."
    )


def _from_dataset(data: Dataset, learns_from: LearnsFrom) -> list[Sample]:
    card = data.card
    if card is not None and (card.kind == "images") != (learns_from == "images"):
        raise wrong_kind(learns_from, data.name)

    def read(number: int, name: str) -> tuple[np.ndarray, ...]:
        item = data[number]
        if isinstance(item, Pair):
            return _pair_levels(item, learns_from == "labelled pairs")
        return (_levels(item[1], name),)

    return [
        Sample(name, data.name, f"{data.name}/{name}", partial(read, number, name))
        for number, name in enumerate(data.names)
    ]


def _image_sample(item: Picture, number: int) -> Sample:
    name, source, identity = _identify(item, number)

    def read() -> tuple[np.ndarray, ...]:
        return (_levels(item if isinstance(item, np.ndarray) else read_image(item), name),)

    return Sample(name, source, identity, read)


def _pair_sample(pair: Pair, number: int, labelled: bool) -> Sample:
    arrays = [pair.ir, pair.vis, *([pair.mask] if labelled and pair.mask is not None else [])]
    identity = "".join(_identify(array, number)[2] for array in arrays)
    identity += str(pair.boxes) * labelled
    return Sample(pair.name, "given arrays", identity, lambda: _pair_levels(pair, labelled))


def _identify(item: Picture, number: int) -> tuple[str, str, str]:
    """Return name, source and identity: pixels of an array, name and size of a file."""
    if isinstance(item, np.ndarray):
        digest = hashlib.sha256(f"{item.shape}{item.dtype}".encode())
        digest.update(np.ascontiguousarray(item).tobytes())
        return f"image {number}", "given arrays", digest.hexdigest()
    path = Path(item)
    if not path.is_file():
        raise ImageError(f"no such training image: {path}")
    return path.name, path.absolute().parent.name, f"{path.name} {path.stat().st_size}"


def _levels(image: np.ndarray, name: str) -> np.ndarray:
    return quantise(luminance(check_image(image, name)))


def _pair_levels(pair: Pair, labelled: bool) -> tuple[np.ndarray, ...]:
    levels = _levels(pair.ir, pair.name), _levels(pair.vis, pair.name)
    return (*levels, object_mask(pair).astype(np.uint8) * 255) if labelled else levels


def fingerprint(given: Sequence[Sample]) -> str:
    """Identify samples and their order."""
    return hashlib.sha256("\n".join(sample.identity for sample in given).encode()).hexdigest()


# ---------------------------------------------------------------- batches


class Batch(NamedTuple):
    """What one iteration works on.

    ``images`` are tensors (B, 1, size, size) of whole gray levels 0..255: one, or infrared and
    visible, and of labelled pairs the object mask; ``random`` is for whatever else the iteration
    draws; ``names`` are the samples'.
    """

    images: tuple[Tensor, ...]
    random: np.random.Generator
    names: tuple[str, ...]


def batches(
    given: Sequence[Sample],
    *,
    sampling: Literal["resize", "crop", "crop and turn"],
    size: int,
    batch_size: int,
    iterations: range,
    seed: int,
    stage: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Give the batches of some iterations of a stage.

    Every epoch has a new permutation of the samples; those that do not fill a batch are left
    out. With fewer samples than `batch_size` a batch is all of them.

    Parameters
    ----------
    given : sequence of Sample
    sampling : {"resize", "crop", "crop and turn"}
        As in `Recipe`.
    size : int
        Side of the squares.
    batch_size : int
        Samples per iteration, over all processes together.
    iterations : range
        Which ones.
    seed, stage : int
    rank, world : int
        Number of this process and of all; each takes its share of every batch.

    Yields
    ------
    Batch

    Raises
    ------
    ImageError
        If an image cannot be read, or is smaller than the square to cut.
    """
    batch_size = min(batch_size, len(given))
    per_epoch = len(given) // batch_size

    def read(iteration: int) -> Batch:
        epoch, place = divmod(iteration, per_epoch)
        order = np.random.default_rng((seed, epoch, stage)).permutation(len(given))
        chosen = order[place * batch_size : (place + 1) * batch_size]

        def random(number: int) -> np.random.Generator:
            # Never 0 at the end: NumPy takes (seed, epoch, stage, 0) for (seed, epoch, stage).
            return np.random.default_rng((seed, iteration, stage, 1 + number))

        share = range(rank, batch_size, world)
        squares = [_square(given[chosen[i]], sampling, size, random(i)) for i in share]
        images = tuple(
            torch.from_numpy(np.stack(some)[:, None].astype(np.float32))
            for some in zip(*squares, strict=True)
        )
        names = tuple(given[chosen[i]].name for i in share)
        return Batch(images, random(batch_size + rank), names)

    # The next batch is read while the network works on this one. A thread, since an error
    # in a worker process of a DataLoader arrives with the process's traceback as its message.
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(read, iteration) for iteration in iterations[:1]]
        for iteration in iterations:
            batch = coming.pop().result()
            if iteration + 1 in iterations:
                coming.append(reader.submit(read, iteration + 1))
            yield batch


def _square(
    sample: Sample, sampling: str, size: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Make squares of a sample, the same one of all images of a pair."""
    images = sample.read()
    if sampling == "resize":
        return [resized(image, size) for image in images]
    height, width = images[0].shape
    if min(height, width) < size:
        raise ImageError(
            f"{sample.name} is {width}x{height}, smaller than the {size}x{size} "
            "square to cut from it. Take a smaller crop, or larger images."
        )
    top, left = random.integers(0, (height - size + 1, width - size + 1))
    turns, mirrored = random.integers(0, (4, 2)) if sampling == "crop and turn" else (0, 0)
    squares = (image[top : top + size, left : left + size] for image in images)
    turned = (np.rot90(image, turns) for image in squares)
    return [image[::-1] if mirrored else image for image in turned]


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a uint8 image (H, W) to (size, size) with nearest neighbour."""
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(picture)
