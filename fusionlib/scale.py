"""Spreading calls over the workers of a Dask scheduler, on one machine or many.

Dask runs again what a worker had when it was lost; every result is taken once, in the order of the
calls. Workers and scheduler must have this package, of the same code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import FusionError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["connect", "share", "spread"]

T = TypeVar("T")

#: Seconds without a scheduler, or without any worker, after which it is said.
PATIENCE = 60.0
#: Seconds between two looks at whether they are still there.
LOOK = 1.0
#: Calls per thread of the workers that are under way: enough to keep them busy, few enough that
#: what waits fits into memory.
AHEAD = 4


def connect(address: str, timeout: float = 10.0) -> Client:
    """Connect to a scheduler.

    Parameters
    ----------
    address : str
        As ``dask scheduler`` prints it: tcp://host:8786.
    timeout : float
        Seconds.

    Raises
    ------
    FusionError
        If Dask is not installed, or no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise FusionError(
            "Dask is not installed, which runs work on several processes or machines; "
            "pip install 'irvis-fusionlib[scale]'."
        ) from error
    try:
        return Client(address, timeout=timeout)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise FusionError(
            f"no Dask scheduler answers at {address}. Start one with 'dask scheduler', give the "
            "address that it prints, and start workers with 'dask worker ADDRESS --nthreads 1'."
        ) from error


def share(client: Client, value: T) -> Future[T]:
    """Send a value once, for calls to take; a worker that is lost costs another sending at most."""
    # A call, not `Client.scatter`: the scheduler can make its result again.
    with _told(client):
        return _submit(client, _same, value)


def _submit(client: Client, function: Callable[..., T], *arguments: Any) -> Future[T]:
    import dask

    # Pictures are sent on purpose, each once: no advice about the size of graphs.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
        return client.submit(function, *arguments, pure=False)


def _same(value: T) -> T:
    return value


def spread(
    client: Client, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]
) -> Iterator[T]:
    """Call a function with each tuple of arguments on the workers; give the results in order.

    Parameters
    ----------
    client : distributed.Client
    function : callable
        Of a module that the workers have.
    calls : iterable of tuple
        Arguments, what `share` gave among them; read as they are needed.

    Raises
    ------
    FusionError
        If there are no workers, for a minute; the scheduler goes away; a call kills four workers;
        the workers lack this package or have other code of it.
    Exception
        Whatever the function raises.
    """
    check = _Workers(client)
    waiting: deque[Future[T]] = deque()
    calls = iter(calls)
    code = code_hash()
    try:
        while True:
            # Fewer than wait already, where workers have gone.
            more = max(0, AHEAD * check.threads() - len(waiting))
            for arguments in itertools.islice(calls, more):
                with _told(client):
                    call = _submit(client, _call, code, function, *arguments)
                waiting.append(call)
            if not waiting:
                return
            yield _result(client, waiting[0])
            waiting.popleft()
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.cancel(list(waiting), force=True)


def _call(code: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run on a worker."""
    if code_hash() != code:
        raise FusionError(
            "a worker has other code of fusionlib than this process, so its numbers could differ. "
            "Install the same commit on all machines and start the workers again."
        )
    return function(*arguments)


@functools.cache
def code_hash() -> str:
    """Hash the source of this package: a worker's must be the same."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


class _Workers:
    """How many threads the workers have; more may join, and some go, at any time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        with _told(client):
            with contextlib.suppress(TimeoutError):
                client.wait_for_workers(1, timeout=PATIENCE)
            if client.status != "running":
                raise _gone(client)
            if not _threads(client):
                raise FusionError(f"{_name(client)} has no workers; start some: {_start(client)}.")
            self._warn_of_too_many()
        self.number, self.looked = 1, -math.inf

    def threads(self) -> int:
        """Return their number, at least 1, as it was a second ago or less."""
        if time.monotonic() - self.looked > LOOK:
            # Whatever is amiss shows at the next result.
            self.number = max(1, sum(_threads(self.client).values()))
            self.looked = time.monotonic()
        return self.number

    def _warn_of_too_many(self) -> None:
        asked: Counter[str] = Counter()
        cores: dict[str, int] = {}
        there = self.client.run(_cores, on_error="ignore")
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        for name in there.keys() & workers.keys():
            host = workers[name]["host"]
            asked[host] += workers[name]["nthreads"]
            cores[host] = there[name]
        for host, count in asked.items():
            if count > cores[host]:
                warnings.warn(
                    f"{count} threads of workers for {cores[host]} cores on {host}: they wait for "
                    "each other; start fewer.",
                    stacklevel=5,
                )


def _cores() -> int:
    import loky

    return loky.cpu_count()  # knows the limits of a container


def _threads(client: Client) -> Mapping[str, int]:
    """Return the threads of each worker; of none where the scheduler does not answer."""
    with contextlib.suppress(OSError, AttributeError):  # a closed client has no scheduler
        return client.nthreads()
    return {}


def _name(client: Client) -> str:
    return f"the Dask scheduler {getattr(client.scheduler, 'address', '')}".strip()


def _start(client: Client) -> str:
    return f"'dask worker {getattr(client.scheduler, 'address', 'ADDRESS')} --nthreads 1'"


def _result(client: Client, future: Future[T]) -> T:
    """Wait for a result, and look meanwhile whether anybody works on it."""
    done, seen = threading.Event(), time.monotonic()
    future.add_done_callback(lambda _: done.set())
    while not done.wait(LOOK):
        state = _state(client)
        if state == "running":
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE:
            raise FusionError(f"{_name(client)} has {state} for {PATIENCE:.0f} s. {RESUME}")
    with _told(client):
        return future.result()


def _gone(client: Client) -> FusionError:
    return FusionError(f"{_name(client)} went away. {RESUME}")


RESUME = "What is finished is kept; the same command continues it where it writes a CSV file."


@contextlib.contextmanager
def _told(client: Client) -> Iterator[None]:
    """Turn what Dask raises of schedulers and workers into errors that say what to do."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise FusionError(
            f"a call killed {error.allowed_failures + 1} workers one after the other: it may need "
            f"more memory than they have. {RESUME}"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise _gone(client) from error
    except ModuleNotFoundError as error:
        raise FusionError(
            f"a worker has no module {error.name!r}: install this package there, of the same "
            "commit, and start it again."
        ) from error
    except RuntimeError as error:
        if "deserialization" in str(error):
            raise FusionError(
                f"{_name(client)} cannot read what it is sent ({error}): install this package "
                "there too, of the same commit, and start it again."
            ) from error
        if client.status == "running":
            raise
        raise _gone(client) from error


def _state(client: Client) -> str:
    """Say what is amiss: "running" where nothing is."""
    if client.status != "running":
        return "no connection"
    return "running" if _threads(client) else "no workers"
