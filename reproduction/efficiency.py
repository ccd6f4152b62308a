"""What a network costs: parameters and multiply-accumulates; RefineFuse's Table 11.

How a cost is counted is part of it: each figure here says by which convention. What is counted is
here; `reproduction.latency` has what a clock says of every method, `fusionlib.costs` what one call
takes, `reproduction.ablations.cost_table` what RefineFuse's variants take.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from fusionlib.errors import FusionError, unknown
from fusionlib.methods import find_method

from .tables import show_lines

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

    from fusionlib.card import Configuration

__all__ = [
    "TABLE_11",
    "Counting",
    "build_untrained",
    "check_times",
    "compare_size",
    "count_macs",
    "count_parameters",
    "rank_table",
    "save_table_11",
    "show_every_size",
    "show_sizes",
    "show_speed",
    "size_table",
    "table_11",
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
        by `torch.utils.flop_counter`; so the bicubic steps of MUFusion, which are products with
        matrices here, count too. "thop": as that library counts the authors' modules, and
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
    return lambda: build_untrained(find_method(method).default)


def build_untrained(configuration: Configuration) -> Any:
    """Build a network, without trained weights, or an algorithm; with its first rule if any."""
    from fusionlib.rules import get_rule

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
    """The authors' variant for RGB images: three channels in and out, 74,771 parameters."""
    from fusionlib.networks.autoencoder import conv
    from fusionlib.networks.densefuse import DenseFuse

    def fuse(network: DenseFuse, *images: Tensor) -> Tensor:
        return network(*(image.expand(-1, 3, -1, -1) for image in images))

    network = DenseFuse("pytorch")
    network.first, network.last = conv(3, 16, 3), conv(16, 3, 3)
    return _Otherwise(network, fuse)


def _sdnet_with_decomposition() -> nn.Module:
    from fusionlib.networks.sdnet import SDNet

    return _Otherwise(SDNet(), lambda network, ir, vis: network.decompose(network(ir, vis)))


def _swinfusion_without_padding() -> nn.Module:
    """On sides that are multiples of 8; the softmax is a module there, which thop counts."""
    from fusionlib.networks.swinfusion import HEADS, SwinFusion, WindowAttention

    def count_softmax(attention: Any, _: Any, windows: Tensor) -> None:
        count, pixels, _ = windows.shape
        attention.softmax(windows.new_empty(count, HEADS, pixels, pixels))

    network = SwinFusion()
    for module in network.modules():
        if isinstance(module, WindowAttention):
            module.softmax = nn.Softmax(dim=-1)
            module.register_forward_hook(count_softmax)
    return _Otherwise(network, lambda network, ir, vis: network.core(ir, vis))


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


#: Column of the print's sizes -> heading.
SIZES: Mapping[str, str] = {
    "params_m": "parameters, 10⁶",
    "flops_g_256": "operations at 256x256, 10⁹",
    "flops_g_512": "operations at 512x512, 10⁹",
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

    rows = []
    for row, one in TABLE_11.items():
        network = _default(one.method)()
        macs = count_macs(network, 256, 256)
        values = {"parameters": count_parameters(network), "MACs 256": macs, "FLOPs 256": 2 * macs}
        facts: dict[str, Any] = {"row": row, "method": one.method, **values}
        for name, (value, paper, far) in _counted(row).items():
            facts |= {f"counted {name}": value, f"paper {name}": paper, f"difference {name} %": far}
        rows.append({**facts, "how": one.how})
    return pd.DataFrame(rows)


def compare_size(row: str) -> pd.DataFrame:
    """Return the size of one row of Table 11: the print, ours counted so, and the difference.

    Parameters
    ----------
    row : str
        A key of `TABLE_11`.

    Raises
    ------
    UnknownName
        If there is no such row.
    """
    import pandas as pd

    if row not in TABLE_11:
        raise unknown("row of Table 11", row, TABLE_11)
    ours, printed, far = zip(*_counted(row).values(), strict=True)
    columns = {"paper": printed, "ours": ours, "difference, %": far}
    return pd.DataFrame(columns, index=pd.Index(SIZES.values()))


def _counted(row: str) -> dict[str, tuple[float, float, float]]:
    """Of each size of a row of Table 11: ours as the print counted, the print, difference in %."""
    one, printed = TABLE_11[row], _printed_table_11().to_dict()
    counted = one.build()
    found = {"params_m": count_parameters(counted, one.parameters) / 1e6}
    for side in (256, 512):
        operations = one.times * count_macs(counted, side, side, convention=one.convention)
        found[f"flops_g_{side}"] = operations / 1e9
    # The print has two decimals: what rounds to it is no difference.
    return {
        name: (value, paper, 0.0 if abs(value - paper) <= 0.005 else 100 * (value / paper - 1))
        for name, value in found.items()
        for paper in (printed[name][row],)
    }


def _printed_table_11() -> pd.DataFrame:
    import pandas as pd

    from fusionlib.datasets import package_data

    frame = pd.read_csv(package_data("paper_tables/refinefuse_table_11_efficiency.csv"))
    frame = frame.set_index("method")
    numbers = frame.columns.difference(["framework"])
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame


#: Size of pictures whose times Table 11 prints -> how its column names them.
TIMED: Mapping[str, str] = {"640x480": "msrs", "1024x768": "m3fd"}


def rank_table(sizes: pd.DataFrame, times: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the size and speed ranks of Table 11: printed, and recomputed by one rule.

    The rule: rank each column (ties share the mean of their ranks), average the ranks of a row, and
    rank the averages (ties share the better rank).

    Parameters
    ----------
    sizes : DataFrame
        From `table_11`.
    times : DataFrame, optional
        From `reproduction.latency.latency_table`; then also by our times at the sizes of MSRS and
        M3FD.

    Returns
    -------
    DataFrame
        Index: row. "size, printed", "size, from the print's columns", "size, ours" (parameters and
        multiply-accumulates, each once); "speed, printed", "speed, from the print's columns" and
        with `times` "speed, ours". Of the rows of networks.

    Raises
    ------
    FusionError
        If the times are of several devices or lack a size.
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
            printed[[f"runtime_ms_{data}_rtx4090" for data in TIMED.values()]]
        ),
    }
    if times is not None:
        check_times(times, TIMED)
        wide = times.pivot(index="method", columns="size", values="median ms")
        mine = wide.reindex(list(ours["method"]))[list(TIMED)].set_axis(ours.index)
        ranks["speed, ours"] = _average_rank(mine.dropna())  # without what could not be run
    return pd.DataFrame(ranks).loc[list(ours.index)].astype("Int64")


def check_times(times: pd.DataFrame, sizes: Collection[str] = ()) -> None:
    """Make sure that times can stand in one table.

    Parameters
    ----------
    times : DataFrame
        From `reproduction.latency.latency_table`.
    sizes : collection of str
        Sizes that it must have.

    Raises
    ------
    FusionError
        If they are of several devices, or lack a size.
    """
    devices = sorted({*times["device"]})
    if len(devices) != 1:
        raise FusionError(
            f"the times are of {' and '.join(devices) or 'no device'}; choose one: "
            'times[times["device"] == "cpu"].'
        )
    if missing := [size for size in sizes if size not in {*times["size"]}]:
        raise FusionError(f"the times lack {', '.join(missing)}; measure these sizes, too.")


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

    from fusionlib.classical.algorithm import Algorithm
    from fusionlib.methods import registry

    rows = []
    for name, spec in registry().items():
        network = build_untrained(spec.default)
        if not isinstance(network, Algorithm):
            macs = count_macs(network, 256, 256)
            about = {"method": name, "title": spec.title, "kind": spec.kind}
            counts = {"parameters": count_parameters(network), "MACs 256": macs}
            rows.append({**about, **counts, "FLOPs 256": 2 * macs})
    return pd.DataFrame(rows).sort_values("parameters", ignore_index=True)


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
        From `table_11`, `rank_table` and `reproduction.latency.latency_table`, of one device.
    **facts
        For `reproduction.results.provenance`.

    Raises
    ------
    FusionError
        If the times are of several devices or lack a size, or a file cannot be written.
    """
    from . import results

    check_times(times, TIMED)
    printed = _printed_table_11()
    ours = times.pivot(index="method", columns="size", values="median ms")
    frame = sizes.join(ranks, on="row")
    frame["device"] = times["device"].iloc[0]
    for size, data in TIMED.items():
        frame[f"ms {size}"] = frame["method"].map(ours[size])
        frame[f"paper ms {size}, RTX 4090"] = frame["row"].map(
            printed[f"runtime_ms_{data}_rtx4090"]
        )
    results.save(folder, summary=frame, facts=results.provenance(**facts))


def show_sizes(sizes: pd.DataFrame) -> Styler:
    """Style the size columns of Table 11: the print, ours counted so, the difference, and how."""
    cells = {}
    for name, heading in SIZES.items():
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
    return show_lines(
        cells, [*sizes["row"]], "The print, below it ours counted so; ✓: rounds to the print"
    )


def show_every_size(sizes: pd.DataFrame) -> Styler:
    """Style `size_table`."""
    numbers = sizes.select_dtypes("number").columns
    return sizes.style.format("{:,}", subset=numbers).hide(axis="index").set_uuid("sizes")


#: Columns of the recorded speeds, by how their names end -> format. The first that fits counts.
_SPEEDS = {
    "difference": "{:.0e}",
    "first 10 %": "{:.0e}",
    "last loss": "{:.1e}",
    "seconds": "{:.0f}",
    "largest %": "{:.0f}",
    "mean %": "{:.0f}",
    " s": "{:#.3g}",
}


def show_speed(part: str, speed: pd.DataFrame) -> Styler:
    """Style a part of the recorded speeds.

    Parameters
    ----------
    part : str
        Its name in `reproduction.latency.recorded_speed`; tells the tables of a page apart.
    speed : DataFrame
        Its first column names what was measured; the commit and remarks are left out.
    """
    shown = speed.drop(columns=["commit", "remark"], errors="ignore")
    first = shown.columns[0]
    shown = shown.set_index(first).rename_axis(None).rename_axis(first, axis=1)
    styler = shown.style.format(na_rep="")
    for name in shown.select_dtypes("number"):
        fits = (one for end, one in _SPEEDS.items() if str(name).endswith(end))
        styler.format(next(fits, "{:.2f}"), subset=[name], na_rep="")
    right = {"selector": "th, td", "props": "text-align: right; padding: 0.2em 0.5em"}
    return styler.set_table_styles([right]).set_uuid(part)  # type: ignore[list-item]
