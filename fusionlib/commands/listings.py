"""``fusionlib methods | datasets``: what is here, as tables and one by one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import WeightsNotFound
from .shared import add_actions, add_command, add_shared, print_frame


def add(commands: argparse._SubParsersAction) -> None:
    _add_methods(commands)
    _add_datasets(commands)


# ---------------------------------------------------------------- methods


def _add_methods(commands: argparse._SubParsersAction) -> None:
    methods = add_command(
        commands,
        "methods",
        "List the methods with their variants or pipelines and whether their weights are here, or "
        "say all about one method: paper, licence, rules, pre- and post-processing, weights.",
        "methods",
        "methods res2netfuse",
    )
    methods.add_argument("name", nargs="?", metavar="NAME", help="say all about this one")
    methods.set_defaults(run=_methods)


def _methods(options: argparse.Namespace) -> None:
    from ..methods import create, find_method, list_methods

    frame = list_methods()
    if not options.name:
        # What 120 characters hold; the rest is said of one method.
        columns = ["method", "variant or pipeline", "year", "weights found", "summary"]
        print_frame(frame[columns], width=68)
        return
    spec = find_method(options.name)
    missing = ""
    try:
        print(create(spec.name).card)
    except WeightsNotFound as error:
        print(f"{spec.title}: {spec.paper} (doi {spec.doi}); licence: {spec.licence}")
        missing = f"\n{error}"
    for row in frame[frame["method"] == spec.name].to_dict("records"):
        print(f"\n{spec.axis} {row['variant or pipeline']}: {row['summary']}")
        for fact in ("rules", "post-processing", "weights", "weights found"):
            print(f"  {fact}: {row[fact] or 'none'}")
    if missing:
        print(missing)


# ---------------------------------------------------------------- datasets


def _add_datasets(commands: argparse._SubParsersAction) -> None:
    datasets = add_command(
        commands,
        "datasets",
        "List the data sets: what they hold, licence, whether they are here; or fetch one.",
        "datasets",
        "datasets fetch tno20",
    )
    datasets.set_defaults(run=_list_datasets, data_dir=None)
    actions = add_actions(datasets)
    listing = add_command(
        actions,
        "list",
        "List the data sets: what they hold, licence, whether and where they are here.",
        "datasets list --data-dir data",
        help="list them (default)",
    )
    add_shared(listing, "--data-dir")
    listing.set_defaults(run=_list_datasets)
    fetch = add_command(
        actions,
        "fetch",
        "Download a data set from where its authors publish it, verified by its hashes.",
        "datasets fetch tno20",
        help="download one, verified by its hashes",
    )
    fetch.add_argument("name", metavar="NAME", help="'fusionlib datasets' lists them")
    fetch.add_argument(
        "--data-dir", type=Path, metavar="FOLDER", help="default: $FUSIONLIB_DATA, else data/"
    )
    fetch.set_defaults(run=_fetch_dataset)


def _list_datasets(options: argparse.Namespace) -> None:
    from ..datasets import list_datasets

    # Folders and addresses are there to be copied.
    print_frame(list_datasets(options.data_dir), width=None)


def _fetch_dataset(options: argparse.Namespace) -> None:
    from ..datasets import fetch_dataset

    print(f"{options.name} is in {fetch_dataset(options.name, data_dir=options.data_dir)}")
