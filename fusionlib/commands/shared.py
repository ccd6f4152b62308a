"""What several commands have: how their help is laid out, options, how results are printed."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FusionError

if TYPE_CHECKING:
    import pandas as pd

    from ..tiles import Execution


# ---------------------------------------------------------------- help


class Help(argparse.HelpFormatter):
    """Fills paragraphs and keeps indented ones as they are.

    An indented one follows on two colons, as in reStructuredText: the documentation's page is made
    from the same texts.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        parts = [
            part if part.startswith(" ") else fill(part, width, indent)
            for part in text.split("\n\n")
        ]
        return "\n\n".join(parts).replace("::\n\n", ":\n")


def listed(title: str, lines: Sequence[str]) -> str:
    """Return a title and lines as `Help` and reStructuredText keep them."""
    return f"{title}::\n\n" + "\n".join(f"  {line}" for line in lines)


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    description: str,
    *examples: str,
    **settings: Any,
) -> argparse.ArgumentParser:
    """Add a command, whose help ends with examples: command lines without the program's name."""
    parser = commands.add_parser(name, description=description, formatter_class=Help, **settings)
    program, _, _ = parser.prog.partition(f" {examples[0].split()[0]}")
    parser.epilog = listed("examples", [f"{program} {example}" for example in examples])
    return parser


def add_actions(
    parser: argparse.ArgumentParser, *, required: bool = False
) -> argparse._SubParsersAction:
    """Give a command actions, which are commands of their own."""
    return parser.add_subparsers(title="actions", metavar="ACTION", required=required)


# ---------------------------------------------------------------- options


#: Options that several commands have.
SHARED: dict[str, dict[str, Any]] = {
    "--limit": {"type": int, "metavar": "N", "help": "only the first N pairs of a data set"},
    "--data-dir": {"type": Path, "metavar": "FOLDER", "help": "where to look for data first"},
    "--weights-dir": {"type": Path, "metavar": "FOLDER", "help": "where to look for weights first"},
    "--device": {
        "default": "cpu",
        "metavar": "NAME",
        "help": "cpu (default), or cuda where there is an NVIDIA GPU",
    },
}


def add_shared(parser: argparse._ActionsContainer, *names: str) -> None:
    for name in names:
        parser.add_argument(name, **SHARED[name])


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how networks are run; `execution_of` reads them."""
    group = parser.add_argument_group("how networks are run")
    group.add_argument(
        "--precision",
        metavar="NAME",
        help="float32 (default), or bfloat16: faster where the hardware has it, and results differ "
        "in the second or third digit",
    )
    group.add_argument("--tile", type=int, metavar="N", help="side of tiles; default: 320")
    group.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="run networks that need the whole image in tiles, too, with that overlap: bounds the "
        "memory of large images, and results differ",
    )
    group.add_argument(
        "--channels-last",
        action="store_true",
        default=None,
        help="faster by up to a third for most networks, slower for some, and rounded otherwise",
    )
    group.add_argument(
        "--threads", type=int, metavar="N", help="threads of a network; default: one per core"
    )


def execution_of(options: argparse.Namespace) -> Execution:
    from ..tiles import Execution

    names = ("precision", "tile", "overlap", "channels_last", "threads")
    batch = given(options, "batch") if "batch" in options else {}
    return Execution(**given(options, *names), **batch)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the options that were given, by name."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def split_names(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_apart(sources: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Make sure that no file is both read and written, or written twice."""
    taken = {path.resolve() for path in sources}
    for path in outputs:
        if path.resolve() in taken:
            raise FusionError(
                f"{path} is one of the images, or to be written twice. Name another file or folder."
            )
        taken.add(path.resolve())


# ---------------------------------------------------------------- results


def print_frame(frame: pd.DataFrame, width: int | None = 60) -> None:
    """Print a table: numbers end below each other, text begins so."""
    frame = frame.copy()
    for name in frame.select_dtypes(exclude="number"):
        texts = [_shortened(str(value), width) for value in frame[name]]
        longest = max(len(text) for text in (str(name), *texts))
        frame[name] = [text.ljust(longest) for text in texts]
    lines = frame.to_string(index=False, justify="left", max_colwidth=None).splitlines()
    print("\n".join(line.rstrip() for line in lines))


def _shortened(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 3]}..."


def fail_each(faults: Sequence[str], what: str) -> None:
    """Fail with a line per image, if there are any."""
    if faults:
        raise FusionError(f"{len(faults)} could not be {what}:\n  " + "\n  ".join(faults))


# ---------------------------------------------------------------- a program


def run_program(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name; return the exit status.

    It is 0 if all is done, 2 if something given was wrong (one message on standard error), 130 if
    Ctrl-C stopped it.
    """
    options = parser.parse_args(arguments)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if "device" in options:
            from ..tiles import check_device

            check_device(options.device)
        options.run(options)
        sys.stdout.flush()
        return 0
    except (FusionError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader of a listing (head, less) has gone. What is left in the buffer must go
            # somewhere when Python exits, or it complains.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        # Of the system: names too long, memory, rights.
        message = str(error) or "out of memory; give smaller images or fewer at a time."
        print(f"{parser.prog}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, nothing is half-written.", file=sys.stderr)
        return 130


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def program(
    name: str,
    description: str,
    groups: Mapping[str, Mapping[str, str]],
    examples: Sequence[str],
    version: str,
) -> tuple[argparse.ArgumentParser, argparse._SubParsersAction]:
    """Make a parser whose help lists commands in groups (title -> command -> what it does)."""
    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [-h] [--version] COMMAND ...",
        description=f"{description}\n\n'{name} COMMAND --help' explains a command.",
        epilog=listed("examples", examples),
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"fusionlib {version}")
    for title, about in groups.items():
        lines = [f"  {command:<11}{what}" for command, what in about.items()]
        parser.add_argument_group(title, "\n".join(lines))
    # argparse lists all commands under one title; they are listed above.
    commands = parser.add_subparsers(
        prog=name, metavar="COMMAND", help=argparse.SUPPRESS, required=True
    )
    return parser, commands
