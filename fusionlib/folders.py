"""Fusing folders of images: one after the other, in batches, or on several processes."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import loky
from tqdm.auto import tqdm

from .errors import CannotWrite, FusionError, ImageError
from .executors import CONTINUE, checked_jobs, in_order, processes
from .files import check_writable
from .images import write_image
from .pairs import match_folders, read_pair

if TYPE_CHECKING:
    from .methods import Method
    from .pairs import Pair

__all__ = ["Fused", "fuse_file", "fuse_folders"]


class Fused(NamedTuple):
    """What `fuse_folders` did."""

    written: int
    skipped: int  # outputs that were there
    faults: list[str]  # what could not be fused, and why


class _Work(NamedTuple):
    """One pair of files and where its fused image goes."""

    name: str
    ir: Path
    vis: Path
    output: Path


def fuse_file(method: Method, ir: Path, vis: Path, output: Path) -> None:
    """Fuse two image files into one.

    Raises
    ------
    FusionError
        Of what is wrong with the images, or with the output.
    """
    write_image(output, method.fuse_pair(_read(ir, vis, output)))


def _read(ir: Path, vis: Path, output: Path) -> Pair:
    if output.resolve() in (ir.resolve(), vis.resolve()):
        raise ImageError(f"{output} is one of the sources; choose another output.")
    return read_pair(ir, vis)


def fuse_folders(
    method: Method,
    ir: str | os.PathLike[str],
    vis: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    jobs: int = 1,
    skip_existing: bool = False,
    progress: bool = True,
) -> Fused:
    """Fuse the pairs of two folders, matched by name, into PNG files of these names.

    Parameters
    ----------
    method : Method
        Its `Execution.batch` says how many pairs of one size run together.
    ir, vis : path
        Folders of infrared and of visible images.
    output : path
        Folder for the fused images; made where it is not there.
    jobs : int
        Processes that fuse at the same time. They share the cores, unless `Execution.threads`
        says how many threads each has.
    skip_existing : bool
        Whether to leave outputs that are there: so a stopped run continues.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Fused
        One image's fault does not stop the others.

    Raises
    ------
    CannotWrite
        If an image cannot be written; then no more are fused.
    FusionError
        If there is nothing to match, `jobs` is below 1, or a process was killed.
    """
    jobs = checked_jobs(jobs)
    found = match_folders(ir, vis)
    faults = [f"{path}: only in {ir}" for path in found.only_ir]
    faults += [f"{path}: only in {vis}" for path in found.only_vis]
    work = [_Work(name, a, b, Path(output) / f"{name}.png") for name, a, b in found.matched]
    left = [one for one in work if not (skip_existing and one.output.exists())]
    if left:
        check_writable(left[0].output)
    size = method.execution.batch
    batches = [left[i : i + size] for i in range(0, len(left), size)]
    if pool := processes(min(jobs, len(batches))):
        threads = method.execution.threads or max(1, loky.cpu_count() // jobs)
        method = copy.copy(method)
        method.execution = replace(method.execution, threads=threads)
    calls = ((batch, partial(_fuse_batch, method, batch)) for batch in batches)
    written = 0
    held = {"total": len(work), "initial": len(work) - len(left)}
    with tqdm(**held, desc="fusing", unit="pair", disable=not progress) as bar:
        try:
            for batch, some in in_order(calls, pool, 4 * jobs):
                written += len(batch) - len(some)
                faults += some
                bar.update(len(batch))
        except CannotWrite as error:
            raise CannotWrite(f"{error} {CONTINUE}") from error
    return Fused(written, len(work) - len(left), faults)


def _fuse_batch(method: Method, batch: list[_Work]) -> list[str]:
    """Read, fuse and write; return faults, each with the name of its pair."""
    pairs, faults = {}, []
    for one in batch:
        try:
            pairs[one] = _read(one.ir, one.vis, one.output)
        except (FusionError, OSError, MemoryError) as error:
            faults.append(f"{one.name}: {error}")
    images = [(pair.ir, pair.vis) for pair in pairs.values()]
    left, fault = [*pairs], ""
    try:
        for fused in method.fuse_all(images):
            write_image(left[0].output, fused)
            del left[0]
    except CannotWrite:  # so would the next
        raise
    except (FusionError, OSError, MemoryError) as error:
        fault = str(error)
    if not fault:
        return faults
    if len(batch) == 1:
        return [*faults, f"{left[0].name}: {fault}"]
    # One by one, to learn whose fault it is; out of the handler, which holds the batch's memory.
    del pairs, images
    for one in left:
        faults += _fuse_batch(method, [one])
    return faults
