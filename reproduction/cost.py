"""What a network costs, counted: parameters and multiply-accumulates; RefineFuse's Table 11.

How a cost is counted is part of it: each figure here says by which convention. What a clock says is
in `reproduction.latency`.
"""

from __future__ import annotations

import copy
import math
import os
import statistics
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pandas.io.formats.style import Styler
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

from fusionlib.card import Configuration
from fusionlib.datasets import package_data
from fusionlib.errors import unknown
from fusionlib.executors import measure
from fusionlib.methods import find_method, registry
from fusionlib.networks.autoencoder import conv
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.refinefuse import VARIANTS, RefineFuse
from fusionlib.networks.sdnet import SDNet
from fusionlib.networks.swinfusion import HEADS, SwinFusion, WindowAttention
from fusionlib.rules import get_rule
from fusionlib.tiles import check_device, run_network

from . import results
from .show import show_lines

__all__ = [
    "TABLE_11",
    "Counting",
    "build_untrained",
    "count_macs",
    "count_parameters",
    "printed_costs",
    "show_every_size",
    "show_sizes",
    "show_variants",
    "size_table",
    "table_11",
    "variant_table",
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
    image = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:  # shapes alone, no arithmetic
            abstract = image.to("meta")
            return count(copy.deepcopy(network).to("meta").eval(), (abstract, abstract))
        except (NotImplementedError, RuntimeError):  # AEFusion looks at values
            return count(copy.deepcopy(network).eval(), (image, image.flip(-1)))


def _count_products(network: nn.Module, images: tuple[Tensor, Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        network(*images)
    return counter.get_total_flops() // 2


def _calls(network: nn.Module, images: tuple[Tensor, Tensor]) -> list[tuple[nn.Module, Any]]:
    """Return every module as often as it runs, with what it gave."""
    found: list[tuple[nn.Module, Any]] = []
    with register_module_forward_hook(lambda module, _, output: found.append((module, output))):
        network(*images)
    return found


def _count_as_thop(network: nn.Module, images: tuple[Tensor, Tensor]) -> int:
    return sum(_thop_operations(module, output) for module, output in _calls(network, images))


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
        return _numbers(network)
    if convention == "layers":
        return sum(_numbers(part) for part in network.modules() if not [*part.children()])
    if convention != "calls":
        raise unknown("convention of parameters", convention, ("all", "layers", "calls"))

    def count(network: nn.Module, images: tuple[Tensor, Tensor]) -> int:
        return sum(_numbers(part, recurse=False) for part, _ in _calls(network, images))

    return _count(count, network, 256, 256)


def _numbers(module: nn.Module, *, recurse: bool = True) -> int:
    return sum(p.numel() for p in module.parameters(recurse=recurse))


# ---------------------------------------------------------------- Table 11: size


def _default(method: str) -> Callable[[], nn.Module]:
    return lambda: build_untrained(find_method(method).default)


def build_untrained(configuration: Configuration) -> Any:
    """Build a network, without trained weights, or an algorithm; with its first rule if any."""
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

    def fuse(network: DenseFuse, *images: Tensor) -> Tensor:
        return network(*(image.expand(-1, 3, -1, -1) for image in images))

    network = DenseFuse("pytorch")
    network.first, network.last = conv(3, 16, 3), conv(16, 3, 3)
    return _Otherwise(network, fuse)


def _sdnet_with_decomposition() -> nn.Module:
    return _Otherwise(SDNet(), lambda network, ir, vis: network.decompose(network(ir, vis)))


def _swinfusion_without_padding() -> nn.Module:
    """On sides that are multiples of 8; the softmax is a module there, which thop counts."""

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


def table_11(rows: Collection[str] = tuple(TABLE_11)) -> pd.DataFrame:
    """Return the size columns of RefineFuse's Table 11 beside ours.

    Parameters
    ----------
    rows : collection of str
        Keys of `TABLE_11`.

    Returns
    -------
    DataFrame
        A row per network of the print. "parameters" and "MACs 256": the network that fuses a pair
        here, everything once; "FLOPs 256": twice that. "counted ...": as the print counted, in its
        units of 10^6 parameters and 10^9 operations; "paper ..."; "difference ... %"; "how".

    Raises
    ------
    UnknownName
        If there is no such row.
    """
    printed = printed_costs()
    found = []
    for row in rows:
        if row not in TABLE_11:
            raise unknown("row of Table 11", row, TABLE_11)
        one = TABLE_11[row]
        facts = {"row": row, "method": one.method, **_size(_default(one.method)())}
        for name, value in _counted(one).items():
            paper = printed.loc[row, name]
            # The print has two decimals: what rounds to it is no difference.
            far = 0.0 if abs(value - paper) <= 0.005 else 100 * (value / paper - 1)
            facts |= {f"counted {name}": value, f"paper {name}": paper, f"difference {name} %": far}
        found.append({**facts, "how": one.how})
    return pd.DataFrame(found)


def _size(network: nn.Module) -> dict[str, Any]:
    macs = count_macs(network, 256, 256)
    return {"parameters": count_parameters(network), "MACs 256": macs, "FLOPs 256": 2 * macs}


def _counted(one: Counting) -> dict[str, float]:
    """Return each size of a row as the print counted, in its units."""
    network = one.build()
    macs = {side: count_macs(network, side, side, convention=one.convention) for side in (256, 512)}
    return {
        "params_m": count_parameters(network, one.parameters) / 1e6,
        **{f"flops_g_{side}": one.times * number / 1e9 for side, number in macs.items()},
    }


def printed_costs() -> Any:
    """Read Table 11 as printed: a row per method, numbers in columns, NaN where there is none."""
    frame = pd.read_csv(package_data("paper_tables/refinefuse_table_11_efficiency.csv"))
    frame = frame.set_index("method").drop(columns="framework")
    return frame.apply(pd.to_numeric, errors="coerce")


def show_sizes(sizes: pd.DataFrame) -> Styler:
    """Style the size columns of Table 11: the print, ours counted so, the difference, and how."""
    cells: dict[str, list[str]] = {heading: [] for heading in SIZES.values()}
    for one in sizes.to_dict("records"):
        for name, heading in SIZES.items():
            digits, far = 3 if name == "params_m" else 2, one[f"difference {name} %"]
            cells[heading].append(
                f"{one[f'paper {name}']:.2f}\n{one[f'counted {name}']:.{digits}f} "
                + ("✓" if far == 0 else f"{far:+.1f} %")
            )
    cells["parameters that fuse"] = [f"{n:,}" for n in sizes["parameters"]]
    cells["MACs at 256x256, 10⁹"] = [f"{n / 1e9:.2f}" for n in sizes["MACs 256"]]
    cells["FLOPs, 10⁹"] = [f"{n / 1e9:.2f}" for n in sizes["FLOPs 256"]]
    cells["how the print counted"] = [*sizes["how"]]
    return show_lines(
        cells, [*sizes["row"]], "The print, below it ours counted so; ✓: rounds to the print"
    )


def size_table() -> pd.DataFrame:
    """Return parameters and operations of every method with a network, largest last.

    Returns
    -------
    DataFrame
        "method", "title", "kind", "parameters", "MACs 256" and "FLOPs 256" (for a pair of 256x256,
        by `count_macs`, and twice that), of the default configuration.
    """
    rows = [
        {"method": name, "title": spec.title, "kind": spec.kind}
        | _size(build_untrained(spec.default))
        for name, spec in registry().items()
        if spec.default.has_network
    ]
    return pd.DataFrame(rows).sort_values("parameters", ignore_index=True)


def show_every_size(sizes: pd.DataFrame) -> Styler:
    """Style `size_table`."""
    numbers = sizes.select_dtypes("number").columns
    return sizes.style.format("{:,}", subset=numbers).hide(axis="index").set_uuid("sizes")


# ---------------------------------------------------------------- Table 10: RefineFuse's variants

#: Size of MSRS's images, which Table 10 times.
WIDTH, HEIGHT = 640, 480
#: Variant -> row of Table 10.
TABLE_10 = {"scales_3": "A", "scales_5": "B", "paper": "Ours"}


def variant_table(
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    device: str = "cpu",
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what each variant of RefineFuse costs, beside the times of Table 10, and save it.

    Parameters
    ----------
    profile, results_dir, device, seed
        As in `reproduction.experiments.fusion_table`; costs are the same in both profiles.
    repeats : int
        Every variant fuses so many times, in turn.

    Returns
    -------
    DataFrame
        One row per variant: parameters, multiply-accumulates for 256x256 (in thop's
        convention), our median milliseconds for 640x480 pixels, and the paper's, which are of
        an RTX 4090.

    Raises
    ------
    FusionError
        If the device cannot be used.
    """
    check_device(device)
    torch.manual_seed(seed)
    networks = {name: RefineFuse(**departs).to(device) for name, (departs, _) in VARIANTS.items()}
    images = list(torch.rand(2, 1, 1, HEIGHT, WIDTH).to(device))

    def fuse(network: RefineFuse) -> Tensor:
        return run_network(network, images).cpu()  # which waits for an accelerator

    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(repeats):
        for name, network in networks.items():
            times[name].append(measure(partial(fuse, network))[1].seconds)
    printed = pd.read_csv(package_data("paper_tables/refinefuse_table_10_depth_ablation.csv"))
    paper = printed.set_index("setting")["time_ms_rtx4090"]
    frame = pd.DataFrame(
        {
            "variant": name,
            "parameters": count_parameters(network),
            "MACs": count_macs(network.cpu(), 256, 256, convention="thop"),
            "ms": 1000 * statistics.median(times[name]),
            "paper ms": paper.get(TABLE_10.get(name, ""), np.nan),
        }
        for name, network in networks.items()
    )
    facts = results.provenance(
        profile=profile, device=device, seed=seed, repeats=repeats, size=f"{WIDTH}x{HEIGHT}"
    )
    results.save(Path(results_dir) / profile / "refinefuse_10_time", summary=frame, facts=facts)
    return frame


def show_variants(costs: pd.DataFrame) -> Styler:
    """Style `variant_table`, with both times also as shares of the whole network's."""
    table = costs.set_index("variant").rename_axis(None)
    for name in ("ms", "paper ms"):
        table[f"{name} / four scales"] = table[name] / table[name]["paper"]
    styler = table.style.format(precision=2, na_rep="").set_uuid("costs")
    return styler.format("{:,}", subset=["parameters", "MACs"]).format("{:.0f}", subset=["ms"])
