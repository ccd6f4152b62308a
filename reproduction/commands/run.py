"""``python -m reproduction run``: the notebooks, in order."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusionlib.commands.shared import SHARED, add_command, add_shared


def add(commands: argparse._SubParsersAction) -> None:
    reproduce = add_command(
        commands,
        "run",
        "Run the notebooks in order through papermill and write results/. What is finished and "
        "unchanged is not run again; a stopped run continues.",
        "run --only 03",
        "run --profile paper --only 03 --limit 5",
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
    add_shared(reproduce, *SHARED)
    reproduce.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="given to the notebooks; default: %(default)s",
    )
    reproduce.add_argument(
        "--results-dir", type=Path, metavar="FOLDER", help="default: results/ of the checkout"
    )
    reproduce.add_argument("--restart", action="store_true", help="run finished ones again too")
    reproduce.add_argument(
        "--in-place",
        action="store_true",
        help="also put the executed notebooks back into notebooks/ (what is committed)",
    )
    reproduce.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace) -> None:
    from ..run import reproduce

    reproduce(
        profile=options.profile,
        only=options.only,
        data_dir=options.data_dir,
        weights_dir=options.weights_dir,
        results_dir=options.results_dir,
        limit=options.limit,
        device=options.device,
        seed=options.seed,
        restart=options.restart,
        in_place=options.in_place,
    )
