"""The command line: ``fusionlib fuse | evaluate | benchmark | train | detect | reproduce | ...``.

Exit status: 0 done, 2 something given was wrong (one message on standard error), 130 stopped
by Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from . import __version__
from .commands import detect, fuse, listings, reproduce, scores, train, weights
from .commands.shared import Help, fail, listed
from .errors import FusionError

__all__ = ["main"]

#: What a command is for -> commands -> what each does, in the order of the help.
COMMANDS = {
    "use images": {
        "fuse": "fuse two images, or two folders of images",
        "evaluate": "score a fused image, or a folder of them, against the sources",
        "benchmark": "fuse a data set with several methods and score the results",
        "detect": "find objects; score, train and feed detectors on fused images",
    },
    "learn": {
        "train": "train a network as its authors did, or for a shorter time",
    },
    "the papers": {
        "reproduce": "run the notebooks and write results/",
        "claims": "list the papers' claims with verdicts, or show one",
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
    "fusionlib reproduce --only 03",
    'fusionlib claims --verdict "not reproduced"',
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if "device" in options:
            from .execution import check_device

            check_device(options.device)
        status = options.run(options)
        sys.stdout.flush()
        return status
    except FusionError as error:
        return fail(str(error))
    except BrokenPipeError:
        # The reader of a listing (head, less) has gone. What is left in the buffer must go
        # somewhere when Python exits, or it complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError) as error:  # of the system: names too long, memory, rights
        return fail(str(error) or "out of memory; give smaller images or fewer at a time.")
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, nothing is half-written.", file=sys.stderr)
        return 130


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionlib",
        usage="fusionlib [-h] [--version] COMMAND ...",
        description="Reproducible infrared-visible and medical image fusion.\n\n"
        "'fusionlib COMMAND --help' explains a command.",
        epilog=listed("examples", EXAMPLES),
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"fusionlib {__version__}")
    for title, about in COMMANDS.items():
        lines = [f"  {name:<11}{what}" for name, what in about.items()]
        parser.add_argument_group(title, "\n".join(lines))
    # argparse lists all commands under one title; they are listed above.
    commands = parser.add_subparsers(
        prog="fusionlib", metavar="COMMAND", help=argparse.SUPPRESS, required=True
    )
    for topic in (fuse, scores, detect, train, reproduce, listings, weights):
        topic.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
