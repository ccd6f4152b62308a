"""``python -m reproduction run``: the notebooks, in order."""

from __future__ import annotations

import argparse

from fusionlib.commands.shared import SHARED, Commands, Options, given

from ..run import reproduce

OPTIONS: Options = {
    "--profile NAME": {
        "choices": ["sample", "paper"],
        "help": "sample: built-in images, minutes (default); paper: the real data, hours",
    },
    "--only NN": {"action": "append", "help": "only this notebook, may be repeated"},
    **SHARED,
    "--seed N": "given to the notebooks; default: 0",
    "--results-dir FOLDER": "default: results/ of the checkout",
    "--restart": "run finished ones again too",
    "--in-place": "also put the executed notebooks back into notebooks/ (what is committed)",
}


def run(options: argparse.Namespace) -> None:
    """Run the notebooks in order through papermill and write results/.

    What is finished and unchanged is not run again; a stopped run continues.

    run --only 03
    run --profile paper --only 03 --limit 5
    """
    reproduce(**given(options))


COMMANDS: Commands = {"run": (run, OPTIONS)}
