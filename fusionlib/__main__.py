"""The command line: ``fusionlib fuse | evaluate | benchmark | methods | metrics | ...``.

`fusionlib.commands.run_program` says what the exit status means.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fusionlib as fl

from . import commands
from .commands import DATA_DIR, DEVICE, ONE, SHARED, WEIGHTS_DIR, Options, given, weights
from .errors import FusionError, ImageError, WeightsNotFound

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

#: Commands that were here -> what they are called in a clone of the repository.
MOVED = {"train": "train", "detect": "detect", "reproduce": "run", "claims": "claims"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and (now := MOVED.get(arguments[0])):
        where = f"'python -m reproduction {now}', in a clone of the repository"
        print(f"fusionlib: {arguments[0]!r} is now {where}.", file=sys.stderr)
        return 2
    return commands.run_program(make_parser(), arguments)


def make_parser() -> argparse.ArgumentParser:
    about = "Infrared-visible and medical image fusion."
    return commands.program("fusionlib", about, COMMANDS)[0]


# ---------------------------------------------------------------- fuse

#: How networks are run; `_execution` reads it.
EXECUTION: Options = {
    "--precision NAME": "float32 (default), or bfloat16: faster where the hardware has it, and "
    "results differ in the second or third digit",
    "--tile N": "side of tiles; default: 320",
    "--overlap N": "run networks that need the whole image in tiles, too, with that overlap: "
    "bounds the memory of large images, and results differ",
    "--channels-last": "faster by up to a third for most networks, slower for some, and rounded "
    "otherwise",
    "--threads N": "threads of a network; default: one per core",
}
PAIR: Options = {"IR": "infrared image or folder", "VIS": "visible image or folder"}
FUSE: Options = {
    **PAIR,
    "-o --output OUT": {"required": True, "help": "image file or folder"},
    "-m --method NAME": "default: res2netfuse; 'fusionlib methods' lists them, and with a name the "
    "rules, variants and pipelines of one",
    "-r --rule NAME": "fusion rule; default: the method's published one",
    "--variant NAME": "reading of the paper, where a method has several",
    "--pipeline NAME": "published way of use, where a method has several",
    "--post NAME": "how output becomes gray levels: minmax, clip, minmax_eps, white, imageio, "
    "clahe, or stretch:SHARE with a share from 0 (clip) to 1 (minmax); default: as published",
    "--weights NAME": "of a weight set, or of a .safetensors or .npz file",
    **WEIGHTS_DIR,
    **DEVICE,
    "--skip-existing": "of folders: leave outputs that exist",
    "-j --jobs N": "of folders: processes that fuse at a time, which share the cores; default: 1",
    "--batch N": "of folders: pairs that run together, where they have one size; default: 1; more "
    "pays on a GPU",
    **EXECUTION,
}


def _execution(options: argparse.Namespace) -> fl.Execution:
    names = ("precision", "tile", "overlap", "channels_last", "threads", "batch")
    return fl.Execution(**given(options, *names))


def _fuse(options: argparse.Namespace) -> None:
    """Fuse two images, or all pairs of two folders.

    Images of folders are matched by file name. Colour of the visible image is kept.

    fuse ir.png vis.png -o fused.png
    fuse ir.png vis.png -o fused.png --rule mean --post stretch:0.5
    fuse ir vis -o fused --method mst --skip-existing
    """
    from .commands.fuse import fuse_file, fuse_folders

    files = options.ir, options.vis, options.output
    folders = options.ir.is_dir()
    if folders != options.vis.is_dir():
        file, folder = sorted(files[:2], key=Path.is_dir)
        raise ImageError(f"give two files or two folders, not the file {file} and {folder}.")
    if not folders and given(options, "jobs", "batch"):
        raise FusionError("--jobs and --batch are of folders; leave them out for two files.")
    making = ("rule", "variant", "pipeline", "post", "weights", "weights_dir", "device")
    how = given(options, *making) | {"execution": _execution(options)}
    method = fl.create(options.method or "res2netfuse", **how)
    if folders:
        done = fuse_folders(method, *files, **given(options, "jobs", "skip_existing"))
        there = f", {done.skipped} were there" * (done.skipped > 0)
        print(f"wrote {done.written} images to {options.output}{there}")
        commands.fail_each(done.faults, "fused")
    else:
        fuse_file(method, *files)
        print(f"wrote {options.output}")


# ---------------------------------------------------------------- evaluate and benchmark

SCORING: Options = {
    "-m --metrics NAMES": "common (default), res2netfuse or refinefuse (the papers' columns), all, "
    "or names separated by commas, each with a convention if wanted: EN,MI:tang",
    "-c --convention NAME": "whose code is followed: standard, li, cddfuse, tang, ... ('fusionlib "
    "metrics' explains them); default: a selection's own, else standard",
    "--colour NAME": "Y (default): colour images are scored on their luminance; channels: per "
    "channel",
    "--csv FILE": "write one row per image and metric; what is there is not scored again",
    "-j --jobs N": "processes that score at a time; default: one per core",
}
BENCHMARK: Options = {
    "METHODS": "names separated by commas: densefuse,msdnet; all: every method whose weights are "
    "here, the others are listed; jsr and jsrsd learn a dictionary from each pair, for half a "
    "minute and more; NAME=FOLDER: images of your own method, named as the pairs are",
    "DATASET": "'fusionlib datasets' lists them",
    **SCORING,
    "--cost": "also the seconds per pair and the peak memory",
    **SHARED,
    "--scheduler ADDRESS": "fuse and score on the workers of this Dask scheduler, such as "
    "tcp://host:8786",
    **EXECUTION,
}


def _evaluate(options: argparse.Namespace) -> None:
    """Score fused images against their sources.

    Give three files, or three folders whose images are matched by name. Prints the
    values, of several images the means with 95 % bootstrap intervals.

    evaluate fused.png ir.png vis.png
    evaluate fused.png ir.png vis.png -m EN,MI:tang,SSIM_a
    evaluate fused ir vis -m refinefuse --csv scores.csv
    """
    folders = options.fused.is_dir()
    how = given(options) | {"jobs": options.jobs if folders else 1, "progress": folders}
    scored = fl.evaluate_files(**how)
    if len(scored.rows):
        _print_scores(scored.rows, options.csv)
    commands.fail_each(scored.faults, "scored")


def _benchmark(options: argparse.Namespace) -> None:
    """Fuse a data set with several methods and score the results.

    Every pair is fused with every method. Prints means with 95 % bootstrap intervals.

    benchmark mst,res2netfuse sample --limit 3
    benchmark all sample --limit 1 --cost
    benchmark mine=FOLDER,mst tno20 -m res2netfuse --csv scores.csv
    """
    from .executors import dask_workers

    if options.scheduler and options.jobs is not None:
        raise FusionError(
            "--jobs is of this machine, and with --scheduler the workers do all; give one of them."
        )
    where = given(options, "weights_dir", "device") | {"execution": _execution(options)}
    methods: list[Any] = []
    missing: dict[str, str] = {}
    for name in options.methods:
        own, equals, folder = name.partition("=")
        if name == "all":
            available, missing = fl.create_available(**where)
            methods += available
        else:
            methods.append(fl.OwnMethod(own, folder) if equals else fl.create(name, **where))
    if not methods:
        raise FusionError("no method is given; 'fusionlib methods' lists them, or give all.")
    how = given(options, "metrics", "convention", "colour", "limit", "data_dir", "csv", "cost")
    here = nullcontext((None, options.jobs))
    with dask_workers(options.scheduler) if options.scheduler else here as (executor, jobs):
        rows = fl.benchmark(methods, options.dataset, jobs=jobs, executor=executor, **how)
    _print_scores(rows, options.csv)
    for name, reason in missing.items():
        print(f"missing {name}: {reason}")


def _print_scores(rows: pd.DataFrame, csv: Path | None) -> None:
    """Print the values of one image, or means over several, and where the rows are."""
    from .card import Identity
    from .evaluation import COLOURS, summarise
    from .metrics import METRICS

    by = [name for name in (*Identity._fields, "metric", "convention") if name in rows]
    summary = summarise(rows, by=by)
    higher = {name for name, metric in METRICS.items() if metric.higher_is_better}
    summary["better"] = ["higher" if name in higher else "lower" for name in summary["metric"]]
    if summary["n"].max() == 1:
        summary = summary.drop(columns=["n", "ci_low", "ci_high"]).rename(columns={"mean": "value"})
    commands.print_frame(summary)
    for colour in rows["colour"].unique():
        if colour in COLOURS:
            print(f"colour images are scored {COLOURS[colour]}")
    if csv:
        print(f"wrote {csv}")


# ---------------------------------------------------------------- what is here


def _methods(options: argparse.Namespace) -> None:
    """List the methods, or say all about one.

    The list has their variants or pipelines and whether their weights are here; of one
    you see paper, licence, rules, pre- and post-processing, weights.

    methods res2netfuse
    """
    from .methods import find_method

    frame = fl.list_methods()
    if not options.name:
        # What 120 characters hold; the rest is said of one method.
        columns = ["method", "variant or pipeline", "year", "weights found", "summary"]
        commands.print_frame(frame[columns], width=68)
        return
    spec = find_method(options.name)
    try:
        print(fl.create(spec.name).card)
    except WeightsNotFound as error:
        print(f"{spec.title}: {spec.paper} (doi {spec.doi}); licence: {spec.licence}\n\n{error}")
    for row in frame[frame["method"] == spec.name].to_dict("records"):
        print(f"\n{spec.axis} {row['variant or pipeline']}: {row['summary']}")
        for fact in ("rules", "post-processing", "weights", "weights found"):
            print(f"  {fact}: {row[fact] or 'none'}")


def _metrics(options: argparse.Namespace) -> None:
    """List the metrics, or say all about one.

    The list has the conventions in which their codes differ; of one you see definition,
    range, source, what each convention changes.

    metrics
    metrics MI
    """
    from .metrics import CONVENTIONS, select

    if options.name:
        for one in select(options.name):
            print(one.metric)
        return
    commands.print_frame(fl.list_metrics().drop(columns="doi").reset_index())
    print("\nconventions")
    for name, meaning in CONVENTIONS.items():
        print(f"  {name:<12} {meaning}")


def _datasets(options: argparse.Namespace) -> None:
    """List the data sets.

    The list says what they hold, under which licence, whether and where they are here.

    datasets
    datasets list --data-dir data
    """
    frame = fl.list_datasets(**given(options))
    commands.print_frame(frame, width=None)  # folders and addresses, to be copied


def _fetch(options: argparse.Namespace) -> None:
    """Download a data set from where its authors publish it.

    What arrives is verified by its hashes.

    datasets fetch tno20
    """
    print(f"{options.name} is in {fl.fetch_dataset(**vars(options))}")


FETCH: Options = {
    "NAME": "'fusionlib datasets' lists them",
    "--data-dir FOLDER": "default: $FUSIONLIB_DATA, else data/",
}
COMMANDS: commands.Commands = {
    "fuse": (_fuse, FUSE),
    "evaluate": (_evaluate, {"FUSED": "fused image or folder", **PAIR, **SCORING}),
    "benchmark": (_benchmark, BENCHMARK),
    "methods": (_methods, ONE),
    "metrics": (_metrics, ONE),
    "datasets": (_datasets, {}),
    "datasets list": (_datasets, DATA_DIR),
    "datasets fetch": (_fetch, FETCH),
    **weights.COMMANDS,
}

if __name__ == "__main__":
    sys.exit(main())
