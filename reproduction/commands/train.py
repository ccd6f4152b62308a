"""``python -m reproduction train``: a method's network, or a dictionary, from images."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionlib.classical.dictionary import (
    ITERATIONS,
    SIDE,
    learn_dictionary,
    save_dictionary,
    training_patches,
)
from fusionlib.commands import DATA_DIR, DEVICE, Commands, Options, given
from fusionlib.datasets import list_datasets, load_dataset, load_images
from fusionlib.errors import FusionError, ImageError, unknown
from fusionlib.files import check_writable, write_text
from fusionlib.images import SUFFIXES
from fusionlib.pairs import Dataset, Pair, images_by_stem, read_pairs
from fusionlib.weights import save_weights

from ..training import RECIPES, Config, find_recipe, train, training_facts
from ..training.masks import read_mask
from ..training.samples import LearnsFrom, Sample, samples, wrong_kind

OPTIONS: Options = {
    "METHOD": "what to train; see above",
    "IMAGE": {
        "nargs": "+",
        "type": Path,
        "help": "images, folders of images, or names of data sets; of pairs: the folder of "
        "infrared and the folder of visible images, matched by file name, and where labels are "
        "needed the folder of object masks, or names of data sets",
    },
    "-o --output FILE": {"required": True, "help": "weights, .safetensors"},
    "--half": "write 16 bits of each weight",
    **DATA_DIR,
    **DEVICE,
    "--iterations N": "over all stages; default: as published",
    "--checkpoint FILE": "default: that of the weights with the suffix .checkpoint",
    "--every N": "iterations between checkpoints; default: 200",
    "--batch-size N": "default: as published",
    "--crop N": "side of squares; default: as published",
    "--seed N": "default: 0",
    "--rate-factor X": "multiply the published learning rates, which are for long trainings",
    "--hold-out N": "do not learn from every Nth image or pair; record the losses on them whenever "
    "a checkpoint is due",
    "--variant NAME": "of res2netfuse: released (default) or paper",
    "--learning-rate X": "of res2netfuse; published: 5e-4 (one image), 1e-4",
    "--option NAME=VALUE": {
        "action": "append",
        "help": "what only this method takes (see above), may be repeated",
    },
}

ABOUT = """\
Train a network as its authors did, or for a shorter time.

Losses and settings are the published ones; each setting can be changed. A
stopped run continues when the command is given again. For several processes:
torchrun --nproc-per-node N -m reproduction train ...

METHOD learns from
  images: {images}
  pairs: {pairs},
    jsr (a dictionary, jsrsd's too, in one go)
  labelled pairs: {labelled}
On one image res2netfuse follows the published one-image schedule, on more the
published many-image schedule.

values of --option:
{options}

train res2netfuse photo.jpg -o mine.safetensors
train nestfuse sample_images --crop 64 -o a.safetensors
train refinefuse ir vis masks -o mine.safetensors"""


def _about() -> str:
    """Return the command's help: what recipes say of themselves."""
    recipes = [find_recipe(method) for method in RECIPES]
    learn = {
        kind.split()[0]: ", ".join(r.method for r in recipes if r.learns_from == kind)
        for kind in ("images", "pairs", "labelled pairs")
    }
    takes = [
        f"  {f'{recipe.method} {name}':<26}{'needed: ' * option.required}{option.about}"
        for recipe in recipes
        for name, option in recipe.options.items()
    ]
    lines = (textwrap.fill(line, 78, subsequent_indent=" " * 28) for line in takes)
    return ABOUT.format(**learn, options="\n".join(lines))


def _run(options: argparse.Namespace) -> None:
    if options.output.suffix != ".safetensors":
        raise FusionError(f"the output must end in .safetensors, not {options.output.name!r}.")
    losses = options.output.with_suffix(".losses.csv")
    for path in (options.output, losses):
        check_writable(path)
    first = os.environ.get("RANK", "0") == "0"
    if options.method == "jsr" and not first:  # one process learns the whole dictionary
        return
    history = _learn_dictionary(options) if options.method == "jsr" else _train(options, losses)
    if first:
        write_text(losses, history.to_csv(index=False, float_format="%.7g"))
        print(f"wrote {options.output} and {losses}")


def _train(options: argparse.Namespace, losses: Path) -> pd.DataFrame:
    if options.method not in RECIPES:
        raise unknown("method to train", options.method, (*RECIPES, "jsr"))
    checkpoint = options.checkpoint or options.output.with_suffix(".checkpoint")
    for path in (options.output, losses):
        if checkpoint.resolve() == path.resolve():
            raise FusionError(f"the checkpoint cannot be {path}, which is written at the end.")
    check_writable(checkpoint)
    config = given(options, "iterations", "batch_size", "rate_factor", "seed", "hold_out", "every")
    if options.crop is not None:
        config["size"] = options.crop
    result = train(
        options.method,
        _data(options, find_recipe(options.method).learns_from),
        Config(**config),
        options={
            **dict(map(_name_and_value, options.option or ())),
            **given(options, "variant", "learning_rate"),
        },
        checkpoint=checkpoint,
        **given(options, "device"),
    )
    if os.environ.get("RANK", "0") == "0":
        save_weights(options.output, result.network, result.facts, half=bool(options.half))
    return result.history


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise FusionError(f"--option takes NAME=VALUE, not {text!r}.")
    return name, value


def _learn_dictionary(options: argparse.Namespace) -> pd.DataFrame:
    """Learn JSR's and JSRSD's dictionary by K-SVD from the patches of many pairs at once."""
    takes = ("method", "image", "output", "data_dir", "device", "iterations", "every", "seed")
    for name in given(options):
        if name not in takes:
            flag = name.replace("_", "-")
            raise FusionError(f"jsr learns a dictionary, without --{flag}; leave it out.")
    if options.device not in (None, "cpu"):
        raise FusionError(f"a dictionary is learnt on the CPU, not on {options.device!r}.")
    settings = {"iterations": ITERATIONS, "seed": 0} | given(options, "iterations", "seed")
    Config(**settings)  # are they possible?
    pairs = samples(_data(options, "pairs"), "pairs")
    patches = training_patches(_levels_of(pairs), settings["seed"])
    dictionary, errors = learn_dictionary(patches, **settings)
    sources = ", ".join(dict.fromkeys(pair.source for pair in pairs))
    facts = {
        "method": "K-SVD",
        "learnt_from": f"{patches.shape[1]} patches of {len(pairs)} pairs of {sources}",
    }
    save_dictionary(options.output, dictionary, training_facts(facts | settings, "cpu"))
    return pd.DataFrame({"iteration": range(1, len(errors) + 1), "rmse": errors})


def _levels_of(pairs: Sequence[Sample]) -> Iterator[np.ndarray]:
    """Read the images of pairs one by one, in [0, 1]."""
    for pair in pairs:
        for levels in pair.read():
            if min(levels.shape) < SIDE:
                height, width = levels.shape
                raise ImageError(
                    f"pair {pair.name} is {width}x{height} pixels; a dictionary is learnt from "
                    f"patches of {SIDE}x{SIDE}. Leave it out."
                )
            yield levels / 255


# ---------------------------------------------------------------- data


def _data(options: argparse.Namespace, learns_from: LearnsFrom) -> list[Any]:
    """Open data sets and find the files of folders."""
    # The name of a data set, not a file or folder, that which is not there included.
    names = [str(p) for p in options.image if not p.exists() and p == Path(p.name) and not p.suffix]
    paths = [path for path in options.image if str(path) not in names]
    data = [_open_dataset(name, learns_from, options.data_dir) for name in names]
    if paths and learns_from == "images":
        data += [file for path in paths for file in _files(path)]
    elif paths:
        data.append(_pairs_in(paths, learns_from))
    return data


def _open_dataset(name: str, learns_from: LearnsFrom, data_dir: Path | None) -> Any:
    kinds = list_datasets(data_dir).set_index("name")["kind"]
    images = learns_from == "images"
    if name in kinds and (kinds[name] == "images") != images:
        raise wrong_kind(learns_from, name)
    return (load_images if images else load_dataset)(name, data_dir=data_dir)


def _files(path: Path) -> list[Path]:
    """Return the images in a folder, or a file itself."""
    if not path.is_dir():
        return [path]
    inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    if not inside:
        raise ImageError(f"no image in the folder {path}.")
    return inside


def _pairs_in(folders: Sequence[Path], learns_from: LearnsFrom) -> Dataset[Pair]:
    """Match the images of two folders, and where labels are needed their masks in a third."""
    labelled = learns_from == "labelled pairs"
    if len(folders) != 2 + labelled or not all(folder.is_dir() for folder in folders):
        raise wrong_kind(learns_from, given=", ".join(map(str, folders)))
    pairs = read_pairs(*folders[:2])
    if not labelled:
        return pairs
    masks = images_by_stem(folders[2])
    if without := [name for name in pairs.names if name not in masks]:
        raise ImageError(
            f"{len(without)} pairs have no mask in {folders[2]}, such as {without[0]}. Name a "
            "mask as its pair; an all black one says that there is no object."
        )

    def read(number: int) -> Pair:
        return replace(pairs[number], mask=read_mask(masks[pairs.names[number]]))

    return Dataset(pairs.name, None, pairs.names, read)


_run.__doc__ = _about()
COMMANDS: Commands = {"train": (_run, OPTIONS)}
