"""What a network does, seen while it runs: the modules that it calls, and from where to where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

__all__ = ["Step", "layer_table", "steps", "trace"]


@dataclass(eq=False)
class Step:
    """A module or an operation of a network as it ran.

    Attributes
    ----------
    name, kind : str
        Of a module its name and its class; of an image its name and "image"; of an operation
        "add", "concat" or "split", twice.
    inputs : list of int
        Indices of the steps whose results reach it, through operations that are no steps.
    before : list of Tensor
        What it was given.
    after : Tensor
        Its result.
    module : Module or None
    activation : str
        "ReLU" where one follows, or "".
    uses : int
        How many times this module had run before, plus one.
    """

    name: str
    kind: str
    inputs: list[int]
    before: list[Tensor]
    after: Tensor
    module: nn.Module | None = None
    activation: str = ""
    uses: int = 1


#: Operations between modules that a diagram of layers shows.
OPERATIONS = {"add": "add", "__add__": "add", "cat": "concat", "chunk": "split"}


class _Origins(TorchFunctionMode):
    """Keeps in mind from which steps each tensor comes."""

    def __init__(self, *, operations: bool) -> None:
        super().__init__()
        self.operations = operations
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

    def add(
        self,
        name: str,
        kind: str,
        before: Iterable[Tensor],
        after: Tensor,
        module: nn.Module | None = None,
    ) -> None:
        before = list(before)
        # In order, for whoever looks at what is concatenated.
        inputs = list(dict.fromkeys(i for tensor in before for i in sorted(self.of(tensor))))
        uses = 1 + sum(step.module is module for step in self.steps if module)
        self.steps.append(Step(name, kind, inputs, before, after, module, uses=uses))
        self.remember(after, {len(self.steps) - 1})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = (resolve_name(func) or "").rpartition(".")[2]
        origins = self.of(args)
        results = result if isinstance(result, list | tuple) else (result,)
        if name in ("relu", "relu_"):
            for index in origins:
                self.steps[index].activation = "ReLU"
        if self.operations and name in OPERATIONS and origins:
            kind = OPERATIONS[name]
            given = args[0] if name == "cat" else args[:2] if kind == "add" else args[:1]
            for part in results:
                self.add(kind, kind, [x for x in given if isinstance(x, Tensor)], part)
            return result
        for part in results:
            # In-place operations and views of nothing new keep what they have.
            if isinstance(part, Tensor) and id(part) not in self.origins:
                self.remember(part, origins)
        return result


def _run(
    network: nn.Module,
    images: dict[str, Tensor],
    parts: Sequence[tuple[str, nn.Module]],
    *,
    operations: bool,
) -> list[Step]:
    """Run a network on images and list the calls of its parts, in order."""
    origins = _Origins(operations=operations)
    for name, image in images.items():
        origins.add(name, "image", [], image)
    handles = [
        part.register_forward_hook(
            lambda module, given, result, name=name: origins.add(
                name,
                type(module).__name__,
                [x for x in given if isinstance(x, Tensor)],
                result,
                module,
            )
        )
        for name, part in parts
    ]
    try:
        with torch.inference_mode(), origins:
            network(*images.values())
    finally:
        for handle in handles:
            handle.remove()
    return origins.steps


def trace(network: nn.Module) -> list[Step]:
    """Run an auto-encoder on an image of 32x32 and list its convolutions and what joins them.

    Parameters
    ----------
    network : AutoEncoder
        Taken as it is, with its weights.

    Returns
    -------
    list of Step
        First the image.
    """
    parts = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    return _run(network, {"image": torch.rand(1, 1, 32, 32)}, parts, operations=True)


def layer_table(network: nn.Module) -> pd.DataFrame:
    """List the convolutions of an auto-encoder in the order they run, as the papers print them."""
    return pd.DataFrame(
        {
            "layer": step.name,
            "size": step.module.kernel_size[0],
            "stride": step.module.stride[0],
            "input channels": step.module.in_channels,
            "output channels": step.module.out_channels,
            "activation": step.activation or "-",
            "use of these weights": step.uses,
        }
        for step in trace(network)
        if isinstance(step.module, nn.Conv2d)
    )


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
    images = {"infrared": ir, "visible": vis}
    return _run(network, images, _parts(network), operations=False)


def _parts(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """List the modules that a network calls itself, those in lists one by one."""
    found = []
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found += _parts(child, f"{prefix}{name}.")
        else:
            found.append((prefix + name, child))
    return found
