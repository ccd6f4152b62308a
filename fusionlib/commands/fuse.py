"""Fusing files and folders of images: one after the other, in batches, or on several processes."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import loky
from tqdm.auto import tqdm

from ..errors import CannotWrite, FusionError, ImageError
from ..executors import CONTINUE, checked_jobs, in_order, processes
from ..files import check_writable
from ..images import write_image
from ..pairs import Pair, match_folders, read_pair

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["Fused", "fuse_file", "fuse_folders"]

Work = tuple[str, Path, Path]  # name, infrared and visible file


class Fused(NamedTuple):
    """What `fuse_folders` did."""

    written: int
    skipped: int  # outputs that were there
    faults: list[str]  # what could not be fused, and why


def fuse_file(method: Method, ir: Path, vis: Path, output: Path) -> None:
    """Fuse two image files into one."""
    write_image(output, method.fuse_pair(_read(ir, vis, output)))


def _read(ir: Path, vis: Path, output: Path) -> Pair:
    if output.resolve() in (ir.resolve(), vis.resolve()):
        raise ImageError(f"{output} is one of the sources; choose another output.")
    return read_pair(ir, vis)


def fuse_folders(
    method: Method,
    ir: Path,
    vis: Path,
    output: Path,
    *,
    jobs: int = 1,
    skip_existing: bool = False,
    progress: bool = True,
) -> Fused:
    """Fuse the pairs of two folders, matched by name, into PNG files of these names.

    The method's `Execution.batch` says how many pairs of one size run together. Processes share the
    cores, unless `Execution.threads` says how many threads each has. One image's fault does not
    stop the others; where one cannot be written, no more are fused.
    """
    jobs = checked_jobs(jobs)
    matched, alone = match_folders(ir, vis)
    faults = [f"{path}: only in {path.parent}" for path in alone]
    left = [one for one in matched if not (skip_existing and (output / f"{one[0]}.png").exists())]
    if left:
        check_writable(output / f"{left[0][0]}.png")
    size = method.execution.batch
    batches = [left[i : i + size] for i in range(0, len(left), size)]
    if pool := processes(min(jobs, len(batches))):
        threads = method.execution.threads or max(1, loky.cpu_count() // jobs)
        method = copy.copy(method)
        method.execution = replace(method.execution, threads=threads)
    calls = ((batch, partial(_fuse_batch, method, batch, output)) for batch in batches)
    written, skipped = 0, len(matched) - len(left)
    held = {"total": len(matched), "initial": skipped}
    with tqdm(**held, desc="fusing", unit="pair", disable=not progress) as bar:
        try:
            for batch, some in in_order(calls, pool, 4 * jobs):
                written += len(batch) - len(some)
                faults += some
                bar.update(len(batch))
        except CannotWrite as error:
            raise CannotWrite(f"{error} {CONTINUE}") from error
    return Fused(written, skipped, faults)


def _fuse_batch(method: Method, batch: list[Work], output: Path) -> list[str]:
    """Read, fuse and write; return faults, each with the name of its pair.

    Of a batch that fails each is fused by itself, to learn whose fault it is.
    """
    files = [(ir, vis, output / f"{name}.png") for name, ir, vis in batch]
    try:
        images = ((pair.ir, pair.vis) for pair in (_read(*each) for each in files))
        for (*_, out), fused in zip(files, method.fuse_all(images), strict=True):
            write_image(out, fused)
        return []
    except CannotWrite:  # so would the next
        raise
    except (FusionError, OSError, MemoryError) as error:
        if len(batch) == 1:
            return [f"{batch[0][0]}: {error}"]
    # Out of the handler, which holds the batch's memory.
    return [fault for one in batch for fault in _fuse_batch(method, [one], output)]
