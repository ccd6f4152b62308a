"""Fusing folders of images: one after the other, in batches, or on several processes."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm.auto import tqdm

from .errors import CannotWrite, FusionError, ImageError
from .files import check_writable
from .images import write_image
from .pairs import match_folders, read_pair

if TYPE_CHECKING:
    from .methods import Method
    from .pairs import Pair

__all__ = ["Fused", "check_workers", "fuse_file", "fuse_folders", "has_processes"]


CONTINUE = "What is written stays; --skip-existing (skip_existing=True) goes on from there."


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


def check_workers(workers: int, what: str) -> None:
    """Make sure that a number of workers is possible; warn of more than there are cores.

    Raises
    ------
    FusionError
        If it is below 1.
    """
    if workers < 1:
        raise FusionError(f"{what} must be at least 1, not {workers}.")
    import loky

    cores = loky.cpu_count()  # knows the limits of a container
    if workers > cores:
        warnings.warn(
            f"{workers} {what} for {cores} cores: they wait for each other; give {cores} or fewer.",
            stacklevel=3,
        )


def has_processes() -> bool:
    """Whether other processes can share this one's work; where they cannot, a warning says so.

    They wait for each other by semaphores, which Linux keeps in /dev/shm; a container may lack it.
    """
    try:
        multiprocessing.Lock()
    except (ImportError, OSError) as error:
        warnings.warn(
            f"this system has no semaphores ({error}; on Linux they need /dev/shm), so all work is "
            "done in one process.",
            stacklevel=2,
        )
        return False
    return True


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
    check_workers(jobs, "jobs")
    found = match_folders(ir, vis)
    faults = [f"{path}: only in {ir}" for path in found.only_ir]
    faults += [f"{path}: only in {vis}" for path in found.only_vis]
    work = [_Work(name, a, b, Path(output) / f"{name}.png") for name, a, b in found.matched]
    left = [one for one in work if not (skip_existing and one.output.exists())]
    if left:
        check_writable(left[0].output)
    size = method.execution.batch
    batches = [left[i : i + size] for i in range(0, len(left), size)]
    written = 0
    with tqdm(total=len(work), desc="fusing", unit="pair", disable=not progress) as bar:
        bar.update(len(work) - len(left))
        try:
            for count, some in _each(method, batches, jobs):
                written += count - len(some)
                faults += some
                bar.update(count)
        except CannotWrite as error:
            raise CannotWrite(f"{error} {CONTINUE}") from error
    return Fused(written, len(work) - len(left), faults)


def _each(
    method: Method, batches: Sequence[list[_Work]], jobs: int
) -> Iterator[tuple[int, list[str]]]:
    """Fuse batches; of each give the number of its pairs and their faults."""
    if jobs == 1 or not has_processes():
        for batch in batches:
            yield len(batch), _fuse_batch(method, batch)
        return
    import loky

    threads = method.execution.threads or max(1, loky.cpu_count() // jobs)
    start = (method, threads)
    with loky.ProcessPoolExecutor(jobs, initializer=_start, initargs=start) as pool:
        done = 0
        try:
            for batch, faults in zip(batches, pool.map(_fuse_in_worker, batches), strict=True):
                yield len(batch), faults
                done += len(batch)
        except loky.process_executor.TerminatedWorkerError as error:
            raise FusionError(
                f"a process that fused was killed after {done} pairs or more; a system without "
                f"memory does that. Take fewer jobs or smaller tiles. {CONTINUE}"
            ) from error


#: The method of a worker process.
_METHOD: list[Method] = []


def _start(method: Method, threads: int) -> None:
    method.execution = replace(method.execution, threads=threads)
    _METHOD[:] = [method]


def _fuse_in_worker(batch: list[_Work]) -> list[str]:
    return _fuse_batch(_METHOD[0], batch)


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
