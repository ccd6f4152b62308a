"""``python -m reproduction train``: a method's network, or a dictionary, from images."""

from __future__ import annotations

import argparse
import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionlib.commands.shared import add_command, add_shared, given, listed
from fusionlib.errors import FusionError, ImageError

if TYPE_CHECKING:
    import numpy as np

    from ..recipes.samples import Sample
    from ..training import Training


def add(commands: argparse._SubParsersAction) -> None:
    train = add_command(
        commands,
        "train",
        "Train a method's network with its published losses and settings; each setting can be "
        "changed. A stopped run continues when the command is given again. For several processes: "
        "torchrun --nproc-per-node N -m reproduction train ...",
        "train res2netfuse photo.jpg -o mine.safetensors",
        "train nestfuse sample_images --crop 64 -o a.safetensors",
        "train refinefuse ir vis masks -o mine.safetensors",
        add_help=False,
    )
    train.add_argument(
        "-h", "--help", action=_TrainHelp, nargs=0, help="show this help message and exit"
    )
    _add_data(train)
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="weights, .safetensors"
    )
    train.add_argument("--half", action="store_true", help="write 16 bits of each weight")
    add_shared(train, "--device")
    _add_length(train.add_argument_group("how long"))
    _add_settings(train.add_argument_group("settings"))
    train.set_defaults(run=_train)


def _add_data(train: argparse.ArgumentParser) -> None:
    from ..recipes import RECIPES

    methods = ["res2netfuse", "jsr", *RECIPES]
    train.add_argument(
        "method",
        choices=methods,
        metavar="METHOD",
        help=f"what to train: {', '.join(methods)}; jsr: a dictionary",
    )
    train.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="images, folders of images, or names of data sets; of pairs: the folder of infrared "
        "and the folder of visible images, matched by file name, and where labels are needed the "
        "folder of object masks, or names of data sets",
    )
    add_shared(train, "--data-dir")


def _add_length(group: argparse._ArgumentGroup) -> None:
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="over all stages; default: as published, or (not of res2netfuse) as the checkpoint "
        "was begun",
    )
    length.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="as many iterations as fit into that time; what is continued keeps the number that "
        "it was begun with, whatever its budget then or now",
    )
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="default: that of the weights with the suffix .checkpoint",
    )
    group.add_argument(
        "--every",
        type=int,
        default=200,
        metavar="N",
        help="iterations between checkpoints; default: %(default)s",
    )


def _add_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch-size", type=int, metavar="N", help="default: as published")
    group.add_argument(
        "--crop", type=int, metavar="N", help="side of squares; default: as published"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    group.add_argument(
        "--rate-factor",
        type=float,
        metavar="X",
        help="multiply the published learning rates, which are for long trainings",
    )
    group.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="do not learn from every Nth image or pair; record the losses on them whenever a "
        "checkpoint is due",
    )
    group.add_argument(
        "--variant", metavar="NAME", help="of res2netfuse: released (default) or paper"
    )
    group.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="of res2netfuse; published: 5e-4 (one image), 1e-4",
    )
    group.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="what only this method takes (see below), may be repeated",
    )


class _TrainHelp(argparse.Action):
    """Recipes say what they take; they are imported, and PyTorch, only when help is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ..recipes import RECIPES, find_recipe

        recipes = [find_recipe(method) for method in RECIPES]

        def learning_from(kind: str) -> str:
            return ", ".join(recipe.method for recipe in recipes if recipe.learns_from == kind)

        about = (
            "res2netfuse learns from single images; one follows the published one-image "
            "schedule, more the published many-image schedule. From single images learn also: "
            f"{learning_from('images')}; from pairs: {learning_from('pairs')}; from pairs with "
            f"labels: {learning_from('labelled pairs')}; jsr learns its "
            "dictionary (jsrsd's, too) from pairs in one go."
        )
        takes = [f"{'res2netfuse precision':<24}single or mixed (gradients in bfloat16)"]
        takes += [
            f"{f'{recipe.method} {name}':<24}{'needed: ' * (name in recipe.required)}{option.about}"
            for recipe in recipes
            for name, option in recipe.options.items()
        ]
        lines = [
            part for line in takes for part in textwrap.wrap(line, 76, subsequent_indent=" " * 24)
        ]
        examples = parser.epilog or ""
        parser.epilog = "\n\n".join(
            [textwrap.fill(about, 80), listed("values of --option", lines), examples]
        )
        parser.print_help()
        parser.exit()


def _train(options: argparse.Namespace) -> None:
    from fusionlib.files import check_writable, write_text
    from fusionlib.weights import save_weights

    if options.output.suffix != ".safetensors":
        raise FusionError(f"the output must end in .safetensors, not {options.output.name!r}.")
    losses = options.output.with_suffix(".losses.csv")
    if options.method == "jsr":
        return _train_dictionary(options, losses)
    if options.checkpoint is None:
        options.checkpoint = options.output.with_suffix(".checkpoint")
    for path in (options.output, losses):
        if options.checkpoint.resolve() == path.resolve():
            raise FusionError(f"the checkpoint cannot be {path}, which is written at the end.")
    for path in (options.output, losses, options.checkpoint):
        check_writable(path)
    own = options.method == "res2netfuse"
    result = _train_res2netfuse(options) if own else _train_by_recipe(options)
    if os.environ.get("RANK", "0") != "0":
        return
    save_weights(options.output, result.network, result.facts, half=options.half)
    write_text(losses, result.history.to_csv(index=False, float_format="%.7g"))
    print(f"wrote {options.output} and {losses}")


#: Options that Res2NetFuse's training does not have.
RECIPES_OWN = ("budget", "crop", "rate_factor", "hold_out")


def _train_res2netfuse(options: argparse.Namespace) -> Training:
    from dataclasses import replace

    from ..recipes.samples import samples
    from ..training import MANY_IMAGES, ONE_IMAGE, train_res2netfuse

    for name in given(options, *RECIPES_OWN):
        raise FusionError(
            f"res2netfuse is trained without --{name.replace('_', '-')}; leave it out."
        )
    images = _training_data(options, "images")
    one = len(samples(images, "images")) == 1
    settings = given(options, "variant", "iterations", "learning_rate", "batch_size", "seed")
    settings |= _res2netfuse_options(options)
    config = replace(ONE_IMAGE if one else MANY_IMAGES, **settings)
    return train_res2netfuse(
        images,
        config,
        checkpoint=options.checkpoint,
        every=options.every,
        device=options.device,
    )


def _res2netfuse_options(options: argparse.Namespace) -> dict[str, str]:
    values = dict(map(_name_and_value, options.option or ()))
    for name in values:
        if name != "precision":
            raise FusionError(f"res2netfuse does not take {name!r}; its options: precision.")
    return values


#: Options that learning a dictionary has none of.
GRADIENTS = (*RECIPES_OWN, "option", "variant", "learning_rate", "batch_size", "checkpoint")


def _train_dictionary(options: argparse.Namespace, losses: Path) -> None:
    import pandas as pd

    from fusionlib.classical.dictionary import (
        ITERATIONS,
        learn_dictionary,
        save_dictionary,
        training_patches,
    )
    from fusionlib.files import check_writable, write_text
    from fusionlib.weights import training_facts

    from ..recipes.samples import samples
    from ..training import check_seed

    if os.environ.get("RANK", "0") != "0":
        return
    for name in [*given(options, *GRADIENTS), *(["half"] if options.half else [])]:
        raise FusionError(
            f"jsr learns a dictionary, without --{name.replace('_', '-')}; leave it out."
        )
    iterations = ITERATIONS if options.iterations is None else options.iterations
    if iterations < 1:
        raise FusionError(f"--iterations must be 1 or more, not {iterations}.")
    check_seed(options.seed)
    for path in (options.output, losses):
        check_writable(path)
    pairs = samples(_training_data(options, "pairs"), "pairs")
    patches = training_patches(_levels_of(pairs), options.seed)
    dictionary, errors = learn_dictionary(patches, iterations=iterations, seed=options.seed)
    facts = {
        "method": "K-SVD",
        "learnt_from": f"{patches.shape[1]} patches of {len(pairs)} pairs of "
        f"{', '.join(dict.fromkeys(pair.source for pair in pairs))}",
        "iterations": iterations,
        "seed": options.seed,
    }
    save_dictionary(options.output, dictionary, training_facts(facts, "cpu"))
    rows = pd.DataFrame({"iteration": range(1, iterations + 1), "rmse": errors})
    write_text(losses, rows.to_csv(index=False, float_format="%.7g"))
    print(f"wrote {options.output} and {losses}")


def _levels_of(pairs: Sequence[Sample]) -> Iterator[np.ndarray]:
    """Read the images of pairs one by one, in [0, 1]."""
    from fusionlib.classical.dictionary import SIDE

    for pair in pairs:
        for levels in pair.read():
            if min(levels.shape) < SIDE:
                height, width = levels.shape
                raise ImageError(
                    f"{pair.name} is {width}x{height} pixels; a dictionary is learnt from patches "
                    f"of {SIDE}x{SIDE}. Leave it out."
                )
            yield levels / 255


def _train_by_recipe(options: argparse.Namespace) -> Training:
    from ..recipes import find_recipe
    from ..training import train_by_recipe

    for name in given(options, "variant", "learning_rate"):
        raise FusionError(f"--{name.replace('_', '-')} is for res2netfuse; leave it out.")
    return train_by_recipe(
        options.method,
        _training_data(options, find_recipe(options.method).learns_from),
        budget=options.budget,
        iterations=options.iterations,
        batch_size=options.batch_size,
        size=options.crop,
        seed=options.seed,
        **given(options, "rate_factor"),
        options=dict(map(_name_and_value, options.option or ())),
        hold_out=options.hold_out,
        checkpoint=options.checkpoint,
        every=options.every,
        device=options.device,
    )


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise FusionError(f"--option takes NAME=VALUE, not {text!r}.")
    return name, value


def _training_data(options: argparse.Namespace, learns_from: str) -> list[Any]:
    """Open data sets and find the files of folders."""
    from fusionlib.datasets import list_datasets, load_dataset, load_images

    from ..recipes.samples import wrong_kind

    of_pairs = learns_from != "images"
    names = [str(path) for path in options.images if _is_dataset(path)]
    paths = [path for path in options.images if not _is_dataset(path)]
    if names:
        known = list_datasets(options.data_dir)
        holds_pairs = dict(zip(known["name"], known["kind"] != "images", strict=True))
        for name in names:
            if holds_pairs.get(name, of_pairs) != of_pairs:
                raise wrong_kind(learns_from, name)
    load: Any = load_dataset if of_pairs else load_images
    data: list[Any] = [load(name, data_dir=options.data_dir) for name in names]
    if paths:
        if learns_from == "labelled pairs":
            data += _labelled_pair_files(paths)
        else:
            data += _pair_files(paths) if of_pairs else _image_files(paths)
    return data


def _is_dataset(path: Path) -> bool:
    """Tell the name of a data set from a file or folder, that which is not there included."""
    return not path.exists() and path == Path(path.name) and not path.suffix


def _pair_files(folders: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Match the images of two folders; those without partner are left out with a warning."""
    from fusionlib.pairs import match_folders

    if len(folders) != 2 or not all(folder.is_dir() for folder in folders):
        raise ImageError(
            "this method learns from pairs: give two folders, of infrared and of visible "
            f"images, or names of data sets, not {', '.join(map(str, folders))}."
        )
    found = match_folders(*folders)
    alone = [*found.only_ir, *found.only_vis]
    if alone:
        warnings.warn(
            f"{len(alone)} images without partner are left out, such as {alone[0]}.", stacklevel=2
        )
    return [(ir, vis) for _, ir, vis in found.matched]


def _labelled_pair_files(folders: Sequence[Path]) -> list[tuple[Path, Path, Path]]:
    """Match the images of two folders and their masks in a third."""
    from fusionlib.pairs import images_by_stem

    if len(folders) != 3:
        raise ImageError(
            "this method learns from pairs with labels: give three folders, of infrared images, of "
            "visible images and of object masks (white on black; all black where there is no "
            f"object), or names of data sets, not {', '.join(map(str, folders))}."
        )
    pairs = _pair_files(folders[:2])
    masks = images_by_stem(folders[2])
    without = [ir.name for ir, _ in pairs if ir.stem not in masks]
    if without:
        raise ImageError(
            f"{len(without)} pairs have no mask in {folders[2]}, such as {without[0]}. Name a "
            "mask as its pair; an all black one says that there is no object."
        )
    return [(ir, vis, masks[ir.stem]) for ir, vis in pairs]


def _image_files(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by the images in them."""
    from fusionlib.images import SUFFIXES

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
