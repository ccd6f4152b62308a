"""The command line: ``fusionlib fuse | evaluate | benchmark | train | detect | reproduce | ...``.

Exit status: 0 done, 2 something given was wrong (one message on standard error), 130 stopped
by Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import FusionError, ImageError, WeightsNotFound, unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from .card import WeightFile, WeightUser
    from .detection.average_precision import Matches
    from .detection.detector import Detector, Thresholds
    from .evaluation import Fuser
    from .execution import Execution
    from .methods import Method
    from .recipes.samples import Sample
    from .training import Training
    from .weights import Obtained

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if "device" in options:
            from .execution import check_device

            check_device(options.device)
        status = options.run(options)
        sys.stdout.flush()
        return status
    except FusionError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of a listing (head, less) has gone. What is left in the buffer must go
        # somewhere when Python exits, or it complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError) as error:  # of the system: names too long, memory, rights
        return _fail(str(error) or "out of memory; give smaller images or fewer at a time.")
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, nothing is half-written.", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"fusionlib: {message}", file=sys.stderr)
    return 2


def _fail_each(faults: Sequence[str], what: str) -> int:
    """Fail with a line per image, if there are any."""
    if not faults:
        return 0
    return _fail(f"{len(faults)} could not be {what}:\n  " + "\n  ".join(faults))


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionlib",
        description="Reproducible infrared-visible and medical image fusion.",
        epilog="'fusionlib COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"fusionlib {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_fuse(commands)
    _add_evaluate(commands)
    _add_benchmark(commands)
    _add_train(commands)
    _add_detect(commands)
    _add_reproduce(commands)
    _add_listings(commands)
    return parser


#: Options that several commands have.
SHARED: dict[str, dict[str, Any]] = {
    "--limit": {"type": int, "help": "only the first N pairs of a data set"},
    "--data-dir": {"type": Path, "help": "where to look for data first"},
    "--weights-dir": {"type": Path, "help": "where to look for weights first"},
    "--device": {"default": "cpu", "help": "default: %(default)s"},
}


def _add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        parser.add_argument(name, **SHARED[name])


def _add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how networks are run; `_execution` reads them."""
    group = parser.add_argument_group("how networks are run")
    group.add_argument(
        "--precision",
        help="float32 (default), or bfloat16: faster where the hardware has it, and results differ "
        "in the second or third digit",
    )
    group.add_argument("--tile", type=int, metavar="N", help="side of tiles; default: 320")
    group.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="run networks that need the whole image in tiles, too, with that overlap: bounds the "
        "memory of large images, and results differ",
    )
    group.add_argument(
        "--channels-last",
        action="store_true",
        default=None,
        help="faster by up to a third for most networks, slower for some, and rounded otherwise",
    )
    group.add_argument("--threads", type=int, help="threads of a network; default: one per core")


def _execution(options: argparse.Namespace) -> Execution:
    from .execution import Execution

    names = ("precision", "tile", "overlap", "channels_last", "threads")
    batch = _given(options, "batch") if "batch" in options else {}
    return Execution(**_given(options, *names), **batch)


# ---------------------------------------------------------------- fuse


def _add_fuse(commands: argparse._SubParsersAction) -> None:
    fuse = commands.add_parser(
        "fuse",
        help="fuse two images, or two folders of images",
        description="Fuse an infrared and a visible image, or all pairs of two folders "
        "(matched by file name). Colour of the visible image is kept.",
    )
    fuse.add_argument("ir", type=Path, metavar="IR", help="infrared image or folder")
    fuse.add_argument("vis", type=Path, metavar="VIS", help="visible image or folder")
    fuse.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="image file or folder"
    )
    fuse.add_argument("-m", "--method", default="res2netfuse", help="default: %(default)s")
    fuse.add_argument("-r", "--rule", help="fusion rule; default: the method's published one")
    fuse.add_argument("--variant", help="reading of the paper, where a method has several")
    fuse.add_argument("--pipeline", help="published way of use, where a method has several")
    fuse.add_argument("--post", help="minmax (stretch to 0..255) or clip")
    fuse.add_argument("--weights", help="name of a weight set, or a .safetensors or .npz file")
    _add_shared(fuse, "--weights-dir", "--device")
    fuse.add_argument(
        "--skip-existing", action="store_true", help="folders: leave outputs that exist"
    )
    fuse.add_argument(
        "-j",
        "--jobs",
        type=int,
        default=1,
        help="folders: processes that fuse at a time, which share the cores; default: %(default)s",
    )
    _add_execution(fuse)
    fuse.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="folders: pairs that run together, where they have one size; default: 1; more pays on "
        "a GPU",
    )
    fuse.set_defaults(run=_fuse)


def _fuse(options: argparse.Namespace) -> int:
    from .folders import fuse_file
    from .methods import create

    if options.ir.is_dir() != options.vis.is_dir():
        file, folder = sorted((options.ir, options.vis), key=Path.is_dir)
        raise ImageError(f"give two files or two folders, not the file {file} and {folder}.")
    method = create(
        options.method,
        rule=options.rule,
        variant=options.variant,
        pipeline=options.pipeline,
        post=options.post,
        weights=options.weights,
        weights_dir=options.weights_dir,
        device=options.device,
        execution=_execution(options),
    )
    if options.ir.is_dir():
        return _fuse_folders(method, options)
    if options.jobs != 1 or options.batch is not None:
        raise FusionError("--jobs and --batch are of folders; leave them out for two files.")
    fuse_file(method, options.ir, options.vis, options.output)
    print(f"wrote {options.output}")
    return 0


def _fuse_folders(method: Method, options: argparse.Namespace) -> int:
    from .folders import fuse_folders

    done = fuse_folders(
        method,
        options.ir,
        options.vis,
        options.output,
        jobs=options.jobs,
        skip_existing=options.skip_existing,
    )
    there = f", {done.skipped} were there" * (done.skipped > 0)
    print(f"wrote {done.written} images to {options.output}{there}")
    return _fail_each(done.faults, "fused")


# ---------------------------------------------------------------- evaluate


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="score a fused image, or a folder of them, against the sources",
        description="Score fused images against their sources: three files, or three folders "
        "whose images are matched by name. Prints the values, of several images the means with "
        "95 % bootstrap intervals. 'fusionlib metrics' lists the metrics.",
    )
    evaluate.add_argument("fused", type=Path, metavar="FUSED", help="fused image or folder")
    evaluate.add_argument("ir", type=Path, metavar="IR", help="infrared image or folder")
    evaluate.add_argument("vis", type=Path, metavar="VIS", help="visible image or folder")
    _add_scoring(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m",
        "--metrics",
        default="common",
        help="common (default), res2netfuse or refinefuse (the papers' columns), all, or names "
        "separated by commas, each with a convention if wanted: EN,MI:tang",
    )
    parser.add_argument(
        "-c",
        "--convention",
        help="standard, li, cddfuse, tang or vifb ('fusionlib metrics' explains them); default: a "
        "selection's own, else standard",
    )
    parser.add_argument(
        "--colour",
        default="Y",
        help="Y (default): colour images are scored on their luminance; channels: per channel",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="OUT.csv", help="one row per image and metric; continues there"
    )
    parser.add_argument(
        "-j", "--jobs", type=int, help="processes that score at a time; default: one per core"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from .evaluation import evaluate_files

    scored = evaluate_files(
        options.fused,
        options.ir,
        options.vis,
        metrics=_names(options.metrics),
        convention=options.convention,
        colour=options.colour,
        csv=options.csv,
        jobs=options.jobs if options.fused.is_dir() else 1,
        progress=options.fused.is_dir(),
    )
    if len(scored.rows):
        _print_scores(scored.rows, by=["metric", "convention"])
    if options.csv and len(scored.rows):
        print(f"wrote {options.csv}")
    return _fail_each(scored.faults, "scored")


def _names(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _print_scores(rows: pd.DataFrame, by: list[str]) -> None:
    """Print the values of one image, or means over several."""
    from .evaluation import COLOURS
    from .metrics import METRICS
    from .tables import summarise

    summary = summarise(rows, by=by)
    summary["better"] = [
        "higher" if name in METRICS and METRICS[name].higher_is_better else "lower"
        for name in summary["metric"]
    ]
    if summary["n"].max() == 1:
        summary = summary.drop(columns=["n", "ci_low", "ci_high"]).rename(columns={"mean": "value"})
    print(summary.to_string(index=False, float_format="{:.6g}".format))
    for colour in rows["colour"].unique():
        if colour in COLOURS:
            print(f"colour images are scored {COLOURS[colour]}")


# ---------------------------------------------------------------- benchmark


def _add_benchmark(commands: argparse._SubParsersAction) -> None:
    benchmark = commands.add_parser(
        "benchmark",
        help="fuse a data set with several methods and score the results",
        description="Fuse every pair of a data set with every method and score the results. "
        "Prints means with 95 % bootstrap intervals.",
    )
    benchmark.add_argument(
        "methods",
        metavar="METHODS",
        help="names separated by commas: densefuse,msdnet; "
        "all: every method whose weights are here, the others are listed; jsr and jsrsd learn a "
        "dictionary from each pair, for half a minute and more; NAME=FOLDER: images of your own "
        "method, named as the pairs are",
    )
    benchmark.add_argument("dataset", metavar="DATASET", help="'fusionlib datasets' lists them")
    _add_scoring(benchmark)
    benchmark.add_argument(
        "--cost", action="store_true", help="also the seconds per pair and the peak memory"
    )
    _add_shared(benchmark, *SHARED)
    benchmark.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="fuse and score on the workers of this Dask scheduler, such as tcp://host:8786; they "
        "need the data set where they are",
    )
    _add_execution(benchmark)
    benchmark.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    from .card import Identity
    from .evaluation import benchmark
    from .methods import create, create_available
    from .own import OwnMethod
    from .scale import connect

    if options.scheduler and options.jobs is not None:
        raise FusionError(
            "--jobs is of this machine, and with --scheduler the workers do all; give one of them."
        )
    where: dict[str, Any] = {
        "weights_dir": options.weights_dir,
        "device": options.device,
        "execution": _execution(options),
    }
    missing: dict[str, str] = {}
    methods: list[Fuser] = []
    for name in _names(options.methods):
        own, given, folder = name.partition("=")
        if given:
            methods.append(OwnMethod(own, folder))
        elif name == "all":
            available, missing = create_available(**where)
            methods += available
        else:
            methods.append(create(name, **where))
    if not methods:
        raise FusionError("no method is given; 'fusionlib methods' lists them, or give all.")
    with ExitStack() as stack:
        client = stack.enter_context(connect(options.scheduler)) if options.scheduler else None
        rows = benchmark(
            methods,
            options.dataset,
            metrics=_names(options.metrics),
            convention=options.convention,
            colour=options.colour,
            limit=options.limit,
            data_dir=options.data_dir,
            csv=options.csv,
            jobs=options.jobs,
            client=client,
            cost=options.cost,
        )
    _print_scores(rows, by=[*Identity._fields, "metric", "convention"])
    if options.csv:
        print(f"wrote {options.csv}")
    for name, reason in missing.items():
        print(f"missing {name}: {reason}")
    return 0


# ---------------------------------------------------------------- train


def _add_train(commands: argparse._SubParsersAction) -> None:
    from .recipes import RECIPES

    train = commands.add_parser(
        "train",
        help="train a network as its authors did, or for a shorter time",
        description="Train a method's network with its published losses and settings; each "
        "setting can be changed. A stopped run continues when the command is given again. For "
        "several processes: torchrun --nproc-per-node N -m fusionlib train ...",
        add_help=False,
    )
    train.add_argument(
        "-h", "--help", action=_TrainHelp, nargs=0, help="show this help message and exit"
    )
    train.add_argument(
        "method", choices=["res2netfuse", "jsr", *RECIPES], help="what to train; jsr: a dictionary"
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
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.safetensors", help="weights"
    )
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--iterations",
        type=int,
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
    train.add_argument("--batch-size", type=int, help="default: as published")
    train.add_argument("--crop", type=int, help="side of squares; default: as published")
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument(
        "--rate-factor",
        type=float,
        metavar="X",
        help="multiply the published learning rates, which are for long trainings",
    )
    train.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="do not learn from every Nth image or pair; record the losses on them whenever a "
        "checkpoint is due",
    )
    train.add_argument("--half", action="store_true", help="write 16 bits of each weight")
    _add_shared(train, "--data-dir", "--device")
    train.add_argument("--checkpoint", type=Path, help="default: OUT with the suffix .checkpoint")
    train.add_argument(
        "--every", type=int, default=200, help="iterations between checkpoints, default %(default)s"
    )
    train.add_argument("--variant", help="of res2netfuse: released (default) or paper")
    train.add_argument(
        "--learning-rate", type=float, help="of res2netfuse; published: 5e-4 (one image), 1e-4"
    )
    train.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="what only this method takes (see below), may be repeated",
    )
    train.set_defaults(run=_train)


class _TrainHelp(argparse.Action):
    """Recipes say what they take; they are imported, and PyTorch, only when help is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .recipes import RECIPES, find_recipe

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
        takes = [f"  {'res2netfuse precision':<24}single or mixed (gradients in bfloat16)"]
        takes += [
            f"  {f'{recipe.method} {name}':<24}"
            f"{'needed: ' * (name in recipe.required)}{option.about}"
            for recipe in recipes
            for name, option in recipe.options.items()
        ]
        width = shutil.get_terminal_size().columns - 2
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.description = textwrap.fill(parser.description or "", width)
        parser.epilog = "\n".join([textwrap.fill(about, width), "", "values of --option:", *takes])
        parser.print_help()
        parser.exit()


def _train(options: argparse.Namespace) -> int:
    from .files import check_writable, write_text
    from .weights import save_weights

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
        return 0
    save_weights(options.output, result.network, result.facts, half=options.half)
    write_text(losses, result.history.to_csv(index=False, float_format="%.7g"))
    print(f"wrote {options.output} and {losses}")
    return 0


#: Options that Res2NetFuse's training does not have.
RECIPES_OWN = ("budget", "crop", "rate_factor", "hold_out")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _train_res2netfuse(options: argparse.Namespace) -> Training:
    from dataclasses import replace

    from .recipes.samples import samples
    from .training import MANY_IMAGES, ONE_IMAGE, train_res2netfuse

    for name in _given(options, *RECIPES_OWN):
        raise FusionError(
            f"res2netfuse is trained without --{name.replace('_', '-')}; leave it out."
        )
    images = _training_data(options, "images")
    one = len(samples(images, "images")) == 1
    settings = _given(options, "variant", "iterations", "learning_rate", "batch_size", "seed")
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


def _train_dictionary(options: argparse.Namespace, losses: Path) -> int:
    import pandas as pd

    from .classical.dictionary import (
        ITERATIONS,
        learn_dictionary,
        save_dictionary,
        training_patches,
    )
    from .files import check_writable, write_text
    from .recipes.samples import samples
    from .training import check_seed
    from .weights import training_facts

    if os.environ.get("RANK", "0") != "0":
        return 0
    for name in [*_given(options, *GRADIENTS), *(["half"] if options.half else [])]:
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
    return 0


def _levels_of(pairs: Sequence[Sample]) -> Iterator[np.ndarray]:
    """Read the images of pairs one by one, in [0, 1]."""
    from .classical.dictionary import SIDE

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
    from .recipes import find_recipe
    from .training import train_by_recipe

    for name in _given(options, "variant", "learning_rate"):
        raise FusionError(f"--{name.replace('_', '-')} is for res2netfuse; leave it out.")
    return train_by_recipe(
        options.method,
        _training_data(options, find_recipe(options.method).learns_from),
        budget=options.budget,
        iterations=options.iterations,
        batch_size=options.batch_size,
        size=options.crop,
        seed=options.seed,
        **_given(options, "rate_factor"),
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
    from .datasets import list_datasets, load_dataset, load_images
    from .recipes.samples import wrong_kind

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
    from .datasets import match_folders

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
    from .datasets import images_by_stem

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
    from .images import SUFFIXES

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


# ---------------------------------------------------------------- detect


def _add_detect(commands: argparse._SubParsersAction) -> None:
    detect = commands.add_parser(
        "detect",
        help="find objects; score, train and feed detectors on fused images",
        description="Objects in images by YOLOv5: find them, write fused data sets that any "
        "detector can be trained on, score a detector, fine-tune one.",
    )
    actions = detect.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_detect_run(actions)
    _add_detect_export(actions)
    _add_detect_evaluate(actions)
    _add_detect_train(actions)


def _add_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-w",
        "--weights",
        default="yolov5n",
        help="yolov5n (default) or yolov5s, as Ultralytics published them; or a file, "
        ".safetensors of 'detect train' or .pt of Ultralytics' YOLOv5 n or s",
    )
    parser.add_argument(
        "--input",
        type=int,
        metavar="N",
        help="scale images so that the longer side has N pixels; default: as the weights were "
        "trained",
    )
    parser.add_argument(
        "--classes", metavar="NAMES", help="only these, separated by commas; default: all"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="IOU",
        help="of two boxes of a class with a larger intersection over union the better stays",
    )
    _add_shared(parser, "--weights-dir", "--device")


def _thresholds(options: argparse.Namespace, usual: Thresholds) -> Thresholds:
    given = _given(options, "overlap")
    if "confidence" in options:
        given["confidence"] = options.confidence
    for name, value in given.items():
        if not 0 < value < 1:
            raise FusionError(f"--{name} must be between 0 and 1, not {value}.")
    return usual._replace(**given)


def _classes(options: argparse.Namespace, all_of_them: Sequence[str]) -> list[str]:
    return list(all_of_them) if options.classes is None else _names(options.classes)


def _detector(options: argparse.Namespace) -> Detector:
    from .detection.detector import create_detector

    return create_detector(
        options.weights,
        input=options.input,
        weights_dir=options.weights_dir,
        device=options.device,
    )


def _add_detect_run(actions: argparse._SubParsersAction) -> None:
    run = actions.add_parser(
        "run",
        help="find objects in an image or a folder of images",
        description="Find objects in an image, or in all images of a folder. Prints a line per "
        "object: image, class, score and corners in pixels.",
    )
    run.add_argument("images", type=Path, metavar="IMAGE", help="image or folder")
    run.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write images with boxes")
    run.add_argument("--csv", type=Path, metavar="OUT.csv", help="write the lines there instead")
    run.add_argument(
        "--confidence", type=float, default=0.25, help="lowest score; default: %(default)s"
    )
    _add_detector(run)
    run.set_defaults(run=_detect_run)


def _detect_run(options: argparse.Namespace) -> int:
    from .datasets import images_by_stem
    from .detection.boxes import drawn
    from .detection.detector import TO_SEE
    from .files import check_writable, write_text
    from .images import read_image, write_image

    thresholds = _thresholds(options, TO_SEE)
    files = [options.images]
    if options.images.is_dir():
        files = list(images_by_stem(options.images).values())
        if not files:
            raise ImageError(f"no image in the folder {options.images}.")
    outputs = [options.output / f"{file.stem}.png" for file in files] if options.output else []
    _check_apart(files, [*outputs, *([options.csv] if options.csv else [])])
    for path in [*outputs[:1], *([options.csv] if options.csv else [])]:
        check_writable(path)
    detector = _detector(options)
    classes = _classes(options, detector.names)
    detector.indices(classes)
    lines = ["image,class,score,x0,y0,x1,y1"]
    faults = []
    for place, file in enumerate(files):
        try:
            image = read_image(file)
            found = detector.detect(image, thresholds, only=classes)
        except FusionError as error:
            if len(files) == 1:
                raise
            faults.append(str(error))
            continue
        boxes = found.named(detector.names)
        for box, score in zip(boxes, found.scores, strict=True):
            corners = ",".join(f"{value:.1f}" for value in box[1:])
            lines.append(f"{_csv_text(file.name)},{_csv_text(box.label)},{score:.3f},{corners}")
        if outputs:
            texts = [f"{b.label} {score:.2f}" for b, score in zip(boxes, found.scores, strict=True)]
            write_image(outputs[place], drawn(image, boxes, texts))
    text = "\n".join(lines)
    if options.csv:
        write_text(options.csv, text + "\n")
        print(f"wrote {len(lines) - 1} boxes to {options.csv}")
    else:
        print(text)
    if options.output:
        print(f"wrote {len(files) - len(faults)} images to {options.output}")
    return _fail_each(faults, "searched")


def _check_apart(sources: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Make sure that no file is both read and written, or written twice."""
    taken = {path.resolve() for path in sources}
    for path in outputs:
        if path.resolve() in taken:
            raise FusionError(
                f"{path} is one of the images, or to be written twice. Name another file or folder."
            )
        taken.add(path.resolve())


def _csv_text(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def _add_detect_export(actions: argparse._SubParsersAction) -> None:
    export = actions.add_parser(
        "export",
        help="write a fused data set in the layout of YOLO",
        description="Fuse all pairs of a data set with boxes, and write images, label files and "
        "data.yaml, which detectors of any kind can be trained on. Stopped, it continues.",
    )
    export.add_argument(
        "method", metavar="METHOD", help="a method with its defaults; or ir, or vis: a source"
    )
    export.add_argument("dataset", metavar="DATASET", help="with boxes: msrs, m3fd_detection, ...")
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="new, or to continue"
    )
    export.add_argument(
        "--block",
        metavar="K/N",
        help="of N blocks of pairs in their order the K-th is for testing, the rest to learn from; "
        "default: the data set's own division, or none",
    )
    _add_shared(export, *SHARED)
    export.set_defaults(run=_detect_export)


def _detect_export(options: argparse.Namespace) -> int:
    from .datasets import dataset_parts, load_dataset
    from .detection.layout import Renderer, export, parts_by_block
    from .methods import create, registry
    from .results import score_hash

    sources = ("ir", "vis")
    if options.method not in (*registry(), *sources):
        raise unknown("method or source", options.method, [*registry(), *sources])
    pairs = load_dataset(options.dataset, data_dir=options.data_dir, limit=options.limit)
    if options.method in sources:
        role = options.method
        renderer = Renderer(lambda pair: getattr(pair, role), {"source": role})
    else:
        method = create(options.method, weights_dir=options.weights_dir, device=options.device)
        facts = {**method.identity._asdict(), "code": score_hash()}
        renderer = Renderer(method.fuse_pair, facts)
    if options.block is None:
        parts = dataset_parts(options.dataset)
    else:
        parts = parts_by_block(pairs.names, *_fraction(options.block))
    layout = export(renderer, pairs, options.output, parts=parts)
    for part, examples in layout.parts.items():
        print(f"{part}: {len(examples)} images")
    if "val" not in layout.parts:
        print("no images are apart for validation: data.yaml names those to learn from")
    print(f"wrote {options.output / 'data.yaml'}")
    return 0


def _fraction(text: str) -> tuple[int, int]:
    part, slash, whole = text.partition("/")
    if not (slash and part.isdecimal() and whole.isdecimal()):
        raise FusionError(f"--block takes K/N, such as 1/3, not {text!r}.")
    return int(part), int(whole)


def _add_detect_evaluate(actions: argparse._SubParsersAction) -> None:
    evaluate = actions.add_parser(
        "evaluate",
        help="average precision of a detector",
        description="Average precision of a detector on a data set in the layout of YOLO, or on "
        "a folder of images with a file of COCO's annotations: at an IoU of 0.5, and over 0.5 to "
        "0.95, with 95 % bootstrap intervals over images.",
    )
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="with data.yaml, or images")
    evaluate.add_argument(
        "--annotations", type=Path, metavar="JSON", help="such as instances_val2017.json"
    )
    evaluate.add_argument("--part", help="train, val or test; default: test, else val, else all")
    evaluate.add_argument(
        "--draws", type=int, default=1000, help="of the bootstrap, 0: none; default: %(default)s"
    )
    evaluate.add_argument("--csv", type=Path, metavar="OUT.csv", help="write the table, too")
    _add_detector(evaluate)
    evaluate.set_defaults(run=_detect_evaluate)


def _detect_evaluate(options: argparse.Namespace) -> int:
    from .detection.average_precision import precision_table
    from .files import check_writable, write_text

    if options.csv:
        check_writable(options.csv)
    if options.draws < 0:
        raise FusionError(f"--draws must be 0 or more, not {options.draws}.")
    matches = _matches(_detector(options), options)
    table = precision_table(matches, draws=options.draws)
    print(table.to_string(index=False, float_format="{:.1f}".format, na_rep=""))
    print(f"in percent, {matches.pictures} images")
    if options.csv:
        write_text(options.csv, table.to_csv(index=False))
        print(f"wrote {options.csv}")
    return 0


def _matches(detector: Detector, options: argparse.Namespace) -> Matches:
    """Search the images of a data set and compare with what is annotated."""
    from .detection.average_precision import (
        match,
        match_coco,
        of_classes,
        read_coco,
        search,
        search_files,
    )
    from .detection.detector import TO_SCORE
    from .detection.layout import EVERYTHING, read_layout

    thresholds = _thresholds(options, TO_SCORE)
    if options.annotations is not None:
        if options.part is not None or options.classes is not None:
            raise FusionError(
                "--part and --classes are of the layout of YOLO; leave them out with --annotations."
            )
        annotations = read_coco(options.annotations)
        files = search_files(detector, options.folder, annotations, thresholds=thresholds)
        return match_coco(annotations, files)
    layout = read_layout(options.folder)
    parts = [part for part in ("test", "val", EVERYTHING) if part in layout.parts]
    examples = layout.part(options.part or next(iter(parts), "test"))
    classes = _classes(options, layout.names)
    for name in classes:
        if name not in layout.names:
            raise unknown(f"class of {options.folder}", name, layout.names)
    truths, found = search(
        detector,
        of_classes(examples, classes),
        classes,
        thresholds=thresholds,
        title=options.folder.name,
    )
    return match(truths, found, classes)


def _add_detect_train(actions: argparse._SubParsersAction) -> None:
    train = actions.add_parser(
        "train",
        help="fine-tune a detector",
        description="Fine-tune YOLOv5 on a data set in the layout of YOLO, by default with the "
        "published schedule. If there are images for validation they choose the best epoch.",
    )
    train.add_argument("folder", type=Path, metavar="FOLDER", help="with data.yaml")
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.safetensors", help="the weights"
    )
    train.add_argument(
        "-w", "--weights", default="yolov5n", help="to start from, as of 'detect evaluate'"
    )
    train.add_argument(
        "--scratch", choices=["n", "s"], help="instead, start YOLOv5 n or s from random weights"
    )
    train.add_argument("--epochs", type=int, help="default: 100")
    train.add_argument("--batch", type=int, help="images per batch; default: 16")
    train.add_argument("--rate", type=float, help="learning rate; default: 0.01")
    train.add_argument("--input", type=int, metavar="N", help="side in pixels; default: 640")
    train.add_argument(
        "--head",
        help="new (default): the last layer starts anew; named: it keeps what it knows of classes "
        "of the same name",
    )
    train.add_argument(
        "--short",
        action="store_true",
        help="for some hundred images: 30 epochs, every batch is a step, classes of the same name "
        "are kept",
    )
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument(
        "--checkpoint",
        type=Path,
        help="written after every epoch; where it exists the training continues from it; default: "
        "beside the weights, deleted at the end",
    )
    _add_shared(train, "--weights-dir", "--device")
    train.set_defaults(run=_detect_train)


def _detect_train(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from .detection.detector import create_detector, save_detector
    from .detection.layout import EVERYTHING, read_layout
    from .detection.training import PUBLISHED, SHORT, fine_tune
    from .files import check_writable, write_text

    if options.output.suffix != ".safetensors":
        raise FusionError(f"the weights are a .safetensors file, not {options.output.name}.")
    check_writable(options.output)
    layout = read_layout(options.folder)
    settings = _given(options, "epochs", "batch", "rate", "input", "head")
    schedule = replace(SHORT if options.short else PUBLISHED, **settings)
    start: Detector | str = options.scratch or create_detector(
        options.weights, weights_dir=options.weights_dir
    )
    checkpoint = options.checkpoint or options.output.with_suffix(".checkpoint")
    _check_apart([], [options.output, checkpoint, options.output.with_suffix(".losses.csv")])
    whole = layout.parts.get(EVERYTHING, ())
    tuned = fine_tune(
        start,
        whole or layout.part("train"),
        layout.names,
        schedule,
        validation=layout.parts.get("val", ()),
        seed=options.seed,
        checkpoint=checkpoint,
        device=options.device,
    )
    history = options.output.with_suffix(".losses.csv")
    write_text(history, tuned.history.to_csv(index=False, float_format="%.7g"))
    save_detector(options.output, tuned.detector, tuned.facts)
    if options.checkpoint is None:
        checkpoint.unlink()
    print(f"wrote {options.output} and {history}")
    return 0


# ---------------------------------------------------------------- reproduce


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
    reproduce = commands.add_parser(
        "reproduce",
        help="run the notebooks and write results/",
        description="Run the notebooks in order through papermill. What is finished and "
        "unchanged is not run again; a stopped run continues.",
    )
    reproduce.add_argument(
        "--profile",
        choices=["sample", "paper"],
        default="sample",
        help="sample: built-in images, minutes (default); paper: the real data, hours",
    )
    reproduce.add_argument(
        "--only", action="append", metavar="NN", help="only this notebook, may be repeated"
    )
    _add_shared(reproduce, *SHARED)
    reproduce.add_argument("--results-dir", type=Path, help="default: results/ of the checkout")
    reproduce.add_argument("--restart", action="store_true", help="run finished ones again too")
    reproduce.add_argument(
        "--in-place",
        action="store_true",
        help="also put the executed notebooks back into notebooks/ (what is committed)",
    )
    reproduce.add_argument(
        "--keep",
        action="store_true",
        help="do not measure again what the tables in the results folder hold: after a change "
        "that moves none of their scores; their provenance says what was kept",
    )
    reproduce.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from .reproduce import reproduce

    return reproduce(
        profile=options.profile,
        only=options.only,
        data_dir=options.data_dir,
        weights_dir=options.weights_dir,
        results_dir=options.results_dir,
        limit=options.limit,
        device=options.device,
        restart=options.restart,
        in_place=options.in_place,
        keep=options.keep,
    )


# ---------------------------------------------------------------- listings


def _add_listings(commands: argparse._SubParsersAction) -> None:
    methods = commands.add_parser("methods", help="list the methods, or show one's card")
    methods.add_argument("name", nargs="?", help="show this method's card")
    methods.set_defaults(run=_methods)

    metrics = commands.add_parser("metrics", help="list the metrics, or show one's card")
    metrics.add_argument("name", nargs="?", help="show this metric's card")
    metrics.set_defaults(run=_metrics)

    datasets = commands.add_parser("datasets", help="list the data sets, or fetch one")
    actions = datasets.add_subparsers(metavar="ACTION")
    datasets.set_defaults(run=_list_datasets, data_dir=None)
    listing = actions.add_parser("list", help="list them (default)")
    _add_shared(listing, "--data-dir")
    listing.set_defaults(run=_list_datasets)
    fetch = actions.add_parser("fetch", help="download one, verified by its hashes")
    fetch.add_argument("name")
    fetch.add_argument("--data-dir", type=Path, help="default: $FUSIONLIB_DATA, else data/")
    fetch.set_defaults(run=_fetch_dataset)

    _add_weights(commands)

    claims = commands.add_parser(
        "claims", help="list the papers' claims with verdicts, or show one"
    )
    claims.add_argument("id", nargs="?", metavar="ID", help="show all about this one")
    claims.add_argument("--paper", help="only those of this one: res2netfuse or refinefuse")
    claims.add_argument("--verdict", help="only those with this one, such as 'not reproduced'")
    claims.add_argument("--write", type=Path, metavar="PATH", help="write the ledger as Markdown")
    claims.set_defaults(run=_claims)


def _add_weights(commands: argparse._SubParsersAction) -> None:
    weights = commands.add_parser(
        "weights",
        help="list the weights, verify those found, get the authors'",
        description="The weights of this project come with it. Those of the authors are made "
        "from what they publish: fetch downloads it, convert takes files that you downloaded.",
    )
    actions = weights.add_subparsers(metavar="ACTION")
    weights.set_defaults(run=_list_weights, weights_dir=None, name=None)
    listing = actions.add_parser("list", help="list them (default), or say all about one")
    listing.add_argument("name", nargs="?", metavar="NAME", help="say all about this one")
    listing.set_defaults(run=_list_weights)
    verify = actions.add_parser("verify", help="check the hash of every file that is found")
    verify.set_defaults(run=_verify_weights)
    for action in (listing, verify):
        _add_shared(action, "--weights-dir")
    fetch = actions.add_parser("fetch", help="download sets from their authors and convert them")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="as 'fusionlib weights' lists them")
    fetch.add_argument("--all", action="store_true", help="all that authors publish")
    fetch.set_defaults(run=_fetch_weights)
    convert = actions.add_parser("convert", help="convert an author's files that you downloaded")
    convert.add_argument("name", metavar="NAME", help="as 'fusionlib weights' lists them")
    convert.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as published")
    convert.set_defaults(run=_convert_weights)
    for action in (fetch, convert):
        action.add_argument(
            "--weights-dir",
            type=Path,
            help="where to put them; default: $FUSIONLIB_WEIGHTS, else the user's cache",
        )


def _methods(options: argparse.Namespace) -> int:
    from .methods import create, list_methods, registry

    if not options.name:
        _print(list_methods())
        return 0
    try:
        print(create(options.name).card)
    except WeightsNotFound as error:
        spec = registry()[options.name]
        print(f"{spec.title}: {spec.paper} (doi {spec.doi}); licence: {spec.licence}")
        for name, configuration in spec.configurations.items():
            print(f"{spec.axis} {name}: {configuration.summary}")
        print(error)
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from .metrics import CONVENTIONS, list_metrics, select

    if options.name:
        for one in select(options.name):
            print(one.metric)
    else:
        _print(list_metrics().drop(columns="doi").reset_index())
        print("\nconventions")
        for name, meaning in CONVENTIONS.items():
            print(f"  {name:<12} {meaning}")
    return 0


def _list_datasets(options: argparse.Namespace) -> int:
    from .datasets import list_datasets

    # Folders and addresses are there to be copied.
    _print(list_datasets(options.data_dir), width=None)
    return 0


def _fetch_dataset(options: argparse.Namespace) -> int:
    from .datasets import fetch_dataset

    print(f"{options.name} is in {fetch_dataset(options.name, data_dir=options.data_dir)}")
    return 0


def _list_weights(options: argparse.Namespace) -> int:
    from .methods import list_weights
    from .sources import sources
    from .weights import read_facts

    frame = list_weights(options.weights_dir)
    if options.name is None:
        _print(frame)
        return 0
    sets = _weight_sets()
    if options.name not in sets:
        raise unknown("weights", options.name, sets)
    entry, _ = sets[options.name]
    facts = frame[frame["name"] == options.name].iloc[0].to_dict()
    facts["hash of the tensors"] = entry.digest or "unknown"
    for fact, value in facts.items():
        print(f"{fact}: {value or 'none'}")
    if facts["state"] == "found":
        for fact, value in sorted(read_facts(facts["path"]).items()):
            print(f"  {fact}: {value}")
    source = sources().get(options.name)
    for file in source.files if source else ():
        print(f"published file: {file.url}")
        for fact, value in (("size", file.size), ("sha256", file.sha256), ("git blob", file.blob)):
            print(f"  {fact}: {value or 'unknown'}")
    return 0


def _verify_weights(options: argparse.Namespace) -> int:
    from .methods import list_weights

    frame = list_weights(options.weights_dir, verify=True)
    _print(frame)
    bad = frame[frame["state"].isin(["damaged", "does not fit"])]
    if bad.empty:
        return 0
    faults = [f"{state}: {', '.join(rows['name'])}" for state, rows in bad.groupby("state")]
    return _fail(f"{'; '.join(faults)}. Get these files again.")


def _fetch_weights(options: argparse.Namespace) -> int:
    from .weights import fetch_weights

    sets = _weight_sets()
    if options.all == bool(options.names):
        raise FusionError(
            "give the names of weight sets, or --all. 'fusionlib weights' lists them."
        )
    published = [name for name, (entry, _) in sets.items() if entry.origin]
    names = published if options.all else options.names
    for name in names:
        if name not in sets:
            raise unknown("weights", name, sets)
    faults = []
    for name in names:
        try:
            _print_obtained(name, fetch_weights(*sets[name], options.weights_dir))
        except FusionError as error:
            faults.append(str(error))
    return _fail("\n  ".join(faults)) if faults else 0


def _convert_weights(options: argparse.Namespace) -> int:
    from .weights import convert_weights

    sets = _weight_sets()
    if options.name not in sets:
        raise unknown("weights", options.name, sets)
    obtained = convert_weights(*sets[options.name], options.files, options.weights_dir)
    _print_obtained(options.name, obtained)
    return 0


def _claims(options: argparse.Namespace) -> int:
    from . import claims

    if options.id:
        claim = claims.find_claim(options.id)
        finding = claims.judge(claim)
        print(f"{claim.id}: {finding.verdict}")
        for name in ("where", "says", "confirms"):
            print(f"{name}: {getattr(claim, name)}")
        print(f"measured: {finding.measured}\nnotebook: notebooks/{claim.notebook}.ipynb")
        if finding.evidence is not None:
            print()
            _print(finding.evidence)
        return 0
    for kind, known in (("paper", claims.PAPERS), ("verdict", claims.VERDICTS)):
        if getattr(options, kind) not in (None, *known):
            raise unknown(kind, getattr(options, kind), known)
    found = claims.ledger()
    if options.write:
        claims.write_ledger(options.write, found)
        print(f"wrote {options.write}")
        return 0
    if options.paper:
        found = found[found["paper"] == claims.PAPERS[options.paper]]
    if options.verdict:
        found = found[found["verdict"] == options.verdict]
    _print(claims.summary(found).reset_index(names="paper"))
    print()
    _print(found[["id", "verdict", "says"]], width=70)
    return 0


def _weight_sets() -> dict[str, tuple[WeightFile, WeightUser]]:
    """Return every registered weight set by name, with one of what it is for."""
    from .methods import weight_users

    return {file.name: (file, next(iter(users.values()))) for file, users in weight_users().items()}


def _print_obtained(name: str, obtained: Obtained) -> None:
    done = "wrote" if obtained.new else "already there and right:"
    trust = (
        "its tensors are the registered ones"
        if obtained.verified
        else "it fits the network; no hash is registered to compare it with"
    )
    print(f"{name}: {done} {obtained.path} ({trust})")


def _print(frame: pd.DataFrame, width: int | None = 60) -> None:
    print(frame.to_string(index=False, justify="left", max_colwidth=width))


if __name__ == "__main__":
    sys.exit(main())
