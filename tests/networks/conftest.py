"""An independent convolution, and networks whose every unit is alive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread: None) -> None:
    """Every network test runs on one thread."""


def _convolve(image: np.ndarray, layer: nn.Conv2d, mode: str) -> np.ndarray:
    """(C, H, W) -> (D, H, W) in float64: numpy pads, scipy correlates, channel by channel."""
    weight, bias = (t.detach().numpy().astype(np.float64) for t in (layer.weight, layer.bias))
    side = weight.shape[-1] // 2
    padded = np.pad(image, ((0, 0), (side, side), (side, side)), mode=mode)
    return np.stack(
        [
            sum(correlate2d(c, k, mode="valid") for c, k in zip(padded, kernels, strict=True)) + b
            for kernels, b in zip(weight, bias, strict=True)
        ]
    )


def _linearise(network: nn.Module) -> nn.Module:
    """Positive weights: positive images then never meet the flat side of a ReLU."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        fan_in = parameter[0].numel()
        parameter.data = torch.rand(parameter.shape, generator=generator).double() / fan_in
    return network.double()


def _reach(network: nn.Module, images: list[torch.Tensor]) -> torch.Tensor:
    """Boolean map: which output pixels change with the middle pixel of the first image."""
    changed = images[0].clone()
    changed[..., changed.shape[-2] // 2, changed.shape[-1] // 2] += 200
    with torch.inference_mode():
        return (network(*images) != network(changed, *images[1:]))[0, 0]


@pytest.fixture(scope="session")
def convolve() -> Callable[..., np.ndarray]:
    return _convolve


@pytest.fixture(scope="session")
def linearise() -> Callable[[nn.Module], nn.Module]:
    return _linearise


@pytest.fixture(scope="session")
def reach() -> Callable[..., torch.Tensor]:
    return _reach
