"""Folders that must be there, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import CannotWrite, FusionError

__all__ = ["atomic_file", "check_folder", "check_writable", "write_text"]


def check_folder(directory: str | os.PathLike[str] | None, what: str) -> None:
    """Make sure that the folder where `what` is to be looked for first is there, if given."""
    if directory is not None and not Path(directory).is_dir():
        raise FusionError(
            f"no such folder of {what}: {directory}. Check the spelling, or leave it out."
        )


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder: a rename is atomic within a file system only."""
    temporary = None
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        yield temporary
    except OSError as error:
        remedy = "Choose a file in a folder that you may write to"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some space, or choose a folder on another disk"
        elif isinstance(error, IsADirectoryError):
            remedy = "Name a file in it"
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}. {remedy}.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; on success it is renamed to `path`.

    Missing parent folders are made. Whatever goes wrong, Ctrl-C included, the temporary file is
    removed and an existing file at `path` stays as it was; an OSError becomes CannotWrite.
    """
    with _beside(Path(path)) as temporary:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
        temporary.replace(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Make sure that a file can be written at `path`, before long work; errors as `atomic_file`."""
    with _beside(Path(path)) as probe:
        probe.touch()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) whole or not at all; errors as `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
