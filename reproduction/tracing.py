"""What a network does, seen while it runs: the modules that it calls, and from where to where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode, resolve_name

__all__ = ["Step", "layer_table", "steps", "trace"]


@dataclass(eq=False)
class Step:
    """A module or an operation of a network as it ran, what it was given and its result."""

    #: Of a module its name and class, of an image its name and "image", of an operation "add",
    #: "concat" or "split", twice.
    name: str
    kind: str
    #: Indices of the steps whose results reach it, through operations that are no steps.
    inputs: list[int]
    before: list[Tensor]
    after: Tensor
    module: nn.Module | None = None
    #: "ReLU" where one follows.
    activation: str = ""
    #: How many times this module had run before, plus one.
    uses: int = 1


#: Operations between modules that a diagram of layers shows.
OPERATIONS = {"add": "add", "__add__": "add", "cat": "concat", "chunk": "split"}


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments or results, those in lists too."""
    flat = (one if isinstance(one, list | tuple) else [one] for one in values)
    return [one for ones in flat for one in ones if isinstance(one, Tensor)]


class _Watch(TorchFunctionMode):
    """Lists steps; each tensor remembers, as ``origins``, from which of them it comes."""

    def __init__(self, *, operations: bool) -> None:
        super().__init__()
        self.operations = operations
        self.steps: list[Step] = []

    def add(
        self, name: str, kind: str, given: Any, after: Any, module: nn.Module | None = None
    ) -> None:
        before = _tensors(given)
        # In order, for whoever looks at what is concatenated.
        inputs = dict.fromkeys(i for one in before for i in sorted(getattr(one, "origins", ())))
        uses = 1 + sum(step.module is module for step in self.steps if module)
        self.steps.append(Step(name, kind, [*inputs], before, after, module, uses=uses))
        after.origins = {len(self.steps) - 1}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = (resolve_name(func) or "").rpartition(".")[2]
        origins = {i for one in _tensors(args) for i in getattr(one, "origins", ())}
        if name in ("relu", "relu_"):
            for index in origins:
                self.steps[index].activation = "ReLU"
        for part in _tensors([result]):
            if self.operations and name in OPERATIONS and origins:
                kind = OPERATIONS[name]
                self.add(kind, kind, args, part)
            elif not hasattr(part, "origins"):  # no operation in place
                part.origins = origins  # type: ignore[attr-defined]
        return result


def _run(
    network: nn.Module, images: dict[str, Tensor], parts: dict[nn.Module, str], *, operations: bool
) -> list[Step]:
    """Run a network on images and list the calls of its parts, in order."""
    watch = _Watch(operations=operations)
    for name, image in images.items():
        watch.add(name, "image", [], image)

    def note(module: nn.Module, given: Any, result: Any) -> None:
        if module in parts:
            watch.add(parts[module], type(module).__name__, given, result, module)

    with torch.inference_mode(), watch, register_module_forward_hook(note):
        network(*images.values())
    return watch.steps


def trace(network: nn.Module) -> list[Step]:
    """Run an auto-encoder on an image of 32x32; list it, its convolutions and what joins them."""
    modules = network.named_modules()
    parts: dict[nn.Module, str] = {m: name for name, m in modules if isinstance(m, nn.Conv2d)}
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
        }
        for step in trace(network)
        if isinstance(step.module, nn.Conv2d)
    )


def steps(network: nn.Module, ir: Tensor, vis: Tensor) -> list[Step]:
    """Run a fusion network on images (B, 1, H, W); list them and the modules that it called."""
    images = {"infrared": ir, "visible": vis}
    return _run(network, images, _parts(network), operations=False)


def _parts(network: nn.Module, prefix: str = "") -> dict[nn.Module, str]:
    """Name the modules that a network calls itself, those in lists one by one."""
    found: dict[nn.Module, str] = {}
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found |= _parts(child, f"{prefix}{name}.")
        else:
            found[child] = prefix + name
    return found
