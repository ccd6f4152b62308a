"""``python -m reproduction train``: a method's network, or a dictionary, from images."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fusionlib.classical.dictionary import save_dictionary
from fusionlib.commands import given
from fusionlib.datasets import list_datasets, load_dataset, load_images
from fusionlib.errors import FusionError, ImageError, unknown
from fusionlib.files import check_writable, write_text
from fusionlib.images import SUFFIXES
from fusionlib.pairs import Dataset, Pair, images_by_stem, read_pairs
from fusionlib.weights import save_weights

from ..training import RECIPES, Config, find_recipe, train
from ..training.dictionary import train_dictionary
from ..training.masks import read_mask
from ..training.samples import wrong_kind

DESCRIPTION = """\
Train a method's network with its published losses and settings; each setting
can be changed. A stopped run continues when the command is given again. For
several processes: torchrun --nproc-per-node N -m reproduction train ..."""

#: What recipes say of themselves goes between these.
LEARNING = """\
METHOD learns from
  images: {images}
  pairs: {pairs},
    jsr (a dictionary, jsrsd's too, in one go)
  labelled pairs: {labelled}
On one image res2netfuse follows the published one-image schedule, on more the
published many-image schedule.

values of --option:
{options}

examples:
  {program} res2netfuse photo.jpg -o mine.safetensors
  {program} nestfuse sample_images --crop 64 -o a.safetensors
  {program} refinefuse ir vis masks -o mine.safetensors"""


def add(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        help="train a network as its authors did, or for a shorter time",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("method", metavar="METHOD", help="what to train; see below")
    train.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="images, folders of images, or names of data sets; of pairs: the folder of infrared "
        "and the folder of visible images, matched by file name, and where labels are needed the "
        "folder of object masks, or names of data sets",
    )
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="weights, .safetensors"
    )
    train.add_argument(
        "--half", action="store_true", default=None, help="write 16 bits of each weight"
    )
    for flag, (kind, metavar, about) in OPTIONS.items():
        train.add_argument(flag, type=kind, metavar=metavar, help=about)
    train.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="what only this method takes (see below), may be repeated",
    )
    train.epilog = _learning(train.prog)
    train.set_defaults(run=_train)


#: What takes one value: how it is read, what it is called, what it is.
OPTIONS = {
    "--data-dir": (Path, "FOLDER", "where to look for data first"),
    "--device": (str, "NAME", "cpu (default), or cuda where there is an NVIDIA GPU"),
    "--iterations": (int, "N", "over all stages; default: as published"),
    "--checkpoint": (Path, "FILE", "default: that of the weights with the suffix .checkpoint"),
    "--every": (int, "N", "iterations between checkpoints; default: 200"),
    "--batch-size": (int, "N", "default: as published"),
    "--crop": (int, "N", "side of squares; default: as published"),
    "--seed": (int, "N", "default: 0"),
    "--rate-factor": (
        float,
        "X",
        "multiply the published learning rates, which are for long trainings",
    ),
    "--hold-out": (
        int,
        "N",
        "do not learn from every Nth image or pair; record the losses on them whenever a "
        "checkpoint is due",
    ),
    "--variant": (str, "NAME", "of res2netfuse: released (default) or paper"),
    "--learning-rate": (float, "X", "of res2netfuse; published: 5e-4 (one image), 1e-4"),
}


def _learning(program: str) -> str:
    """Return what recipes say of themselves."""
    recipes = [find_recipe(method) for method in RECIPES]

    def learning_from(kind: str) -> str:
        return ", ".join(recipe.method for recipe in recipes if recipe.learns_from == kind)

    takes = [
        f"  {f'{recipe.method} {name}':<26}{'needed: ' * (name in recipe.required)}{option.about}"
        for recipe in recipes
        for name, option in recipe.options.items()
    ]
    return LEARNING.format(
        images=learning_from("images"),
        pairs=learning_from("pairs"),
        labelled=learning_from("labelled pairs"),
        options="\n".join(textwrap.fill(s, 78, subsequent_indent=" " * 28) for s in takes),
        program=program,
    )


# ---------------------------------------------------------------- training

#: Options that learning a dictionary has none of.
GRADIENTS = (
    *("crop", "rate_factor", "hold_out", "option", "variant", "learning_rate", "batch_size"),
    *("checkpoint", "half"),
)


def _train(options: argparse.Namespace) -> None:
    if options.output.suffix != ".safetensors":
        raise FusionError(f"the output must end in .safetensors, not {options.output.name!r}.")
    losses = options.output.with_suffix(".losses.csv")
    for path in (options.output, losses):
        check_writable(path)
    if options.method == "jsr":
        _train_dictionary(options, losses)
    else:
        _train_network(options, losses)


def _train_network(options: argparse.Namespace, losses: Path) -> None:
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
    own = dict(map(_name_and_value, options.option or ()))
    result = train(
        options.method,
        _training_data(options, find_recipe(options.method).learns_from),
        Config(**config),
        options={**own, **given(options, "variant", "learning_rate")},
        checkpoint=checkpoint,
        **given(options, "device"),
    )
    if os.environ.get("RANK", "0") == "0":
        save_weights(options.output, result.network, result.facts, half=bool(options.half))
        _write_losses(options, losses, result.history)


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise FusionError(f"--option takes NAME=VALUE, not {text!r}.")
    return name, value


def _train_dictionary(options: argparse.Namespace, losses: Path) -> None:
    if os.environ.get("RANK", "0") != "0":
        return
    for name in given(options, *GRADIENTS):
        raise FusionError(
            f"jsr learns a dictionary, without --{name.replace('_', '-')}; leave it out."
        )
    dictionary, history, facts = train_dictionary(
        _training_data(options, "pairs"), **given(options, "iterations", "seed")
    )
    save_dictionary(options.output, dictionary, facts)
    _write_losses(options, losses, history)


def _write_losses(options: argparse.Namespace, losses: Path, history: pd.DataFrame) -> None:
    write_text(losses, history.to_csv(index=False, float_format="%.7g"))
    print(f"wrote {options.output} and {losses}")


# ---------------------------------------------------------------- data


def _training_data(options: argparse.Namespace, learns_from: str) -> list[Any]:
    """Open data sets and find the files of folders."""
    # The name of a data set, not a file or folder, that which is not there included.
    names = [
        str(p) for p in options.images if not p.exists() and p == Path(p.name) and not p.suffix
    ]
    paths = [path for path in options.images if str(path) not in names]
    data = [_open_dataset(name, learns_from, options.data_dir) for name in names]
    if paths and learns_from == "images":
        data += _image_files(paths)
    elif paths:
        data.append(_pairs_in(paths, labelled=learns_from == "labelled pairs"))
    return data


def _open_dataset(name: str, learns_from: str, data_dir: Path | None) -> Any:
    kinds = list_datasets(data_dir).set_index("name")["kind"]
    images = learns_from == "images"
    if name in kinds and (kinds[name] == "images") != images:
        raise wrong_kind(learns_from, name)
    return (load_images if images else load_dataset)(name, data_dir=data_dir)


def _pairs_in(folders: Sequence[Path], labelled: bool) -> Dataset[Pair]:
    """Match the images of two folders, and where labels are needed their masks in a third."""
    if len(folders) != 2 + labelled or not all(folder.is_dir() for folder in folders[:2]):
        wanted = "pairs: give two folders, of infrared and of visible images"
        if labelled:
            wanted = (
                "pairs with labels: give three folders, of infrared images, of visible images and "
                "of object masks (white on black; all black where there is no object)"
            )
        raise ImageError(
            f"this method learns from {wanted}, or names of data sets, not "
            f"{', '.join(map(str, folders))}."
        )
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


def _image_files(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by the images in them."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise ImageError(f"no image in the folder {path}.")
            files += inside
        else:
            files.append(path)
    return files
