"""Where many calls run: here, on other processes of this machine, on Dask; and what one costs.

Each place is a `concurrent.futures.Executor`, so any other one serves as well.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import loky

from . import __version__
from .errors import FusionError

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Cost",
    "checked_jobs",
    "dask_workers",
    "has_processes",
    "in_order",
    "measure",
    "peak_memory",
    "processes",
]

Label = TypeVar("Label")
Result = TypeVar("Result")

GONE = "the executor, or its scheduler, has gone."
CONTINUE = (
    "What is finished is kept, and the same command goes on from there: fuse with --skip-existing, "
    "evaluate and benchmark with --csv."
)


def checked_jobs(jobs: int | None) -> int:
    """Return how many processes work at a time, by default one per core; warn of more than that."""
    cores = loky.cpu_count()  # knows the limits of a container
    if jobs is None:
        return cores
    if jobs < 1:
        raise FusionError(f"jobs must be at least 1, not {jobs}.")
    if jobs > cores:
        warnings.warn(
            f"{jobs} jobs for {cores} cores: they wait for each other; give {cores} or fewer.",
            stacklevel=3,
        )
    return jobs


def processes(count: int) -> Executor | None:
    """Return an executor of so many processes; None where this process is to do the work."""
    return loky.get_reusable_executor(count) if count > 1 and has_processes() else None


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


def in_order(
    calls: Iterable[tuple[Label, Callable[[], Result]]], executor: Executor | None, ahead: int
) -> Iterator[tuple[Label, Result]]:
    """Make calls, `ahead` at a time; give their labels and results in the order of the calls.

    Without an executor they are made here, one by one. Calls are read as they are needed. More
    under way than there are workers keeps these busy; all their arguments are in memory. What a
    call raises comes after the results of those that have finished.
    """
    if executor is None:
        for label, call in calls:
            yield label, call()
        return
    calls = iter(calls)
    waiting: deque[tuple[Label, Future[Result]]] = deque()
    try:
        while True:
            more = list(islice(calls, ahead - len(waiting)))
            waiting += [(label, executor.submit(call)) for label, call in more]
            if not waiting:
                return
            label, future = waiting.popleft()
            if future.exception() is not None:
                yield from ((each, done.result()) for each, done in waiting if _succeeded(done))
            yield label, future.result()
    except BrokenExecutor as error:
        raise FusionError(
            "a process was killed; a system that has no more memory does that. Take fewer jobs, "
            f"smaller batches or tiles. {CONTINUE}"
        ) from error
    except CancelledError as error:
        raise FusionError(f"{GONE} {CONTINUE}") from error
    finally:
        # What runs already cannot be cancelled: it is not to write when this has returned.
        wait([future for _, future in waiting if not future.cancel()])


def _succeeded(future: Future[Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


# ---------------------------------------------------------------- Dask


class _OnDask(Executor):
    """As `distributed.Client.get_executor` gives.

    The futures of that one never end if the scheduler goes away while a result is on its way
    (distributed 2026.8).
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        if self.client.status == "closed":
            raise CancelledError
        remote = self.client.submit(fn, *args, **kwargs, pure=False)
        local: Future[Result] = Future()

        def finish(_: object) -> None:
            if local.set_running_or_notify_cancel():
                try:
                    local.set_result(remote.result())
                except BaseException as error:
                    gone = self.client.status != "running"
                    local.set_exception(CancelledError() if gone else error)

        remote.add_done_callback(finish)
        local.add_done_callback(lambda local: local.cancelled() and remote.cancel())
        return local


@contextmanager
def dask_workers(
    address: str, *, timeout: float = 10.0, patience: float = 60.0
) -> Iterator[tuple[Executor, int]]:
    """Connect to a scheduler; give an executor of its workers, and the number of their threads.

    Dask calls again what a worker had when it was lost; where all are lost it waits for others.
    The scheduler is waited for `timeout` seconds, its first worker `patience` seconds.
    """
    try:
        import dask.config
        from distributed import Client, KilledWorker
        from distributed.comm import CommClosedError
    except ImportError as error:
        raise FusionError(
            "Dask is not installed, which runs work on several processes or machines; "
            "pip install 'irvis-fusionlib[scale]'."
        ) from error
    try:
        client = Client(address, timeout=timeout)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise FusionError(
            f"no Dask scheduler answers at {address}. Start one with 'dask scheduler', give the "
            "address that it prints, and start workers with 'dask worker ADDRESS --nthreads 1'."
        ) from error
    # Images and weights are sent on purpose: no advice about the size of graphs.
    silent = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"})
    with silent, client:
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError as error:
            raise FusionError(
                f"the Dask scheduler {address} has no workers; start some: "
                f"'dask worker {address} --nthreads 1'."
            ) from error
        try:
            versions = {client.run_on_scheduler(_version), *client.run(_version).values()}
            if others := versions - {__version__}:
                raise FusionError(
                    f"the Dask scheduler or a worker has fusionlib {', '.join(sorted(others))}, "
                    f"this is {__version__}: numbers could differ. Install one version, and start "
                    "them again."
                )
            yield _OnDask(client), sum(client.nthreads().values())
        except CommClosedError as error:
            raise FusionError(f"{GONE} {CONTINUE}") from error
        except ModuleNotFoundError as error:
            raise FusionError(
                f"the Dask scheduler {address} or a worker has no module {error.name!r}: install "
                "this version of the package there, and start it again."
            ) from error
        except KilledWorker as error:
            raise FusionError(
                f"a call killed {error.allowed_failures + 1} workers one after the other: it may "
                f"need more memory than they have. {CONTINUE}"
            ) from error


def _version() -> str:
    return __version__


# ---------------------------------------------------------------- cost


class Cost(NamedTuple):
    """What one call took: seconds of wall time, and what `peak_memory` says of that while."""

    seconds: float
    peak: float | None


def measure(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """Run a call and return its result and its cost."""
    try:
        # Linux, proc(5): lets the record of the peak begin anew. A container may forbid it.
        Path("/proc/self/clear_refs").write_text("5")
        known = True
    except OSError:
        known = False
    started = time.perf_counter()
    result = call()
    return result, Cost(time.perf_counter() - started, peak_memory() if known else None)


def peak_memory() -> float | None:
    """Return the most memory that this process held, in GiB, Python and libraries included.

    None where the system does not tell; on Linux, proc(5), it usually does. What
    `resource.getrusage` says would include the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    held = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(held[0]) / 2**20 if held else None
