"""The command line: ``python -m reproduction run | claims | train | detect | weights``.

Exit status: as of ``fusionlib``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fusionlib.commands import weights
from fusionlib.commands.shared import Commands, program, run_program

from .commands import claims, detect, run, train

__all__ = ["main"]

COMMANDS: Commands = {
    "run": (run.run, run.OPTIONS),
    "claims": (claims.claims, claims.OPTIONS),
    **detect.COMMANDS,
    **weights.COMMANDS,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    return run_program(make_parser(), arguments)


def make_parser() -> argparse.ArgumentParser:
    about = "Two papers on image fusion, every table and claim of them."
    parser, commands = program("python -m reproduction", about, COMMANDS)
    commands.choices["weights"].set_defaults(users=detect.weight_users)
    train.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
