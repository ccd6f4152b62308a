"""The command line: ``python -m reproduction run | claims | train | detect | weights``.

Exit status: as of ``fusionlib``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fusionlib import __version__
from fusionlib.commands import weights
from fusionlib.commands.shared import program, run_program

from .commands import claims, detect, run, train

__all__ = ["main"]

COMMANDS = {
    "the papers": {
        "run": "run the notebooks and write results/",
        "claims": "list the papers' claims with verdicts, or show one",
    },
    "learn and detect": {
        "train": "train a network as its authors did, or for a shorter time",
        "detect": "find objects; score, train and feed detectors on fused images",
        "weights": "as of fusionlib, the detectors' among them",
    },
}

EXAMPLES = (
    "python -m reproduction run --only 03",
    'python -m reproduction claims --verdict "not reproduced"',
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    return run_program(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser, commands = program(
        "python -m reproduction",
        "Two papers on image fusion, every table and claim of them.",
        COMMANDS,
        EXAMPLES,
        __version__,
    )
    for topic in (run, claims, train, detect):
        topic.add(commands)
    weights.add(commands, users=detect.weight_users)
    return parser


if __name__ == "__main__":
    sys.exit(main())
