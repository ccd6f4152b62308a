"""An independent convolution, what every network must do, the authors' files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.card import Configuration, WeightFile
from fusionlib.networks.network import FusionNetwork
from fusionlib.weights import digest, read_weights
from tests.fusionlib.networks.authors import loaded
from tests.fusionlib.networks.references import correlate, double


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread: None) -> None:
    """Every network test runs on one thread."""


def _convolve(image: np.ndarray, layer: nn.Conv2d, mode: str) -> np.ndarray:
    """(C, H, W) -> (D, H, W) in float64, padded to keep the size."""
    return correlate(image, double(layer.weight), mode) + double(layer.bias)[:, None, None]


def _linearise(network: nn.Module) -> nn.Module:
    """Positive weights: positive images then never meet the flat side of a ReLU."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        fan_in = parameter[0].numel()
        parameter.data = torch.rand(parameter.shape, generator=generator).double() / fan_in
    return network.double()


def _reach(network: nn.Module, images: list[torch.Tensor]) -> int:
    """Radius of the square of output pixels that change with the first image's middle pixel."""
    changed = images[0].clone()
    row, column = (side // 2 for side in changed.shape[-2:])
    changed[..., row, column] += 200
    with torch.inference_mode():
        found = (network(*images) != network(changed, *images[1:]))[0, 0]
    radius = (int(found.any(dim=0).sum()) - 1) // 2
    square = torch.zeros_like(found)
    square[row - radius : row + radius + 1, column - radius : column + radius + 1] = True
    assert torch.equal(found, square)
    return radius


@pytest.fixture(scope="session")
def convolve() -> Callable[..., np.ndarray]:
    return _convolve


@pytest.fixture(scope="session")
def linearise() -> Callable[[nn.Module], nn.Module]:
    return _linearise


@pytest.fixture(scope="session")
def reach() -> Callable[..., int]:
    return _reach


@pytest.fixture
def golden(golden_root: Path) -> Callable[[str], Mapping[str, np.ndarray]]:
    """Images by name of what the authors' code was given and what it made of them."""
    return lambda name: np.load(golden_root / "networks" / f"{name}.npz")


@pytest.fixture
def trained(weights_root: Path) -> Callable[..., FusionNetwork]:
    """The network of a configuration under the authors' weights, the first unless another."""

    def load(configuration: Configuration, entry: WeightFile | None = None) -> FusionNetwork:
        entry = entry or configuration.weights[0]
        tensors = read_weights(weights_root / f"{entry.name}.safetensors")
        assert digest(tensors) == entry.digest
        return loaded(configuration, tensors)

    return load
