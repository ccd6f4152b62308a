"""``fusionlib evaluate | benchmark | metrics``: scores of images and of methods."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FusionError
from .shared import (
    SHARED,
    add_command,
    add_execution,
    add_shared,
    execution_of,
    fail_each,
    print_frame,
    split_names,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation import Fuser

#: The keys of `fusionlib.metrics.CONVENTIONS`, whose import takes NumPy; a test compares.
CONVENTIONS = ("standard", "li", "cddfuse", "tang", "vifb", "cddfuse_255", "pywt")


def add(commands: argparse._SubParsersAction) -> None:
    _add_evaluate(commands)
    _add_benchmark(commands)
    _add_metrics(commands)


# ---------------------------------------------------------------- evaluate


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = add_command(
        commands,
        "evaluate",
        "Score fused images against their sources: three files, or three folders whose images are "
        "matched by name. Prints the values, of several images the means with 95 % bootstrap "
        "intervals. 'fusionlib metrics' lists the metrics.",
        "evaluate fused.png ir.png vis.png",
        "evaluate fused.png ir.png vis.png -m EN,MI:tang,SSIM_a",
        "evaluate fused ir vis -m refinefuse --csv scores.csv",
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
        metavar="NAMES",
        help="common (default), res2netfuse or refinefuse (the papers' columns), all, or names "
        "separated by commas, each with a convention if wanted: EN,MI:tang",
    )
    parser.add_argument(
        "-c",
        "--convention",
        metavar="NAME",
        help=f"whose code is followed: {', '.join(CONVENTIONS)} ('fusionlib metrics' explains "
        "them); default: a selection's own, else standard",
    )
    parser.add_argument(
        "--colour",
        default="Y",
        metavar="NAME",
        help="Y (default): colour images are scored on their luminance; channels: per channel",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write one row per image and metric; what is there is not scored again",
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=int,
        metavar="N",
        help="processes that score at a time; default: one per core",
    )


def _evaluate(options: argparse.Namespace) -> None:
    from ..evaluation import evaluate_files

    scored = evaluate_files(
        options.fused,
        options.ir,
        options.vis,
        metrics=split_names(options.metrics),
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
    fail_each(scored.faults, "scored")


def _print_scores(rows: pd.DataFrame, by: list[str]) -> None:
    """Print the values of one image, or means over several."""
    from ..evaluation import COLOURS, summarise
    from ..metrics import METRICS

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
    benchmark = add_command(
        commands,
        "benchmark",
        "Fuse every pair of a data set with every method and score the results. Prints means with "
        "95 % bootstrap intervals.",
        "benchmark mst,res2netfuse sample --limit 3",
        "benchmark all sample --limit 1 --cost",
        "benchmark mine=FOLDER,mst tno20 -m res2netfuse --csv scores.csv",
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
    add_shared(benchmark, *SHARED)
    benchmark.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="fuse and score on the workers of this Dask scheduler, such as tcp://host:8786; they "
        "need the data set where they are",
    )
    add_execution(benchmark)
    benchmark.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> None:
    from ..card import Identity
    from ..evaluation import benchmark
    from ..executors import dask_workers
    from ..methods import create, create_available
    from ..own import OwnMethod

    if options.scheduler and options.jobs is not None:
        raise FusionError(
            "--jobs is of this machine, and with --scheduler the workers do all; give one of them."
        )
    where: dict[str, Any] = {
        "weights_dir": options.weights_dir,
        "device": options.device,
        "execution": execution_of(options),
    }
    missing: dict[str, str] = {}
    methods: list[Fuser] = []
    for name in split_names(options.methods):
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
    here = nullcontext((None, options.jobs))
    with dask_workers(options.scheduler) if options.scheduler else here as (executor, jobs):
        rows = benchmark(
            methods,
            options.dataset,
            metrics=split_names(options.metrics),
            convention=options.convention,
            colour=options.colour,
            limit=options.limit,
            data_dir=options.data_dir,
            csv=options.csv,
            jobs=jobs,
            executor=executor,
            cost=options.cost,
        )
    _print_scores(rows, by=[*Identity._fields, "metric", "convention"])
    if options.csv:
        print(f"wrote {options.csv}")
    for name, reason in missing.items():
        print(f"missing {name}: {reason}")


# ---------------------------------------------------------------- metrics


def _add_metrics(commands: argparse._SubParsersAction) -> None:
    metrics = add_command(
        commands,
        "metrics",
        "List the metrics and the conventions in which their codes differ, or say all about one "
        "metric: definition, range, source, what each convention changes.",
        "metrics",
        "metrics MI",
    )
    metrics.add_argument("name", nargs="?", metavar="NAME", help="say all about this one")
    metrics.set_defaults(run=_metrics)


def _metrics(options: argparse.Namespace) -> None:
    from .. import metrics

    if options.name:
        for one in metrics.select(options.name):
            print(one.metric)
    else:
        print_frame(metrics.list_metrics().drop(columns="doi").reset_index())
        print("\nconventions")
        for name, meaning in metrics.CONVENTIONS.items():
            print(f"  {name:<12} {meaning}")
