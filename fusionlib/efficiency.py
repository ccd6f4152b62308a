"""What a method costs: parameters, multiply-accumulates, seconds, memory; RefineFuse's Table 11.

How a cost is counted is part of it: each figure here says by which convention, on how many threads
and beside how much other work.
"""

from __future__ import annotations

import contextlib
import copy
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

from torch import Tensor, nn

from .costs import peak_memory
from .errors import FusionError, unknown
from .execution import Execution, check_device, run_network
from .files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

    from .card import Configuration
    from .methods import Method

ROOT = Path(__file__).resolve().parent.parent

__all__ = [
    "SIZES",
    "TABLE_11",
    "Counting",
    "Latency",
    "count_macs",
    "count_parameters",
    "latency_table",
    "measure_latency",
    "rank_table",
    "recorded_latency",
    "recorded_speed",
    "save_table_11",
    "show_sizes",
    "show_times",
    "size_table",
    "table_11",
    "trade_off",
]


def count_macs(network: nn.Module, height: int, width: int, *, convention: str = "products") -> int:
    """Count the multiply-accumulates that one pair takes.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(ir, vis)`` on (1, 1, height, width), on the CPU. Whatever runs
        counts as often as it runs: an encoder shared by both images twice.
    height, width : int
    convention : {"products", "thop"}
        "products": every multiply-accumulate of a convolution, linear layer or matrix product,
        by `torch.utils.flop_counter`. "thop": as that library counts the authors' modules, and
        as many papers state: no matrix products outside of layers, so no attention; a transposed
        convolution as if each output pixel met the whole kernel; 4 per value of a layer
        normalisation, 3 less 1 per row of a softmax module. TensorFlow's profiler counts two
        operations per product, biases and activations besides: "floating-point operations", twice
        the multiply-accumulates. `TABLE_11` says which row of RefineFuse's table used which.

    Returns
    -------
    int

    Raises
    ------
    UnknownName
        If there is no such convention.
    """

    if convention not in CONVENTIONS:
        raise unknown("convention of multiply-accumulates", convention, CONVENTIONS)
    return _count(CONVENTIONS[convention], network, height, width)


def _count(
    count: Callable[[nn.Module, tuple[Tensor, Tensor]], int],
    network: nn.Module,
    height: int,
    width: int,
) -> int:
    """Count something while a copy of the network fuses a pair."""
    import torch

    image = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:  # shapes alone, no arithmetic
            abstract = image.to("meta")
            return count(copy.deepcopy(network).to("meta").eval(), (abstract, abstract))
        except (NotImplementedError, RuntimeError):  # AEFusion looks at values
            return count(copy.deepcopy(network).eval(), (image, image.flip(-1)))


def _count_products(network: nn.Module, images: tuple[Tensor, Tensor]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(*images)
    return counter.get_total_flops() // 2


def _count_as_thop(network: nn.Module, images: tuple[Tensor, Tensor]) -> int:
    total = 0

    def add(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        total += _thop_operations(module, output)

    handles = [m.register_forward_hook(add) for m in network.modules() if not [*m.children()]]
    try:
        network(*images)
    finally:
        for handle in handles:
            handle.remove()
    return total


def _thop_operations(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return output.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    # Subclasses are the authors' own classes, which the library does not know.
    if type(module) is nn.LayerNorm:
        return 4 * output.numel()
    if type(module) is nn.Softmax and module.dim is not None:
        row = output.shape[module.dim]
        return output.numel() // row * (3 * row - 1)
    return 0


CONVENTIONS = {"products": _count_products, "thop": _count_as_thop}


def count_parameters(network: nn.Module, convention: str = "all") -> int:
    """Count the learnt numbers of a network.

    Parameters
    ----------
    network : nn.Module
    convention : {"all", "layers", "calls"}
        "all": each once. "layers": without those that a module with parts holds by itself, such as
        the position biases of SwinFusion; what the library thop sums up. "calls": those of a
        layer as often as it runs on a pair, so an encoder shared by both images twice.

    Raises
    ------
    UnknownName
        If there is no such convention.
    """
    if convention == "all":
        return sum(p.numel() for p in network.parameters())
    leaves = [module for module in network.modules() if not [*module.children()]]
    if convention == "layers":
        return sum(p.numel() for module in leaves for p in module.parameters())
    if convention != "calls":
        raise unknown("convention of parameters", convention, ("all", "layers", "calls"))
    calls: list[int] = []

    def add(module: nn.Module, *_: Any) -> None:
        calls.append(sum(p.numel() for p in module.parameters(recurse=False)))

    def count(network: nn.Module, images: tuple[Tensor, Tensor]) -> int:
        calls.clear()  # of an attempt without values
        for module in network.modules():
            module.register_forward_hook(add)
        network(*images)
        return sum(calls)

    return _count(count, network, 256, 256)


# ---------------------------------------------------------------- Table 11: size


def _default(method: str) -> Callable[[], nn.Module]:
    return lambda: _build(_configuration(method))


def _configuration(method: str) -> Configuration:
    from .methods import registry

    if method not in registry():
        raise unknown("method", method, registry())
    return next(iter(registry()[method].configurations.values()))


def _build(configuration: Configuration) -> Any:
    """Build a network or an algorithm without trained weights, with its first rule if any."""
    from .rules import get_rule

    rules = [get_rule(rule) for rule in configuration.rules[:1]]
    return configuration.build(*rules)


class _Otherwise(nn.Module):
    """A network that is run in another way than its `forward`."""

    def __init__(self, network: nn.Module, way: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network = network
        self.way = way

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.way(self.network, ir, vis)


def _rgb_densefuse() -> nn.Module:
    from .networks.densefuse import DenseFuse

    def fuse(network: DenseFuse, *images: Tensor) -> Tensor:
        return network(*(image.expand(-1, 3, -1, -1) for image in images))

    return _Otherwise(DenseFuse("pytorch", channels=3), fuse)


def _sdnet_with_decomposition() -> nn.Module:
    from .networks.sdnet import SDNet

    return _Otherwise(SDNet(), lambda network, ir, vis: network.decompose(network(ir, vis)))


def _swinfusion_without_padding() -> nn.Module:
    from .networks.swinfusion import SwinFusion

    return _Otherwise(SwinFusion(), lambda network, ir, vis: network.core(ir, vis))


class Counting(NamedTuple):
    """How a row of Table 11 was counted, so that its figures come out.

    Attributes
    ----------
    method : str
    build : callable
        Makes the network that was counted.
    convention : {"products", "thop"}
        Of `count_macs`.
    times : int
        What a multiply-accumulate counts: 2 with TensorFlow's profiler.
    parameters : {"all", "layers", "calls"}
        Of `count_parameters`.
    how : str
        In words, what departs from the default network and from multiply-accumulates.
    """

    method: str
    build: Callable[[], nn.Module]
    convention: str = "thop"
    times: int = 1
    parameters: str = "all"
    how: str = "multiply-accumulates of the layers"


#: Row of RefineFuse's Table 11 -> how it was counted; found by trying which fits.
TABLE_11: Mapping[str, Counting] = {
    "DenseFuse": Counting(
        "densefuse",
        _rgb_densefuse,
        how="multiply-accumulates of the variant for RGB images, three channels in and out",
    ),
    "U2Fusion": Counting(
        "u2fusion",
        _default("u2fusion"),
        "products",
        2,
        how="TensorFlow's profiler: two operations per multiply-accumulate",
    ),
    "RFN-Nest": Counting("rfn_nest", _default("rfn_nest")),
    "SDNet": Counting(
        "sdnet",
        _sdnet_with_decomposition,
        "products",
        2,
        how="TensorFlow's profiler: two operations per multiply-accumulate, and the decomposition, "
        "which fusing does not need, counted too",
    ),
    "SeAFusion": Counting("seafusion", _default("seafusion")),
    "SwinFusion": Counting(
        "swinfusion",
        _swinfusion_without_padding,
        parameters="layers",
        how="layers without attention's products, with 4 per value of a normalisation; images not "
        "padded; parameters without the position biases",
    ),
    "LRRNet": Counting("lrrnet", _default("lrrnet")),
    "CDDFuse": Counting(
        "cddfuse",
        _default("cddfuse"),
        parameters="calls",
        how="layers without attention's products; the parameters of the encoder, which both images "
        "share, twice",
    ),
    "EMMA": Counting(
        "emma",
        _default("emma"),
        how="layers without attention's products; transposed convolutions as if each output pixel "
        "met the whole kernel",
    ),
    "RefineFuse": Counting(
        "refinefuse",
        _default("refinefuse"),
        how="layers without attention's products; widths are ours, chosen to come near",
    ),
}


def table_11() -> pd.DataFrame:
    """Return the size columns of RefineFuse's Table 11 beside ours.

    Returns
    -------
    DataFrame
        A row per network of the print. "parameters" and "MACs 256": the network that fuses a pair
        here, everything once; "FLOPs 256": twice that. "counted ...": as the print counted, in its
        units of 10^6 parameters and 10^9 operations; "paper ..."; "difference ... %"; "how".
    """
    import pandas as pd

    printed = _printed_table_11().to_dict()
    rows = []
    for row, one in TABLE_11.items():
        network, counted = _default(one.method)(), one.build()
        macs = count_macs(network, 256, 256)
        values = {"parameters": count_parameters(network), "MACs 256": macs, "FLOPs 256": 2 * macs}
        found = {"params_m": count_parameters(counted, one.parameters) / 1e6}
        for side in (256, 512):
            operations = one.times * count_macs(counted, side, side, convention=one.convention)
            found[f"flops_g_{side}"] = operations / 1e9
        facts: dict[str, Any] = {"row": row, "method": one.method, **values}
        for name, value in found.items():
            paper = printed[name][row]
            # The print has two decimals: what rounds to it is no difference.
            far = 0.0 if abs(value - paper) <= 0.005 else 100 * (value / paper - 1)
            facts |= {f"counted {name}": value, f"paper {name}": paper, f"difference {name} %": far}
        rows.append({**facts, "how": one.how})
    return pd.DataFrame(rows)


def _printed_table_11() -> pd.DataFrame:
    import pandas as pd

    from .datasets import package_data

    frame = pd.read_csv(package_data("paper_tables/refinefuse_table_11_efficiency.csv"))
    frame = frame.set_index("method")
    numbers = frame.columns.difference(["framework"])
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame


def rank_table(sizes: pd.DataFrame, times: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the size and speed ranks of Table 11: printed, and recomputed by one rule.

    The rule: rank each column (ties share the mean of their ranks), average the ranks of a row, and
    rank the averages (ties share the better rank).

    Parameters
    ----------
    sizes : DataFrame
        From `table_11`.
    times : DataFrame, optional
        From `latency_table`; then also by our times at the sizes of MSRS and M3FD.

    Returns
    -------
    DataFrame
        Index: row. "size, printed", "size, from the print's columns", "size, ours" (parameters and
        multiply-accumulates, each once); "speed, printed", "speed, from the print's columns" and
        with `times` "speed, ours". Of the rows of networks.
    """
    import pandas as pd

    printed = _printed_table_11().loc[list(sizes["row"])]
    ours = sizes.set_index("row")
    ranks = {
        "size, printed": printed["size_rank"],
        "size, from the print's columns": _average_rank(printed[["params_m", "flops_g_256"]]),
        "size, ours": _average_rank(ours[["parameters", "MACs 256"]]),
        "speed, printed": printed["speed_rank"],
        "speed, from the print's columns": _average_rank(
            printed[["runtime_ms_msrs_rtx4090", "runtime_ms_m3fd_rtx4090"]]
        ),
    }
    if times is not None:
        wide = times.pivot_table(index="method", columns="size", values="median ms")
        mine = wide.reindex(list(ours["method"]))[["640x480", "1024x768"]].set_axis(ours.index)
        ranks["speed, ours"] = _average_rank(mine.dropna())  # without what could not be run
    return pd.DataFrame(ranks).loc[list(ours.index)].astype("Int64")


def _average_rank(columns: pd.DataFrame) -> pd.Series:
    return columns.rank().mean(axis=1).rank(method="min")


def size_table() -> pd.DataFrame:
    """Return parameters and operations of every method with a network, largest last.

    Returns
    -------
    DataFrame
        "method", "title", "kind", "parameters", "MACs 256" and "FLOPs 256" (for a pair of 256x256,
        by `count_macs`, and twice that), of the default configuration.
    """
    import pandas as pd

    from .classical.algorithm import Algorithm
    from .methods import registry

    rows = []
    for name, spec in registry().items():
        network = _build(_configuration(name))
        if not isinstance(network, Algorithm):
            macs = count_macs(network, 256, 256)
            about = {"method": name, "title": spec.title, "kind": spec.kind}
            counts = {"parameters": count_parameters(network), "MACs 256": macs}
            rows.append({**about, **counts, "FLOPs 256": 2 * macs})
    return pd.DataFrame(rows).sort_values("parameters", ignore_index=True)


# ---------------------------------------------------------------- time and memory

#: Size of pictures -> whose it is.
SIZES: Mapping[str, str] = {"256x256": "medical", "640x480": "MSRS", "1024x768": "M3FD"}
#: A method repeats until it has so many seconds, at least and at most so many times; after a run
#: that takes longer than `ONCE` it is not repeated.
SECONDS, FEWEST, MOST, ONCE = 6.0, 3, 25, 30.0


class Latency(NamedTuple):
    """What fusing one pair takes.

    Attributes
    ----------
    seconds : list of float
        Wall time of each run after the first, which warms up; of the first where that took long.
    peak : float or None
        GiB: the most memory that the process held, Python and libraries included, None where the
        system does not tell; on an accelerator the most that its tensors took.
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
        "640x480": width x height of the rendered pair that is fused.
    device : str
        Of networks.
    weights_dir : path, optional
        Where to look for weights first.
    execution : Execution, optional
        How networks are run; default: as `fusionlib.create` does.

    Raises
    ------
    UnknownName
        If there is no such method.
    FusionError
        If the size is none, or the process was killed, as a system does that has not enough memory.
    """
    import loky

    _configuration(method)
    _sides(size)

    asked = (method, size, device, weights_dir, execution or Execution())
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

    from .images import luminance
    from .scenes import render

    width, height = _sides(size)
    pair = render("day_street", size=(width, height))
    fuse, weights = _fuser(method, [pair.ir, luminance(pair.vis)], device, weights_dir, execution)
    seconds = [_seconds(fuse)]
    if seconds[0] < ONCE:
        seconds = []
        while len(seconds) < FEWEST or (sum(seconds) < SECONDS and len(seconds) < MOST):
            seconds.append(_seconds(fuse))
    on_cpu = device == "cpu"
    peak = peak_memory() if on_cpu else torch.cuda.max_memory_allocated(device) / 2**30
    return Latency(seconds, peak, weights, execution.threads or torch.get_num_threads())


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

    from .errors import WeightsNotFound
    from .methods import create

    configuration = _configuration(method)
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
        network, weights = _build(configuration).to(device), "untrained"
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
    with tempfile.TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty  # of this process, which only measures
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
        The table is written there row by row; rows that it holds of the same code and device are
        not measured again, and rows of other devices are kept.
    methods : sequence of str, optional
        Default: all; on an accelerator those with a network.
    sizes : sequence of str
    device, weights_dir
        As in `measure_latency`.
    progress : bool
        Whether to show a progress bar.
    **facts
        For `fusionlib.results.provenance`.

    Returns
    -------
    DataFrame
        A row per method, size and device: median and quartiles in milliseconds, number of runs,
        peak memory in GiB, threads, the commit, and the average number of busy processes in the
        minute before this call began (`os.getloadavg`). A method that could not be run has no row.

    Raises
    ------
    UnknownName
        If there is no such method.
    FusionError
        If the device cannot be used, a size is none, or the folder cannot be written.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    from . import results
    from .methods import registry

    check_device(device)
    folder, specs, code = Path(folder), registry(), results.score_hash()
    provenance = results.provenance(device=device, **facts)
    begun = (
        provenance["commit"],
        round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else math.nan,
    )
    runs = folder / "runs.csv"
    known = pd.read_csv(runs) if runs.exists() else pd.DataFrame(columns=["code", "device"])
    known = known[(known["code"] == code) | (known["device"] != device)]
    rows = known.to_dict("records")
    done = {(row["method"], row["size"]) for row in rows if row["device"] == device}
    networks = [name for name in specs if device == "cpu" or _has_network(name)]
    work = [(name, size) for size in sizes for name in methods or networks]
    for name, size in work:  # before anything is measured
        _configuration(name)
        _sides(size)
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


def _has_network(method: str) -> bool:
    from .card import LEARNT

    configuration = _configuration(method)
    return bool(configuration.rules) or configuration.own_rule == LEARNT


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
        "refinefuse_11_time/summary.csv", "fusionlib reproduce --profile paper --only 10"
    )


def recorded_speed(part: str) -> pd.DataFrame:
    """Return a part of the ratio table as the committed run of the benchmarks measured it.

    Parameters
    ----------
    part : {"networks", "metrics", "training", "workers", "memory"}

    Raises
    ------
    FusionError
        If it is not there: it is part of the repository, not of the package.
    """
    return _recorded(f"speed/{part}.csv", f"python -m benchmarks --only {part} --save FOLDER")


def _recorded(name: str, command: str) -> pd.DataFrame:
    import pandas as pd

    path = ROOT / "results" / "paper" / name
    if not path.exists():
        raise FusionError(
            f"{path} is not there. Work in a clone of the repository, or measure it: {command}."
        )
    return pd.read_csv(path)


# ---------------------------------------------------------------- tables to read and to keep


def save_table_11(
    folder: str | os.PathLike[str],
    sizes: pd.DataFrame,
    ranks: pd.DataFrame,
    times: pd.DataFrame,
    **facts: Any,
) -> None:
    """Write Table 11, sizes, ranks and times beside the print's, and its provenance.

    Parameters
    ----------
    folder : path
    sizes, ranks, times : DataFrame
        From `table_11`, `rank_table` and `latency_table`.
    **facts
        For `fusionlib.results.provenance`.

    Raises
    ------
    FusionError
        If a file cannot be written.
    """
    from . import results

    printed = _printed_table_11()
    ours = times.pivot_table(index="method", columns="size", values="median ms")
    frame = sizes.join(ranks, on="row")
    frame["device"] = times["device"].iloc[0]
    for size, data in (("640x480", "msrs"), ("1024x768", "m3fd")):
        frame[f"ms {size}"] = frame["method"].map(ours[size])
        frame[f"paper ms {size}, RTX 4090"] = frame["row"].map(
            printed[f"runtime_ms_{data}_rtx4090"]
        )
    results.save(folder, summary=frame, facts=results.provenance(**facts))


def show_sizes(sizes: pd.DataFrame) -> Styler:
    """Style the size columns of Table 11: the print, ours counted so, the difference, and how."""
    cells = {}
    names = {
        "params_m": "parameters, 10⁶",
        "flops_g_256": "operations at 256x256, 10⁹",
        "flops_g_512": "operations at 512x512, 10⁹",
    }
    for name, heading in names.items():
        digits = 3 if name == "params_m" else 2
        cells[heading] = [
            f"{paper:.2f}\n{counted:.{digits}f} {'✓' if far == 0 else f'{far:+.1f} %'}"
            for paper, counted, far in zip(
                sizes[f"paper {name}"],
                sizes[f"counted {name}"],
                sizes[f"difference {name} %"],
                strict=True,
            )
        ]
    cells["parameters that fuse"] = [f"{n:,}" for n in sizes["parameters"]]
    cells["MACs at 256x256, 10⁹"] = [f"{n / 1e9:.2f}" for n in sizes["MACs 256"]]
    cells["FLOPs, 10⁹"] = [f"{n / 1e9:.2f}" for n in sizes["FLOPs 256"]]
    cells["how the print counted"] = [*sizes["how"]]
    return _styled(
        cells, [*sizes["row"]], "The print, below it ours counted so; ✓: rounds to the print"
    )


def show_times(times: pd.DataFrame) -> Styler:
    """Style times: median and quartiles in milliseconds and peak memory, a column per size."""
    sizes = list(dict.fromkeys(times["size"]))
    titles = list(dict.fromkeys(times["title"]))
    cells: dict[str, list[str]] = {size: [] for size in sizes}
    found = {(row["title"], row["size"]): row for row in times.to_dict("records")}
    for title in titles:
        for size in sizes:
            row = found.get((title, size))
            cells[size].append("" if row is None else _time_cell(row))
    some = times.iloc[0]
    return _styled(
        cells,
        titles,
        f"Milliseconds for a pair: median [quartiles], and the process's peak memory; "
        f"{some['device']}, {some['threads']} threads",
    )


def _time_cell(row: dict[Any, Any]) -> str:
    middle, low, high = (
        _milliseconds(row[f"{name} ms"]) for name in ("median", "lower quartile", "upper quartile")
    )
    return f"{middle} [{low}, {high}]\n{row['peak GiB']:.2f} GiB"


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _styled(cells: Mapping[str, Sequence[str]], rows: Sequence[str], caption: str) -> Styler:
    import pandas as pd

    styler = pd.DataFrame(cells, index=pd.Index(list(rows))).style.set_caption(caption)
    lines = {"selector": "td", "props": "white-space: pre-line; text-align: right; max-width: 22em"}
    return styler.set_table_styles([lines]).set_uuid("efficiency")  # type: ignore[list-item]


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
    """
    import pandas as pd

    from .experiments import recorded
    from .tables import CLOSE

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
    parameters = size_table().set_index("method")["parameters"]
    return pd.DataFrame(
        {
            "label": labels[known],
            "ms": chosen.loc[known, "median ms"],
            "parameters": parameters.reindex(known).fillna(0).astype(int),
            "quality": quality[known],
        }
    ).reset_index(drop=True)
