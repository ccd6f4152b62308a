"""What a method costs: multiply-accumulates, seconds, memory."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .errors import unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["COSTS", "Cost", "count_macs", "measure"]

Result = TypeVar("Result")

#: What `measure` measures -> how, for tables.
COSTS = {"seconds": "wall clock", "peak GiB": "resident memory"}


class Cost(NamedTuple):
    """What one call took.

    Attributes
    ----------
    seconds : float
        Wall time.
    peak : float or None
        The most memory that the whole process held meanwhile, in GiB, Python and libraries
        included; None where the system does not tell (on Linux it usually does).
    """

    seconds: float
    peak: float | None


def measure(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """Run a call and return its result and its cost."""
    known = _reset_peak()
    started = time.perf_counter()
    result = call()
    return result, Cost(time.perf_counter() - started, _peak() if known else None)


def _reset_peak() -> bool:
    """Let the system's record of the process's peak begin anew; False where it cannot be.

    Linux, proc(5): clear_refs, which a container may forbid.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20


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
        operations per product, biases and activations besides. Three rows of RefineFuse's
        Table 11 count another network than the one that fuses a pair here: DenseFuse for RGB
        images, SDNet with its decomposition, SwinFusion without the padding.

    Returns
    -------
    int

    Raises
    ------
    UnknownName
        If there is no such convention.
    """
    import torch

    if convention not in CONVENTIONS:
        raise unknown("convention of multiply-accumulates", convention, CONVENTIONS)
    count = CONVENTIONS[convention]
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
    from torch import nn

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
