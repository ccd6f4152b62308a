"""What a network does, seen while it runs: its operations, and the modules that it calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

__all__ = [
    "Operation",
    "Step",
    "layer_table",
    "steps",
    "trace",
]

# ---------------------------------------------------------------- operations


@dataclass(eq=False)
class Operation:
    """One step of a network as it ran.

    Attributes
    ----------
    kind : {"input", "conv", "add", "concat", "split"}
    inputs : list of int
        Indices of the operations whose results it takes.
    name : str
        Of the module, for convolutions.
    kernel, stride, channels_in, channels_out : int
        Of a convolution.
    activation : str
        "ReLU" or "" .
    uses : int
        How many times this convolution's weights had been used before, plus one.
    """

    kind: str
    inputs: list[int]
    name: str = ""
    kernel: int = 0
    stride: int = 1
    channels_in: int = 0
    channels_out: int = 0
    activation: str = ""
    uses: int = 1
    shape: tuple[int, ...] = field(default=())


class _Recorder(TorchFunctionMode):
    """Records convolutions, activations, sums, splits and concatenations as they run."""

    def __init__(self, network: nn.Module, images: Sequence[Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        # Results are kept alive, or a new tensor could take an old one's identity.
        self.made_by: dict[int, int] = {}
        self.alive: list[Any] = []
        self.names = {
            id(m.weight): name for name, m in network.named_modules() if isinstance(m, nn.Conv2d)
        }
        self.uses: dict[int, int] = {}
        for image in images:
            self._add(Operation("input", [], channels_out=image.shape[1]), image)

    def _add(self, operation: Operation, result: Tensor) -> None:
        operation.shape = tuple(result.shape)
        self.operations.append(operation)
        self._remember(result, len(self.operations) - 1)

    def _remember(self, result: Tensor, index: int) -> None:
        self.made_by[id(result)] = index
        self.alive.append(result)

    def _sources(self, *tensors: Any) -> list[int]:
        return [self.made_by[id(t)] for t in tensors if id(t) in self.made_by]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = (resolve_name(func) or "").rpartition(".")[2]
        if name == "conv2d":
            x, weight, _, stride, *_ = args
            self.uses[id(weight)] = self.uses.get(id(weight), 0) + 1
            self._add(
                Operation(
                    "conv",
                    self._sources(x),
                    self.names.get(id(weight), ""),
                    kernel=weight.shape[-1],
                    stride=stride[0],
                    channels_in=weight.shape[1],
                    channels_out=weight.shape[0],
                    uses=self.uses[id(weight)],
                ),
                result,
            )
        elif name in ("relu", "relu_"):
            sources = self._sources(args[0])
            for index in sources:
                self.operations[index].activation = "ReLU"
                self._remember(result, index)
        elif name == "pad":
            for index in self._sources(args[0]):
                self._remember(result, index)
        elif name == "chunk":
            sources = self._sources(args[0])
            # One group is no split (networks whose rule sees all features at once).
            if len(result) == 1 and sources:
                self._remember(result[0], sources[0])
            elif sources:
                for part in result:
                    self._add(Operation("split", sources, channels_out=part.shape[1]), part)
        elif name in ("add", "__add__", "cat"):
            tensors = args[0] if name == "cat" else args[:2]
            sources = self._sources(*tensors)
            if sources:
                kind = "concat" if name == "cat" else "add"
                self._add(Operation(kind, sources, channels_out=result.shape[1]), result)
        return result


def trace(network: nn.Module) -> list[Operation]:
    """Run an auto-encoder on an image of 32x32 and list what it did, in order.

    Parameters
    ----------
    network : AutoEncoder
        Taken as it is, with its weights.
    """
    image = torch.rand(1, 1, 32, 32)
    recorder = _Recorder(network, [image])
    with torch.inference_mode(), recorder:
        network(image)
    return recorder.operations


def layer_table(network: nn.Module) -> pd.DataFrame:
    """List the convolutions of an auto-encoder in the order they run, as the papers print them."""
    return pd.DataFrame(
        {
            "layer": operation.name,
            "size": operation.kernel,
            "stride": operation.stride,
            "input channels": operation.channels_in,
            "output channels": operation.channels_out,
            "activation": operation.activation or "-",
            "use of these weights": operation.uses,
        }
        for operation in trace(network)
        if operation.kind == "conv"
    )


# ---------------------------------------------------------------- modules


@dataclass(eq=False)
class Step:
    """A module of a network as it ran on a pair.

    Attributes
    ----------
    name, kind : str
        Of the module, and of its class; "infrared" or "visible" and "image" for the images.
    inputs : list of int
        Indices of the steps whose results reach it, through operations outside of modules.
    before : list of Tensor
        What it was given.
    after : Tensor
        Its result.
    """

    name: str
    kind: str
    inputs: list[int]
    before: list[Tensor]
    after: Tensor


class _Origins(TorchFunctionMode):
    """Keeps in mind from which steps each tensor comes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.origins: dict[int, set[int]] = {}
        self.alive: list[Any] = []  # or a new tensor could take an old one's identity

    def of(self, values: Any) -> set[int]:
        """Collect the origins of all tensors among arguments."""
        if isinstance(values, Tensor):
            return self.origins.get(id(values), set())
        if isinstance(values, list | tuple):
            return set().union(*map(self.of, values))
        return set()

    def remember(self, tensor: Tensor, origins: set[int]) -> None:
        self.origins[id(tensor)] = origins
        self.alive.append(tensor)

    def add(self, name: str, kind: str, before: Sequence[Tensor], after: Tensor) -> None:
        inputs = sorted(self.of(tuple(before)))
        self.steps.append(Step(name, kind, inputs, list(before), after))
        self.remember(after, {len(self.steps) - 1})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else (result,):
            # In-place operations and views of nothing new keep what they have.
            if isinstance(tensor, Tensor) and id(tensor) not in self.origins:
                self.remember(tensor, self.of(args))
        return result


def _parts(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """List the modules that a network calls itself, those in lists one by one."""
    found = []
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found += _parts(child, f"{prefix}{name}.")
        else:
            found.append((prefix + name, child))
    return found


def steps(network: nn.Module, ir: Tensor, vis: Tensor) -> list[Step]:
    """Run a fusion network and list the modules that it called, in order, with what they did.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(ir, vis)``.
    ir, vis : Tensor, shape (B, 1, H, W)

    Returns
    -------
    list of Step
        First the two images.
    """
    origins = _Origins()
    origins.add("infrared", "image", [], ir)
    origins.add("visible", "image", [], vis)
    handles = [
        part.register_forward_hook(
            lambda module, given, result, name=name: origins.add(
                name, type(module).__name__, [x for x in given if isinstance(x, Tensor)], result
            )
        )
        for name, part in _parts(network)
    ]
    try:
        with torch.inference_mode(), origins:
            network(ir, vis)
    finally:
        for handle in handles:
            handle.remove()
    return origins.steps
