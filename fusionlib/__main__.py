"""The command line: ``fusionlib fuse | evaluate | benchmark | methods | metrics | ...``.

Exit status: 0 done, 2 something given was wrong (one message on standard error), 130 stopped
by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__
from .commands import fuse, listings, scores, weights
from .commands.shared import program, run_program
from .errors import FusionError

__all__ = ["main"]

#: What a command is for -> commands -> what each does, in the order of the help.
COMMANDS = {
    "use images": {
        "fuse": "fuse two images, or two folders of images",
        "evaluate": "score a fused image, or a folder of them, against the sources",
        "benchmark": "fuse a data set with several methods and score the results",
    },
    "what is here": {
        "methods": "list the methods, or say all about one",
        "metrics": "list the metrics, or say all about one",
        "datasets": "list the data sets, or fetch one",
        "weights": "list the weights, verify those found, get the authors'",
    },
}

EXAMPLES = (
    "fusionlib fuse ir.png vis.png -o fused.png",
    "fusionlib benchmark mst,res2netfuse sample --limit 3",
)

#: Commands that were here -> what they are called in a clone of the repository.
MOVED = {"train": "train", "detect": "detect", "reproduce": "run", "claims": "claims"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    return run_program(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser, commands = program(
        "fusionlib", "Infrared-visible and medical image fusion.", COMMANDS, EXAMPLES, __version__
    )
    for topic in (fuse, scores, listings, weights):
        topic.add(commands)
    for name in MOVED:
        moved = commands.add_parser(name, add_help=False, prefix_chars="\0")
        moved.add_argument("rest", nargs="*")
        moved.set_defaults(run=_say_where, moved=name)
    return parser


def _say_where(options: argparse.Namespace) -> None:
    raise FusionError(
        f"{options.moved!r} is now 'python -m reproduction {MOVED[options.moved]}', in a clone of "
        "the repository."
    )


if __name__ == "__main__":
    sys.exit(main())
