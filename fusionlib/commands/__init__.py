"""How command lines are built from tables and run, options of several commands, printed tables.

What a command runs is imported inside the function that runs it, so that help comes without
PyTorch, pandas and NumPy.
"""

from __future__ import annotations

import argparse
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import FusionError

if TYPE_CHECKING:
    import pandas as pd

#: Arguments as a help shows them (``-j --jobs N``, ``--restart``, ``IR``) -> what they are: a text,
#: or settings of `argparse.ArgumentParser.add_argument`.
Options = Mapping[str, str | dict[str, Any]]
#: Commands (of actions ``weights fetch``) -> what they run, whose docstring is their help with
#: examples as its last paragraph, and their options.
Commands = Mapping[str, tuple[Callable[[argparse.Namespace], None], Options]]

ONE: Options = {"NAME": {"nargs": "?", "help": "say all about this one"}}
DATA_DIR: Options = {"--data-dir FOLDER": "where to look for data first"}
WEIGHTS_DIR: Options = {"--weights-dir FOLDER": "where to look for weights first"}
DEVICE: Options = {"--device NAME": "cpu (default), or cuda where there is an NVIDIA GPU"}
#: Of whatever fuses a data set.
SHARED: Options = {
    "--limit N": "only the first N pairs of a data set",
    **DATA_DIR,
    **WEIGHTS_DIR,
    **DEVICE,
}


def split_names(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


#: What an argument takes, as its help calls it -> how that is read; others are texts.
TYPES: dict[str, Any] = {
    **{"N": int, "X": float, "NAMES": split_names, "METHODS": split_names},
    **dict.fromkeys(("FILE", "FOLDER", "OUT", "IR", "VIS", "FUSED"), Path),
}


def program(
    name: str, description: str, table: Commands
) -> tuple[argparse.ArgumentParser, argparse._SubParsersAction]:
    """Make a parser of the commands of a table; return that, and where others can be added."""
    parser = argparse.ArgumentParser(
        prog=name, description=description, epilog=f"'{name} COMMAND --help' explains a command."
    )
    parser.add_argument("--version", action="version", version=f"fusionlib {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    levels = {"": commands}
    for path, (run, options) in table.items():
        above, _, last = path.rpartition(" ")
        about, _, examples = inspect.cleandoc(run.__doc__ or "").rpartition("\n\n")
        one = levels[above].add_parser(
            last,
            help=about.partition("\n")[0].rstrip("."),
            description=about,
            epilog="\n".join(["examples:", *(f"  {name} {line}" for line in examples.split("\n"))]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if any(other.startswith(f"{path} ") for other in table):
            levels[path] = one.add_subparsers(title="actions", metavar="ACTION")
        for words, what in options.items():
            # What is not given is None, so that the library's own default holds.
            *flags, takes = words.split()
            settings = what if isinstance(what, dict) else {"help": what}
            if takes.startswith("-"):
                flags.append(takes)
                settings = {"action": "store_true", "default": None, **settings}
            else:
                settings = {"metavar": takes, "type": TYPES.get(takes, str), **settings}
            one.add_argument(*(flags or [takes.lower()]), **settings)
        one.set_defaults(run=run)
    return parser, commands


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the options that were given, by name; without names, of all."""
    values = {name: getattr(options, name, None) for name in names or vars(options)}
    return {name: value for name, value in values.items() if value is not None}


def run_program(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name; return the exit status.

    It is 0 if all is done, 2 if something given was wrong (one message on standard error), 130 if
    Ctrl-C stopped it.
    """
    options = parser.parse_args(arguments)
    run = vars(options).pop("run")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if device := getattr(options, "device", None):
            from ..tiles import check_device

            check_device(device)
        run(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader of a listing (head, less) has gone. What is left in the buffer must go
        # somewhere when Python exits, or it complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FusionError, OSError, MemoryError) as error:  # the system's: names too long, rights
        message = str(error) or "out of memory; give smaller images or fewer at a time."
        print(f"{parser.prog}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, nothing is half-written.", file=sys.stderr)
        return 130


def fail_each(faults: Sequence[str], what: str) -> None:
    """Fail with a line per image, if there are any."""
    if faults:
        raise FusionError(f"{len(faults)} could not be {what}:\n  " + "\n  ".join(faults))


def print_frame(frame: pd.DataFrame, width: int | None = 60) -> None:
    """Print a table: numbers end below each other, text begins so, and is cut at a width."""
    frame = frame.copy()
    for name in frame.select_dtypes(exclude="number"):
        text = frame[name].astype(str)
        if width is not None:
            text = text.where(text.str.len() <= width, text.str[: width - 3] + "...")
        frame[name] = text.str.ljust(max([len(str(name)), *text.str.len()]))
    lines = frame.to_string(index=False, justify="left", float_format="{:.6g}".format)
    print("\n".join(line.rstrip() for line in lines.splitlines()))
