"""What fusing a pair takes: seconds and memory of every method, their ranks, what they buy.

Every figure is of a process of its own where the system has such, and says on how many threads and
beside how much other work it was taken.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fusionlib.datasets import load_dataset
from fusionlib.errors import FusionError, WeightsNotFound
from fusionlib.executors import has_processes, measure
from fusionlib.files import write_text
from fusionlib.images import luminance
from fusionlib.methods import create, find_method, registry
from fusionlib.tiles import check_device, run_network

from . import results
from .cost import build_untrained, printed_costs
from .show import show_lines

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    *("SIZES", "latency_table", "measure_latency", "rank_table", "recorded_speed", "show_speed"),
    "show_times",
]

#: Size of pictures -> whose it is.
SIZES: Mapping[str, str] = {"256x256": "medical", "640x480": "MSRS", "1024x768": "M3FD"}
#: A method repeats until it has so many seconds, at least and at most so many times; after a run
#: that takes longer than `ONCE` it is not repeated.
SECONDS, FEWEST, MOST, ONCE = 6.0, 3, 25, 30.0
#: Weights in the benchmarks that no training gave; metrics of such outputs say nothing.
RANDOM, RECIPE = UNTRAINED = ("random", "tests.recipe")


def measure_latency(
    method: str,
    size: str,
    *,
    device: str = "cpu",
    weights_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measure a method in its default configuration, in a process of its own.

    Of a network what counts is from input to output, as in Table 11; of a classical method
    everything. The size is WIDTHxHEIGHT, such as "640x480"; the device "cpu", or "cuda".

    Returns
    -------
    dict
        "weights", "untrained" where there are none: cost does not depend on them; "threads" of
        PyTorch; "median ms", "lower quartile ms", "upper quartile ms" of the "runs" after the
        first, which warms up; "peak GiB": the most memory that the process held meanwhile, Python
        and libraries included, None where the system does not tell; on a GPU the most that its
        tensors took.

    Raises
    ------
    FusionError
        If there is no such method or size, the size is too small, the device cannot be used, or the
        process was killed, as a system does that has not enough memory.
    """
    import loky

    _check(method, size, device)
    if not has_processes():
        return _measure_here(method, size, device, weights_dir)
    with loky.ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(_measure_here, method, size, device, weights_dir).result()
        except loky.process_executor.TerminatedWorkerError as error:
            raise FusionError(
                f"the process that ran {method} on {size} was killed; the memory does not suffice."
            ) from error


def _check(method: str, size: str, device: str) -> tuple[int, int]:
    """Make sure that there is something to measure; return the width and the height."""
    configuration = find_method(method).default
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise FusionError(f"a size is WIDTHxHEIGHT in pixels, such as 640x480, not {size!r}.")
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise FusionError(f"times are measured on 'cpu' and 'cuda', not on {device!r}.")
    if device != "cpu" and not configuration.has_network:
        raise FusionError(f"{method} has no network, so it runs on 'cpu' only, not on {device!r}.")
    return int(width), int(height)


def _measure_here(
    method: str, size: str, device: str, weights_dir: str | os.PathLike[str] | None
) -> dict[str, Any]:
    pair = load_dataset("sample")["day_street"]
    sides = _check(method, size, device)
    images = [cv2.resize(image, sides) for image in (pair.ir, luminance(pair.vis))]
    fuse, weights = _fuser(method, images, device, weights_dir)
    seconds, cost = measure(partial(_repeat, fuse))
    lower, median, upper = 1000 * np.percentile(seconds, [25, 50, 75])
    on_gpu = device != "cpu"
    return {
        "weights": weights,
        "threads": torch.get_num_threads(),
        "median ms": median,
        "lower quartile ms": lower,
        "upper quartile ms": upper,
        "runs": len(seconds),
        "peak GiB": torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else cost.peak,
    }


def _repeat(call: Callable[[], object]) -> list[float]:
    """Return the seconds of each call after the first; of the first where that took long."""
    seconds: list[float] = []
    while len(seconds) <= FEWEST or (sum(seconds[1:]) < SECONDS and len(seconds) <= MOST):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
        if seconds[0] >= ONCE:
            return seconds
    return seconds[1:]


def _fuser(
    method: str, gray: list[Any], device: str, weights_dir: str | os.PathLike[str] | None
) -> tuple[Callable[[], object], str]:
    """Return what is timed, and the weights' name."""
    configuration = find_method(method).default
    weights = "untrained"
    try:
        made = create(method, retrained=True, weights_dir=weights_dir, device=device)
        network, weights = made.network, made.card.weights
    except WeightsNotFound:
        torch.manual_seed(0)
        network = build_untrained(configuration).to(device)
    if network is None:

        def fuse_afresh() -> None:
            """Fuse without what earlier runs learnt from the same pair."""
            with (
                tempfile.TemporaryDirectory() as empty,
                mock.patch.dict(os.environ, XDG_CACHE_HOME=empty),
            ):
                made.fuse(*gray)

        return fuse_afresh, weights
    side = network.min_side
    if min(gray[0].shape) < side:
        raise FusionError(f"{method} needs {side} pixels a side, not {gray[0].shape}.")
    images = [torch.from_numpy(configuration.levels.scale(x))[None, None].to(device) for x in gray]

    def fuse() -> None:
        run_network(network, images)
        if device != "cpu":
            torch.cuda.synchronize(device)

    return fuse, weights


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

    The table is written into the folder row by row. Rows that it holds of the same commit, device
    and threads are not measured again; rows of other devices are kept. The methods are by default
    all, on an accelerator those with a network. Further facts are for the provenance.

    Returns
    -------
    DataFrame
        A row per method, size and device: as of `measure_latency`, with the commit, and as "load"
        the average number of busy processes in the minute before this call began
        (`os.getloadavg`). A method that could not be run has no row.
    """
    check_device(device)
    able = [n for n, spec in registry().items() if device == "cpu" or spec.default.has_network]
    work = [(name, size) for size in sizes for name in methods or able]
    for name, size in work:
        _check(name, size, device)
    folder, provenance = Path(folder), results.provenance(device=device, **facts)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else math.nan
    begun = {"commit": provenance["commit"], "load": load}
    runs = folder / "runs.csv"
    table = pd.read_csv(runs) if runs.exists() else pd.DataFrame(columns=TIME_COLUMNS)
    same = (table["commit"] == begun["commit"]) & (table["threads"] == torch.get_num_threads())
    rows = table[same | (table["device"] != device)][TIME_COLUMNS].to_dict("records")
    done = {(row["method"], row["size"]) for row in rows if row["device"] == device}
    for name, size in tqdm(work, desc="measuring", disable=not progress):
        if (name, size) in done:
            continue
        try:
            found = measure_latency(name, size, device=device, weights_dir=weights_dir)
        except (FusionError, MemoryError) as error:
            tqdm.write(f"{name}, {size}: {error}", file=sys.stderr)
            continue
        spec = find_method(name)
        which = {"method": name, "title": spec.title, "kind": spec.kind, "size": size}
        rows.append({**which, "device": device, **found, **begun})
        table = pd.DataFrame(rows, columns=TIME_COLUMNS)
        write_text(runs, table.to_csv(index=False, float_format="%.6g"))
    table = pd.DataFrame(rows, columns=TIME_COLUMNS)
    table = table[table["size"].isin(sizes)].reset_index(drop=True)
    results.save(folder, summary=table, facts=provenance)
    return table


# ---------------------------------------------------------------- tables to read


def _check_times(times: pd.DataFrame, sizes: Collection[str] = ()) -> None:
    """Make sure that times are of one device, and of these sizes among others."""
    devices = sorted({*times["device"]})
    if len(devices) != 1:
        raise FusionError(
            f"the times are of {' and '.join(devices) or 'no device'}; choose one: "
            'times[times["device"] == "cpu"].'
        )
    if missing := [size for size in sizes if size not in {*times["size"]}]:
        raise FusionError(f"the times lack {', '.join(missing)}; measure these sizes, too.")


def show_times(times: pd.DataFrame) -> Styler:
    """Style times of one device: median and quartiles, peak memory, a column per size."""
    _check_times(times)
    found = {(row["title"], row["size"]): _time_cell(row) for row in times.to_dict("records")}
    titles = list(dict.fromkeys(times["title"]))
    some = times.iloc[0]
    return show_lines(
        {s: [found.get((title, s), "") for title in titles] for s in dict.fromkeys(times["size"])},
        titles,
        f"Milliseconds for a pair: median [quartiles], and the process's peak memory; "
        f"{some['device']}, {some['threads']} threads",
    )


def _time_cell(row: dict[Any, Any]) -> str:
    middle, low, high = (
        _three_digits(row[f"{name} ms"]) for name in ("median", "lower quartile", "upper quartile")
    )
    peak = f"{row['peak GiB']:.2f} GiB" if row["peak GiB"] == row["peak GiB"] else "memory unknown"
    return f"{middle} [{low}, {high}]\n{peak}"


#: Size of pictures whose times Table 11 prints -> how its column names them.
TIMED: Mapping[str, str] = {"640x480": "msrs", "1024x768": "m3fd"}


def rank_table(sizes: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Put ranks and times beside the sizes of Table 11, those printed and ours.

    Ranks are recomputed by one rule: rank each column (ties share the mean of their ranks), average
    the ranks of a row, and rank the averages (ties share the better rank).

    The sizes are from `reproduction.cost.table_11`, the times of one device, at the sizes of MSRS
    and M3FD. Added are "size, printed", "size, from the print's columns", "size, ours" (parameters
    and multiply-accumulates, each once), the same of speed, "device", "ms ..." and "paper ms ...".
    """
    _check_times(times, TIMED)
    printed = printed_costs().loc[list(sizes["row"])].reset_index(drop=True)
    wide = times.pivot(index="method", columns="size", values="median ms")
    ours = wide.reindex(list(sizes["method"]))[list(TIMED)].reset_index(drop=True)
    theirs = printed[[f"runtime_ms_{data}_rtx4090" for data in TIMED.values()]]
    ranks = {
        "size, printed": printed["size_rank"],
        "size, from the print's columns": _average_rank(printed[["params_m", "flops_g_256"]]),
        "size, ours": _average_rank(sizes[["parameters", "MACs 256"]]),
        "speed, printed": printed["speed_rank"],
        "speed, from the print's columns": _average_rank(theirs),
        "speed, ours": _average_rank(ours.dropna()),  # without what could not be run
    }
    frame = pd.concat([sizes, pd.DataFrame(ranks).astype("Int64")], axis=1)
    frame["device"] = times["device"].iloc[0]
    for size, column in zip(TIMED, theirs, strict=True):
        frame[f"ms {size}"] = ours[size]
        frame[f"paper ms {size}, RTX 4090"] = theirs[column]
    return frame


def _average_rank(columns: pd.DataFrame) -> pd.Series:
    return columns.rank().mean(axis=1).rank(method="min")


# ---------------------------------------------------------------- the benchmarks' speeds


def recorded_speed(part: str) -> pd.DataFrame:
    """Return a part of the ratio table as the committed run of the benchmarks measured it.

    The parts are networks (what has no trained weights has "untrained" ones), metrics, training,
    workers, memory and backends.
    """
    (speed,), _ = results.read_recorded("speed", part)
    assert speed is not None
    return speed.replace({"weights": dict.fromkeys(UNTRAINED, "untrained")})


def show_speed(part: str, speed: pd.DataFrame) -> Styler:
    """Style recorded speeds, without commit and remarks; the part's name tells tables apart."""
    shown = speed.drop(columns=["commit", "remark"], errors="ignore")
    first = shown.columns[0]
    shown = shown.set_index(first).rename_axis(None).rename_axis(first, axis=1)
    styler = shown.style.format(na_rep="")
    styler.format(_three_digits, subset=shown.select_dtypes("number").columns, na_rep="")
    right = {"selector": "th, td", "props": "text-align: right; padding: 0.2em 0.5em"}
    return styler.set_table_styles([right]).set_uuid(part)  # type: ignore[list-item]


def _three_digits(value: Any) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
