"""What fusing a pair takes: seconds and memory of every method; what they buy.

Every figure is of a process of its own where the system has such, and says on how many threads and
beside how much other work it was taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import cv2

from fusionlib import costs
from fusionlib.costs import measure
from fusionlib.errors import FusionError
from fusionlib.execution import Execution, check_device, check_execution, run_network
from fusionlib.files import write_text
from fusionlib.folders import has_processes
from fusionlib.methods import find_method

from . import ROOT
from .efficiency import build_untrained, check_times, count_parameters
from .tables import CLOSE, show_lines

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler
    from torch import Tensor

    from fusionlib.methods import Method

__all__ = [
    "SIZES",
    "Latency",
    "latency_table",
    "measure_latency",
    "recorded_latency",
    "recorded_speed",
    "show_times",
    "trade_off",
]


#: Size of pictures -> whose it is.
SIZES: Mapping[str, str] = {"256x256": "medical", "640x480": "MSRS", "1024x768": "M3FD"}
#: A method repeats until it has so many seconds, at least and at most so many times; after a run
#: that takes longer than `ONCE` it is not repeated.
SECONDS, FEWEST, MOST, ONCE = 6.0, 3, 25, 30.0
#: Weights in the benchmarks that no training gave; metrics of such outputs say nothing.
RANDOM, RECIPE = UNTRAINED = ("random", "tests.recipe")


class Latency(NamedTuple):
    """What fusing one pair takes.

    Attributes
    ----------
    seconds : list of float
        Wall time of each run after the first, which warms up; of the first where that took long.
    peak : float or None
        GiB: the most memory that the process held meanwhile, Python and libraries included, None
        where the system does not tell; on a GPU the most that its tensors took.
    weights : str
        What weights it had; "untrained": cost does not depend on them.
    threads : int
        Of PyTorch.
    """

    seconds: list[float]
    peak: float | None
    weights: str
    threads: int


def measure_latency(
    method: str,
    size: str,
    *,
    device: str = "cpu",
    weights_dir: str | os.PathLike[str] | None = None,
    execution: Execution | None = None,
) -> Latency:
    """Measure a method in its default configuration, in a process of its own.

    Parameters
    ----------
    method : str
        Of a network what counts is from input to output, as in Table 11; of a classical method
        everything.
    size : str
        "640x480": width x height of the pair that is fused.
    device : str
        "cpu", or for networks "cuda".
    weights_dir : path, optional
        Where to look for weights first.
    execution : Execution, optional
        How networks are run; default: as `fusionlib.create` does. Its threads are those of
        classical methods, too.

    Raises
    ------
    UnknownName
        If there is no such method.
    FusionError
        If the size is none or too small, the device or the precision cannot be used, or the process
        was killed, as a system does that has not enough memory.
    MemoryError
        If the memory does not suffice, and the system says so.
    """
    import loky
    import torch

    _check(method, size, device)
    check_execution(execution or Execution(), device)

    asked = (method, size, device, weights_dir, execution or Execution())
    if not has_processes():
        threads = torch.get_num_threads()
        try:
            return _measure_here(*asked)
        finally:
            torch.set_num_threads(threads)
    with loky.ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(_measure_here, *asked).result()
        except loky.process_executor.TerminatedWorkerError as error:
            raise FusionError(
                f"the process that ran {method} on {size} was killed; the memory does not suffice."
            ) from error


def _measure_here(
    method: str,
    size: str,
    device: str,
    weights_dir: str | os.PathLike[str] | None,
    execution: Execution,
) -> Latency:
    import torch

    from fusionlib.datasets import load_dataset
    from fusionlib.images import luminance

    pair = load_dataset("sample")["day_street"]
    images = [cv2.resize(image, _sides(size)) for image in (pair.ir, luminance(pair.vis))]
    if execution.threads:
        torch.set_num_threads(execution.threads)
    fuse, weights = _fuser(method, images, device, weights_dir, execution)
    seconds, cost = measure(partial(_repeat, fuse))
    peak = cost.peak if device == "cpu" else torch.cuda.max_memory_allocated(device) / 2**30
    return Latency(seconds, peak, weights, torch.get_num_threads())


def _repeat(call: Callable[[], object]) -> list[float]:
    """Return the seconds of each call after the first; of the first where that took long."""
    first = _seconds(call)
    if first >= ONCE:
        return [first]
    seconds: list[float] = []
    while len(seconds) < FEWEST or (sum(seconds) < SECONDS and len(seconds) < MOST):
        seconds.append(_seconds(call))
    return seconds


def _check(method: str, size: str, device: str) -> None:
    """Make sure that there is something to measure."""
    configuration = find_method(method).default
    _sides(size)
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise FusionError(f"times are measured on 'cpu' and 'cuda', not on {device!r}.")
    if device != "cpu" and not configuration.has_network:
        raise FusionError(f"{method} has no network, so it runs on 'cpu' only, not on {device!r}.")


def _sides(size: str) -> tuple[int, int]:
    """Read "640x480"."""
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise FusionError(f"a size is WIDTHxHEIGHT in pixels, such as 640x480, not {size!r}.")
    return int(width), int(height)


def _fuser(
    method: str,
    gray: list[Any],
    device: str,
    weights_dir: str | os.PathLike[str] | None,
    execution: Execution,
) -> tuple[Callable[[], object], str]:
    """Return what is timed, and the weights' name."""
    import torch

    from fusionlib.errors import WeightsNotFound
    from fusionlib.methods import create

    configuration = find_method(method).default
    # The authors' weights, else this project's own.
    names = [file.name for file in configuration.weights[:1]]
    names += [file.name for file in configuration.weights if file.packaged]
    for name in names or (None,):
        with contextlib.suppress(WeightsNotFound):
            made = create(method, weights=name, weights_dir=weights_dir, device=device)
            break
    else:
        made = None
    if made is not None and made.network is None:
        return partial(_fuse_afresh, made, gray), made.card.weights
    if made is None:
        torch.manual_seed(0)
        network, weights = build_untrained(configuration).to(device), "untrained"
    else:
        network, weights = made.network, made.card.weights
    side = network.min_side
    if min(gray[0].shape) < side:
        raise FusionError(f"{method} needs {side} pixels a side, not {gray[0].shape}.")
    tensors = [torch.from_numpy(configuration.levels.scale(x))[None, None] for x in gray]
    images = [tensor.to(device) for tensor in tensors]

    def fuse() -> Tensor:
        output = run_network(network, images, execution)
        if device != "cpu":
            torch.cuda.synchronize(device)
        return output

    return fuse, weights


def _fuse_afresh(method: Method, gray: Sequence[Any]) -> None:
    """Fuse without what earlier runs learnt from the same pair."""
    with (
        tempfile.TemporaryDirectory() as empty,
        mock.patch.dict(os.environ, XDG_CACHE_HOME=empty),
    ):
        method.fuse(*gray)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


TIME_COLUMNS = [
    *("method", "title", "kind", "weights", "size", "device", "threads"),
    *("median ms", "lower quartile ms", "upper quartile ms", "runs", "peak GiB", "commit", "load"),
]


def latency_table(
    folder: str | os.PathLike[str],
    *,
    methods: Sequence[str] | None = None,
    sizes: Sequence[str] = tuple(SIZES),
    device: str = "cpu",
    weights_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **facts: Any,
) -> pd.DataFrame:
    """Measure what fusing a pair takes, for every method at every size, and save it.

    Parameters
    ----------
    folder : path
        The table is written there row by row. Rows that it holds of the same code, device and
        threads are not measured again; rows of other devices are kept.
    methods : sequence of str, optional
        Default: all; on an accelerator those with a network.
    sizes : sequence of str
    device, weights_dir
        As in `measure_latency`.
    progress : bool
        Whether to show a progress bar.
    **facts
        For `reproduction.results.provenance`.

    Returns
    -------
    DataFrame
        A row per method, size and device: median and quartiles in milliseconds, number of runs,
        peak memory in GiB, threads, the commit, and the average number of busy processes in the
        minute before this call began (`os.getloadavg`). Rows of other devices that the folder holds
        are among them. A method that could not be run has no row.

    Raises
    ------
    UnknownName
        If there is no such method.
    FusionError
        If the device cannot be used, a size is none, or the folder cannot be written.
    """
    import pandas as pd
    import torch
    from tqdm.auto import tqdm

    from fusionlib.methods import registry

    from . import results

    check_device(device)
    folder, specs, code = Path(folder), registry(), _code()
    provenance = results.provenance(device=device, **facts)
    begun = (
        provenance["commit"],
        round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else math.nan,
    )
    runs = folder / "runs.csv"
    known = (
        pd.read_csv(runs) if runs.exists() else pd.DataFrame(columns=["code", "device", "threads"])
    )
    same = (known["code"] == code) & (known["threads"] == torch.get_num_threads())
    known = known[same | (known["device"] != device)]
    rows = known.to_dict("records")
    done = {(row["method"], row["size"]) for row in rows if row["device"] == device}
    able = [name for name, spec in specs.items() if device == "cpu" or spec.default.has_network]
    work = [(name, size) for size in sizes for name in methods or able]
    for name, size in work:  # before anything is measured
        _check(name, size, device)
    for name, size in tqdm(work, desc="measuring", disable=not progress):
        if (name, size) in done:
            continue
        try:
            found = measure_latency(name, size, device=device, weights_dir=weights_dir)
        except (FusionError, MemoryError) as error:
            tqdm.write(f"{name}, {size}: {error}", file=sys.stderr)
            continue
        spec = specs[name]
        about = (name, spec.title, spec.kind, found.weights, size, device, found.threads)
        quartiles = _quartiles([1000 * one for one in found.seconds])
        row = (*about, *quartiles, len(found.seconds), found.peak, *begun)
        rows.append({"code": code, **dict(zip(TIME_COLUMNS, row, strict=True))})
        write_text(runs, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    table = pd.DataFrame(rows, columns=["code", *TIME_COLUMNS]).drop(columns="code")
    table = table[table["size"].isin(sizes)].reset_index(drop=True)
    results.save(folder, summary=table, facts=provenance)
    return table


def _code() -> str:
    """Hash the code that decides a time: the methods', and how it is measured."""
    from .results import score_hash

    measuring = [Path(__file__), Path(costs.__file__)]
    sha = hashlib.sha256(score_hash().encode())
    for path in measuring:
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return median, lower, upper


def recorded_latency() -> pd.DataFrame:
    """Return `latency_table` as the committed run of profile "paper" measured it.

    Raises
    ------
    FusionError
        If it is not there: it is part of the repository, not of the package.
    """
    return _recorded(
        "refinefuse_11_time/summary.csv", "python -m reproduction run --profile paper --only 10"
    )


def recorded_speed(part: str) -> pd.DataFrame:
    """Return a part of the ratio table as the committed run of the benchmarks measured it.

    Parameters
    ----------
    part : {"networks", "metrics", "training", "workers", "memory", "backends"}
        In "networks" what has no trained weights has "untrained" ones.

    Raises
    ------
    FusionError
        If it is not there: it is part of the repository, not of the package.
    """
    command = "benchmarks.backends" if part == "backends" else f"benchmarks --only {part}"
    found = _recorded(f"speed/{part}.csv", f"python -m {command} --save FOLDER")
    return found.replace({"weights": dict.fromkeys(UNTRAINED, "untrained")})


def _recorded(name: str, command: str) -> pd.DataFrame:
    import pandas as pd

    path = ROOT / "results" / "paper" / name
    if not path.exists():
        raise FusionError(
            f"{path} is not there. Work in a clone of the repository, or measure it: {command}."
        )
    return pd.read_csv(path)


# ---------------------------------------------------------------- to read


def show_times(times: pd.DataFrame) -> Styler:
    """Style times: median and quartiles in milliseconds and peak memory, a column per size.

    Raises
    ------
    FusionError
        If they are of several devices.
    """
    check_times(times)
    sizes = list(dict.fromkeys(times["size"]))
    titles = list(dict.fromkeys(times["title"]))
    cells: dict[str, list[str]] = {size: [] for size in sizes}
    found = {(row["title"], row["size"]): row for row in times.to_dict("records")}
    for title in titles:
        for size in sizes:
            row = found.get((title, size))
            cells[size].append("" if row is None else _time_cell(row))
    some = times.iloc[0]
    return show_lines(
        cells,
        titles,
        f"Milliseconds for a pair: median [quartiles], and the process's peak memory; "
        f"{some['device']}, {some['threads']} threads",
    )


def _time_cell(row: dict[Any, Any]) -> str:
    middle, low, high = (
        _milliseconds(row[f"{name} ms"]) for name in ("median", "lower quartile", "upper quartile")
    )
    peak = f"{row['peak GiB']:.2f} GiB" if row["peak GiB"] == row["peak GiB"] else "memory unknown"
    return f"{middle} [{low}, {high}]\n{peak}"


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def trade_off(
    times: pd.DataFrame,
    *,
    table: str = "refinefuse_01",
    metric: str = "VIF",
    size: str = "640x480",
) -> pd.DataFrame:
    """Join what a method costs with what it gives.

    Parameters
    ----------
    times : DataFrame
        From `latency_table` or `recorded_latency`.
    table, metric : str
        A recorded table of fusion results, and the column that stands for quality.
    size : str
        Of the times.

    Returns
    -------
    DataFrame
        "label", "ms", "parameters" (0 of classical methods), "quality", for the methods that have
        both; of several rows of a method the first that is within 2 % of the print, else the
        nearest.

    Raises
    ------
    FusionError
        If the times are of several devices, or not of that size.
    """
    import pandas as pd
    from torch import nn

    from .experiments import recorded

    check_times(times, [size])
    found = recorded(table)
    scores = found.per_pair[found.per_pair["metric"] == metric]
    compared = found.compared[found.compared["metric"] == metric].set_index("row")
    rows = scores.drop_duplicates("row").set_index("row")["method"]
    far = (compared["difference"] / compared["paper"]).abs()
    far = far.where(far > CLOSE, 0)  # of several near ones the first
    labels = far.groupby(rows).idxmin()
    quality = labels.map(compared["mean"])
    chosen = times[times["size"] == size].set_index("method")
    known = [name for name in chosen.index if name in quality.index]

    def parameters(method: str) -> int:
        network = build_untrained(find_method(method).default)
        return count_parameters(network) if isinstance(network, nn.Module) else 0

    return pd.DataFrame(
        {
            "label": labels[known],
            "ms": chosen.loc[known, "median ms"],
            "parameters": [parameters(name) for name in known],
            "quality": quality[known],
        }
    ).reset_index(drop=True)
