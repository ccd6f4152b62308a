"""The command line: ``python -m reproduction run | claims | train | detect | weights``.

Exit status: as of ``fusionlib``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fusionlib.commands import (
    SHARED,
    Commands,
    Options,
    given,
    print_frame,
    program,
    run_program,
    weights,
)
from fusionlib.errors import unknown

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_program(make_parser(*arguments[:1]), arguments)


def make_parser(command: str = "") -> argparse.ArgumentParser:
    """Make the parser: of a command below without the others, whose imports take seconds."""
    name = "python -m reproduction"
    about = "Two papers on image fusion, every table and claim of them."
    if command in COMMANDS:
        return program(name, about, COMMANDS)[0]
    from .commands import detect, train

    table = {**COMMANDS, **train.COMMANDS, **detect.COMMANDS, **weights.COMMANDS}
    parser, commands = program(name, about, table)
    # The library's command, with the detectors' weights among the others.
    commands.choices["weights"].set_defaults(users=detect.weight_users)
    return parser


# ---------------------------------------------------------------- run

RUN: Options = {
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


def _run(options: argparse.Namespace) -> None:
    """Run the notebooks in order through papermill and write results/.

    What is finished and unchanged is not run again; a stopped run continues.

    run --only 03
    run --profile paper --only 03 --limit 5
    """
    from .run import reproduce

    reproduce(**given(options))


# ---------------------------------------------------------------- claims

CLAIMS: Options = {
    "ID": {"nargs": "?", "help": "say all about this one"},
    "--paper NAME": "only those of this one: res2netfuse or refinefuse",
    "--verdict NAME": "only those with this one: reproduced, partly, 'not reproduced' or 'cannot "
    "be tested here'",
    "--write FILE": "write the ledger as Markdown",
}


def _claims(options: argparse.Namespace) -> None:
    """List what the papers claim, with verdicts, or say all about one claim.

    The verdict is that of this repository's results; of one claim you see where it
    stands, what would confirm it, what was measured.

    claims --verdict "not reproduced"
    claims --paper res2netfuse
    claims one-image-suffices
    """
    from . import claims

    if options.id:
        claim = claims.find_claim(options.id)
        finding = claims.judge(claim)
        print(f"{claim.id}: {finding.stated}")
        for name in ("where", "says", "confirms"):
            print(f"{name}: {getattr(claim, name)}")
        print(f"measured: {finding.measured}\nnotebook: notebooks/{claim.notebook}.ipynb")
        if finding.evidence is not None:
            print()
            print_frame(finding.evidence)
        return
    for kind, known in (("paper", claims.PAPERS), ("verdict", claims.VERDICTS)):
        if getattr(options, kind) not in (None, *known):
            raise unknown(kind, getattr(options, kind), known)
    found = claims.ledger()
    if options.write:
        claims.write_ledger(options.write, found)
        print(f"wrote {options.write}")
        return
    if options.paper:
        found = found[found["paper"] == claims.PAPERS[options.paper]]
    if options.verdict:
        found = found[found["verdict"] == options.verdict]
    print_frame(claims.summary(found).reset_index(names="paper"))
    print()
    print_frame(claims.bases(found).reset_index(names="verdict"))
    print()
    print_frame(found[["id", "verdict", "basis", "says"]], width=70)


COMMANDS: Commands = {"run": (_run, RUN), "claims": (_claims, CLAIMS)}

if __name__ == "__main__":
    sys.exit(main())
