"""The command line: ``python -m reproduction run | claims | train | detect | weights``.

Exit status: as of ``fusionlib``. Only the module of the command that is given is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from fusionlib.commands import weights
from fusionlib.commands.shared import program, run_program

__all__ = ["main"]

#: Command -> the module of it; `weights` is the library's, with the detectors' weights among them.
MODULES = {name: name for name in ("run", "claims", "train", "detect")} | {"weights": "detect"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = [name for name in MODULES if name in arguments[:1]]
    return run_program(make_parser(given or [*MODULES]), arguments)


def make_parser(names: Sequence[str] = tuple(MODULES)) -> argparse.ArgumentParser:
    """Make the parser of some commands."""
    modules = {name: import_module(f".commands.{MODULES[name]}", __package__) for name in names}
    table: dict[str, Any] = {}
    for name, module in modules.items():
        table |= weights.COMMANDS if name == "weights" else getattr(module, "COMMANDS", {})
    about = "Two papers on image fusion, every table and claim of them."
    parser, commands = program("python -m reproduction", about, table)
    if "weights" in modules:
        commands.choices["weights"].set_defaults(users=modules["weights"].weight_users)
    return parser


if __name__ == "__main__":
    sys.exit(main())
