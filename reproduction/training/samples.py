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
from operator import getitem
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

#: What is learnt from, and how it is given.
WANTED = {
    "images": ("single images", "image files or a folder of them, or a data set of single images"),
    "pairs": (
        "pairs of an infrared and a visible image",
        "two folders, of infrared and of visible images, or a data set of pairs",
    ),
    "labelled pairs": (
        "pairs of an infrared and a visible image with object masks",
        "three folders, of infrared images, visible images and object masks (white on black; all "
        "black where there is no object), or a data set of pairs with masks or boxes",
    ),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """An image or a pair to learn from.

    ``name`` is how errors call it, ``source`` its data set or folder. ``identity`` differs where
    the pixels differ, as far as that can be told without reading files. ``get`` gives a `Pair`, an
    array or a path.
    """

    name: str
    source: str
    identity: str
    get: Callable[[], Any]
    labelled: bool = False

    def read(self) -> tuple[np.ndarray, ...]:
        """Return uint8 arrays (H, W) of one size.

        The image, or infrared and visible, and of a labelled pair the object mask, 0 or 255.
        """
        item = self.get()
        if isinstance(item, tuple):  # of a data set of images: name and image
            item = item[1]
        pictures = (item.ir, item.vis) if isinstance(item, Pair) else (item,)
        levels = tuple(quantise(luminance(check_image(one, self.name))) for one in pictures)
        return (*levels, object_mask(item).astype(np.uint8) * 255) if self.labelled else levels


def samples(data: Sequence[Any], learns_from: LearnsFrom) -> list[Sample]:
    """Make samples of what a method learns from: arrays or paths of images, or pairs.

    Labelled pairs have a mask or boxes; all are read to see that. A `Dataset` of that kind may be
    given, too, or several among the others.

    Raises
    ------
    FusionError
        If `data` holds the other kind, or labels are needed and missing or impossible.
    ImageError
        If a file is not there.
    """
    images, labelled = learns_from == "images", learns_from == "labelled pairs"
    found: list[Sample] = []
    for item in [data] if isinstance(data, Dataset) else data:
        if isinstance(item, Dataset):
            if item.card is not None and (item.card.kind == "images") != images:
                raise wrong_kind(learns_from, item.name)
            found += [
                Sample(name, item.name, f"{item.name}/{name}", partial(getitem, item, i), labelled)
                for i, name in enumerate(item.names)
            ]
        elif isinstance(item, Pair) == images:
            raise wrong_kind(learns_from)
        else:
            found.append(_sample(item, f"image {len(found) + 1}", labelled))
    if labelled:  # no training is to stop in the middle for a label
        for sample in found:
            sample.read()
    return found


def wrong_kind(learns_from: LearnsFrom, dataset: str = "", given: str = "") -> FusionError:
    """Build the error for something that a method does not learn from."""
    wanted, remedy = WANTED[learns_from]
    other = "pairs" if learns_from == "images" else "single images"
    given = f"the data set {dataset} holds {other}" if dataset else f"{given or other} were given"
    return FusionError(f"this method learns from {wanted}; {given}. Give {remedy}.")


def _sample(item: Any, name: str, labelled: bool) -> Sample:
    """Make a sample of a pair, an array or a path."""
    if isinstance(item, Pair):
        mask = (item.mask,) if labelled and item.mask is not None else ()
        identity = _digest(item.ir, item.vis, *mask) + str(item.boxes) * labelled
        return Sample(item.name, "given arrays", identity, lambda: item, labelled)
    if isinstance(item, np.ndarray):
        return Sample(name, "given arrays", _digest(item), lambda: item)
    path = Path(item)
    if not path.is_file():
        raise ImageError(f"no such training image: {path}")
    identity = f"{path.name} {path.stat().st_size}"
    return Sample(path.name, path.absolute().parent.name, identity, partial(read_image, path))


def _digest(*arrays: np.ndarray) -> str:
    texts = (f"{a.shape}{a.dtype}".encode() + np.ascontiguousarray(a).tobytes() for a in arrays)
    return "".join(hashlib.sha256(text).hexdigest() for text in texts)


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
    """Give the batches of some iterations of a stage, of `batch_size` over all processes together.

    Every epoch has a new permutation of the samples; those that do not fill a batch are left
    out. With fewer samples than `batch_size` a batch is all of them. Each of `world` processes
    takes its share. ImageError if an image cannot be read, or is smaller than the square to cut.
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
